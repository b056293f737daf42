"""Nodes that must not elect one another: a wiped majority beside a survivor, and old members beside the cluster that was recovered without them."""

from __future__ import annotations

import pytest

from replog.codec import encode_membership
from replog.errors import NodeStopped
from replog.node.founding import FOUNDING_TIMEOUTS
from replog.node.node import Node
from replog.raft.membership import AddLearner
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Write
from replog.storage.memory import MemoryStorage
from replog.types import EntryKind, HardState, Member, Membership
from tests.integration.cluster_of_nodes import NodeCluster, until
from tests.integration.test_membership import all_recorded, machine, new_disk, three

EPOCH = 1


def waited_ticks(node: Node) -> int:
    """Ticks of time since the node started."""
    assert node._loop is not None
    return node._loop.ticker.now_ticks()


async def wait_elections(cluster: NodeCluster, *names: str, timeouts: int = 4) -> None:
    """As long as several elections would have taken."""
    began = {name: waited_ticks(cluster.nodes[name]) for name in names}
    span = timeouts * cluster.cluster.election_timeout_ticks_max
    await until(lambda: all(waited_ticks(cluster.nodes[name]) >= began[name] + span for name in names), 30)


async def stop_all(cluster: NodeCluster) -> None:
    for name in list(cluster.nodes):
        await cluster.nodes.pop(name).stop()


def recover(cluster: NodeCluster, name: str) -> None:
    """What `replog recover` does to a directory, done to a memory disk."""
    storage = MemoryStorage.open(cluster.disks[name], cluster.cluster, cluster.config(name))
    found = storage.recovered
    member = Member(address=cluster.cluster.initial_members[name], incarnation=found.incarnation)
    membership = Membership(voters=(name,), members={name: member}, epoch=EPOCH)
    term = found.hard_state.term + 1
    frames = EntryFrameCodec.of(cluster.cluster).encode(storage.last_index + 1, term, EntryKind.MEMBERSHIP, [encode_membership(membership)])
    storage.persist(Write(hard_state=HardState(term=term, vote=name), frames=(frames,)))
    storage.close()


# -- founding -------------------------------------------------------------------------------------------------------------


async def test_a_wiped_majority_does_not_begin_anew_while_the_survivor_is_there() -> None:
    async with three() as cluster:
        leader = await all_recorded(cluster)
        await leader.propose(b"kept")
        await until(lambda: all(b"kept" in machine(node).commands for node in cluster.nodes.values()))
        for name in ("n1", "n2"):
            await cluster.nodes.pop(name).stop()
        for name in ("n1", "n2"):
            cluster.disks[name] = new_disk()
            await cluster.start(name)

        await wait_elections(cluster, "n1", "n2", timeouts=FOUNDING_TIMEOUTS + 3)

        assert not any(node.is_leader for node in cluster.nodes.values())
        for name in ("n1", "n2"):
            assert cluster.nodes[name].status().last_index == 0
            assert "n3 of the same cluster has a log" in cluster.nodes[name].status().founding
            assert "n3 of the same cluster has a log" in cluster.nodes[name].not_ready_reason()
        assert b"kept" in machine(cluster.nodes["n3"]).commands


async def test_a_majority_founds_the_cluster_when_the_others_do_not_come_and_they_join_it_later() -> None:
    cluster = NodeCluster(3)
    for number, name in enumerate(cluster.names):
        cluster.disks[name].incarnation = number + 1
    try:
        for name in ("n1", "n2"):
            await cluster.start(name)
        assert "waiting for all of initial_members" in cluster.nodes["n1"].not_ready_reason()

        leader = await cluster.leader()

        assert waited_ticks(leader) >= FOUNDING_TIMEOUTS * cluster.cluster.election_timeout_ticks_max
        await leader.propose(b"x")
        late = await cluster.start("n3")
        await until(lambda: machine(late).commands == [b"x"] and not late.not_ready_reason())
    finally:
        await cluster.stop()


async def test_all_first_members_together_found_the_cluster_without_waiting() -> None:
    cluster = NodeCluster(3)
    try:
        for name in cluster.names:
            await cluster.start(name)

        leader = await cluster.leader()

        assert leader.status().term < 5
        assert not any(node.status().founding for node in cluster.nodes.values() if node.status().last_index)
    finally:
        await cluster.stop()


# -- the fence ------------------------------------------------------------------------------------------------------------


async def test_old_members_that_meet_the_recovered_cluster_are_no_quorum_any_more() -> None:
    async with three() as cluster:
        leader = await all_recorded(cluster)
        await leader.propose(b"before")
        await until(lambda: all(b"before" in machine(node).commands for node in cluster.nodes.values()))
        await stop_all(cluster)
        recover(cluster, "n3")
        for name in ("n1", "n2"):
            await cluster.start(name)
        old = await cluster.leader()  # they have not met it yet: they are the old cluster
        await old.propose(b"of the old epoch", timeout=5)

        survivor = await cluster.start("n3")
        await until(lambda: all(cluster.nodes[name].status().fenced_by_epoch == EPOCH for name in ("n1", "n2")))

        assert not old.is_leader
        assert "recovered as epoch 1" in old.not_ready_reason()
        with pytest.raises(NodeStopped, match="wipe it, start it without initial_members"):
            await old.propose(b"too late", timeout=5)
        await until(lambda: survivor.is_leader)
        await survivor.propose(b"after", timeout=5)

        # In every later life too, and without the recovered cluster in sight.
        await stop_all(cluster)
        for name in ("n1", "n2"):
            await cluster.start(name)
        await wait_elections(cluster, "n1", "n2")
        for name in ("n1", "n2"):
            status = cluster.nodes[name].status()
            assert (status.leader, status.fenced_by_epoch, status.role) == (None, EPOCH, "follower")
        assert {name: cluster.disks[name].epoch for name in ("n1", "n2")} == {"n1": EPOCH, "n2": EPOCH}


async def test_a_fenced_directory_comes_back_wiped_as_a_learner() -> None:
    async with three() as cluster:
        await all_recorded(cluster)
        await stop_all(cluster)
        recover(cluster, "n3")
        survivor = await cluster.start("n3")
        fenced = await cluster.start("n1")
        await until(lambda: fenced.status().fenced_by_epoch == EPOCH)
        await cluster.nodes.pop("n1").stop()

        cluster.disks["n1"] = new_disk()
        again = await cluster.start("n1")
        await until(lambda: survivor.is_leader)
        await survivor.change_membership([AddLearner(node="n1", address=again.bound_address)], timeout=10)

        await until(lambda: survivor.status().membership.voters == ("n1", "n3"))
        assert again.status().fenced_by_epoch == 0
        assert (await again.propose(b"back", timeout=5)).endswith(b"back")
