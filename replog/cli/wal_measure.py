"""The measurements of `replog wal bench`: the log's work, and beside it, in the same round, the bare system calls that it consists of.

A figure of a shared machine means little by itself; its ratio to a bare `os.write`, or to a bare write and data sync, of the same seconds means
much. So each round measures everything once, bare calls first, and medians are taken over the rounds.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp
from threading import Thread
from time import perf_counter
from typing import Any, Final

from replog import wal
from replog.wal import Log, SyncPolicy, WalOptions

MIB: Final = 1 << 20
_APPENDS: Final = 20_000
_BATCH: Final = 1000
_READ_BYTES: Final = 16 * MIB
_SYNCS: Final = 150
_THROUGHPUT_BYTES: Final = 64 * MIB
_BLOCK_BYTES: Final = MIB
_IN_FLIGHT_APPENDS: Final = 40_000
_IN_FLIGHT_ROUNDS_MIN: Final = 30

_MEMORY_PROGRAM: Final = """
import sys
from replog import wal
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
reader = wal.Reader(sys.argv[1])
before = peak()
for sequence, data in reader:
    pass
print(peak() - before)
"""
"""Prints how many KiB more memory it has had at once than before it read a log."""

Values = dict[str, float]
"""Name of a measurement -> seconds an operation, or bytes or entries a second."""


@dataclass(slots=True)
class Bench:
    """One place on disk to measure on."""

    root: str
    open_bytes: int
    """Size of the log that is opened and verified."""
    _count: int = 0

    def directory(self) -> str:
        """A name for another log."""
        self._count += 1
        return os.path.join(self.root, f"log-{self._count}")

    @contextmanager
    def log(self, sync: SyncPolicy, segment_bytes: int = 64 * MIB) -> Iterator[Log]:
        """A new log; removed behind it."""
        directory = self.directory()
        options = WalOptions(segment_bytes_max=segment_bytes)
        wal.create(directory, options)
        with wal.open(directory, options, sync=sync) as log:
            yield log
        rmtree(directory)

    @contextmanager
    def file(self, bytes_total: int) -> Iterator[int]:
        """A descriptor of a new file with real blocks, as a segment has them."""
        path = self.directory() + ".bare"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            os.posix_fallocate(descriptor, 0, bytes_total)
            os.fsync(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)
            os.unlink(path)


@contextmanager
def bench_place(parent: str, open_bytes: int) -> Iterator[Bench]:
    """A temporary directory inside `parent`, removed behind it."""
    root = mkdtemp(prefix="replog-bench-", dir=parent)
    try:
        yield Bench(root, open_bytes)
    finally:
        rmtree(root, ignore_errors=True)


def measure_writes(bench: Bench) -> Values:
    """Appends that end with the operating system, and the bare `os.write` of as many bytes, in turns: a slow moment of the machine hits all alike."""
    with ExitStack() as opened:
        works: dict[str, Callable[[], object]] = {}
        for size, name in ((100, "write 100 B"), (1024, "write 1 KiB")):
            works[name] = partial(_write_often, opened.enter_context(bench.file(_APPENDS * size)), bytes(size))
        for size, name in ((0, "append 0 B"), (100, "append 100 B"), (1024, "append 1 KiB")):
            works[name] = partial(_append_often, opened.enter_context(bench.log(wal.NoSync())).append, bytes(size))
        for size, name in ((100, "append_many 100 B"), (1024, "append_many 1 KiB")):
            datas = [os.urandom(size) for _ in range(_BATCH)]
            works[name] = partial(opened.enter_context(bench.log(wal.NoSync())).append_many, datas)
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(_APPENDS // _BATCH):
            for name, work in works.items():
                began = perf_counter()
                work()
                taken[name].append((perf_counter() - began) / _BATCH)
    return {name: median(seconds) for name, seconds in taken.items()}


def _write_often(descriptor: int, data: bytes) -> None:
    write = os.write
    for _ in range(_BATCH):
        write(descriptor, data)


def _append_often(append: Callable[[bytes], int], data: bytes) -> None:
    for _ in range(_BATCH):
        append(data)


def measure_reads(bench: Bench) -> Values:
    """Reading every entry of a log, one by one as a user does, and in batches."""
    values: Values = {}
    for size, name in ((0, "0 B"), (100, "100 B"), (1024, "1 KiB"), (16384, "16 KiB")):
        count = min(100_000, _READ_BYTES // max(size, 100))
        datas = [os.urandom(size) for _ in range(_BATCH)]
        with bench.log(wal.NoSync()) as log:
            for _ in range(0, count, _BATCH):
                log.append_many(datas)
            total = log.next_sequence
            directory = log.directory
            with wal.Reader(directory) as reader:
                began = perf_counter()
                for _sequence, _data in reader:
                    pass
                values[f"read {name}"] = (perf_counter() - began) / total
            if size == 100:
                with wal.Reader(directory) as reader:
                    began = perf_counter()
                    while (frames := reader.read_batch()) is not None:
                        frames.datas()
                    values["read batches 100 B"] = (perf_counter() - began) / total
    return values


def measure_syncs(bench: Bench) -> Values:
    """Appends that a data sync makes durable, one at a time, and the bare write and data sync. Interleaved, because disks change their mind."""
    data = bytes(100)
    times: dict[str, list[float]] = {"write + data sync": [], "append immediate": [], "append grouped, lone": []}
    with (
        bench.file(4 * MIB) as descriptor,
        bench.log(wal.ImmediateSync(), 4 * MIB) as immediate,
        bench.log(wal.GroupedSync(), 4 * MIB) as grouped,
    ):

        def bare(content: bytes) -> None:
            os.write(descriptor, content)
            os.fdatasync(descriptor)

        works: tuple[Callable[[bytes], object], ...] = (bare, immediate.append, grouped.append)
        for _ in range(_SYNCS):
            for work, taken in zip(works, times.values(), strict=True):
                began = perf_counter()
                work(data)
                taken.append(perf_counter() - began)
    return {name: median(taken) for name, taken in times.items()}


def measure_in_flight(bench: Bench) -> Values:
    """Entries a second with so many grouped appends waiting at once: awaited in one event loop, and from threads."""
    values: Values = {}
    for count in (16, 128, 1024):
        rounds = max(_IN_FLIGHT_ROUNDS_MIN, min(200, _IN_FLIGHT_APPENDS // count))
        with bench.log(wal.GroupedSync()) as log:
            values[f"grouped, {count} awaited"] = count * rounds / run_loop(_await_appends(log, count, rounds))
    for count in (16, 128):
        rounds = 60
        with bench.log(wal.GroupedSync()) as log:
            values[f"grouped, {count} threads"] = count * rounds / _append_in_threads(log, count, rounds)
    return values


def loop_name() -> str:
    """The event loop that is measured with."""
    return "asyncio" if find_spec("uvloop") is None else f"uvloop {version('uvloop')}"


def run_loop(work: Coroutine[Any, Any, float]) -> float:
    """Run a coroutine in the fastest loop there is."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if find_spec("uvloop") is not None:
        factory = import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


