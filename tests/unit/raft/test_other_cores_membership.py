"""Membership changes and reads as other Raft cores script them; driven message by message."""

from __future__ import annotations

import pytest

from replog.errors import MembershipChangePending, MembershipRefused
from replog.raft import (
    AddLearner,
    AddVoter,
    Heartbeat,
    MembershipChange,
    RaftCore,
    ReadIndexReply,
    ReadIndexRequest,
    ReadReady,
    RemoveNode,
    Role,
    TimeoutNow,
)
from replog.testing.cores import CoreCluster, members
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    add,
    answer,
    cluster_of,
    drain,
    elected,
    leader,
    make,
    one,
    only,
    stabilize,
    tick,
    tick_all,
    turn,
)


def cut_off(cluster: CoreCluster, name: str) -> None:
    for other in cluster.nodes:
        if other != name:
            cluster.cut |= {(name, other), (other, name)}


def leaders(cluster: CoreCluster) -> list[str]:
    return [name for name, node in cluster.nodes.items() if node.alive and node.core.is_leader]


def test_what_waits_is_committed_by_those_who_stay_when_a_node_is_removed() -> None:
    """In force when appended: nothing has to be acknowledged by the node that goes, not even its removal."""
    core = leader(make(voters=["1", "2"]), commit=True)
    core.propose(count=1, size_bytes=1, frames="frames")
    drain(core)
    assert core.committed_index == 1

    core.change_membership([RemoveNode(node="2")], force=True)
    drain(core)

    assert core.committed_index == 3


def test_a_change_while_another_is_not_committed_is_refused_and_the_next_one_is_taken() -> None:
    core = leader(make(), commit=True)
    core.change_membership([AddLearner(node="4", address="4")])
    with pytest.raises(MembershipChangePending):
        core.change_membership([AddLearner(node="5", address="5")])
    turn(core)
    core.receive(accept(core, "2", 2))
    turn(core)

    core.change_membership([AddLearner(node="5", address="5")])

    assert core.membership.learners == ("4", "5")


def test_a_new_leader_waits_for_a_change_that_its_predecessor_left_uncommitted() -> None:
    joined = members("1234")
    core = leader(make(log=[1, 1], memberships=[(2, joined)]))

    with pytest.raises(MembershipChangePending):
        core.change_membership([RemoveNode(node="4")])

    assert core.membership == joined


def test_a_node_is_added_and_gets_the_log() -> None:
    cluster = cluster_of("1")
    node = elected(cluster)
    node.propose(["x"])
    stabilize(cluster)
    add(cluster, "2", members([]))

    node.core.change_membership([AddVoter(node="2", address="2")])
    stabilize(cluster)

    assert cluster.nodes["2"].state == ["x"]
    assert cluster.nodes["2"].core.membership.voters == ("1", "2")
    assert node.core.committed_index == 3


def test_the_last_voter_cannot_be_removed() -> None:
    core = leader(make(voters=["1"], membership=members("1", "2")))

    with pytest.raises(MembershipRefused, match="no voters"):
        core.change_membership([RemoveNode(node="1")])


def double(cluster: CoreCluster) -> list[MembershipChange]:
    """Two new voters, which only a joint membership brings in."""
    for name in "45":
        add(cluster, name, members([]))
    return [AddVoter(node="4", address="4"), AddVoter(node="5", address="5")]


def test_two_new_voters_are_joint_without_being_asked_and_the_joint_membership_is_left_by_itself() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    node.core.change_membership(double(cluster))
    assert node.core.membership.voters_outgoing == ("1", "2", "3")

    stabilize(cluster)

    for one_node in cluster.nodes.values():
        assert one_node.core.membership.voters == ("1", "2", "3", "4", "5")
        assert not one_node.core.membership.is_joint
    assert node.core.last_index == 3, "the joint membership, and the one that leaves it"


