"""Nodes that come, go, lose their disks and change places, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest

from replog.errors import MembershipChangePending, MembershipRefused, NodeStopped, NotLeader, ReplogError, Unavailable, UnknownNode
from replog.node.membership_plans import MembershipPlan
from replog.node.node import Node
from replog.raft.membership import AddLearner, AddVoter, RemoveNode, UpdateMember
from replog.storage.memory import MemoryDisk
from tests.integration.cluster_of_nodes import NodeCluster, free_ports, nodes, until
from tests.unit.node.harness import Register

FEW = {"snapshot_entries": 50, "log_tail_entries": 10, "segment_bytes_max": 4096, "snapshot_chunk_bytes": 4096}
"""Settings with which a new node needs a snapshot soon."""


_incarnations = count(1000)


def new_disk() -> MemoryDisk:
    """A directory that was never there before."""
    return MemoryDisk(incarnation=next(_incarnations))


def machine(node: Node) -> Register:
    assert isinstance(node.state_machine, Register)
    return node.state_machine


def address_of(node: Node) -> str:
    return node.bound_address


async def join(cluster: NodeCluster, name: str) -> Node:
    """Start a node that knows nobody and waits to be contacted."""
    if name not in cluster.names:
        cluster.names.append(name)
        cluster.ports += free_ports(1)
    cluster.disks[name] = new_disk()
    whole, cluster.cluster = cluster.cluster, replace(cluster.cluster, initial_members={})
    try:
        return await cluster.start(name)
    finally:
        cluster.cluster = whole


async def wipe(cluster: NodeCluster, name: str, *, knows_the_others: bool) -> Node:
    """Stop the node, take its disk away and start it again."""
    await cluster.nodes.pop(name).stop()
    if not knows_the_others:
        return await join(cluster, name)
    cluster.disks[name] = new_disk()
    return await cluster.start(name)


async def all_recorded(cluster: NodeCluster) -> Node:
    """The leader, once every member's directory stands in the membership."""
    leader = await cluster.leader()
    await until(lambda: all(member.incarnation for member in leader.status().membership.members.values()))
    await until(lambda: leader.status().membership_index <= leader.status().committed_index)
    return leader


async def at_leader(cluster: NodeCluster, call: str, *arguments: str) -> None:
    """Make the call wherever the leader is, as an operator's tool does."""
    for _ in range(20):
        try:
            await getattr(await cluster.leader(), call)(*arguments, timeout=20)
        except NotLeader:
            continue
        return
    raise AssertionError(f"{call} found no leader in 20 attempts")


@asynccontextmanager
async def three(**settings: object) -> AsyncIterator[NodeCluster]:
    async with nodes(3, **settings) as cluster:
        await all_recorded(cluster)
        yield cluster


async def test_a_new_node_gets_the_log_and_becomes_a_voter_by_itself() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        for number in range(50):
            await leader.propose(b"%d" % number)
        new = await join(cluster, "n4")
        assert new.status().role == "follower"
        assert "no leader is known" in new.not_ready_reason()

        await leader.change_membership([AddLearner(node="n4", address=address_of(new))], timeout=10)

        await until(lambda: new.status().membership.voters == ("n1", "n2", "n3", "n4"))
        assert (await new.propose(b"through the new one", timeout=5)).endswith(b"through the new one")
        await until(lambda: machine(new).commands == machine(leader).commands)
        await until(lambda: not new.not_ready_reason())


@pytest.mark.parametrize("how", ["for good", "no promotion configured"])
async def test_a_read_replica_stays_a_learner(how: str) -> None:
    async with three(auto_promote=how == "for good") as cluster:
        leader = await cluster.leader()
        new = await join(cluster, "n4")

        await leader.change_membership([AddLearner(node="n4", address=address_of(new), stays=how == "for good")], timeout=10)
        await until(lambda: new.status().role == "learner")
        for number in range(20):
            await leader.propose(b"%d" % number)
        await new.read_barrier(timeout=5)

        assert len(machine(new).commands) == 20
        assert new.status().membership.learners == ("n4",)
        await leader.change_membership([AddVoter(node="n4")], timeout=10)
        assert leader.status().membership.voters == ("n1", "n2", "n3", "n4")


