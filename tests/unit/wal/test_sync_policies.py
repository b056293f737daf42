"""What each policy promises, and that the background threads end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

import pytest

from replog import wal
from replog.errors import ConfigError, WalFailed
from replog.testing.faulty_files import Fault, FaultyFileSystem
from replog.wal.segment import SparseIndex
from tests.unit.wal.support import SMALL, WatchedFileSystem, new_log


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 10
    pause = Event()
    while not condition():
        assert monotonic() < deadline
        pause.wait(0.001)


def test_none_returns_unsynced_and_sync_makes_it_durable() -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=wal.NoSync())
    before = system.syncs_of_data

    log.append(b"a")
    log.append_many([b"b", b"c"])
    assert (log.durable_sequence, system.syncs_of_data) == (0, before)

    assert log.sync() == 3
    assert (log.durable_sequence, system.syncs_of_data) == (3, before + 1)
    log.sync()
    assert system.syncs_of_data == before + 1


@pytest.mark.parametrize("policy", [wal.ImmediateSync, wal.GroupedSync])
def test_immediate_and_grouped_return_durable(policy: Callable[[], wal.SyncPolicy]) -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=policy())

    appends: list[Callable[[], int]] = [
        lambda: log.append(b"a"),
        lambda: log.append_many([b"b"] * 20),
        lambda: log.append_frames(*log.codec.encode_frames([b"c"] * 3)),
    ]
    for append in appends:
        append()
        assert log.durable_sequence == log.next_sequence
        assert not system.dirty


def test_periodic_syncs_after_so_many_entries() -> None:
    log = new_log(WatchedFileSystem(), sync=wal.PeriodicSync(entries=10, interval_seconds=1000))

    for _ in range(9):
        log.append(b"a")
    assert log.durable_sequence == 0
    log.append(b"the tenth")

    wait_for(lambda: log.durable_sequence == 10)
    log.close()


def test_periodic_syncs_after_so_much_time() -> None:
    log = new_log(WatchedFileSystem(), sync=wal.PeriodicSync(entries=1_000_000, interval_seconds=0.005))

    log.append(b"a")
    wait_for(lambda: log.durable_sequence == 1)
    log.append(b"b")
    wait_for(lambda: log.durable_sequence == 2)
    log.close()


def test_an_error_of_a_periodic_sync_surfaces_at_the_next_call() -> None:
    watched = WatchedFileSystem()
    wal.create("log", SMALL, fs=watched)
    system = FaultyFileSystem(watched)
    log = wal.open("log", SMALL, sync=wal.PeriodicSync(entries=1, interval_seconds=1000), fs=system)
    system.fault = Fault(kind="sync", number=system.calls["sync"])

    log.append(b"a")
    wait_for(lambda: log.failure is not None)

    with pytest.raises(WalFailed):
        log.append(b"b")
    log.close()


def test_a_window_gathers_for_that_long_and_no_window_does_not() -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=wal.GroupedSync(window_seconds=0.05))

    started = monotonic()
    log.append(b"gathered")

    assert monotonic() - started >= 0.05


def test_closing_ends_a_window_and_every_thread() -> None:
    before = set(threading.enumerate())
    log = new_log(WatchedFileSystem(), sync=wal.GroupedSync(window_seconds=30))
    writer = threading.Thread(target=lambda: log.append(b"waits"), daemon=True)
    writer.start()
    wait_for(lambda: log.next_sequence == 1)

    log.close()
    writer.join(5)

    assert not writer.is_alive()
    assert log.durable_sequence == 1
    periodic = new_log(WatchedFileSystem(), sync=wal.PeriodicSync(5, 1000))
    periodic.append(b"a")
    periodic.close()
    assert periodic.durable_sequence == 1
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "make", [lambda: wal.PeriodicSync(0, 1), lambda: wal.PeriodicSync(1, 0), lambda: wal.PeriodicSync(1, -1), lambda: wal.GroupedSync(-1)]
)
def test_a_wrong_number_is_named(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_many_grouped_writers_share_their_syncs() -> None:
    system = WatchedFileSystem()
    log = new_log(system, wal.WalOptions(prepare_next=False, preallocate_bytes=0), sync=wal.GroupedSync())
    before = system.syncs_of_data
    system.may_sync.clear()
    threads = [threading.Thread(target=lambda: [log.append(b"x") for _ in range(10)], daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_for(lambda: log.next_sequence == 20)
    system.may_sync.set()
    for thread in threads:
        thread.join(10)

    assert log.durable_sequence == 200
    assert system.syncs_of_data - before < 200


def test_a_sync_that_fails_in_the_middle_of_an_append_is_noticed_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. An append has looked whether the log has failed. 2. A sync in another thread fails. 3. The append sets when to look again."""
    watched = WatchedFileSystem()
    wal.create("log", SMALL, fs=watched)
    system = FaultyFileSystem(watched)
    log = wal.open("log", SMALL, sync=wal.NoSync(), fs=system)
    entry = b"one whose length is known"  # or the second append would look again before it wrote
    log.append(entry)
    system.fault = Fault(kind="sync", number=system.calls["sync"])
    note = SparseIndex.note

    def fail_then_note(index: SparseIndex, position: int, offset: int) -> None:
        with pytest.raises(WalFailed):
            log.sync()
        note(index, position, offset)

    log.append_many([b"x" * 500])
    monkeypatch.setattr(SparseIndex, "note", fail_then_note)
    monkeypatch.setattr(log._active.index, "next_point", 0)
    log._tip.attention = 0
    log.append(entry)  # overtaken by the failure
    monkeypatch.undo()

    with pytest.raises(WalFailed):
        log.append(b"the next one")


class _Target:
    """What a policy asks of a log. The first sync waits until another append has come, and is then interrupted."""

    def __init__(self) -> None:
        self.written_sequence = 1
        self.durable_sequence = 0
        self.syncs = 0
        self.began = Event()
        self.may_end = Event()

    def sync_written(self) -> int:
        self.syncs += 1
        target = self.written_sequence
        if self.syncs == 1:
            self.began.set()
            assert self.may_end.wait(10)
            raise KeyboardInterrupt
        self.durable_sequence = target
        return target


def test_when_the_one_who_syncs_is_interrupted_the_others_sync_for_themselves() -> None:
    target = _Target()
    policy = wal.GroupedSync()
    policy.start(target)
    interrupted: list[bool] = []

    def lead() -> None:
        try:
            policy.appended(1)
        except KeyboardInterrupt:
            interrupted.append(True)

    leader = Thread(target=lead, daemon=True)
    leader.start()
    assert target.began.wait(10)
    target.written_sequence = 3
    others = [Thread(target=policy.appended, args=(number,), daemon=True) for number in (1, 2, 3)]
    for thread in others:
        thread.start()
    target.may_end.set()
    for thread in (leader, *others):
        thread.join(10)

    assert interrupted == [True]
    assert not any(thread.is_alive() for thread in others)
    assert target.durable_sequence == 3
