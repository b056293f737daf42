"""Nodes over real sockets: what an application that embeds one sees."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client import generate_latest

from replog.errors import (
    CommandFailed,
    ConfigError,
    DeadlineExceeded,
    NodeStopped,
    OutcomeUnknown,
    ProposalTooLarge,
    StorageFailed,
    Unavailable,
)
from replog.node.node import Node
from replog.node.send_window import WINDOW_BYTES_FIRST
from replog.raft.messages import HeartbeatReply
from replog.statemachine import CommandError
from replog.storage.interface import Storage, Write
from tests.integration.cluster_of_nodes import NodeCluster, nodes, until
from tests.unit.node.harness import Register


def machine(node: Node) -> Register:
    assert isinstance(node.state_machine, Register)
    return node.state_machine


async def test_a_command_proposed_anywhere_is_applied_everywhere() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        follower = cluster.followers()[0]

        first = await leader.propose(b"at the leader", timeout=5)
        second = await follower.propose(b"at a follower", timeout=5)

        assert first.endswith(b":at the leader")
        assert second.endswith(b":at a follower")
        await until(lambda: all(machine(node).commands == [b"at the leader", b"at a follower"] for node in cluster.nodes.values()))


async def test_a_barrier_on_a_follower_makes_its_own_state_fresh() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        follower = cluster.followers()[0]
        for number in range(20):
            await leader.propose(b"%d" % number)

            await follower.read_barrier(timeout=5)

            assert machine(follower).commands[-1] == b"%d" % number


async def test_a_batch_comes_back_in_order_with_the_error_of_the_one_that_raised() -> None:
    async with nodes() as cluster:
        for node in (await cluster.leader(), cluster.followers()[0]):
            results = await node.propose_many([b"a", b"fail", b"b"], timeout=5)

            assert isinstance(results[0], bytes)
            assert isinstance(results[1], CommandError)
            assert isinstance(results[2], bytes)
            with pytest.raises(CommandFailed, match="told to fail"):
                await node.propose(b"fail", timeout=5)


async def test_an_oversized_command_is_refused_before_it_is_queued() -> None:
    async with nodes(1) as cluster:
        leader = await cluster.leader()

        with pytest.raises(ProposalTooLarge, match="8388609 bytes; the limit is 8388608"):
            await leader.propose(bytes(8 * 1024 * 1024 + 1))
        with pytest.raises(ProposalTooLarge):
            await leader.propose_many([b"small", bytes(8 * 1024 * 1024 + 1)])


async def test_a_cluster_without_a_majority_says_that_the_outcome_is_unknown() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        for follower in cluster.followers():
            await follower.stop()

        with pytest.raises(OutcomeUnknown):
            await leader.propose(b"alone", timeout=3)
        with pytest.raises((Unavailable, TimeoutError, OutcomeUnknown)):
            await leader.propose(b"nobody leads", timeout=0.5)


async def test_a_stopped_leader_hands_over_before_it_goes() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        await leader.propose(b"before")

        await leader.stop()

        successor = await cluster.leader(other_than=leader.config.node_id)
        assert (await successor.propose(b"after", timeout=5)).endswith(b":after")
        assert leader.status().leader == successor.config.node_id
        with pytest.raises(NodeStopped):
            await leader.propose(b"too late")


async def test_leadership_goes_to_the_node_that_is_named() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        target = cluster.followers()[1]

        await leader.transfer_leadership(target.config.node_id, timeout=5)

        await until(lambda: target.is_leader)


class StallingStorage:
    """Passes everything on, but a `persist` waits while `gate` is closed."""

    def __init__(self, storage: Storage) -> None:
        self.inner = storage
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False

    def persist(self, write: Write) -> None:
        self.gate.wait(20)
        if self.fails:
            raise StorageFailed("fdatasync: told to fail")
        self.inner.persist(write)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def with_stalling_storages(cluster: NodeCluster) -> dict[str, StallingStorage]:
    stalling: dict[str, StallingStorage] = {}

    def wrap(name: str, storage: Storage) -> Storage:
        stalling[name] = StallingStorage(storage)
        return stalling[name]  # type: ignore[return-value]  # the rest is passed on by __getattr__

    cluster.wrap = wrap
    return stalling


async def test_a_short_stall_of_the_leaders_disk_causes_no_election() -> None:
    cluster = NodeCluster(3, sync_mode="thread")
    stalling = with_stalling_storages(cluster)
    try:
        for name in cluster.names:
            await cluster.start(name)
        leader = await cluster.leader()
        await leader.propose(b"before", timeout=5)
        term = leader.status().term
        elections = sum(node.observations.elections_started for node in cluster.nodes.values())
        gate = stalling[leader.config.node_id].gate

        gate.clear()
        pending = asyncio.ensure_future(leader.propose(b"during", timeout=10))
        began = leader.turns
        await asyncio.sleep(0.2)  # four fifths of the least election timeout: the stall is what is tested
        gate.set()

        assert (await pending).endswith(b":during")
        assert leader.turns > began
        assert leader.status().term == term
        assert sum(node.observations.elections_started for node in cluster.nodes.values()) == elections
    finally:
        for each in stalling.values():
            each.gate.set()
        await cluster.stop()


async def test_a_leader_whose_disk_stalls_hands_over_and_what_it_had_is_told_to_be_unknown() -> None:
    cluster = NodeCluster(3, sync_mode="thread")
    stalling = with_stalling_storages(cluster)
    try:
        for name in cluster.names:
            await cluster.start(name)
        leader = await cluster.leader()
        await leader.propose(b"before", timeout=5)
        stalling[leader.config.node_id].gate.clear()
        pending = asyncio.ensure_future(leader.propose(b"during", timeout=20))

        successor = await cluster.leader(other_than=leader.config.node_id)
        assert (await successor.propose(b"after", timeout=10)).endswith(b":after")
        stalling[leader.config.node_id].gate.set()

        outcome = (await asyncio.gather(pending, return_exceptions=True))[0]
        assert isinstance(outcome, OutcomeUnknown | bytes), "never a definite refusal: the followers have it"
        await until(lambda: not leader.is_leader)
        await until(lambda: machine(leader).commands == machine(successor).commands)
    finally:
        for each in stalling.values():
            each.gate.set()
        await cluster.stop()


async def test_a_failed_sync_is_final_for_the_node_and_every_waiter_hears_of_it() -> None:
    cluster = NodeCluster(3, sync_mode="thread")
    stalling = with_stalling_storages(cluster)
    try:
        for name in cluster.names:
            await cluster.start(name)
        leader = await cluster.leader()
        await leader.propose(b"before", timeout=5)

        stalling[leader.config.node_id].fails = True
        outcomes = await asyncio.gather(*(leader.propose(b"%d" % number, timeout=10) for number in range(5)), return_exceptions=True)

        assert all(isinstance(outcome, OutcomeUnknown | NodeStopped) for outcome in outcomes)
        await asyncio.wait_for(leader.wait_stopped(), 5)
        assert isinstance(leader.failure, StorageFailed)
        assert "told to fail" in leader.not_ready_reason()
        with pytest.raises(NodeStopped):
            await leader.propose(b"later")
        successor = await cluster.leader(other_than=leader.config.node_id)
        assert (await successor.propose(b"after", timeout=10)).endswith(b":after")
    finally:
        await cluster.stop()


async def test_the_log_outlives_all_nodes_at_once() -> None:
    cluster = NodeCluster(3)
    try:
        for name in cluster.names:
            await cluster.start(name)
        leader = await cluster.leader()
        await asyncio.gather(*(leader.propose(b"%d" % number) for number in range(200)))
        commands = list(machine(leader).commands)

        await cluster.stop()
        for name in cluster.names:
            await cluster.start(name)
        again = await cluster.leader()
        await again.read_barrier(timeout=5)

        assert machine(again).commands == commands
    finally:
        await cluster.stop()


async def test_queries_on_any_node_see_every_write_acknowledged_before() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        for number in range(20):
            await leader.propose(b"%d" % number)

            answers = await asyncio.gather(*(node.query(b"last", timeout=5) for node in cluster.nodes.values()))

            assert answers == [b"%d" % number] * 3
        with pytest.raises(ValueError, match="knows only its last command"):
            await leader.query(b"first")
        assert leader.failure is None


async def test_a_query_of_a_node_that_is_alone_fails_in_time() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        for follower in cluster.followers():
            await follower.stop()

        with pytest.raises((DeadlineExceeded, Unavailable)):
            await leader.query(b"last", timeout=0.3)


async def test_stale_reads_are_bounded_in_age_and_refused_when_older() -> None:
    async with nodes() as cluster:
        leader = await cluster.leader()
        follower = cluster.followers()[0]
        await until(lambda: follower.staleness_seconds() < 1.0)
        for other in cluster.nodes.values():
            if other is not follower:
                await other.stop()
        assert leader is not follower

        await until(lambda: follower.staleness_seconds() > 0.1)

        with pytest.raises(Unavailable, match=r"the read allows 0\.050 s"):
            await follower.query(b"", consistency="stale", max_age=0.05)


def test_a_node_that_is_not_among_the_initial_members_is_refused_by_name() -> None:
    cluster = NodeCluster(3)

    with pytest.raises(ConfigError, match="node_id: found 'n9', allowed: one of initial_members: n1, n2, n3"):
        Node(cluster.cluster, cluster.config("n1").__class__(node_id="n9", data_dir="x"), Register())


async def test_the_measured_ways_to_the_followers_are_shown() -> None:
    async with nodes(3) as cluster:
        leader = await cluster.leader()
        for _ in range(20):
            await leader.propose(b"x" * 1000)
        await until(lambda: len(leader.status().acknowledgement_seconds) == 2)

        status = leader.status()
        assert all(0 < seconds < 5 for seconds in status.acknowledgement_seconds.values())
        assert {peer.window_bytes for peer in status.peers} <= {WINDOW_BYTES_FIRST * 2**n for n in range(6)}
        assert status.turn_bytes_max == leader.config.turn_bytes_max
        metrics = generate_latest(leader.registry).decode()
        for follower in cluster.followers():
            assert f'replog_peer_acknowledgement_seconds{{peer="{follower.config.node_id}"}}' in metrics
            assert f'replog_peer_window_bytes{{peer="{follower.config.node_id}"}}' in metrics
            assert not follower.status().acknowledgement_seconds


async def test_answers_to_heartbeats_that_no_read_waits_for_are_taken_in_with_the_next_turn() -> None:
    """They wake nobody: a quiet leader's turns are its ticks."""
    async with nodes() as cluster:
        leader = await cluster.leader()
        await leader.propose(b"x", timeout=5)
        owner = leader._loop
        assert owner is not None
        await until(lambda: owner.inbox._waiter is not None)
        waiter = owner.inbox._waiter
        answer = HeartbeatReply(source=cluster.followers()[0].config.node_id, target=leader.config.node_id, term=1, round=0)

        owner.receive([answer])

        assert owner.inbox._waiter is waiter
        assert answer in owner.inbox.inputs.messages
        await until(lambda: answer not in owner.inbox.inputs.messages)
        assert await leader.read_barrier(timeout=5) > 0
