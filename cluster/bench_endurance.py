"""What shows only over many entries or when something dies: memory, the time of a start, and the gap that a killed leader leaves."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from cluster import commands
from cluster.bench import BenchOptions, embedded
from cluster.config import load
from cluster.launch import LocalCluster
from cluster.processes import bytes_on_disk, cpu_seconds, rss_bytes
from replog.client.client import ReplogClient
from replog.config import MIB, ClusterConfig
from replog.errors import ReplogError
from replog.storage.disk import DiskStorage
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Write
from replog.types import EntryKind, HardState, NodeId

Lines = AsyncIterator[str]

_SAMPLE_SECONDS: Final = 0.1
_TENTHS: Final = 10
_GENERATED_AT_ONCE: Final = 10_000
_LENGTHS: Final = (10_000, 100_000, 1_000_000, 10_000_000)
_KEYS: Final = 10_000
_QUICK_ELECTION: Final = {"tick_ms": 10, "heartbeat_ticks": 5, "election_timeout_ticks_min": 10, "election_timeout_ticks_max": 20}
"""For a cluster of one node, whose election is not what is measured."""


# --- Memory --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sampler:
    """The most memory that each process was seen to use since `take` was called last."""

    pids: dict[NodeId, int]
    most: dict[NodeId, int] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(_SAMPLE_SECONDS)

    def look(self) -> None:
        for node, pid in self.pids.items():
            self.most[node] = max(self.most.get(node, 0), rss_bytes(pid))

    def take(self) -> dict[NodeId, int]:
        self.look()
        taken, self.most = self.most, {}
        return taken


async def memory(where: str, *, entries: int) -> Lines:
    """Memory at rest, and under load for each tenth of `entries` puts of 100 bytes to 10,000 keys, with snapshots and compaction as they are by default."""
    local = LocalCluster.create(where, 3, cluster_id="memory", process={"app": "kv", "log_level": "warning"})
    local.subcommand = "bench-node"
    with local:
        local.start_all()
        await local.wait_serving()
        leader = await local.wait_leader()
        sampler = Sampler({node: local.process(node).pid for node in local.nodes})
        await asyncio.sleep(2.0)
        yield "| entries | leader, MiB at most | followers, MiB at most | log and snapshots of the leader, MiB | snapshots | entries/s |"
        yield "|---:|---:|---:|---:|---:|---:|"
        yield await _memory_row(local, sampler, leader, 0, 0.0)
        sampling = asyncio.create_task(sampler.run())
        done = 0
        try:
            for tenth in range(1, _TENTHS + 1):
                began, before = time.perf_counter(), done
                while done < entries * tenth // _TENTHS:
                    leader = await local.wait_leader()
                    run = BenchOptions(in_flight=64, batch=100, seconds=_seconds_for(entries // _TENTHS), app="kv")
                    done += (await embedded(local, leader, run))["operations_all"]
                yield await _memory_row(local, sampler, leader, done, (done - before) / (time.perf_counter() - began))
        finally:
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
        await asyncio.to_thread(local.stop_all)
        await local.disconnect()


def _seconds_for(entries: int) -> float:
    """Short enough that a tenth is not overshot by much."""
    return min(2.0, max(0.1, entries / 500_000))


async def _memory_row(local: LocalCluster, sampler: Sampler, leader: NodeId, done: int, rate: float) -> str:
    most = sampler.take()
    followers = max(size for node, size in most.items() if node != leader)
    status = (await local.statuses([leader]))[leader]
    snapshot = f"up to {status['snapshot_index']:,}" if status and status["snapshot_index"] else "none"
    return (
        f"| {f'{done:,}' if done else 'at rest'} | {most[leader] / MIB:.0f} | {followers / MIB:.0f} "
        f"| {bytes_on_disk(local.node(leader).data_dir) / MIB:,.0f} | {snapshot} | {rate:,.0f} |"
    )


# --- Start ---------------------------------------------------------------------------------------------------------------------


async def startup(where: str, *, entries_max: int) -> Lines:
    """The time from the start of a process until it serves and until all of its log is applied, without a snapshot: every entry is verified, read and applied."""
    yield "| entries in the log | log, MiB | until it serves, s | until all is applied, s | us of CPU an entry | MiB of memory |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for length in sorted({min(length, entries_max) for length in _LENGTHS}):
        with tempfile.TemporaryDirectory(dir=where) as directory:
            yield await _startup_row(directory, length)


async def _startup_row(directory: str, length: int) -> str:
    never = {"snapshot_entries": 0, "snapshot_bytes": 0}
    local = LocalCluster.create(directory, 1, cluster_id="startup", cluster=dict(_QUICK_ELECTION), node=never, process={"app": "kv"})
    (node,) = local.nodes
    await asyncio.to_thread(write_log, local, node, length)
    size = bytes_on_disk(local.node(node).data_dir)
    with local:
        began = time.perf_counter()
        local.start_all()
        await local.wait_serving()
        serves = time.perf_counter() - began
        while True:
            status = (await local.statuses())[node]
            if status and status["applied_index"] >= length:
                break
            await asyncio.sleep(0.01)
        applied = time.perf_counter() - began
        pid = local.process(node).pid
        used, worked = rss_bytes(pid), cpu_seconds(pid)
        await asyncio.to_thread(local.stop_all)
        await local.disconnect()
    return f"| {length:,} | {size / MIB:,.0f} | {serves:.2f} | {applied:.2f} | {worked / length * 1e6:.2f} | {used / MIB:.0f} |"


def write_log(local: LocalCluster, node: NodeId, length: int) -> None:
    """A data directory as the node itself would have made it: `length` puts of 100 bytes, in term 1."""
    configuration = load(local.node(node).config_path, {})
    codec = EntryFrameCodec.of(configuration.cluster)
    value = b"v" * 100
    made = [commands.encode_put(b"key%05d" % number, value) for number in range(_KEYS)]
    storage = DiskStorage.open_for(configuration.cluster, configuration.node)
    try:
        storage.persist(Write(hard_state=HardState(term=1, vote=node)))
        for first in range(1, length + 1, _GENERATED_AT_ONCE):
            count = min(_GENERATED_AT_ONCE, length + 1 - first)
            payloads = [made[(first + step) % _KEYS] for step in range(count)]
            storage.persist(Write(frames=[codec.encode(first, 1, EntryKind.COMMAND, payloads)]))
    finally:
        storage.close()


# --- Failover ------------------------------------------------------------------------------------------------------------------


async def failover(where: str, *, times: int, say: Callable[[str], None]) -> Lines:
    """SIGKILL to the leader, `times` over, with default settings: the time until a client's next write, begun after the kill, is acknowledged."""
    default = ClusterConfig()
    timeout = [ticks * default.tick_ms / 1000 for ticks in (default.election_timeout_ticks_min, default.election_timeout_ticks_max)]
    gaps: list[float] = []
    local = LocalCluster.create(where, 3, cluster_id="failover", process={"log_level": "warning"})
    with local:
        local.start_all()
        await local.wait_serving()
        async with local.client() as client:
            for number in range(times):
                leader = await local.wait_leader()
                await _caught_up(local)
                await _write_for(client, 0.5)
                local.kill(leader)
                gaps.append(await _gap(client))
                say(f"kill {number + 1} of {times}: {gaps[-1]:.3f} s")
                local.start(leader)
                await local.wait_serving()
        await asyncio.to_thread(local.stop_all)
        await local.disconnect()
    worst = max(gaps)
    limit = 2 * timeout[0]
    yield "| kills | least s | median s | worst s | election timeout s | wanted: worst below twice its least |"
    yield "|---:|---:|---:|---:|---:|---|"
    yield (
        f"| {times} | {min(gaps):.2f} | {median(gaps):.2f} | {worst:.2f} | {timeout[0]:g} - {timeout[1]:g} "
        f"| {limit:g}: {'yes' if worst < limit else 'NO'} |"
    )


async def _gap(client: ReplogClient) -> float:
    began = time.perf_counter()
    while True:
        with contextlib.suppress(ReplogError):
            await client.propose(commands.encode_put(b"gap", b"v"), timeout=30.0, idempotent=True)
            return time.perf_counter() - began


async def _write_for(client: ReplogClient, seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await client.propose(commands.encode_put(b"gap", b"v"), timeout=30.0, idempotent=True)


async def _caught_up(local: LocalCluster) -> None:
    """Until every node has applied what the leader has committed."""
    while True:
        statuses: list[dict[str, Any] | None] = list((await local.statuses()).values())
        known = [status for status in statuses if status is not None]
        if len(known) == len(statuses) and min(status["applied_index"] for status in known) >= max(
            status["committed_index"] for status in known
        ):
            return
        await asyncio.sleep(0.05)
