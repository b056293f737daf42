"""Appends awaited from asyncio."""

from __future__ import annotations

import asyncio
import gc

import pytest

from replog import wal
from replog.errors import WalClosed, WalEntryTooLarge, WalFailed
from replog.testing.faulty_files import Fault, FaultyFileSystem
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import WalOptions
from tests.unit.wal.support import SMALL, WatchedFileSystem, all_of, new_log

BIG = WalOptions(prepare_next=False, preallocate_bytes=0)
POLICIES = [wal.NoSync, wal.ImmediateSync, wal.GroupedSync, lambda: wal.PeriodicSync(1000, 100)]


@pytest.mark.parametrize("policy", POLICIES)
async def test_awaited_appends_get_their_sequence_numbers(policy: type[wal.GroupedSync]) -> None:
    log = new_log(MemoryFileSystem(), SMALL, sync=policy())

    results = await asyncio.gather(*[log.append_async(b"%d" % number) for number in range(300)])
    first = await log.append_many_async([b"300", b"301", b"302"])
    single = await log.append_async(b"303")
    nothing = await log.append_many_async([])

    assert results == list(range(300))
    assert (first, single, nothing) == (300, 303, 304)
    assert all_of(log) == [b"%d" % number for number in range(304)]
    log.close()


async def test_what_is_awaited_is_durable_and_a_thousand_share_a_few_syncs() -> None:
    system = WatchedFileSystem()
    log = new_log(system, BIG, sync=wal.GroupedSync())
    before = system.syncs_of_data

    async def write(number: int) -> None:
        sequence = await log.append_async(b"%d" % number)
        assert log.durable_sequence > sequence
        batch = await log.append_many_async([b"a", b"b"])
        assert log.durable_sequence > batch + 1

    await asyncio.gather(*[write(number) for number in range(1000)])

    assert system.syncs_of_data - before < 20
    log.close()


async def test_one_too_large_is_refused_alone() -> None:
    log = new_log(MemoryFileSystem(), WalOptions(entry_bytes_max=10, prepare_next=False, preallocate_bytes=0), sync=wal.GroupedSync())

    results = await asyncio.gather(
        log.append_async(b"a"),
        log.append_async(bytes(11)),
        log.append_many_async([b"b", b"c"]),
        log.append_async(b"d"),
        return_exceptions=True,
    )

    assert [result for result in results if isinstance(result, int)] == [0, 1, 3]
    assert isinstance(results[1], WalEntryTooLarge)
    assert all_of(log) == [b"a", b"b", b"c", b"d"]
    log.close()


async def test_a_cancelled_waiter_takes_nobody_with_it() -> None:
    system = WatchedFileSystem()
    log = new_log(system, BIG, sync=wal.GroupedSync())
    system.syncing.clear()
    system.may_sync.clear()
    tasks = [asyncio.ensure_future(log.append_async(b"%d" % number)) for number in range(10)]
    while not system.syncing.is_set():
        await asyncio.sleep(0)

    tasks[3].cancel()
    system.may_sync.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [result for result in results if isinstance(result, int)] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert isinstance(results[3], asyncio.CancelledError)
    log.close()


async def test_the_loop_goes_on_while_the_disk_syncs_and_the_next_group_is_written() -> None:
    system = WatchedFileSystem()
    log = new_log(system, BIG, sync=wal.GroupedSync())
    before = system.syncs_of_data
    system.syncing.clear()
    system.may_sync.clear()
    first = log.append_async(b"first")
    while not system.syncing.is_set():
        await asyncio.sleep(0)

    group = [log.append_async(b"group") for _ in range(100)]
    while log.next_sequence < 101:
        await asyncio.sleep(0)
    assert not first.done()
    system.may_sync.set()

    assert await asyncio.gather(first, *group) == list(range(101))
    assert system.syncs_of_data == before + 2
    log.close()


@pytest.mark.parametrize("kind", ["pwrite", "sync"])
async def test_a_failure_reaches_every_waiter_and_every_later_call(kind: str) -> None:
    memory = MemoryFileSystem()
    wal.create("log", BIG, fs=memory)
    system = FaultyFileSystem(memory)
    log = wal.open("log", BIG, sync=wal.GroupedSync(), fs=system)
    assert await log.append_async(b"good") == 0
    system.fault = Fault(kind=kind, number=system.calls[kind])

    results = await asyncio.gather(*[log.append_async(b"x") for _ in range(50)], return_exceptions=True)

    assert all(isinstance(result, WalFailed) for result in results)
    with pytest.raises(WalFailed):
        await log.append_async(b"later")
    log.close()


async def test_what_waits_when_the_log_is_closed_ends() -> None:
    log = new_log(MemoryFileSystem(), BIG, sync=wal.GroupedSync())
    written = log.append_async(b"written")
    while not log.next_sequence:
        await asyncio.sleep(0)
    queued = log.append_async(b"queued")

    log.close()

    assert await written == 0
    with pytest.raises(WalClosed):
        await queued
    with pytest.raises(WalClosed):
        await log.append_async(b"late")


def test_one_loop_after_the_other_may_append() -> None:
    log = new_log(MemoryFileSystem(), BIG, sync=wal.GroupedSync())

    async def write() -> int:
        return await log.append_async(b"x")

    assert [asyncio.run(write()) for _ in range(3)] == [0, 1, 2]
    log.close()
    with pytest.raises(WalClosed):
        asyncio.run(write())
    gc.collect()
