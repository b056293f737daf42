"""Snapshots that are larger than anybody's memory should be, on their way to new nodes; snapshots carried by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster.launch import LocalCluster
from cluster.writers import Writers
from tests.fault.conftest import MakeCluster
from tests.fault.operating import add_node, endpoints, memory_bytes, plant, replog, report, row, until_status, voters_are
from tests.fault.test_kills import assert_nothing_is_lost, running

pytestmark = [pytest.mark.fault, pytest.mark.slow]

MIB = 1024 * 1024
COMPACT = {"segment_bytes_max": 4096, "log_tail_entries": 0, "snapshot_entries": 0, "snapshot_bytes": 0}
"""The log keeps nothing behind a snapshot, so a new node needs one; they are taken on demand."""


async def take_snapshots(cluster: LocalCluster) -> int:
    """Have every node take a snapshot of the same entries; returns the least index."""
    async with cluster.client() as client:
        await client.propose_many([b"%060d" % number for number in range(500)], timeout=30)
    done = await replog("snapshot", "take", "-e", endpoints(cluster))
    assert done.out.count("snapshot of index") == len(cluster.nodes)
    found = await until_status(cluster, lambda found: all(status["first_index"] > 1 for status in found.values()))
    return min(int(status["snapshot_index"]) for status in found.values())


async def grown_while(cluster: LocalCluster, done: asyncio.Task[object]) -> dict[str, int]:
    """By how many bytes each of the first three nodes has grown at most until `done`."""
    before = {node_id: memory_bytes(cluster, node_id) for node_id in ("n1", "n2", "n3")}
    most = dict(before)
    while not done.done():
        for node_id in most:
            most[node_id] = max(most[node_id], memory_bytes(cluster, node_id))
        await asyncio.sleep(0.01)
    await done
    return {node_id: most[node_id] - before[node_id] for node_id in most}


async def send_to_a_new_node(make_cluster: MakeCluster, state_bytes: int, *, from_follower: bool, seconds: float) -> None:
    """A new node gets a snapshot of so many bytes, becomes a voter, and nobody's memory grows by 100 MB."""
    cluster = make_cluster(node={**COMPACT, "snapshot_from_follower": from_follower})
    for node_id in cluster.nodes:
        plant(cluster, node_id, "--state-bytes", str(state_bytes))
    async with running(cluster) as leader:
        await take_snapshots(cluster)
        local = add_node(cluster, "n4", **COMPACT)
        plant(cluster, "n4", "--state-bytes", str(state_bytes))
        cluster.start("n4")
        await cluster.wait_serving("n4")

        async def joined() -> object:
            await replog("member", "add-learner", "n4", local.address, "-e", endpoints(cluster))
            return await until_status(cluster, voters_are("n1", "n2", "n3", "n4"), seconds)

        grown = await grown_while(cluster, asyncio.create_task(joined()))

        assert max(grown.values()) < 100_000_000, grown
        assert await cluster.wait_leader() == leader
        async with cluster.client_of("n4") as client:
            applied, blocks = (await client.query(b"", consistency="stale", timeout=30)).split()
        assert int(blocks) == state_bytes // MIB
        assert int(applied) == 500
        sent = {node_id: await chunks_sent(cluster, node_id) for node_id in ("n1", "n2", "n3")}
        assert (sent[leader] == 0) == from_follower, sent
        assert sum(sent.values()) >= state_bytes // (512 * 1024)


