"""A leader whose disk stands still: nobody is left waiting for it, whoever asks is sent elsewhere."""

from __future__ import annotations

import asyncio

import pytest

from replog.client import ReplogClient
from replog.errors import NotLeader, OutcomeUnknown, Unavailable
from tests.integration.cluster_of_nodes import NodeCluster, until
from tests.integration.test_node import with_stalling_storages


async def test_who_waits_for_a_stalled_disk_is_told_and_who_asks_is_sent_to_the_new_leader() -> None:
    cluster = NodeCluster(3, sync_mode="thread")
    stalling = with_stalling_storages(cluster)
    try:
        for name in cluster.names:
            await cluster.start(name)
        leader = await cluster.leader()
        await leader.propose(b"before", timeout=5)
        gate = stalling[leader.config.node_id].gate
        async with ReplogClient([leader.bound_address], timeout=10) as client:
            await client.propose(b"connected")
            gate.clear()
            waiting = [asyncio.ensure_future(leader.propose(b"%d" % number)) for number in range(3)]
            read = asyncio.ensure_future(leader.read_barrier())

            outcomes = await asyncio.wait_for(asyncio.gather(*waiting, read, return_exceptions=True), 5)

            assert all(isinstance(outcome, OutcomeUnknown) for outcome in outcomes[:3]), outcomes
            assert isinstance(outcomes[3], Unavailable | int), outcomes
            successor = await cluster.leader(other_than=leader.config.node_id)
            assert leader.not_ready_reason().startswith("the disk stalls")
            assert leader.leader_hint() == (successor.config.node_id, successor.bound_address)
            with pytest.raises(NotLeader):
                await leader.propose_local([b"x"])
            with pytest.raises(Unavailable, match="stalls; nothing was done, ask another node"):
                await leader.read_barrier(timeout=5)
            # Through the stalled node itself, and through a client that was connected to it: both find the new leader.
            assert (await leader.propose(b"forwarded", timeout=5)).endswith(b":forwarded")
            assert (await client.propose(b"redirected", timeout=5)).endswith(b":redirected")

        gate.set()
        await until(lambda: not leader.is_leader and not leader.not_ready_reason())
        assert (await leader.propose(b"well again", timeout=5)).endswith(b":well again")
    finally:
        for each in stalling.values():
            each.gate.set()
        await cluster.stop()
