"""The Raft paper's section 6 and chapter 4 of the thesis, a test a sentence; and what this core adds to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from replog.errors import Busy, MembershipRefused, NotLeader, UnknownNode
from replog.raft import AddLearner, AddVoter, MembershipChange, RaftCore, RemoveNode, UpdateMember
from replog.raft.events import Event, LearnerCaughtUp, MembershipChanged, MembershipCommitted, RemovedFromMembership, TransferEnded
from replog.raft.messages import AppendEntries, EntryRange, PreVoteRequest, TimeoutNow, VoteReply
from replog.testing.cores import members
from replog.types import Member, Membership, Role
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    add,
    append,
    candidate,
    cluster_of,
    drain,
    elected,
    heartbeat,
    leader,
    make,
    one,
    only,
    reject,
    stabilize,
    tick,
    tick_all,
    turn,
    vote_request,
)


def replace_two() -> list[MembershipChange]:
    return [AddVoter(node="4", address="4"), AddVoter(node="5", address="5"), RemoveNode(node="2"), RemoveNode(node="3")]


def test_a_server_uses_the_latest_membership_in_its_log_committed_or_not() -> None:
    """6: "a server always uses the latest configuration in its log, regardless of whether the entry is committed"."""
    core = leader(make(), commit=True)

    core.change_membership([AddVoter(node="4")])
    ready = turn(core)

    assert core.membership.voters == ("1", "2", "3", "4")
    assert core.committed_index == 1
    assert one(MembershipChanged, ready.events).index == 2
    assert ready.entries[0].membership is core.membership
    assert {message.target for message in only(AppendEntries, ready.messages_before_sync)} == {"2", "3", "4"}


def test_a_follower_uses_a_membership_as_soon_as_it_is_in_its_log_and_drops_it_with_its_entry() -> None:
    """Thesis 4.1: "a server [...] must be prepared to fall back to the previous configuration in its log"."""
    core = make(log=[1])
    message = append("2", "1", 2, (1, 1), [2])
    assert message.entries is not None
    grown = members(["1", "2", "3", "4"])
    core.receive(replace(message, entries=replace(message.entries, memberships=((2, grown),))))
    assert core.membership == grown
    turn(core)

    core.receive(append("3", "1", 3, (1, 1), [3]))
    ready = turn(core)

    assert core.membership == members(["1", "2", "3"])
    assert only(MembershipChanged, ready.events)[0].rolled_back


@pytest.mark.parametrize(
    ("acks", "committed"),
    [(("2",), False), (("2", "3"), False), (("4", "5"), False), (("2", "4"), True), (("3", "5"), True), (("2", "3", "4", "5"), True)],
)
def test_joint_agreement_needs_majorities_of_both_memberships(acks: tuple[str, ...], committed: bool) -> None:
    """6: "Agreement (for elections and entry commitment) requires separate majorities from both the old and new configurations." """
    core = leader(make(), commit=True)
    core.change_membership(replace_two(), force=True, auto_leave=False)
    assert (core.membership.voters, core.membership.voters_outgoing) == (("1", "4", "5"), ("1", "2", "3"))
    drain(core)

    for node in acks:
        core.receive(accept(core, node, 2))

    assert (core.committed_index == 2) is committed


@pytest.mark.parametrize(("votes", "won"), [(("2", "3"), False), (("4", "5"), False), (("2", "4"), True)])
def test_joint_elections_need_majorities_of_both_memberships(votes: tuple[str, ...], won: bool) -> None:
    """6: the same, for elections."""
    joint = replace(members(["1", "4", "5"]), voters_outgoing=("1", "2", "3"), members={n: Member(address=n) for n in "12345"})
    core = make(membership=joint)
    requests = candidate(core)
    assert [request.target for request in requests if not isinstance(request, PreVoteRequest)] == ["2", "3", "4", "5"]

    for node in votes:
        core.receive(VoteReply(source=node, target="1", term=core.term, granted=True))

    assert core.is_leader is won


def test_entries_go_to_all_servers_of_both_memberships() -> None:
    """6: "Log entries are replicated to all servers in both configurations." """
    core = leader(make(), commit=True)
    core.change_membership(replace_two(), force=True)
    drain(core)
    for node in ("2", "3", "4", "5"):
        core.receive(accept(core, node, 2)) if node in "23" else core.receive(reject(core, node, 1, hint=(0, 0), last=0))

    assert {message.target for message in only(AppendEntries, drain(core))} >= {"4", "5"}


def test_the_leader_leaves_a_joint_membership_by_itself_once_it_is_committed() -> None:
    """6: "Once C_old,new has been committed [...] it is now safe for the leader to create a log entry describing C_new"."""
    cluster = cluster_of("1", "2", "3")
    for name in ("4", "5"):
        add(cluster, name, Membership())
    node = elected(cluster)
    node.core.change_membership(replace_two(), force=True)
    assert node.core.membership.is_joint

    stabilize(cluster)

    assert node.core.membership == members(["1", "4", "5"])
    assert [cluster.nodes[name].core.membership.voters for name in ("4", "5")] == [("1", "4", "5")] * 2
    assert node.core.committed_index == node.core.last_index


def test_a_new_leader_completes_a_joint_membership_that_its_predecessor_left_behind() -> None:
    """6: the transition survives the leader's crash: any later leader has C_old,new and completes it."""
    cluster = cluster_of("1", "2", "3")
    for name in ("4", "5"):
        add(cluster, name, Membership())
    node = elected(cluster)
    node.core.change_membership([AddVoter(node="4", address="4"), AddVoter(node="5", address="5")], force=True)
    node.take_ready()
    for name in ("2", "3", "4", "5"):
        cluster.deliver("1", name)
        cluster.nodes[name].take_ready()
    node.crash()

    tick_all(cluster, 40)

    (new,) = [one for one in cluster.nodes.values() if one.alive and one.core.is_leader]
    assert new.core.membership == members(["1", "2", "3", "4", "5"])


