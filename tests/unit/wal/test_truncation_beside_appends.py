"""Appends that wait for a sync while the log is truncated beside them, or while the next group's sync has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event, Thread

import pytest

from replog import wal
from replog.errors import WalAppendDiscarded, WalError
from replog.filesystem import Bytes, File
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import WalOptions

OPTIONS = WalOptions(preallocate_bytes=0, prepare_next=False)


class GatedFile:
    """A file whose syncs wait for a gate."""

    def __init__(self, inner: File, gate: Event, waiting: Event) -> None:
        self._inner, self._gate, self._waiting = inner, gate, waiting

    @property
    def path(self) -> str:
        return self._inner.path

    def pread(self, length: int, offset: int, /) -> bytes:
        return self._inner.pread(length, offset)

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        return self._inner.pwrite(data, offset)

    def sync(self) -> None:
        self._waiting.set()
        assert self._gate.wait(10)
        self._inner.sync()

    def truncate(self, size: int) -> None:
        self._inner.truncate(size)

    def allocate(self, size: int) -> None:
        self._inner.allocate(size)

    def drop_cache(self) -> None:
        self._inner.drop_cache()

    def size(self) -> int:
        return self._inner.size()

    def close(self) -> None:
        self._inner.close()


class GatedFileSystem(MemoryFileSystem):
    """Files whose syncs wait until `gate` is set; `waiting` says that one does."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waiting = Event(), Event()
        self.gate.set()

    def open(self, path: str, *, writable: bool = False) -> File:
        file = super().open(path, writable=writable)
        return GatedFile(file, self.gate, self.waiting) if writable else file


def new_log() -> tuple[wal.Log, GatedFileSystem]:
    files = GatedFileSystem()
    wal.create("log", OPTIONS, fs=files)
    log = wal.open("log", OPTIONS, sync=wal.GroupedSync(), fs=files)
    log.append(b"first")
    files.waiting.clear()
    files.gate.clear()
    return log, files


def caught(work: Callable[[], object], results: list[object]) -> Callable[[], None]:
    def run() -> None:
        try:
            results.append(work())
        except WalError as error:
            results.append(error)

    return run


def test_an_append_that_is_cut_off_while_it_waits_says_so() -> None:
    log, files = new_log()
    results: list[object] = []
    one = Thread(target=caught(lambda: log.append(b"synced, then cut off"), results))
    one.start()
    assert files.waiting.wait(10)
    two = Thread(target=caught(lambda: log.append(b"cut off before its sync"), results))
    two.start()
    while log.next_sequence < 3:
        two.join(0.001)
    cut = Thread(target=lambda: log.truncate_behind(0))
    cut.start()
    files.gate.set()
    for thread in (one, two, cut):
        thread.join(10)

    assert len(results) == 2
    assert all(result in (1, 2) or isinstance(result, WalAppendDiscarded) for result in results)
    assert log.next_sequence == 1
    assert log.append(b"it goes on") == 1
    log.close()


async def test_awaited_appends_that_are_cut_off_end_and_later_ones_are_durable() -> None:
    log, files = new_log()
    early = [log.append_async(b"early") for _ in range(3)]
    await asyncio.to_thread(files.waiting.wait, 10)
    late = [log.append_async(b"late") for _ in range(3)]
    while log.next_sequence < 7:
        await asyncio.sleep(0)
    cut = asyncio.create_task(asyncio.to_thread(log.truncate_behind, 0))
    files.gate.set()
    await cut
    after = log.append_async(b"after")

    async with asyncio.timeout(10):
        results = await asyncio.gather(*early, *late, return_exceptions=True)
        sequence = await after

    assert all(isinstance(result, int | WalAppendDiscarded) for result in results)
    assert log.read(sequence) == b"after"
    assert log.durable_sequence == sequence + 1
    log.close()


class Target:
    """What a policy syncs: everything that `written` says, when `gates` let it."""

    def __init__(self) -> None:
        self.written_sequence = 1
        self.durable_sequence = 0
        self.gates = [Event(), Event()]
        self.began = [Event(), Event()]
        self.syncs = 0

    def sync_written(self) -> int:
        number, target = self.syncs, self.written_sequence
        self.syncs += 1
        self.began[number].set()
        assert self.gates[number].wait(10)
        self.durable_sequence = target
        return target

    def check_usable(self) -> None:
        pass


@pytest.mark.parametrize("attempt", range(20))
def test_a_waiter_whose_entry_is_durable_does_not_wait_for_the_next_groups_sync(attempt: int) -> None:
    policy, target = wal.GroupedSync(), Target()
    policy.start(target)
    leader = Thread(target=policy.appended, args=(1,))
    leader.start()
    assert target.began[0].wait(10)
    target.written_sequence = 2
    next_group = Thread(target=policy.appended, args=(2,))
    members = [Thread(target=policy.appended, args=(1,)) for _ in range(4)]
    for thread in (next_group, *members):
        thread.start()

    target.gates[0].set()
    for thread in (leader, *members):
        thread.join(5)

    assert not any(thread.is_alive() for thread in (leader, *members))
    target.gates[1].set()
    next_group.join(5)
    assert target.syncs == 2