async def test_a_demoted_voter_is_not_promoted_behind_its_operators_back() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        name = cluster.followers()[0].config.node_id

        await leader.change_membership([AddLearner(node=name, stays=True)], timeout=10)
        for number in range(30):
            await leader.propose(b"%d" % number)

        assert leader.status().membership.learners == (name,)


async def test_a_removed_node_learns_of_it_and_serves_no_more() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        gone = cluster.followers()[0]
        name = gone.config.node_id

        await leader.change_membership([RemoveNode(node=name)], timeout=10)

        await until(lambda: gone.status().removed)
        for call in (gone.propose(b"x"), gone.propose_many([b"x"]), gone.read_barrier(), gone.query(b"", consistency="stale")):
            with pytest.raises(NodeStopped, match=f"{name} was removed from the membership"):
                await call
        assert "removed from the membership" in gone.not_ready_reason()
        assert (await leader.propose(b"goes on", timeout=5)).endswith(b"goes on")


async def test_a_removed_node_still_knows_after_a_restart_and_serves_again_when_it_is_added_again() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        name = cluster.followers()[0].config.node_id
        await leader.change_membership([RemoveNode(node=name)], timeout=10)
        await until(lambda: cluster.nodes[name].status().removed)

        await cluster.nodes[name].stop()
        again = await cluster.start(name)
        assert again.status().removed
        await leader.change_membership([AddLearner(node=name, address=address_of(again))], timeout=10)

        await until(lambda: name in leader.status().membership.voters)
        await until(lambda: not again.status().removed)
        assert (await again.propose(b"back", timeout=5)).endswith(b"back")


async def test_a_leader_that_is_removed_hands_over() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        name = leader.config.node_id
        elections = sum(node.observations.elections_started for node in cluster.followers())

        await leader.change_membership([RemoveNode(node=name)], timeout=10)

        successor = await cluster.leader(other_than=name)
        assert name not in successor.status().membership.nodes
        await until(lambda: leader.status().removed)
        assert (await successor.propose(b"after", timeout=5)).endswith(b"after")
        assert sum(node.observations.elections_started for node in cluster.followers() if node is not leader) <= elections + 1


@pytest.mark.parametrize("who", ["a follower", "the leader"])
async def test_a_member_is_replaced_in_one_call(who: str) -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        old = (leader if who == "the leader" else cluster.followers()[0]).config.node_id
        for number in range(30):
            await leader.propose(b"%d" % number)
        new = await join(cluster, "n4")

        await at_leader(cluster, "replace_member", old, "n4", address_of(new))

        leader = await cluster.leader(other_than=old)
        expected = tuple(sorted({"n1", "n2", "n3", "n4"} - {old}))
        assert leader.status().membership.voters == expected
        await until(lambda: cluster.nodes[old].status().removed)
        await until(lambda: machine(new).commands == machine(leader).commands)
        await at_leader(cluster, "replace_member", old, "n4", address_of(new))  # again: nothing to do


async def test_a_replacement_that_is_interrupted_at_any_point_goes_on_when_it_is_called_again() -> None:
    async with three(auto_promote=False) as cluster:
        leader = await cluster.leader()
        old = cluster.followers()[0].config.node_id
        await leader.propose(b"x")
        new = await join(cluster, "n4")
        interruptions = 0
        # The call is cancelled as soon as the membership is another one than before, then it is made again.
        while old in leader.status().membership.nodes:
            before = leader.status().membership_index
            call = asyncio.ensure_future(leader.replace_member(old, "n4", address_of(new), timeout=20))
            while not call.done() and leader.status().membership_index == before:
                await asyncio.sleep(0)
            if call.cancel():
                interruptions += 1
            await asyncio.gather(call, return_exceptions=True)

        await leader.replace_member(old, "n4", timeout=20)
        assert interruptions >= 2
        assert leader.status().membership.voters == tuple(sorted({"n1", "n2", "n3", "n4"} - {old}))
        assert not leader.status().membership.is_joint


