"""A node whose state went its own way is found out by the others, serves nothing more, takes their state, and serves again: real nodes, the key-value store."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import generate_latest

from cluster import commands
from cluster.commands import Item, Scan
from cluster.kv import KeyValueStore
from replog.errors import SnapshotDamaged, Unavailable
from replog.node.node import Node
from tests.integration.cluster_of_nodes import NodeCluster, until

pytestmark = pytest.mark.slow

WINDOW = 16


@asynccontextmanager
async def kv_nodes(size: int = 3) -> AsyncIterator[NodeCluster]:
    """A running cluster of key-value stores that compare their states every `WINDOW` entries."""
    cluster = NodeCluster(size, make_machine=KeyValueStore)
    cluster.cluster = dataclasses.replace(cluster.cluster, state_digest_entries=WINDOW)
    try:
        for name in cluster.names:
            await cluster.start(name)
        await cluster.leader()
        yield cluster
    finally:
        await cluster.stop()


def store_of(node: Node) -> KeyValueStore:
    assert isinstance(node.state_machine, KeyValueStore)
    return node.state_machine


def items_of(node: Node) -> list[Item]:
    return commands.decode_page(store_of(node).query(commands.encode_scan(Scan(b"", limit=10_000)))).items


def metric(node: Node, name: str) -> float:
    lines = generate_latest(node.registry).decode().splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(name) and not line.startswith("#")]
    return float(value)


async def put(cluster: NodeCluster, count: int, prefix: str) -> None:
    """Through whoever leads; a leader that steps down meanwhile is asked no more."""
    for number in range(count):
        async with asyncio.timeout(10):
            while True:
                try:
                    await (await cluster.leader()).propose(commands.encode_put(f"{prefix}{number}".encode(), b"value"), timeout=2)
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)


async def equal_states(cluster: NodeCluster) -> None:
    """Until every node has applied the same and has the same items and digest."""
    nodes = list(cluster.nodes.values())
    await until(lambda: len({node.status().applied_index for node in nodes}) == 1)
    assert len({store_of(node).state_digest() for node in nodes}) == 1
    assert all(items_of(node) == items_of(nodes[0]) for node in nodes)


def change_a_value(store: KeyValueStore) -> None:
    """As a bug in `apply` would: the value is another one, and all that is derived from it agrees."""
    store.apply_batch(store.applied_index, 1, [commands.encode_put(b"a3", b"wrong")])


def lose_a_key(store: KeyValueStore) -> None:
    store.apply_batch(store.applied_index, 1, [commands.encode_delete(b"a3")])


@pytest.mark.parametrize("corrupt", [change_a_value, lose_a_key])
@pytest.mark.parametrize("victim_leads", [False, True])
async def test_a_node_with_another_state_than_the_others_stops_serving_and_takes_theirs(
    corrupt: Callable[[KeyValueStore], None], victim_leads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "replog")
    async with kv_nodes() as cluster:
        await put(cluster, 10, "a")
        victim = await cluster.leader() if victim_leads else cluster.followers()[0]
        await until(lambda: store_of(victim).applied_index >= 10)
        name = victim.config.node_id
        told: list[int | None] = []
        refused: list[str] = []
        watch = asyncio.create_task(_watch(victim, told, refused))

        corrupt(store_of(victim))
        assert [item.value for item in items_of(victim) if item.key == b"a3"] != [b"value"]
        await put(cluster, 2 * WINDOW, "b")
        await until(lambda: metric(victim, "replog_state_heals_total") == 1)
        watch.cancel()
        await put(cluster, WINDOW, "c")

        await equal_states(cluster)
        assert any(since is not None and since % WINDOW == 0 for since in told), "the status says since when"
        assert victim.status().diverged_since is None
        assert any("differs from the majority's" in words for words in refused), "it refused to answer from its wrong state"
        found = commands.decode_found(await victim.query(commands.encode_get(b"a3")), b"a3")
        assert found is not None
        assert found.value == b"value"
        others = [node for node in cluster.nodes.values() if node is not victim]
        assert all(metric(node, "replog_state_divergences_total") >= 1 for node in cluster.nodes.values())
        assert all(metric(node, "replog_state_heals_total") == 0 for node in others)
        assert all(f"{node.config.node_id}: at index" in caplog.text for node in cluster.nodes.values())
        alarms = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert all(f"the state of ('{name}',) differs from that of" in record.getMessage() for record in alarms)
        assert f"{name}: replaced its diverged state by a snapshot at" in caplog.text
        assert not victim_leads or not victim.is_leader


async def _watch(node: Node, told: list[int | None], refused: list[str]) -> None:
    """What the node says of itself, and what it answers to a reader, all the while."""
    while True:
        told.append(node.status().diverged_since)
        try:
            await node.query(commands.encode_get(b"a3"), consistency="stale")
        except Unavailable as error:
            refused.append(str(error))
        await asyncio.sleep(0)


async def test_memory_that_went_bad_is_found_when_a_snapshot_is_taken_and_never_reaches_the_disk(caplog: pytest.LogCaptureFixture) -> None:
    async with kv_nodes() as cluster:
        await put(cluster, 10, "a")
        victim = cluster.followers()[0]
        await until(lambda: store_of(victim).applied_index >= 10)
        _overwrite_in_memory(store_of(victim), b"a3", b"valve")

        with pytest.raises(SnapshotDamaged, match=r"the item of key b'a3' at revision \d+ has changed in memory"):
            await victim.take_snapshot()
        assert victim.status().snapshot_index == 0
        assert "could not be written and is tried again: the item of key b'a3'" in caplog.text
        await put(cluster, 2 * WINDOW, "b")
        await until(lambda: metric(victim, "replog_state_heals_total") == 1)

        await equal_states(cluster)
        assert (await victim.take_snapshot()) is not None
        assert f"the state of ('{victim.config.node_id}',) differs from that of" in caplog.text


async def test_sound_nodes_find_nothing_over_restarts_and_snapshots() -> None:
    async with kv_nodes() as cluster:
        for round_number in range(3):
            await put(cluster, WINDOW + 3, f"r{round_number}-")
            follower = cluster.followers()[0]
            if round_number == 1:
                await follower.take_snapshot()
            await follower.stop()
            await put(cluster, 5, f"s{round_number}-")
            await cluster.start(follower.config.node_id)
            await put(cluster, 2 * WINDOW, f"t{round_number}-")

        await equal_states(cluster)
        assert all(metric(node, "replog_state_divergences_total") == 0 for node in cluster.nodes.values())


def _overwrite_in_memory(store: KeyValueStore, key: bytes, value: bytes) -> None:
    answer, mark = store._map.writable[key]
    store._map.writable[key] = (answer[:8] + value, mark)
