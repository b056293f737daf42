"""Snapshots as other Raft cores script them: offered, sent, failed, overtaken, restored; driven message by message."""

from __future__ import annotations

from typing import Any

import pytest

from replog.raft import (
    AppendEntriesReply,
    Heartbeat,
    InstallSnapshot,
    Membership,
    MembershipChanged,
    MessageIgnored,
    RaftCore,
    Role,
    SnapshotInstalled,
    SnapshotMeta,
)
from replog.testing.cores import CoreCluster, CoreNode, members
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    answer,
    append,
    cluster_of,
    drain,
    elected,
    leader,
    make,
    one,
    only,
    peer,
    reject,
    sent_to,
    spans,
    stabilize,
    tick,
    tick_all,
    turn,
)


def compacted(**config: Any) -> CoreCluster:
    """1 leads with a log from 12 on, and a snapshot at 11; 3 was away from the beginning."""
    cluster = cluster_of("1", "2", "3", **config)
    for other in "12":
        cluster.cut |= {("3", other), (other, "3")}
    node = elected(cluster)
    node.propose([str(number) for number in range(10)])
    stabilize(cluster)
    node.compact(11, 12)
    cluster.cut.clear()
    return cluster


def offered(cluster: CoreCluster) -> CoreNode:
    """... and 3 has answered, so that its snapshot is on its way."""
    node = cluster.nodes["1"]
    tick_some(cluster)
    assert peer(node.core, "3").state == "snapshot"
    return node


def tick_some(cluster: CoreCluster) -> None:
    """Time for 1 alone, and everything but snapshots is delivered."""
    for _ in range(4):
        cluster.nodes["1"].core.tick()
        for _ in range(4):
            for node in cluster.nodes.values():
                node.take_ready()
            for (source, target), queue in sorted(cluster.links.items()):
                for _ in range(len(queue)):
                    if isinstance(queue[0], InstallSnapshot):
                        queue.rotate(-1)
                    else:
                        cluster.deliver(source, target)


def test_a_follower_that_needs_compacted_entries_is_offered_the_newest_snapshot() -> None:
    node = offered(compacted())

    install = node.cluster.links["1", "3"][0]
    assert isinstance(install, InstallSnapshot)
    assert (install.meta.index, install.meta.term) == (11, 1)
    assert peer(node.core, "3").next_index == 12


def test_while_a_snapshot_is_on_its_way_nothing_but_heartbeats_is_sent() -> None:
    node = offered(compacted())
    node.propose(["more"])

    ready = node.take_ready()

    assert ready is not None
    assert sent_to("3", ready.messages_before_sync) == []
    tick(node.core, 2)
    assert "3" in {beat.target for beat in only(Heartbeat, node.core.ready().messages_before_sync)}


def test_a_snapshot_that_failed_is_followed_by_a_probe_where_the_follower_was() -> None:
    cluster = compacted()
    node = offered(cluster)
    cluster.links["1", "3"].clear()

    node.core.snapshot_failed("3")
    assert (peer(node.core, "3").state, peer(node.core, "3").next_index) == ("probe", 1)
    assert sent_to("3", drain(node.core)) == [], "paused until a heartbeat is answered"

    tick_some(cluster)
    assert peer(node.core, "3").state == "snapshot", "offered once more"


def test_a_snapshot_that_was_sent_is_followed_by_a_probe_behind_it() -> None:
    cluster = compacted()
    node = offered(cluster)

    node.core.snapshot_sent("3", 11)

    assert (peer(node.core, "3").state, peer(node.core, "3").next_index) == ("probe", 12)
    stabilize(cluster)
    tick_all(cluster, 4)
    assert peer(node.core, "3").state == "replicate"
    assert cluster.nodes["3"].state == node.state


def test_word_of_another_snapshot_than_the_one_on_its_way_means_nothing() -> None:
    node = offered(compacted())

    node.core.snapshot_sent("3", 5)
    node.core.snapshot_sent("2", 11)
    node.core.snapshot_failed("2")

    assert (peer(node.core, "3").state, peer(node.core, "2").state) == ("snapshot", "replicate")


@pytest.mark.parametrize("match", [11, 12])
def test_an_acknowledgement_that_the_log_goes_on_from_ends_the_snapshot_state(match: int) -> None:
    """It got there by whatever way: a snapshot from elsewhere, or this one before its sender said so."""
    node = offered(compacted())
    node.propose(["more"])
    node.take_ready()

    node.core.receive(accept(node.core, "3", match))

    assert (peer(node.core, "3").state, peer(node.core, "3").match_index) == ("replicate", match)