@pytest.mark.parametrize("knows_the_others", [True, False], ids=["with initial members", "joining"])
async def test_a_wiped_voter_is_refused_by_its_incarnation_and_taken_back_as_a_learner(knows_the_others: bool) -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        for number in range(40):
            await leader.propose(b"%d" % number)
        name = cluster.followers()[0].config.node_id
        recorded = leader.status().membership.members[name].incarnation

        wiped = await wipe(cluster, name, knows_the_others=knows_the_others)
        shown = wiped.status().incarnation
        await until(lambda: leader.status().incarnations_seen[name] == shown)
        await until(lambda: "incarnation" in leader.status().peer_errors.get(name, ""))
        assert str(shown) in leader.status().peer_errors[name]
        assert str(recorded) in leader.status().peer_errors[name]
        if knows_the_others:
            await until(lambda: "incarnation" in wiped.not_ready_reason())
        assert wiped.status().last_index == 0, "refused, it gets nothing"

        await leader.readmit_member(name, timeout=20)

        status = leader.status()
        assert status.membership.voters == ("n1", "n2", "n3")
        assert status.membership.members[name].incarnation == shown
        await until(lambda: machine(wiped).commands == machine(leader).commands)
        await until(lambda: not wiped.not_ready_reason())
        await leader.readmit_member(name, timeout=20)  # again: nothing to do


async def test_a_readmission_waits_for_the_node_itself_and_does_not_take_its_last_life_for_it() -> None:
    """Answered at once, while the leader knew only the handshake of the life before, it let an operator wipe the next node: two wiped nodes made a new cluster."""
    async with three() as cluster:
        leader = await all_recorded(cluster)
        name = cluster.followers()[0].config.node_id
        await cluster.nodes.pop(name).stop()

        with pytest.raises(Unavailable, match=f"{name} has not answered since this call"):
            await leader.readmit_member(name, timeout=2)
        readmission = asyncio.ensure_future(leader.readmit_member(name, timeout=20))
        cluster.disks[name] = new_disk()
        wiped = await cluster.start(name)
        await readmission

        member = leader.status().membership.members[name]
        assert member.incarnation == wiped.status().incarnation
        assert name in leader.status().membership.voters


async def test_a_wiped_voter_may_also_be_removed_and_added_under_its_name() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        name = cluster.followers()[0].config.node_id
        wiped = await wipe(cluster, name, knows_the_others=False)

        await leader.change_membership([RemoveNode(node=name)], timeout=10)
        await leader.change_membership([AddLearner(node=name, address=address_of(wiped))], timeout=10)

        await until(lambda: leader.status().membership.voters == ("n1", "n2", "n3"))
        await until(lambda: not wiped.status().removed and not wiped.not_ready_reason())
        assert (await wiped.propose(b"back", timeout=5)).endswith(b"back")


async def test_a_learner_that_has_not_caught_up_is_promoted_when_it_has_or_by_force() -> None:
    async with three(auto_promote=False) as cluster:
        leader = await cluster.leader()
        await leader.propose_many([b"%d" % number for number in range(2000)])
        absent = f"127.0.0.1:{free_ports(1)[0]}"
        await leader.change_membership([AddLearner(node="n4", address=absent)], timeout=10)

        with pytest.raises(Unavailable, match=r"n4 has not caught up: it has 0 of [\d,]+ entries"):
            await MembershipPlan(leader, 0.5).change([AddVoter(node="n4")])
        assert leader.status().membership.learners == ("n4",)
        await MembershipPlan(leader, 10).change([AddVoter(node="n4")], force=True)
        assert "n4" in leader.status().membership.voters
        await MembershipPlan(leader, 10).change([RemoveNode(node="n4")])

        new = await join(cluster, "n5")
        await leader.change_membership([AddLearner(node="n5", address=address_of(new))], timeout=10)
        await MembershipPlan(leader, 20).change([AddVoter(node="n5")])
        assert machine(new).commands[-1:] == [b"1999"]


async def test_another_directory_than_the_one_that_was_removed_is_not_told_of_it() -> None:
    """It would get the log up to its removal, and say that it was removed, where it is only to be added."""
    async with three() as cluster:
        leader = await all_recorded(cluster)
        name = cluster.followers()[0].config.node_id
        await cluster.nodes.pop(name).stop()
        await leader.change_membership([RemoveNode(node=name)], timeout=10)
        assert name in leader.status().peer_errors or name in [peer.node for peer in leader.status().peers]

        cluster.disks[name] = new_disk()
        wiped = await cluster.start(name)
        await until(lambda: "incarnation" in leader.status().peer_errors.get(name, ""))
        assert (wiped.status().last_index, wiped.status().removed) == (0, False)

        await leader.change_membership([AddLearner(node=name, address=address_of(wiped))], timeout=10)
        await until(lambda: name in leader.status().membership.voters)
        await until(lambda: not wiped.not_ready_reason())


