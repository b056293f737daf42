"""The known ways to get a log of this kind wrong, each seen in one, by their numbers in the specification. Each test fails when the mistake is made."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import pytest

from replog import wal
from replog.errors import DiskFull, WalClosed, WalEntryDamaged, WalFailed, WalLengthDamaged, WalLocked
from replog.testing.faulty_files import Fault, FaultyFileSystem
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import LengthEncoding, WalOptions
from tests.unit.wal.support import SMALL, WatchedFileSystem, all_of, codec, flipped, new_log, path, reopened, segment

WAITING: list[Callable[[], wal.SyncPolicy]] = [wal.ImmediateSync, wal.GroupedSync]


def in_thread(work: Callable[[], object]) -> tuple[Thread, list[object]]:
    """Run `work` in a thread; its result, or the error it ended with, comes into the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 10
    pause = Event()
    while not condition():
        assert monotonic() < deadline
        pause.wait(0.001)


def test_1_a_leftover_temporary_file_does_not_make_the_directory_unreadable() -> None:
    left_over = {
        path(7) + ".tmp": b"WAL\0 half a header",
        path(7) + ".new": b"half a segment of the other library",
        path(7) + ".bak": b"a copy",
        f"log/copy-of-{7:020d}.wal": b"another",
        f"log/{7:021d}.wal": b"too many digits",
        f"log/{7:019d}.wal": b"too few",
        f"log/{'٧' * 20}.wal": b"digits, but not these",
        "log/prepared.wal.tmp": b"",
        "log/notes.txt": b"",
    }
    system = MemoryFileSystem({path(0): segment(0, [b"a"]), **left_over})

    assert list(wal.Reader("log", fs=system)) == [(0, b"a")]
    assert reopened(system) == [b"a"]
    assert set(left_over) - set(system.files()) == {path(7) + ".tmp", "log/prepared.wal.tmp"}


@pytest.mark.parametrize("preallocate", [0, 4096])
def test_2_bytes_behind_a_torn_tail_do_not_come_back_to_life(preallocate: int) -> None:
    options = WalOptions(segment_bytes_max=1 << 20, preallocate_bytes=preallocate, prepare_next=False)
    frames = codec().encode_frames([b"1" * 504, b"2" * 504, b"3" * 504])[0]
    torn = bytes(512) + frames[512:]
    good = segment(0, [b"x" * (512 - 16 - 8)])
    assert len(good) == 512
    system = MemoryFileSystem({path(0): (good + torn).ljust(preallocate, b"\0")})

    with wal.open("log", options, sync=wal.NoSync(), fs=system) as log:
        assert log.recovery.cut_at == 1
        log.append(b"n" * 504)

    assert reopened(system, options) == [b"x" * 488, b"n" * 504]


def test_3_one_flipped_bit_in_the_middle_is_not_the_end_of_the_log() -> None:
    content = segment(0, [b"entry" * 20] * 50, bytes(500))
    for offset in (16 + 108 * 20 + 50, 16 + 108 * 20, 16 + 108 * 20 + 1, 16 + 108 * 20 + 2):
        files = {path(0): flipped(content, offset, 0x10)}
        system = MemoryFileSystem(files)

        with pytest.raises((WalEntryDamaged, WalLengthDamaged)) as caught:
            wal.open("log", SMALL, fs=system)

        assert (caught.value.segment, caught.value.offset, caught.value.sequence) == (path(0), 16 + 108 * 20, 20)
        assert system.files() == files
        with pytest.raises((WalEntryDamaged, WalLengthDamaged)):
            list(wal.Reader("log", fs=system))