def test_new_servers_join_as_learners_that_do_not_count() -> None:
    """6: "new servers join the cluster as non-voting members (the leader replicates log entries to them, but they are not considered for majorities)"."""
    core = leader(make(), commit=True)
    core.change_membership([AddLearner(node="4")])
    drain(core)

    core.receive(accept(core, "4", 2))
    assert core.committed_index == 1

    core.receive(accept(core, "2", 2))
    assert core.committed_index == 2


def test_a_learner_that_has_caught_up_is_told_once_and_promoted_if_so_configured() -> None:
    """Thesis 4.2.1: a new server is added once "the new server's log is caught up"."""
    for automatic in (False, True):
        core = leader(make(auto_promote=automatic, promote_lag_entries=2), commit=True)
        core.change_membership([AddLearner(node="4")])
        for _ in range(5):
            core.propose(count=1, size_bytes=1, frames="x")
        drain(core)
        core.receive(accept(core, "2", 7))
        core.receive(accept(core, "4", 4))
        assert only(LearnerCaughtUp, turn(core).events) == []

        core.receive(accept(core, "4", 5))
        core.receive(accept(core, "4", 6))

        assert only(LearnerCaughtUp, core.ready().events) == [LearnerCaughtUp(learner="4", match_index=5)]
        assert core.membership.is_voter("4") is automatic


def test_a_learner_never_campaigns_but_answers_who_counts_on_its_vote() -> None:
    """Known from other cores: a learner that was made a voter and does not know it yet must vote, or the new membership may have no leader."""
    core = make("4", membership=members(["1", "2", "3"], ["4"]))
    assert core.role is Role.LEARNER
    tick(core, 5 * TIMEOUT)
    core.campaign(force=True)
    assert (core.role, core.term) == (Role.LEARNER, 0)

    core.receive(vote_request("1", "4", 1, (5, 1)))

    assert one(VoteReply, drain(core)).granted
    assert core.role is Role.LEARNER


def test_a_leader_that_is_removed_leads_without_counting_itself_until_that_is_committed() -> None:
    """6: "there will be a period of time [...] when the leader is managing a cluster that does not include itself; it replicates log entries but does not count
    itself in majorities. The leader [...] steps down once it has committed the C_new log entry." (And hands over, thesis 4.2.2.)
    """
    core = leader(make(), commit=True)
    core.change_membership([RemoveNode(node="1")])
    drain(core)
    core.receive(accept(core, "2", 2))
    assert core.is_leader
    assert core.committed_index == 1

    core.receive(accept(core, "3", 2))
    ready = turn(core)

    assert core.committed_index == 2
    assert one(RemovedFromMembership, ready.events).index == 2
    assert {message.target for message in only(AppendEntries, ready.messages_before_sync)} == {"2", "3"}
    assert one(TimeoutNow, ready.messages_before_sync).target == "2"
    with pytest.raises(Busy):
        core.propose(count=1, size_bytes=1, frames="x")


def test_a_removed_leader_steps_down_even_if_nobody_takes_over() -> None:
    """6: as above, with the successor's election lost."""
    core = leader(make(check_quorum=False), commit=True)
    core.change_membership([RemoveNode(node="1")])
    drain(core)
    for node in "23":
        core.receive(accept(core, node, 2))
    drain(core)

    tick(core, TIMEOUT)

    assert core.role is Role.FOLLOWER
    assert core.term == 1
    tick(core, 5 * TIMEOUT)
    assert core.role is Role.FOLLOWER