async def chunks_sent(cluster: LocalCluster, node_id: str) -> int:
    """What its metrics say."""
    import urllib.request

    def read() -> str:
        with urllib.request.urlopen(f"http://{cluster.node(node_id).http_address}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    for line in (await asyncio.to_thread(read)).splitlines():
        if line.startswith("replog_snapshot_chunks_sent_total"):
            return int(float(line.split()[-1]))
    raise AssertionError("no metric of chunks sent")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("sender", ["the leader", "a follower"])
async def test_a_snapshot_of_200_mb_reaches_a_new_node_and_costs_its_sender_no_memory(make_cluster: MakeCluster, sender: str) -> None:
    await send_to_a_new_node(make_cluster, 200 * MIB, from_follower=sender == "a follower", seconds=120)


@pytest.mark.hunt
@pytest.mark.timeout(600)
async def test_a_snapshot_of_1_gb_reaches_a_new_node_and_the_leader_grows_by_less_than_100_mb(make_cluster: MakeCluster) -> None:
    await send_to_a_new_node(make_cluster, 1024 * MIB, from_follower=False, seconds=500)


@pytest.mark.timeout(180)
async def test_a_throttled_snapshot_takes_its_time_and_survives_a_restart_of_its_receiver(make_cluster: MakeCluster) -> None:
    """16 MiB at 4 MiB/s: at least the seconds that the throttle makes of it, its receiver being killed in the middle."""
    cluster = make_cluster(node={**COMPACT, "snapshot_from_follower": False, "snapshot_bytes_per_second": 4 * MIB})
    for node_id in cluster.nodes:
        plant(cluster, node_id, "--state-bytes", str(16 * MIB))
    async with running(cluster):
        await take_snapshots(cluster)
        local = add_node(cluster, "n4", **COMPACT)
        plant(cluster, "n4", "--state-bytes", str(16 * MIB))
        cluster.start("n4")
        await cluster.wait_serving("n4")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await replog("member", "add-learner", "n4", local.address, "-e", endpoints(cluster))
        parts = Path(local.data_dir) / "snapshots"
        async with asyncio.timeout(60):
            while sum(part.stat().st_size for part in parts.glob("*.part")) < 9 * MIB:
                await asyncio.sleep(0.01)
        cluster.kill("n4")
        cluster.start("n4")

        await until_status(cluster, voters_are("n1", "n2", "n3", "n4"), 60)

        assert loop.time() - began > 3.0 - 1.0, "one second's worth may leave at once"
        leader = await cluster.wait_leader()
        assert await chunks_sent(cluster, leader) < 2 * 16 * MIB // (512 * 1024), "it went on where it was, and did not begin anew"


async def test_a_snapshot_is_listed_verified_exported_and_seeds_a_new_node(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(node=COMPACT)
    async with running(cluster) as leader:
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(500)
        taken = await replog("snapshot", "take", "-e", endpoints(cluster), "--json")
        assert len(taken.out.splitlines()) == 3
        donor = next(node_id for node_id in cluster.nodes if node_id != leader)
        held = await replog("snapshot", "list", cluster.node(donor).data_dir, code=2)
        assert f"locked by process {cluster.process(donor).pid}" in held.err
        cluster.stop(donor)

        listed = await replog("snapshot", "list", cluster.node(donor).data_dir, "--json")
        assert listed.json["membership"]["voters"] == ["n1", "n2", "n3"]
        await replog("snapshot", "verify", cluster.node(donor).data_dir)
        exported = tmp_path / "carried.snap"
        await replog("snapshot", "export", cluster.node(donor).data_dir, str(exported))
        cluster.start(donor)
        local = add_node(cluster, "n4", **COMPACT)
        await replog("snapshot", "import", local.data_dir, str(exported), code=2)
        await replog("snapshot", "import", local.data_dir, str(exported), "--node-id", "n4", "--cluster-id", cluster.cluster_id)
        cluster.start("n4")
        await cluster.wait_serving()
        assert row(await report(cluster), "n1")["answers"]
        seeded = (await cluster.statuses(["n4"]))["n4"]
        assert seeded is not None
        assert seeded["last_index"] == listed.json["index"]
        assert not seeded["removed"]

        await replog("member", "add-learner", "n4", local.address, "-e", endpoints(cluster))
        await until_status(cluster, voters_are("n1", "n2", "n3", "n4"))

        await assert_nothing_is_lost(cluster, writers.record)
        assert sum([await chunks_sent(cluster, node_id) for node_id in cluster.nodes]) == 0, "what it had was enough"