def test_a_joint_membership_that_is_to_be_left_by_hand_stays_until_then_and_refuses_other_changes() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    node.core.change_membership(double(cluster), auto_leave=False)
    stabilize(cluster)
    tick_all(cluster, 2)
    assert node.core.membership.is_joint
    with pytest.raises(MembershipRefused, match="joint"):
        node.core.change_membership([AddLearner(node="6", address="6")])
    with pytest.raises(MembershipRefused, match="joint"):
        node.core.change_membership([AddVoter(node="6", address="6"), AddVoter(node="7", address="7")])

    node.core.change_membership([])
    stabilize(cluster)

    assert node.core.membership.voters_outgoing == ()
    with pytest.raises(MembershipRefused, match="no joint"):
        node.core.change_membership([])


def test_a_single_change_may_be_joint_too() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    add(cluster, "4", members([]))

    node.core.change_membership([AddVoter(node="4", address="4")], joint=True)
    assert node.core.membership.voters_outgoing == ("1", "2", "3")
    stabilize(cluster)

    assert node.core.membership.voters == ("1", "2", "3", "4")


def test_a_joint_membership_commits_nothing_without_a_majority_of_the_incoming_half() -> None:
    cluster = cluster_of("1")
    node = elected(cluster)
    for name in "23":
        add(cluster, name, members([]))
        cut_off(cluster, name)

    node.core.change_membership([AddVoter(node="2", address="2"), AddVoter(node="3", address="3")], force=True)
    stabilize(cluster)
    assert node.core.committed_index == 1

    cluster.cut.clear()
    tick_all(cluster, 4)
    assert node.core.membership.voters == ("1", "2", "3")
    assert node.core.committed_index == 3


def test_a_demoted_voter_keeps_its_vote_until_the_joint_membership_is_left() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)

    node.core.change_membership([AddLearner(node="2"), AddLearner(node="3")], auto_leave=False)
    stabilize(cluster)
    assert (node.core.membership.voters, node.core.membership.learners_next) == (("1",), ("2", "3"))
    assert cluster.nodes["2"].core.role is Role.FOLLOWER
    node.core.change_membership([])
    stabilize(cluster)

    assert node.core.membership.learners == ("2", "3")
    assert {cluster.nodes[name].core.role for name in "23"} == {Role.LEARNER}


def test_a_leader_is_replaced_in_one_joint_change_and_hands_over_when_that_is_left() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    add(cluster, "4", members([]))

    node.core.change_membership([AddVoter(node="4", address="4"), RemoveNode(node="1")], auto_leave=False)
    stabilize(cluster)
    tick_all(cluster, 2)
    assert leaders(cluster) == ["1"], "it belongs to the outgoing half"
    node.core.change_membership([])
    stabilize(cluster)
    tick_all(cluster, 2 * TIMEOUT)

    new = [name for name in leaders(cluster) if name != "1"]
    assert len(new) == 1
    assert cluster.nodes[new[0]].core.membership.voters == ("2", "3", "4")
    assert node.core.role is not Role.LEADER


def test_a_removed_leader_takes_proposals_until_its_removal_is_committed_and_does_not_count_itself() -> None:
    core = leader(make(), commit=True)
    core.change_membership([RemoveNode(node="1")])
    core.propose(count=1, size_bytes=1, frames="frames")
    drain(core)
    assert core.committed_index == 1
    core.receive(accept(core, "2", 3))
    assert core.committed_index == 1, "2 and its own log would be two of three, but only 2 counts of 2 and 3"

    core.receive(accept(core, "3", 2))

    assert core.committed_index == 2
    assert core.status().transfer_target == "2", "it goes, to who holds most"
    assert [message.target for message in only(TimeoutNow, drain(core))] == ["2"]


def test_a_promoted_learner_counts_from_the_entry_that_promotes_it() -> None:
    core = leader(make(membership=members("12", "3")), commit=True)
    core.propose(count=1, size_bytes=1, frames="frames")
    core.receive(accept(core, "3", 2))
    drain(core)
    assert core.committed_index == 1, "a learner does not count"

    core.change_membership([AddVoter(node="3")])
    drain(core)
    core.receive(accept(core, "3", 3))

    assert core.committed_index == 3