def test_the_whole_cluster_goes_on_when_the_leader_removes_itself() -> None:
    """6, thesis 4.2.2: from removal to the next leader, with all messages."""
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    node.core.change_membership([RemoveNode(node="1")])

    stabilize(cluster)

    assert [other.core.role for other in cluster.nodes.values()] == [Role.FOLLOWER, Role.LEADER, Role.FOLLOWER]
    cluster.nodes["2"].propose(["on"])
    tick_all(cluster, 3)
    assert cluster.nodes["3"].state == ["on"]
    tick_all(cluster, 40)
    assert cluster.nodes["1"].core.role is Role.FOLLOWER
    assert cluster.nodes["2"].core.term == 2


@pytest.mark.parametrize("heard", [True, False])
def test_removed_servers_do_not_disrupt(heard: bool) -> None:
    """6: "if a server receives a RequestVote RPC within the minimum election timeout of hearing from a current leader, it does not update its term or grant
    its vote."
    """
    core = make(term=1)
    core.receive(heartbeat("2", "1", 1))
    tick(core, 0 if heard else TIMEOUT)
    drain(core)
    term = core.term

    core.receive(vote_request("4", "1", 7, (9, 9)))

    assert (core.term == term) is heard
    assert (only(VoteReply, drain(core)) == []) is heard


def test_a_leader_ignores_votes_of_the_removed_too() -> None:
    """6: the leader itself hears a current leader at all times."""
    core = leader(make())

    core.receive(vote_request("4", "1", 7, (9, 9)))

    assert core.is_leader


def test_a_removed_node_is_told_so_and_then_forgotten() -> None:
    """The leader replicates to a removed node up to its removal, and until it knows that this is committed."""
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    node.core.change_membership([RemoveNode(node="3")])
    assert set(node.core.peers) == {"2", "3"}
    stabilize(cluster)
    assert cluster.nodes["3"].core.committed_index == 2

    tick_all(cluster, 2)

    assert set(node.core.peers) == {"2"}
    node.propose(["not for 3"])
    tick_all(cluster, 4)
    assert cluster.nodes["3"].core.last_index == 2
    tick_all(cluster, 40)
    assert node.core.is_leader
    assert node.core.term == 1


def test_a_removed_node_that_was_away_is_told_when_it_asks_for_votes() -> None:
    """The same, when the leader that removed it is not there any more, and its successor has given up on the node."""
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    cluster.nodes["3"].crash()
    node.core.change_membership([RemoveNode(node="3")])
    stabilize(cluster)
    node.core.transfer_leadership("2")
    stabilize(cluster)
    assert set(cluster.nodes["2"].core.peers) == {"1", "3"}
    tick_all(cluster, 10 * 2 * TIMEOUT)
    assert set(cluster.nodes["2"].core.peers) == {"1"}
    cluster.links.clear()

    cluster.nodes["3"].restart()
    tick_all(cluster, 30)

    assert not cluster.nodes["3"].core.membership.is_voter("3")
    assert cluster.nodes["3"].core.role is Role.FOLLOWER
    assert cluster.nodes["2"].core.is_leader
    assert set(cluster.nodes["2"].core.peers) == {"1"}


def test_one_change_at_a_time_and_none_before_a_commit_in_the_term() -> None:
    """Thesis 4.1 (and its erratum): overlapping changes of different terms could decide apart."""
    core = leader(make())
    with pytest.raises(MembershipRefused, match="no entry of term 1 is committed"):
        core.change_membership([AddLearner(node="4")])
    core.receive(accept(core, "2", 1))
    core.change_membership([AddLearner(node="4")])

    with pytest.raises(MembershipRefused, match="not committed yet"):
        core.change_membership([AddLearner(node="5")])

    drain(core)
    core.receive(accept(core, "2", 2))
    core.change_membership([AddLearner(node="5")])
    assert core.membership.learners == ("4", "5")


def test_two_overlapping_changes_across_terms_cannot_both_be_committed() -> None:
    """The bug of the thesis' erratum: an uncommitted change of term 1 comes back after one of term 2; here the second waits for its leader's own entry."""
    cluster = cluster_of("1", "2", "3", "4")
    node = elected(cluster)
    cluster.cut = {("1", other) for other in "234"} | {(other, "1") for other in "234"}
    node.core.change_membership([AddVoter(node="5")], force=True)
    node.take_ready()
    tick_all(cluster, 40)
    (second,) = [one for one in cluster.nodes.values() if one.core.is_leader]
    assert second.node_id != "1"

    second.core.change_membership([RemoveNode(node="1")], force=True)
    stabilize(cluster)
    cluster.cut.clear()
    tick_all(cluster, 40)

    assert second.core.membership.voters == ("2", "3", "4")
    assert node.core.membership.voters == ("2", "3", "4")
    assert node.disk.entries[: len(second.disk.entries)] == second.disk.entries[: len(node.disk.entries)]