async def _await_appends(log: Log, count: int, rounds: int) -> float:
    data = bytes(100)
    append = log.append_async

    async def writer() -> None:
        for _ in range(rounds):
            await append(data)

    await append(data)  # the thread beside the loop is there
    began = perf_counter()
    await asyncio.gather(*(writer() for _ in range(count)))
    return perf_counter() - began


def _append_in_threads(log: Log, count: int, rounds: int) -> float:
    data = bytes(100)

    def writer() -> None:
        for _ in range(rounds):
            log.append(data)

    threads = [Thread(target=writer) for _ in range(count)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return perf_counter() - began


def measure_throughput(bench: Bench) -> Values:
    """Bytes a second of durable 1 KiB entries, and of as many bytes written and data-synced in blocks of 1 MiB.

    In turns, and each first as often as the other, because a disk that was busy a moment ago answers sooner; medians, because one sync of a shared
    disk that takes a hundred times as long says nothing of either. Both files have the same blocks.
    """
    block = os.urandom(_BLOCK_BYTES)
    datas = [block[start : start + 1024] for start in range(0, _BLOCK_BYTES, 1024)]
    with bench.file(2 * _THROUGHPUT_BYTES) as descriptor, bench.log(wal.GroupedSync(), 2 * _THROUGHPUT_BYTES) as log:

        def bare() -> None:
            os.write(descriptor, block)
            os.fdatasync(descriptor)

        works: list[tuple[str, Callable[[], object]]] = [
            ("write + sync, 1 MiB blocks", bare),
            ("append_many 1 KiB, durable", partial(log.append_many, datas)),
        ]
        taken: dict[str, list[float]] = {name: [] for name, _ in works}
        for _ in range(_THROUGHPUT_BYTES // _BLOCK_BYTES):
            for name, work in works:
                began = perf_counter()
                work()
                taken[name].append(perf_counter() - began)
            works.reverse()
    return {name: _BLOCK_BYTES / median(seconds) for name, seconds in taken.items()}


def measure_open(bench: Bench, advance: Callable[[int], None] | None = None) -> Values:
    """Bytes a second of opening, which verifies everything; and how much memory reading takes beyond what the process had."""
    directory = bench.directory()
    block = os.urandom(_BLOCK_BYTES)
    datas = [block[start : start + 1024] for start in range(0, _BLOCK_BYTES, 1024)]
    options = WalOptions(segment_bytes_max=64 * MIB)
    wal.create(directory, options)
    with wal.open(directory, options, sync=wal.NoSync()) as log:
        for _ in range(bench.open_bytes // _BLOCK_BYTES):
            log.append_many(datas)
            if advance is not None:
                advance(_BLOCK_BYTES)
        size = log.size_bytes
    seconds = []
    for _ in range(3):
        began = perf_counter()
        wal.open(directory, options, sync=wal.NoSync()).close()
        seconds.append(perf_counter() - began)
    # In a process of its own, because this one has memory to spare from what was measured before.
    told = subprocess.run([sys.executable, "-c", _MEMORY_PROGRAM, directory], capture_output=True, check=True)  # noqa: S603  # our own program
    rmtree(directory)
    return {"open and verify": size / sorted(seconds)[1], "memory while reading": float(int(told.stdout) * 1024)}
