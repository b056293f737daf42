"""No query runs while a snapshot replaces the state in another thread: it would see half of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import pytest

from replog.client import Consistency, ReplogClient
from replog.errors import DeadlineExceeded, NodeStopped
from replog.node.node import Node
from tests.integration.cluster_of_nodes import NodeCluster, until
from tests.unit.node.harness import Register

pytestmark = pytest.mark.slow

SMALL = {"snapshot_entries": 50, "log_tail_entries": 10, "segment_bytes_max": 4096}


class SlowRestore(Register):
    """Is without a state until it is told to go on."""

    go = threading.Event()
    fails = False

    def __init__(self) -> None:
        super().__init__()
        self.restoring = False

    def restore(self, source: BinaryIO) -> None:
        self.restoring = True
        self.commands = []
        assert self.go.wait(20)
        if self.fails:
            raise ValueError("told to fail")
        super().restore(source)
        self.restoring = False

    def query(self, request: bytes) -> bytes:
        assert not self.restoring, "the state was half there"
        return super().query(request)


@asynccontextmanager
async def a_node_that_is_sent_a_snapshot() -> AsyncIterator[Node]:
    """The third of three nodes, which starts when the log that it needs is gone, in the middle of its restore."""
    SlowRestore.go.clear()
    cluster = NodeCluster(3, make_machine=SlowRestore, **SMALL)
    try:
        for name in cluster.names[:2]:
            await cluster.start(name)
        leader = await cluster.leader()
        for number in range(200):
            await leader.propose(b"command %03d" % number, timeout=10)
        await until(lambda: leader.status().first_index > 1)
        late = await cluster.start(cluster.names[2])
        machine = late.state_machine
        assert isinstance(machine, SlowRestore)
        await until(lambda: machine.restoring)
        yield late
    finally:
        SlowRestore.go.set()
        await cluster.stop()


async def _answers_later(asking: asyncio.Task[bytes]) -> None:
    await asyncio.wait([asking], timeout=0.05)
    assert not asking.done()
    SlowRestore.go.set()
    assert (await asking).startswith(b"command")


async def test_a_query_of_the_process_waits_for_the_restored_state_as_long_as_it_may() -> None:
    async with a_node_that_is_sent_a_snapshot() as node:
        with pytest.raises(DeadlineExceeded):
            await node.query(b"last", consistency="stale", timeout=0.01)
        await _answers_later(asyncio.ensure_future(node.query(b"last", consistency="stale")))


@pytest.mark.parametrize("consistency", ["stale", "linearizable"])
async def test_a_query_of_a_client_waits_for_the_restored_state(consistency: Consistency) -> None:
    async with (
        a_node_that_is_sent_a_snapshot() as node,
        ReplogClient([node.bound_address], follow_leader=False, timeout=15.0) as client,
    ):
        await _answers_later(asyncio.ensure_future(client.query(b"last", consistency=consistency)))


async def test_a_query_that_waits_for_a_state_that_cannot_be_restored_is_told_that_the_node_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlowRestore, "fails", True)
    async with a_node_that_is_sent_a_snapshot() as node:
        asking = asyncio.ensure_future(node.query(b"last", consistency="stale"))
        await asyncio.wait([asking], timeout=0.05)

        SlowRestore.go.set()

        with pytest.raises(NodeStopped, match="told to fail"):
            await asking