def committed(core: RaftCore, changes: list[MembershipChange], **options: bool) -> None:
    core.change_membership(changes, **options)
    drain(core)
    while core.committed_index < core.last_index:
        for node in core.membership.nodes:
            if node != core.status().node:
                core.receive(accept(core, node, core.last_index))
        drain(core)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ([RemoveNode(node=name) for name in "123"], {}, "no voters"),
        ([AddVoter(node=str(name)) for name in range(4, 9)], {"force": True}, "at most 7"),
        ([AddVoter(node="4"), AddVoter(node="5")], {"joint": False}, "more than one"),
        ([AddVoter(node="4"), AddVoter(node="5"), AddVoter(node="6")], {}, "reachable"),
        ([], {}, "joint"),
    ],
)
def test_changes_that_cannot_be_are_refused(changes: list[MembershipChange], options: dict[str, bool], reason: str) -> None:
    core = leader(make(), commit=True)

    with pytest.raises(MembershipRefused, match=reason):
        core.change_membership(changes, **options)

    assert core.membership == members(["1", "2", "3"])
    assert core.last_index == 1


def test_a_change_that_would_lose_the_quorum_of_healthy_nodes_is_refused_unless_forced() -> None:
    core = leader(make(check_quorum=False), commit=True)
    tick(core, TIMEOUT)
    core.receive(accept(core, "2", 1))

    with pytest.raises(MembershipRefused, match="3 were not heard of lately"):
        core.change_membership([RemoveNode(node="2")])
    core.change_membership([RemoveNode(node="2")], force=True)

    assert core.membership.voters == ("1", "3")


def test_one_voter_may_become_two() -> None:
    core = leader(make(voters=["1"]), commit=True)

    core.change_membership([AddVoter(node="2")])

    assert core.membership.voters == ("1", "2")


def test_a_follower_refuses_changes() -> None:
    core = make()
    core.receive(heartbeat("2", "1", 1))

    with pytest.raises(NotLeader):
        core.change_membership([AddLearner(node="4")])


def test_an_incarnation_is_recorded_once_and_a_voter_with_another_one_must_come_back_as_a_learner() -> None:
    core = leader(make(), commit=True)
    with pytest.raises(UnknownNode):
        core.change_membership([UpdateMember(node="9", incarnation=7)])
    committed(core, [UpdateMember(node="2", incarnation=7)])
    assert core.membership.members["2"] == Member(address="2", incarnation=7)
    assert {peer.node: peer.match_index for peer in core.status().peers}["2"] == 2

    with pytest.raises(MembershipRefused, match="come back as a learner"):
        core.change_membership([UpdateMember(node="2", incarnation=8)])
    with pytest.raises(MembershipRefused, match="come back as a learner"):
        core.change_membership([AddVoter(node="2", incarnation=8)])
    core.change_membership([AddLearner(node="2", incarnation=8)], force=True)

    assert core.membership.learners == ("2",)
    assert core.membership.members["2"] == Member(address="2", incarnation=8)
    assert {peer.node: (peer.state, peer.match_index) for peer in core.status().peers}["2"] == ("probe", 0)


def test_membership_commits_are_told() -> None:
    core = leader(make(), commit=True)
    core.change_membership([AddLearner(node="4")])
    drain(core)

    core.receive(accept(core, "2", 2))

    assert [event.index for event in only(MembershipCommitted, core.ready().events)] == [2]


def test_a_demoted_leader_hands_over_and_becomes_a_learner() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    node.core.change_membership([AddLearner(node="1")])

    events: list[Event] = []
    for _ in range(20):
        ready = node.take_ready()
        events.extend(ready.events if ready is not None else ())
        stabilize(cluster, "2", "3")
        for other in "23":
            while cluster.links.get(("1", other)):
                cluster.deliver("1", other)
            while cluster.links.get((other, "1")):
                cluster.deliver(other, "1")
    stabilize(cluster)

    assert node.core.role is Role.LEARNER
    assert node.core.leader in ("2", "3")
    assert [event.succeeded for event in only(TransferEnded, events)] == [True]