async def test_a_change_waits_for_the_one_that_is_under_way() -> None:
    async with nodes(3) as cluster:
        leader = await cluster.leader()
        # Right after the start the leader records the members' directories: no waiting for it here.
        changes = [
            leader.change_membership([UpdateMember(node="n1", address=f"127.0.0.1:{cluster.ports[0]}")], timeout=10) for _ in range(5)
        ]

        entries = await asyncio.gather(*changes)

        assert len({entry.index for entry in entries}) == 5


async def test_what_is_refused_for_good_is_refused_at_once() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        name = cluster.followers()[0].config.node_id
        began = asyncio.get_running_loop().time()

        with pytest.raises(UnknownNode, match="'n9'"):
            await leader.change_membership([UpdateMember(node="n9", address="x:1")], timeout=30)
        with pytest.raises(MembershipRefused, match="no voters"):
            await leader.change_membership([RemoveNode(node=node) for node in ("n1", "n2", "n3")], timeout=30)
        with pytest.raises(NotLeader):
            await cluster.nodes[name].change_membership([RemoveNode(node=name)], timeout=30)

        assert asyncio.get_running_loop().time() - began < 5


async def test_a_change_that_would_lose_the_quorum_of_healthy_nodes_is_refused_unless_forced() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        first, second = (node.config.node_id for node in cluster.followers())
        await cluster.nodes[first].stop()
        await until(lambda: not next(peer for peer in leader.status().peers if peer.node == first).recently_active)

        with pytest.raises(MembershipRefused, match=f"{first} were not heard of lately"):
            await leader.change_membership([RemoveNode(node=second)], timeout=5)
        assert leader.status().membership.voters == ("n1", "n2", "n3")
        await leader.change_membership([RemoveNode(node=first)], timeout=5)  # this one leaves two healthy of two

        assert (await leader.propose(b"goes on", timeout=5)).endswith(b"goes on")


async def test_a_pending_refusal_is_told_as_such_when_it_does_not_pass() -> None:
    async with three() as cluster:
        leader = await cluster.leader()
        for follower in cluster.followers():
            await follower.stop()
        hanging = asyncio.ensure_future(leader.change_membership([AddLearner(node="n4", address="127.0.0.1:1")], force=True, timeout=0.4))
        await until(lambda: leader.status().membership_index > leader.status().committed_index)

        with pytest.raises((MembershipChangePending, NotLeader)):
            await leader.change_membership([AddLearner(node="n5", address="127.0.0.1:2")], force=True, timeout=0.1)
        with pytest.raises(ReplogError):
            await hanging


async def test_a_new_node_gets_its_snapshot_from_a_follower() -> None:
    async with three(**FEW) as cluster:
        leader = await cluster.leader()
        for number in range(300):
            await leader.propose(b"%d" % number)
        await until(lambda: all(node.status().snapshot_index > 200 for node in cluster.nodes.values()))
        new = await join(cluster, "n4")

        await leader.change_membership([AddLearner(node="n4", address=address_of(new))], timeout=10)

        await until(lambda: machine(new).commands == machine(leader).commands)
        assert chunks_sent(leader) == 0
        assert sum(chunks_sent(node) for node in cluster.followers() if node is not new) > 0
        await until(lambda: "n4" in leader.status().membership.voters)


async def test_the_leader_sends_its_own_snapshot_where_followers_are_not_to() -> None:
    async with three(**FEW, snapshot_from_follower=False) as cluster:
        leader = await cluster.leader()
        for number in range(300):
            await leader.propose(b"%d" % number)
        await until(lambda: leader.status().snapshot_index > 200)
        new = await join(cluster, "n4")

        await leader.change_membership([AddLearner(node="n4", address=address_of(new))], timeout=10)

        await until(lambda: machine(new).commands == machine(leader).commands)
        assert chunks_sent(leader) > 0


def chunks_sent(node: Node) -> int:
    loop = node._loop
    assert loop is not None
    return loop.replica.snapshots.streams.chunks_sent