def test_an_acknowledgement_from_behind_the_snapshot_goes_on_from_there_when_the_log_has_it() -> None:
    """The snapshot on its way is newer than what the follower says it holds; but the log was not compacted up to it."""
    cluster = compacted()
    node = offered(cluster)
    node.propose(["a", "b"])
    tick_some(cluster)
    node.compact(13, 12)
    node.core.snapshot_failed("3")
    tick_some(cluster)
    assert peer(node.core, "3").state == "snapshot"
    assert cluster.links["1", "3"][-1].meta.index == 13  # type: ignore[union-attr]  # the newest one

    node.core.receive(accept(node.core, "3", 11))

    assert peer(node.core, "3").state == "replicate"
    assert spans(sent_to("3", drain(node.core))) == [(12, 13)]


def test_no_snapshot_for_who_has_not_answered_lately() -> None:
    core = leader(make(snapshot=SnapshotMeta(index=11, term=1, membership=members("123"))))
    for _ in range(TIMEOUT):
        tick(core)
        for beat in only(Heartbeat, drain(core)):
            if beat.target == "3":
                core.receive(answer(beat))
    drain(core)
    core.receive(reject(core, "3", 11, hint=(0, 0), last=0))

    assert [install.target for install in only(InstallSnapshot, drain(core))] == ["3"]
    assert peer(core, "2").state == "probe"


def test_a_slow_follower_is_restored_and_replicated_to_again() -> None:
    cluster = compacted()
    node = cluster.nodes["1"]

    tick_all(cluster, 6)
    node.propose(["after"])
    stabilize(cluster)

    assert cluster.nodes["3"].state == node.state
    assert peer(node.core, "3").state == "replicate"


def install(core: RaftCore, index: int, term: int, membership: Membership) -> list[Any]:
    meta = SnapshotMeta(index=index, term=term, membership=membership)
    core.receive(InstallSnapshot(source="2", target=core.status().node, term=max(term, core.term), meta=meta))
    ready = turn(core)
    core.applied(core.committed_index)
    return [*ready.events, *ready.messages_after_sync, ready]


def test_a_snapshot_brings_log_commit_and_membership() -> None:
    core = make(voters=["1", "2"])

    found = install(core, 11, 11, members("123", "4"))

    assert (core.last_index, core.committed_index, core.term_at(11)) == (11, 11, 11)
    assert (core.membership.voters, core.membership.learners) == (("1", "2", "3"), ("4",))
    assert len(only(SnapshotInstalled, found)) == 1
    assert one(AppendEntriesReply, found).match_index == 11


@pytest.mark.parametrize("voters_outgoing", [(), ("2", "3", "4")])
def test_a_snapshot_may_carry_a_joint_membership(voters_outgoing: tuple[str, ...]) -> None:
    membership = Membership(
        voters=("1", "2", "3"),
        voters_outgoing=voters_outgoing,
        members=members("1234").members if voters_outgoing else members("123").members,
    )
    core = make(voters=["1", "2"])

    install(core, 11, 11, membership)

    assert core.membership == membership


@pytest.mark.parametrize(("before", "after", "role"), [("voter", "learner", Role.LEARNER), ("learner", "voter", Role.FOLLOWER)])
def test_a_snapshot_may_turn_a_voter_into_a_learner_and_back(before: str, after: str, role: Role) -> None:
    as_learner, as_voter = members("12", "3"), members("123")
    core = make("3", membership=as_voter if before == "voter" else as_learner, term=1)

    install(core, 11, 11, as_voter if after == "voter" else as_learner)

    assert core.role is role


def test_a_snapshot_of_what_is_committed_is_ignored_and_of_what_is_in_the_log_only_commits() -> None:
    core = make(log=[1, 1, 1])
    core.receive(append("2", "1", 1, (3, 1), commit=1))
    turn(core)

    older = install(core, 1, 1, members("123"))
    assert [event.rule for event in only(MessageIgnored, older)] == ["snapshot is not newer than the commit"]
    assert one(AppendEntriesReply, older).match_index == 1

    held = install(core, 2, 1, members("123"))
    assert (core.committed_index, core.last_index) == (2, 3), "nothing is thrown away"
    assert only(MembershipChanged, held) == []


def test_a_learner_receives_a_snapshot_like_anybody() -> None:
    cluster = cluster_of("1", "2", learners=["3"])
    for other in "12":
        cluster.cut |= {("3", other), (other, "3")}
    node = elected(cluster)
    node.propose(list("abcdef"))
    stabilize(cluster)
    node.compact(7, 8)
    cluster.cut.clear()

    tick_all(cluster, 6)

    assert cluster.nodes["3"].core.committed_index == node.core.committed_index
    assert cluster.nodes["3"].core.role is Role.LEARNER
    assert cluster.nodes["3"].state == node.state