class SyncAfterMore:
    """A policy whose caller is overtaken, between its write and its sync, by appends that roll over."""

    name = "overtaken"
    waits = True

    def __init__(self) -> None:
        self.target: wal.Log | None = None
        self.overtaking = False

    def start(self, target: object) -> None:
        assert isinstance(target, wal.Log)
        self.target = target

    def appended(self, next_sequence: int) -> None:
        assert self.target is not None
        if self.overtaking:
            return
        self.overtaking = True
        for _ in range(30):
            self.target.append(b"overtaking" * 10)
        self.overtaking = False
        assert self.target.sync_written() >= next_sequence

    def stop(self) -> None:
        pass


def test_4_a_rollover_between_a_write_and_its_sync_leaves_nothing_unsynced() -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=SyncAfterMore())

    log.append(b"overtaken")

    assert log.segment_count > 2
    assert log.durable_sequence == log.next_sequence
    assert not system.dirty
    assert system.syncs_of_data > log.segment_count


@pytest.mark.parametrize("policy", WAITING)
def test_5_the_first_entry_of_a_new_log_is_synced_before_it_is_acknowledged(policy: Callable[[], wal.SyncPolicy]) -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=policy())
    before = system.syncs_of_data
    assert (log.next_sequence, log.durable_sequence) == (0, 0)

    assert log.append(b"first") == 0

    assert system.syncs_of_data == before + 1
    assert not system.dirty
    assert log.durable_sequence == 1


@pytest.mark.parametrize("policy", WAITING)
def test_6_a_failed_sync_is_final_for_every_waiter_and_every_later_call(policy: Callable[[], wal.SyncPolicy]) -> None:
    wal.create("log", SMALL, fs=(memory := MemoryFileSystem()))
    watched = WatchedFileSystem(memory)
    system = FaultyFileSystem(watched)
    log = wal.open("log", SMALL, sync=policy(), fs=system)
    log.append(b"durable")
    system.fault = Fault(kind="sync", number=system.calls["sync"], happens=True)
    watched.may_sync.clear()

    workers = [in_thread(lambda: log.append(b"waits")) for _ in range(8)]
    wait_for(lambda: log.next_sequence == 9)  # all are written before the sync fails
    watched.may_sync.set()
    for thread, results in workers:
        thread.join(10)
        assert not thread.is_alive()
        assert isinstance(results[0], WalFailed)

    syncs = system.calls["sync"]
    for _ in range(3):
        with pytest.raises(WalFailed):
            log.append(b"later")
        with pytest.raises(WalFailed):
            log.sync()
    assert system.calls["sync"] == syncs
    assert log.durable_sequence == 1
    assert log.read(0) == b"durable"
    log.close()
    assert reopened(memory)[0] == b"durable"


@pytest.mark.parametrize("taken", [0, 1, 4, 50])
def test_7_a_short_write_makes_no_later_append_unreadable(taken: int) -> None:
    memory = MemoryFileSystem()
    wal.create("log", SMALL, fs=memory)
    system = FaultyFileSystem(memory)
    log = wal.open("log", SMALL, sync=wal.NoSync(), fs=system)
    log.append(b"before" * 10)
    system.fault = Fault(kind="pwrite", number=system.calls["pwrite"], short_bytes=taken)

    with pytest.raises(WalFailed):
        log.append(b"short" * 20)
    with pytest.raises(WalFailed):
        log.append_many([b"later"])
    assert log.read(0) == b"before" * 10
    log.close()

    with wal.open("log", SMALL, sync=wal.NoSync(), fs=memory) as again:
        again.append(b"after" * 20)
    assert reopened(memory) == [b"before" * 10, b"after" * 20]


def test_7_a_device_that_takes_less_each_time_fails_the_log() -> None:
    system = WatchedFileSystem()
    log = new_log(system)
    log.append(b"one")
    system.take_at_most = 3

    with pytest.raises(WalFailed, match="short write"):
        log.append(b"two")

    system.take_at_most = None
    log.close()
    assert reopened(system)[:1] == [b"one"]


