"""What an application meets in its first second: a node that has just started, alone."""

from pathlib import Path

import pytest

from cluster.counter import CommandCounter
from replog import ClusterConfig, Node, NodeConfig
from replog.errors import Unavailable

pytestmark = pytest.mark.slow

FAST = {"tick_ms": 5, "heartbeat_ticks": 2, "election_timeout_ticks_min": 10, "election_timeout_ticks_max": 20}


def lone_node(directory: Path) -> Node:
    cluster = ClusterConfig(cluster_id="alone", initial_members={"n1": "127.0.0.1:7000"}, **FAST)  # type: ignore[arg-type]  # integers only
    return Node(cluster, NodeConfig(node_id="n1", data_dir=str(directory / "data")), CommandCounter())


async def test_a_lone_node_takes_proposals_and_reads_from_its_start(tmp_path: Path) -> None:
    async with lone_node(tmp_path) as node:
        assert await node.propose(b"x") == (1).to_bytes(8, "little")

    async with lone_node(tmp_path) as node:
        assert await node.propose_many([b"y", b"z"]) == [(2).to_bytes(8, "little"), (3).to_bytes(8, "little")]

    async with lone_node(tmp_path) as node:
        assert await node.query(b"") == (3).to_bytes(8, "little")


async def test_a_node_without_a_majority_says_so_when_two_election_timeouts_have_passed(tmp_path: Path) -> None:
    members = {"n1": "127.0.0.1:7000", "n2": "127.0.0.1:1", "n3": "127.0.0.1:2"}
    cluster = ClusterConfig(cluster_id="alone", initial_members=members, **FAST)  # type: ignore[arg-type]  # integers only
    async with Node(cluster, NodeConfig(node_id="n1", data_dir=str(tmp_path / "data")), CommandCounter()) as node:
        with pytest.raises(Unavailable, match=r"no leader was known within 0\.200 s"):
            await node.read_barrier()