def test_a_node_that_is_removed_and_added_again_starts_over() -> None:
    """4.1 of the thesis keeps no trace of a removed server; here its directory may have been wiped meanwhile, so its old acknowledgements do not count."""
    core = leader(make(auto_promote=True), commit=True)
    core.change_membership([RemoveNode(node="3")])
    turn(core)
    core.receive(accept(core, "2", 2))
    core.receive(accept(core, "3", 2))
    turn(core)

    core.change_membership([AddLearner(node="3", address="3")])
    turn(core)

    peer = next(peer for peer in core.status().peers if peer.node == "3")
    assert (peer.match_index, peer.state) == (0, "probe")
    core.receive(accept(core, "2", 3))
    tick(core, 3)
    assert core.membership.learners == ("3",), "not promoted for what it held in its former life"


def catch_up(core: RaftCore, memberships: dict[int, Membership], last: int, *, commit: int) -> list[Event]:
    """Append entries of term 2 behind 1, those `memberships` among them; what the core tells of it."""
    entries = EntryRange(
        first_index=2, last_index=last, terms=((2, 2),), memberships=tuple((at, one) for at, one in memberships.items() if at <= last)
    )
    core.receive(
        AppendEntries(source="2", target="1", term=2, prev_index=1, prev_term=1, committed_index=commit, entries=entries, frames="frames")
    )
    return list(turn(core).events)


def test_a_server_that_was_added_again_passes_by_its_removal_without_a_word_of_it() -> None:
    without, again = members("23"), members("23", "1")

    events = catch_up(make(log=[1]), {3: without, 6: again}, 8, commit=8)

    assert [event.index for event in only(MembershipCommitted, events)] == [3, 6]
    assert only(RemovedFromMembership, events) == []


def test_neither_does_one_whose_return_comes_with_a_later_append() -> None:
    core = make(log=[1])
    first = catch_up(core, {3: members("23")}, 4, commit=8)
    assert (core.committed_index, only(RemovedFromMembership, first)) == (4, [])
    rest = EntryRange(first_index=5, last_index=8, terms=((5, 2),), memberships=((6, members("23", "1")),))
    core.receive(AppendEntries(source="2", target="1", term=2, prev_index=4, prev_term=2, committed_index=8, entries=rest, frames="frames"))

    assert only(RemovedFromMembership, turn(core).events) == []
    assert core.role is Role.LEARNER


def test_a_removed_server_hears_of_no_commit_behind_its_removal_so_that_it_knows_it_has_everything() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    for other in "12":
        cluster.cut |= {("3", other), (other, "3")}
    node.core.change_membership([RemoveNode(node="3")])
    stabilize(cluster)
    node.propose(["later"])
    stabilize(cluster)
    cluster.cut.clear()
    node.core.peer_lost("3")
    told: list[Event] = []
    for _ in range(4):
        node.core.tick()
        for _ in range(4):
            for one_node in cluster.nodes.values():
                ready = one_node.take_ready()
                if one_node.node_id == "3" and ready is not None:
                    told += ready.events
            for link in sorted(cluster.links):
                while cluster.links[link]:
                    cluster.deliver(*link)

    assert [event.index for event in only(RemovedFromMembership, told)] == [2]
    assert cluster.nodes["3"].core.committed_index == 2


def test_a_removal_is_told_when_the_entry_that_added_the_server_again_is_lost() -> None:
    core = make(log=[1])
    assert only(RemovedFromMembership, catch_up(core, {3: members("23"), 6: members("23", "1")}, 8, commit=4)) == []

    core.receive(append("3", "1", 3, (4, 2), [3]))

    assert [event.index for event in only(RemovedFromMembership, turn(core).events)] == [3]


@pytest.mark.parametrize("change", [RemoveNode(node="1"), AddLearner(node="1")], ids=["removed", "demoted"])
def test_a_server_outside_its_own_newest_membership_campaigns_until_that_is_committed(change: MembershipChange) -> None:
    """Thesis 4.2.2: "it is possible for a server to start a new election while it is not part of its own latest configuration, as it might still be needed
    until the C_new entry is committed [...] It does not count its own vote". Here nobody else could win: node 2's log is behind.
    """
    cluster = cluster_of("1", "2")
    node = elected(cluster)
    node.core.change_membership([change])
    node.take_ready()
    node.crash()
    cluster.links.clear()
    node.restart()

    tick_all(cluster, 4 * TIMEOUT)

    assert cluster.nodes["2"].core.is_leader
    assert cluster.nodes["2"].core.membership.voters == ("2",)
    assert node.core.role is (Role.LEARNER if isinstance(change, AddLearner) else Role.FOLLOWER)
    assert node.core.committed_index >= 2