# -- reads ------------------------------------------------------------------------------------------------------------------


def reads_of(cluster: CoreCluster, name: str) -> list[tuple[int, int | None]]:
    return cluster.nodes[name].reads


@pytest.mark.parametrize("asker", ["1", "2", "3"], ids=["leader", "follower", "learner"])
def test_any_node_reads_by_one_round_of_the_leaders(asker: str) -> None:
    cluster = cluster_of("1", "2", learners=["3"])
    elected(cluster).propose(["x"])
    stabilize(cluster)

    cluster.nodes[asker].core.read_index(7)
    stabilize(cluster)

    assert reads_of(cluster, asker) == [(7, 2)]


def test_reads_that_come_before_the_first_commit_of_the_term_wait_for_it() -> None:
    core = leader(make(log=[1]))
    core.read_index(7)
    assert only(ReadReady, core.ready().reads) == []

    core.persisted(core.last_index)
    core.receive(accept(core, "2", 2))
    reads: list[ReadReady] = []
    for _ in range(3):
        tick(core)
        ready = turn(core)
        reads += ready.reads
        for message in ready.messages_before_sync:
            if isinstance(message, Heartbeat) and message.target == "2":
                core.receive(answer(message))
    reads += turn(core).reads

    assert [(read.context, read.index) for read in reads] == [(7, 2)]


def test_a_leader_that_was_deposed_without_knowing_confirms_no_read() -> None:
    cluster = cluster_of("1", "2", "3")
    elected(cluster)
    cut_off(cluster, "1")
    for _ in range(TIMEOUT):
        cluster.nodes["2"].core.tick()
        cluster.nodes["3"].core.tick()
    elected(cluster, "2").propose(["newer"])
    stabilize(cluster)

    cluster.nodes["1"].core.read_index(7)
    stabilize(cluster)
    assert reads_of(cluster, "1") == []
    for _ in range(TIMEOUT):
        cluster.nodes["1"].core.tick()
    stabilize(cluster)

    assert reads_of(cluster, "1") == [(7, None)], "refused when it steps down, to be asked again"


def test_a_read_without_a_leader_is_refused_at_once_and_a_stray_answer_answers_none() -> None:
    core = make()
    core.read_index(7)
    assert turn(core).reads == (ReadReady(context=7, index=None),)

    core.receive(ReadIndexReply(source="2", target="1", term=0, context=7, read_index=5))

    assert turn(core).reads == ()


def test_reads_of_many_turns_are_each_answered_once_in_order() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    for context in range(5):
        node.core.read_index(context)
        node.propose([str(context)])
        node.take_ready()
    stabilize(cluster)
    tick_all(cluster, 2)

    assert [context for context, _ in node.reads] == [0, 1, 2, 3, 4]
    indexes = [index for _, index in node.reads]
    assert all(index is not None for index in indexes)


def test_the_leaders_answer_to_a_follower_carries_the_index_of_its_round() -> None:
    core = leader(make(), commit=True)
    core.receive(ReadIndexRequest(source="2", target="1", term=core.term, context=9))
    ready = turn(core)
    for message in ready.messages_before_sync:
        if isinstance(message, Heartbeat) and message.target == "3":
            core.receive(answer(message))

    reply = one(ReadIndexReply, drain(core))
    assert (reply.target, reply.context, reply.read_index) == ("2", 9, core.committed_index)


def test_a_core_is_an_outsiders_value_whose_status_says_all_that_decides() -> None:
    core: RaftCore = leader(make(), commit=True)
    core.transfer_leadership("2")
    status = core.status()

    assert (status.role, status.term, status.leader, status.transfer_target) == ("leader", 1, "1", "2")
    assert {peer.node: peer.state for peer in status.peers} == {"2": "replicate", "3": "replicate"}