def test_8_the_name_of_a_new_segment_is_durable_before_an_entry_in_it_is_acknowledged() -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=wal.ImmediateSync())
    while log.segment_count == 1:
        system.calls.clear()
        last = log.append(b"entry" * 40)

    renamed = system.calls.index(("rename", path(last)))
    assert ("sync_dir", "log") in system.calls[renamed:]
    assert system.calls.index(("sync_dir", "log"), renamed) < system.calls.index(("pwrite", path(last)), renamed)


def test_8_and_of_the_first_segment_and_after_a_process_died_before_it_synced_the_directory() -> None:
    system = WatchedFileSystem()

    wal.create("log", SMALL, fs=system)
    assert system.calls[-1] == ("sync_dir", "log")
    system.calls.clear()
    wal.open("log", SMALL, fs=system).close()

    assert ("sync_dir", "log") in system.calls
    assert ("sync", path(0)) in system.calls


def test_9_a_segment_is_cut_and_synced_before_its_successor_has_a_name() -> None:
    options = WalOptions(segment_bytes_max=1024, preallocate_bytes=4096, prepare_next=False)
    system = WatchedFileSystem()
    log = new_log(system, options)
    while log.segment_count == 1:
        system.calls.clear()
        last = log.append(b"entry" * 40)

    cut = system.calls.index(("truncate", path(0)))
    synced = system.calls.index(("sync", path(0)), cut)
    assert synced < system.calls.index(("rename", path(last)))
    log.close()
    assert system.inner.size(path(0)) == log.segments()[0].end_offset


@pytest.mark.parametrize("kind", ["truncate", "sync", "create", "allocate", "rename", "sync_dir"])
def test_10_a_failed_rollover_fails_the_log_and_no_later_append_crashes(kind: str) -> None:
    memory = MemoryFileSystem()
    options = WalOptions(segment_bytes_max=1024, preallocate_bytes=4096, prepare_next=False)
    wal.create("log", options, fs=memory)
    system = FaultyFileSystem(memory)
    log = wal.open("log", options, sync=wal.NoSync(), fs=system)
    for _ in range(5):
        log.append(b"entry" * 40)
    before = all_of(log)
    system.fault = Fault(kind=kind, number=system.calls[kind])

    for _ in range(3):
        with pytest.raises(WalFailed):
            log.append(b"at the rollover")
    assert all_of(log) == before
    log.close()

    assert reopened(memory, options) == before


def test_10_a_full_disk_at_a_rollover_has_its_name_and_the_log_goes_on_when_there_is_room() -> None:
    memory = MemoryFileSystem()
    options = WalOptions(segment_bytes_max=1024, preallocate_bytes=4096, prepare_next=False)
    wal.create("log", options, fs=memory)
    log = wal.open("log", options, sync=wal.NoSync(), fs=FaultyFileSystem(memory, room_bytes=100))

    with pytest.raises(DiskFull):
        log.append_many([b"entry" * 40] * 9)
    with pytest.raises(DiskFull):
        log.append(b"later")
    kept = all_of(log)
    assert len(kept) == 5
    log.close()

    with wal.open("log", options, sync=wal.NoSync(), fs=memory) as again:
        again.append(b"goes on")
    assert reopened(memory, options) == [*kept, b"goes on"]


@pytest.mark.parametrize("policy", WAITING)
def test_10_an_append_that_races_close_ends(policy: Callable[[], wal.SyncPolicy]) -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=policy())
    system.syncing.clear()
    system.may_sync.clear()
    waiting = [in_thread(lambda: log.append(b"racing")) for _ in range(4)]
    wait_for(lambda: system.syncing.is_set() and log.next_sequence == 4)

    closing = in_thread(log.close)
    system.may_sync.set()

    for thread, _ in (*waiting, closing):
        thread.join(10)
        assert not thread.is_alive()
    assert closing[1] == [None]
    for _, results in waiting:
        assert isinstance(results[0], int | WalClosed)
    assert sorted(result for _, results in waiting for result in results if isinstance(result, int)) == [0, 1, 2, 3]
    with pytest.raises(WalClosed):
        log.append(b"late")
    assert reopened(system.inner) == [b"racing"] * 4


