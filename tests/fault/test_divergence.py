"""Real processes: one applies a command wrongly, once; the others notice it, and it takes their state. No operator is needed."""

import asyncio
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.launch import LocalCluster
from cluster.writers import Writers
from replog.types import NodeId
from tests.fault.conftest import FAST
from tests.fault.test_kills import assert_nothing_is_lost, running, wait_applied_everywhere

MakeCluster = Callable[..., LocalCluster]
pytestmark = [pytest.mark.fault, pytest.mark.slow]


def metric(cluster: LocalCluster, node_id: NodeId, name: str) -> float:
    with urllib.request.urlopen(f"http://{cluster.node(node_id).http_address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(name)]
    return float(value)


async def until_healed(cluster: LocalCluster, node_id: NodeId) -> None:
    async with asyncio.timeout(40):
        while await asyncio.to_thread(metric, cluster, node_id, "replog_state_heals_total") < 1:
            await asyncio.sleep(0.02)


async def test_a_process_that_dropped_a_command_is_found_out_and_heals_itself_under_load(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(cluster={**FAST, "state_digest_entries": 128})
    cluster.environment["REPLOG_TEST_FAULT"] = "drop-once@n2"
    async with running(cluster):
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(400)
            await until_healed(cluster, "n2")
            await writers.wait_acknowledged(400)
        await wait_applied_everywhere(cluster)

        await assert_nothing_is_lost(cluster, writers.record)
        statuses = await cluster.statuses()
        assert [status["diverged_since"] for status in statuses.values() if status] == [None] * 3
        divergences = [await asyncio.to_thread(metric, cluster, node_id, "replog_state_divergences_total") for node_id in cluster.nodes]
        assert min(divergences) >= 1, "every node has noticed"
        logs = {node_id: Path(cluster.node(node_id).log_path).read_text() for node_id in cluster.nodes}
        for node_id in ("n1", "n3"):
            assert f"ERROR {node_id}: at index 128 the state of ('n2',) differs from that of ('n1', 'n3')" in logs[node_id]
        assert "n2: replaced its diverged state by a snapshot at" in logs["n2"]
        assert "replaced its diverged state" not in logs["n1"] + logs["n3"]
