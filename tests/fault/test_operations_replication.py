"""Replication as operators see it: a follower that is far behind, a leader that is told to end, the figures of both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cluster import commands
from cluster.launch import LocalCluster
from cluster.writers import Writers
from replog.types import NodeId
from tests.fault.conftest import FAST, MakeCluster
from tests.fault.operating import log_of, memory_bytes, until_status
from tests.fault.test_kills import assert_nothing_is_lost, running, wait_applied_everywhere

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 1024 * 1024
VALUE_BYTES = 64 * 1024
IN_MEMORY: dict[str, object] = {"cache_bytes": 2 * MIB, "outbox_bytes_max": 2 * MIB, "snapshot_entries": 0, "snapshot_bytes": 0}
"""Little is kept in memory, and nothing is compacted: a follower that comes back gets everything from the segments."""


async def write(cluster: LocalCluster, megabytes: int) -> None:
    """Values over the same few keys, so that the state stays small and the log does not."""
    batch: Sequence[bytes] = [commands.encode_put(b"key %d" % number, b"%d" % number * VALUE_BYTES) for number in range(8)]
    batch = [command[:VALUE_BYTES] for command in batch]
    async with cluster.client() as client:
        for _ in range(megabytes * MIB // (len(batch) * VALUE_BYTES)):
            await client.propose_many(batch, timeout=30)


async def test_a_follower_that_stands_still_does_not_grow_the_leaders_memory_and_catches_up_from_the_segments(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(node=IN_MEMORY)
    async with running(cluster) as leader:
        slow = next(node_id for node_id in cluster.nodes if node_id != leader)
        await write(cluster, 32)
        await wait_applied_everywhere(cluster)
        cluster.pause(slow)
        before = memory_bytes(cluster, leader)

        await write(cluster, 160)

        grown = memory_bytes(cluster, leader) - before
        behind = next(peer for peer in (await cluster.statuses([leader]))[leader]["peers"] if peer["node"] == slow)  # type: ignore[index]
        cluster.resume(slow)
        await wait_applied_everywhere(cluster)
        assert grown < 48 * MIB, f"{grown / MIB:.0f} MiB"
        assert behind["in_flight_bytes"] <= 32 * MIB
        found = await until_status(cluster, lambda found: found[leader]["committed_index"] == found[slow]["applied_index"])
        assert found[slow]["snapshot_index"] == 0, "not by a snapshot"


async def test_a_leader_that_is_terminated_hands_over_first(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(300)
            before = (await cluster.statuses([leader]))[leader]
            assert before is not None
            assert await asyncio.to_thread(cluster.stop, leader) == {leader: 0}  # by SIGTERM
            successor: NodeId = await cluster.wait_leader(among=[node_id for node_id in cluster.nodes if node_id != leader])
            await writers.wait_acknowledged(300)
        told = log_of(cluster, leader)
        assert f"transfer to {successor} done" in told
        after = (await cluster.statuses([successor]))[successor]
        assert after is not None
        assert after["term"] == before["term"] + 1, "one election, that the leader asked for"
        cluster.start(leader)
        await cluster.wait_serving(leader)
        await assert_nothing_is_lost(cluster, writers.record)


async def test_the_measured_figures_of_the_followers_stand_in_the_leaders_status(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        await write(cluster, 16)

        found = await until_status(cluster, lambda found: len(found[leader]["acknowledgement_seconds"]) == 2)

        heartbeat_seconds = FAST["heartbeat_ticks"] * FAST["tick_ms"] / 1000
        for peer in found[leader]["peers"]:
            assert 128 * 1024 <= peer["window_bytes"] <= 32 * MIB
            assert 0 < found[leader]["acknowledgement_seconds"][peer["node"]] < 100 * heartbeat_seconds
        assert 64 * 1024 <= found[leader]["turn_bytes_max"] <= 8 * MIB