@pytest.mark.parametrize("length", [2**63 - 1, 2**63, 2**64 - 1, 2**64 - 16, 2**40])
def test_11_a_corrupt_64_bit_length_is_an_error_with_a_name(length: int) -> None:
    of = codec(LengthEncoding.UINT64)
    system = MemoryFileSystem({path(0): segment(0, [b"good"], length.to_bytes(8, "little") + b"data", of=of)})

    with pytest.raises(WalLengthDamaged) as caught:
        wal.open("log", fs=system)
    with pytest.raises(WalLengthDamaged):
        list(wal.Reader("log", fs=system))

    assert (caught.value.offset, caught.value.sequence) == (16 + 8 + 4 + 4, 1)


def test_12_two_writers_in_one_directory_are_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    directory = str(tmp_path / "log")
    wal.create(directory)
    first = wal.open(directory)

    with pytest.raises(WalLocked, match=str(os.getpid())) as caught:
        wal.open(directory)

    assert caught.value.pid == os.getpid()
    first.append(b"unharmed")
    first.close()
    wal.open(directory).close()


def test_13_a_lone_grouped_writer_does_not_wait_for_others() -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=wal.GroupedSync())
    before = system.syncs_of_data

    started = monotonic()
    for _ in range(50):
        log.append(b"alone")
    taken = monotonic() - started

    assert system.syncs_of_data == before + 50
    assert taken < 0.2, "a window of 10 ms would have made it 0.5 s"


def test_14_the_next_group_forms_while_a_sync_is_running_and_shares_one_sync() -> None:
    system = WatchedFileSystem()
    log = new_log(system, sync=wal.GroupedSync())
    before = system.syncs_of_data
    system.syncing.clear()
    system.may_sync.clear()
    first = in_thread(lambda: log.append(b"first"))
    assert system.syncing.wait(10)

    group = [in_thread(lambda: log.append(b"group")) for _ in range(8)]
    wait_for(lambda: log.next_sequence == 9)  # written, though the sync still runs
    assert log.durable_sequence == 0
    system.may_sync.set()

    for thread, _ in (first, *group):
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(result for _, results in (first, *group) for result in results if isinstance(result, int)) == list(range(9))
    assert system.syncs_of_data == before + 2


@pytest.mark.parametrize("prepare_next", [False, True])
def test_15_preallocation_takes_real_blocks(prepare_next: bool, tmp_path: Path) -> None:
    directory = tmp_path / "log"
    options = WalOptions(segment_bytes_max=1 << 16, preallocate_bytes=1 << 20, prepare_next=prepare_next)
    wal.create(str(directory), options)
    with wal.open(str(directory), options, sync=wal.NoSync()) as log:
        log.append_many([bytes(4096)] * 20)
        newest = os.stat(log.segments()[-1].path)
        assert log.segment_count == 2

    assert newest.st_size == 1 << 20
    assert newest.st_blocks * 512 >= 1 << 20


def test_16_reading_is_a_call_a_block_and_seeking_does_not_scan() -> None:
    system = WatchedFileSystem()
    options = WalOptions(segment_bytes_max=8 << 20, preallocate_bytes=0, prepare_next=False)
    log = new_log(system, options)
    log.append_many([b"%0100d" % number for number in range(40_000)])
    system.preads.clear()

    assert len(list(wal.Reader("log", fs=system))) == 40_000
    assert len(system.preads) < 20

    for sequence in (0, 1, 20_000, 39_999):
        system.preads.clear()
        assert log.read(sequence) == b"%0100d" % sequence
        assert sum(count for _, _, count in system.preads) < 40_000
        assert len(system.preads) <= 2
    log.close()

    with wal.open("log", options, fs=system) as again:
        system.preads.clear()
        assert again.read(39_000) == b"%0100d" % 39_000
        assert sum(count for _, _, count in system.preads) < 40_000
