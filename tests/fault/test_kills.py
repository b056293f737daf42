"""SIGKILL, SIGSTOP and restarts of real nodes under load: what was acknowledged is there, on every node."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from cluster.kv_client import KeyValueClient
from cluster.launch import LocalCluster
from cluster.writers import Record, Writers, judge, read_everything
from replog.types import NodeId

MakeCluster = Callable[..., LocalCluster]
pytestmark = [pytest.mark.fault, pytest.mark.slow]


@asynccontextmanager
async def running(cluster: LocalCluster) -> AsyncIterator[NodeId]:
    """The cluster's leader, once there is one; at the end the nodes stop cleanly."""
    cluster.start_all()
    try:
        await cluster.wait_serving()
        yield await cluster.wait_leader()
        codes = await asyncio.to_thread(cluster.stop_all)
        assert not any(codes.values()), codes
    finally:
        await cluster.disconnect()


async def wait_applied_everywhere(cluster: LocalCluster, seconds: float = 40) -> None:
    """Until every node has applied what is committed now."""
    async with cluster.client() as client:
        index = await client.read_barrier(timeout=seconds)
    async with asyncio.timeout(seconds):
        while not all(status and status["applied_index"] >= index for status in (await cluster.statuses()).values()):
            await asyncio.sleep(0.02)


async def assert_nothing_is_lost(cluster: LocalCluster, record: Record) -> None:
    """Every node holds every acknowledged write with its revision, nothing that nobody wrote, and the same as the others."""
    await wait_applied_everywhere(cluster)
    states = {node_id: await read_everything(cluster.client_of(node_id)) for node_id in cluster.nodes}
    for node_id, held in states.items():
        verdict = judge(record, held)
        assert verdict.holds, f"{node_id}: {verdict}"
    first = next(iter(states.values()))
    assert all(held == first for held in states.values())


async def test_any_node_may_be_killed_under_load_and_comes_back(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster):
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(200)
            for node_id in cluster.nodes:
                cluster.kill(node_id)
                await writers.wait_acknowledged(200)
                cluster.start(node_id)
                await cluster.wait_serving(node_id)
                await wait_applied_everywhere(cluster)
                await writers.wait_acknowledged(200)

        assert len(writers.record.acknowledged) > 1000
        await assert_nothing_is_lost(cluster, writers.record)


async def test_all_nodes_killed_at_once_under_load_come_back_with_everything(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster):
        async with Writers(cluster.client) as writers:
            for _ in range(3):
                await writers.wait_acknowledged(500)
                cluster.kill(*cluster.nodes)
                cluster.start_all()
                await cluster.wait_serving()
            await writers.wait_acknowledged(500)

        await assert_nothing_is_lost(cluster, writers.record)


async def test_all_nodes_stopped_cleanly_and_started_again_go_on(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster):
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(300)
        assert not any((await asyncio.to_thread(cluster.stop_all)).values())

        cluster.start_all()
        await cluster.wait_serving()
        await assert_nothing_is_lost(cluster, writers.record)
        async with Writers(cluster.client) as again:
            await again.wait_acknowledged(50)


async def test_a_leader_that_is_frozen_is_replaced_and_follows_when_it_thaws(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        others = [node_id for node_id in cluster.nodes if node_id != leader]
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(200)
            cluster.pause(leader)
            await cluster.wait_leader(among=others)
            await writers.wait_acknowledged(200)
            cluster.resume(leader)
            await wait_applied_everywhere(cluster)
            await writers.wait_acknowledged(200)

        await assert_nothing_is_lost(cluster, writers.record)
        status = (await cluster.statuses([leader]))[leader]
        assert status is not None
        assert status["failure"] is None


async def test_a_leader_that_is_stopped_cleanly_hands_over_without_an_election_timeout(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(cluster={"tick_ms": 20, "election_timeout_ticks_min": 250, "election_timeout_ticks_max": 500})
    async with running(cluster) as leader:
        others = [node_id for node_id in cluster.nodes if node_id != leader]

        began = asyncio.get_running_loop().time()
        codes = await asyncio.to_thread(cluster.stop, leader)
        await cluster.wait_leader(among=others)

        assert codes == {leader: 0}
        assert asyncio.get_running_loop().time() - began < 4.5, "an election timeout here is 5 to 10 s"


async def write_many(cluster: LocalCluster, count: int, batch: int = 1000) -> None:
    async with KeyValueClient(cluster.client()) as client:
        for start in range(0, count, batch):
            items = [(b"away/%07d" % number, b"v" * 20) for number in range(start, start + batch)]
            await client.put_many(items, timeout=30)


@pytest.mark.parametrize("by", ["the log", "a snapshot"])
async def test_a_follower_that_was_away_for_100_000_entries_catches_up(make_cluster: MakeCluster, by: str) -> None:
    limits = {"snapshot_entries": 20_000, "log_tail_entries": 1_000, "segment_bytes_max": 1024 * 1024} if by == "a snapshot" else {}
    cluster = make_cluster(node=limits)
    async with running(cluster) as leader:
        away = next(node_id for node_id in cluster.nodes if node_id != leader)
        await write_many(cluster, 1_000)
        cluster.kill(away)

        await write_many(cluster, 100_000)
        cluster.start(away)
        await cluster.wait_serving(away)
        await wait_applied_everywhere(cluster)

        status = (await cluster.statuses([away]))[away]
        assert status is not None
        assert (status["snapshot_index"] > 0) == (by == "a snapshot")
        assert len(await read_everything(cluster.client_of(away))) == 100_000
        assert await read_everything(cluster.client_of(away)) == await read_everything(cluster.client_of(leader))
