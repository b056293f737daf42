"""How cost grows: with the size of batches, of values and of the cluster; and (in `cluster.bench_endurance`) with the length of the log, with time, and when a leader dies.

Each measure is a table of Markdown. CPU per entry repeats on a busy machine where entries per second do not: read that first there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from cluster.bench import BenchOptions, run_bench
from cluster.bench_compare import machine
from cluster.bench_endurance import failover, memory, startup
from replog.config import KIB, MIB, check_choice, check_range

COSTS: Final = ((1, 1), (64, 1), (1024, 1), (4096, 1), (64, 10), (64, 100), (64, 1000))
"""(in flight, commands in one `propose_many`)."""
PAYLOADS: Final = ((16, 1024), (100, 1024), (KIB, 1024), (16 * KIB, 256), (MIB, 16))
"""(bytes of a value, in flight)."""
SIZES: Final = (1, 3, 5)
LARGE_SHARE_MIN: Final = 1 / 6
"""Values of 1 MiB are acknowledged at this share, at least, of the rate at which one process writes and syncs the same bytes."""
_BARE_BYTES_MIN, _BARE_BYTES_MAX = 64 * MIB, 1024 * MIB
"""Of the file that one process alone writes; the larger, the longer it takes to make and to remove."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleOptions:
    """What all measures share."""

    seconds: float = 5.0
    """Of each run."""
    entries: int = 10_000_000
    """Of the longest log and of the memory's run."""
    times: int = 20
    """Leaders killed."""
    directory: str | None = None
    """Where the logs go; None: a temporary directory."""

    def __post_init__(self) -> None:
        check_range("entries", self.entries, 1_000, 1_000_000_000)
        check_range("times", self.times, 1, 1_000)


Lines = AsyncIterator[str]


async def run_scale(names: list[str], options: ScaleOptions) -> None:
    """`bench --scale NAME`, several times for several, "all" for all: tables on stdout as they are made."""
    for name in names:
        check_choice("scale", name, (*MEASURES, "all"))
    chosen = list(MEASURES) if "all" in names else names
    for name, value in machine(options.directory or tempfile.gettempdir()).items():
        if name != "peers":
            print(f"- {name}: {value}")
    for name in chosen:
        print(f"\n### {name}\n", flush=True)
        with tempfile.TemporaryDirectory(prefix="replog-scale-", dir=options.directory) as where:
            async for line in MEASURES[name](options, where):
                print(line, flush=True)
    print(f"\n- load after: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")


async def _one(where: str, run: BenchOptions, **more: Any) -> dict[str, Any]:
    """One run on a new cluster."""
    with tempfile.TemporaryDirectory(dir=where) as directory:
        (found,) = [row async for row in run_bench(directory, [run], **more)]  # to its end: that is when the nodes are stopped
        return found


async def cost(options: ScaleOptions, where: str) -> Lines:
    """CPU per entry against batch size."""
    yield "| in flight | commands a call | entries a write | entries/s | leader, us of CPU an entry (with the load) | follower, us of CPU an entry |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for in_flight, batch in COSTS:
        run = BenchOptions(in_flight=in_flight, batch=batch, seconds=options.seconds, app="counter")
        row = await _one(where, run)
        yield (
            f"| {in_flight:,} | {batch:,} | {row['entries_per_write']:,.0f} | {row['ops_per_second']:,.0f} "
            f"| {row['leader_cpu_us_per_op']:.2f} | {row['follower_cpu_us_per_op']:.2f} |"
        )


async def payload(options: ScaleOptions, where: str) -> Lines:
    """Throughput against the size of a value, beside the rate at which one process writes and syncs such values one by one."""
    yield "| bytes of a value | in flight | values/s | MB/s | p50 ms | p99 ms | leader, us of CPU | follower, us of CPU | one process alone, values/s | share |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for size, in_flight in PAYLOADS:
        before = await asyncio.to_thread(bare_rate, where, size, options.seconds / 2)
        run = BenchOptions(in_flight=in_flight, payload_bytes=size, seconds=options.seconds, app="counter")
        row = await _one(where, run)
        alone = (
            before + await asyncio.to_thread(bare_rate, where, size, options.seconds / 2)
        ) / 2  # before and after: the disk is not always the same
        rate = row["ops_per_second"]
        share = f"{rate / alone:.2f}"
        if size == MIB:
            share += f" (wanted {LARGE_SHARE_MIN:.2f}: {'yes' if rate / alone >= LARGE_SHARE_MIN else 'NO'})"
        yield (
            f"| {size:,} | {in_flight:,} | {rate:,.0f} | {rate * size / 1e6:,.1f} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} "
            f"| {row['leader_cpu_us_per_op']:,.1f} | {row['follower_cpu_us_per_op']:,.1f} | {alone:,.0f} | {share} |"
        )


def bare_rate(where: str, size_bytes: int, seconds: float) -> float:
    """Values per second that one process writes and syncs, one by one, into a file whose blocks are reserved."""
    value = os.urandom(size_bytes)
    reserved = min(_BARE_BYTES_MAX, max(_BARE_BYTES_MIN, size_bytes * 4096))
    path = os.path.join(where, "bare")
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, reserved)
        os.fsync(descriptor)
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds and (count + 1) * size_bytes <= reserved:
            os.pwrite(descriptor, value, count * size_bytes)
            os.fdatasync(descriptor)
            count += 1
        return count / elapsed
    finally:
        os.close(descriptor)
        os.remove(path)


async def nodes(options: ScaleOptions, where: str) -> Lines:
    """Throughput against the number of nodes, all on this machine."""
    yield "| nodes | entries/s at 1 in flight | p50 ms | entries/s at 1,024 | p50 ms | p99 ms | leader, us of CPU an entry | follower, us of CPU an entry |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---:|"
    for size in SIZES:
        alone, many = [
            await _one(where, BenchOptions(in_flight=in_flight, seconds=options.seconds, app="counter"), nodes=size)
            for in_flight in (1, 1024)
        ]
        yield (
            f"| {size} | {alone['ops_per_second']:,.0f} | {alone['p50_ms']:.2f} | {many['ops_per_second']:,.0f} | {many['p50_ms']:.2f} "
            f"| {many['p99_ms']:.2f} | {many['leader_cpu_us_per_op']:.2f} | {many['follower_cpu_us_per_op']:.2f} |"
        )


async def _memory(options: ScaleOptions, where: str) -> Lines:
    async for line in memory(where, entries=options.entries):
        yield line


async def _startup(options: ScaleOptions, where: str) -> Lines:
    async for line in startup(where, entries_max=options.entries):
        yield line


async def _failover(options: ScaleOptions, where: str) -> Lines:
    async for line in failover(where, times=options.times, say=lambda line: print(line, file=sys.stderr, flush=True)):
        yield line


MEASURES: Final[dict[str, Callable[[ScaleOptions, str], Lines]]] = {
    "cost": cost,
    "payload": payload,
    "nodes": nodes,
    "memory": _memory,
    "startup": _startup,
    "failover": _failover,
}
