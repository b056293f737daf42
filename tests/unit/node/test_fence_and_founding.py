"""What a replica does once it has met a higher epoch, and how long one with an empty disk waits for the others; without sockets and in exact ticks."""

from __future__ import annotations

from replog.errors import NodeStopped
from replog.node.effects import Observe, Persist
from replog.node.founding import FOUNDING_TIMEOUTS
from replog.raft import Role
from replog.raft.events import Fenced
from tests.unit.node.harness import LocalCluster

PATIENCE_TICKS = FOUNDING_TIMEOUTS * 20


def without(cluster: LocalCluster, name: str) -> None:
    """`name` is not there."""
    cluster.passes = lambda message: name not in (message.source, message.target)


# -- the fence ------------------------------------------------------------------------------------------------------------


def test_a_fence_is_durable_first_and_then_everybody_is_sent_away_and_nothing_leaves() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()
    leader.replica.fence.epoch_seen("n2", 3)
    leader.effects.clear()
    leader.inputs.payloads, leader.inputs.tickets = [b"x"], ["proposal"]
    leader.inputs.reads = ["read"]

    sent = leader.turn()

    persist = leader.effects[0]
    assert isinstance(persist, Persist)
    assert persist.write.epoch == 3
    assert sent == []
    assert {type(leader.failures[ticket]) for ticket in ("proposal", "read")} == {NodeStopped}
    told = [event for effect in leader.effects if isinstance(effect, Observe) for event in effect.events if isinstance(event, Fenced)]
    assert len(told) == 1
    assert (leader.replica.core.role, leader.replica.core.leader) == (Role.FOLLOWER, None)
    assert not leader.replica.has_work


def test_a_fenced_node_neither_votes_nor_acknowledges_nor_campaigns_in_every_later_life() -> None:
    cluster = LocalCluster()
    cluster.elect()
    for name in ("n2", "n3"):
        cluster[name].replica.fence.epoch_seen("n1", 1)
    cluster.stabilize()
    for name in ("n2", "n3"):
        cluster[name].start()
        assert cluster[name].replica.fence.epoch == 1

    ticket = cluster.propose("n1", b"x")[0]
    cluster.tick(15)
    assert ticket not in cluster["n1"].answers
    assert not cluster["n1"].replica.core.is_leader, "nobody answers it any more"

    cluster.tick(100)
    assert not any(node.replica.core.is_leader for node in cluster.nodes.values())
    assert all(b"x" not in cluster[name].machine.commands for name in ("n2", "n3"))


def test_an_epoch_is_believed_of_members_only_and_only_if_it_is_higher() -> None:
    cluster = LocalCluster()
    fence = cluster.elect().replica.fence

    fence.epoch_seen("n9", 7)
    fence.epoch_seen("n2", 0)

    assert (fence.met, fence.epoch, fence.reason()) == (0, 0, "")


# -- founding -------------------------------------------------------------------------------------------------------------


def test_founders_wait_for_whoever_is_missing_and_then_found_the_cluster_without_it() -> None:
    cluster = LocalCluster()
    without(cluster, "n3")

    cluster.tick(PATIENCE_TICKS - 1, only=["n1", "n2"])
    assert [node.replica.core.term for node in cluster.nodes.values()] == [0, 0, 0]
    assert "waiting for all of initial_members" in cluster["n1"].replica.founding.reason()
    cluster.tick(30, only=["n1", "n2"])

    assert sum(cluster[name].replica.core.is_leader for name in ("n1", "n2")) == 1
    assert not cluster["n1"].replica.founding.reason()


def test_who_has_met_a_log_founds_nothing_however_long_it_waits() -> None:
    cluster = LocalCluster()
    without(cluster, "n3")
    cluster["n1"].replica.founding.log_seen("n3")

    cluster.tick(10 * PATIENCE_TICKS, only=["n1", "n2"])

    assert not any(cluster[name].replica.core.is_leader for name in ("n1", "n2"))
    assert "n3 of the same cluster has a log" in cluster["n1"].replica.founding.reason()


def test_a_log_that_is_met_later_means_nothing_to_a_node_that_has_one() -> None:
    cluster = LocalCluster()
    cluster.elect()
    cluster.stabilize()

    cluster["n2"].replica.founding.log_seen("n1")

    assert cluster["n2"].replica.founding.reason() == ""
