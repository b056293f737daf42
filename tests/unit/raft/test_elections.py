"""Pre-vote, check-quorum and stickiness: what the paper's elections lack (thesis 9.6, 6.2, 4.2.3)."""

from __future__ import annotations

import pytest

from replog.raft.messages import AppendEntriesReply, PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from replog.testing.cores import members
from replog.types import HardState, Role
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    append,
    cluster_of,
    drain,
    elected,
    heartbeat,
    leader,
    make,
    one,
    only,
    pre_granted,
    pre_vote_request,
    stabilize,
    tick,
    tick_all,
    turn,
    vote_request,
)


def test_a_pre_vote_changes_neither_term_nor_vote_on_either_side() -> None:
    asker, voter = make(term=3), make("2", term=3, vote="3")
    tick(asker, TIMEOUT)
    ready = turn(asker)
    requests = only(PreVoteRequest, ready.messages_after_sync)
    assert (asker.role, asker.term, asker.vote, ready.hard_state) == (Role.PRE_CANDIDATE, 3, None, None)
    assert [request.term for request in requests] == [4, 4]

    voter.receive(requests[0])
    ready = turn(voter)

    assert one(PreVoteReply, ready.messages_after_sync) == PreVoteReply(source="2", target="1", term=4, granted=True)
    assert (voter.term, voter.vote, ready.hard_state) == (3, "3", None)


def test_a_won_pre_vote_leads_to_a_campaign_and_a_lost_one_to_rest() -> None:
    for yes in (True, False):
        core = make(term=3)
        core.campaign()
        drain(core)

        for node in ("2", "3"):
            if core.role is Role.PRE_CANDIDATE:
                core.receive(pre_granted(node, core, yes=yes))

        assert (core.role, core.term) == ((Role.CANDIDATE, 4) if yes else (Role.FOLLOWER, 3))
        assert len(only(VoteRequest, drain(core))) == (2 if yes else 0)


def test_pre_votes_of_an_older_campaign_do_not_count() -> None:
    core = make(term=3)
    core.campaign()
    old = pre_granted("2", core)
    core.receive(heartbeat("3", "1", 5))
    tick(core, TIMEOUT)
    assert core.role is Role.PRE_CANDIDATE

    core.receive(old)

    assert core.role is Role.PRE_CANDIDATE


def test_a_refused_pre_vote_of_a_later_term_tells_it() -> None:
    core = make(term=3)
    core.campaign()

    core.receive(PreVoteReply(source="2", target="1", term=9, granted=False))

    assert (core.role, core.term) == (Role.FOLLOWER, 9)


def test_a_pre_candidate_of_an_old_term_is_answered_with_the_new_one() -> None:
    """Known from other cores: with silence it would ask for ever."""
    core = make(term=5)

    core.receive(pre_vote_request("2", "1", 4, (9, 3)))

    assert one(PreVoteReply, drain(core)) == PreVoteReply(source="1", target="2", term=5, granted=False)


@pytest.mark.parametrize("kind", ["pre-vote", "vote"])
def test_who_hears_a_leader_gives_no_votes_unless_that_leader_wants_it(kind: str) -> None:
    core = make(term=3)
    core.receive(heartbeat("2", "1", 3))
    drain(core)
    request = pre_vote_request("3", "1", 4, (9, 3)) if kind == "pre-vote" else vote_request("3", "1", 4, (9, 3))
    tick(core, TIMEOUT - 1)

    core.receive(request)
    assert drain(core) == []
    assert core.term == 3

    core.receive(vote_request("3", "1", 4, (9, 3), transfer=True))
    assert one(VoteReply, drain(core)).granted


def test_stickiness_ends_with_the_election_timeout() -> None:
    core = make(term=3, timeout=2 * TIMEOUT)
    core.receive(heartbeat("2", "1", 3))
    drain(core)
    tick(core, TIMEOUT)

    core.receive(vote_request("3", "1", 4, (9, 3)))

    assert one(VoteReply, drain(core)).granted


def test_without_check_quorum_there_is_no_stickiness() -> None:
    core = make(term=3, check_quorum=False)
    core.receive(heartbeat("2", "1", 3))
    drain(core)

    core.receive(vote_request("3", "1", 4, (9, 3)))

    assert one(VoteReply, drain(core)).granted


@pytest.mark.parametrize(
    ("voters", "answering", "leads"),
    [("123", "2", True), ("123", "", False), ("12345", "2", False), ("12345", "23", True), ("1", "", True)],
)
def test_a_leader_without_a_quorum_for_an_election_timeout_steps_down(voters: str, answering: str, leads: bool) -> None:
    core = leader(make(voters=voters), commit=True)
    for _ in range(3 * TIMEOUT):
        if not core.is_leader:
            break
        for node in answering:
            core.receive(accept(core, node, 1))
        tick(core)

    assert core.is_leader is leads
    assert core.term == 1


def test_without_check_quorum_a_leader_leads_on_alone() -> None:
    core = leader(make(check_quorum=False), commit=True)

    tick(core, 10 * TIMEOUT)

    assert core.is_leader


def test_learners_do_not_make_a_quorum_active() -> None:
    core = leader(make(membership=members("123", "45")), commit=True)
    for _ in range(2 * TIMEOUT):
        if not core.is_leader:
            break
        for node in "45":
            core.receive(accept(core, node, 1))
        tick(core)

    assert not core.is_leader


def test_a_node_that_was_cut_off_does_not_raise_the_term_when_it_is_back() -> None:
    cluster = cluster_of("1", "2", "3")
    elected(cluster)
    cluster.cut = {(a, b) for a in "123" for b in "123" if "3" in (a, b)}
    tick_all(cluster, 10 * TIMEOUT)
    assert cluster.nodes["3"].core.role is Role.PRE_CANDIDATE

    cluster.cut.clear()
    tick_all(cluster, 3 * TIMEOUT)

    assert cluster.nodes["1"].core.is_leader
    assert {node.core.term for node in cluster.nodes.values()} == {1}


def test_a_half_connected_node_does_not_disturb_for_ever() -> None:
    """It hears nothing but is heard: it asks for votes again and again, and everybody else hears the leader."""
    cluster = cluster_of("1", "2", "3")
    elected(cluster)
    cluster.cut = {("1", "3"), ("2", "3")}

    tick_all(cluster, 20 * TIMEOUT)

    assert cluster.nodes["1"].core.is_leader
    assert cluster.nodes["1"].core.term == 1


def test_a_node_with_a_higher_term_comes_back_into_the_fold() -> None:
    """Without pre-vote it raised its term while cut off; it ignores the leader's messages, but answers with its term, so that one election makes peace."""
    cluster = cluster_of("1", "2", "3", pre_vote=False)
    elected(cluster)
    cluster.cut = {(a, b) for a in "123" for b in "123" if "3" in (a, b)}
    tick_all(cluster, 10 * TIMEOUT)
    assert cluster.nodes["3"].core.term > 5

    cluster.cut.clear()
    tick_all(cluster, 5 * TIMEOUT)

    leaders = [node for node in cluster.nodes.values() if node.core.is_leader]
    assert len(leaders) == 1
    assert len({node.core.term for node in cluster.nodes.values()}) == 1


def test_a_stuck_pre_candidate_with_a_higher_term_gets_a_leader_again() -> None:
    """Known from other cores: its log is behind, so it cannot win; its term is ahead, so it takes no appends."""
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    cluster.nodes["3"].disk.hard_state = HardState(term=7, vote="3")
    cluster.nodes["3"].restart()
    node.propose(["a"])

    tick_all(cluster, 6 * TIMEOUT)

    leaders = [other for other in cluster.nodes.values() if other.core.is_leader]
    assert len(leaders) == 1
    assert leaders[0].node_id != "3" or cluster.nodes["3"].state == ["a"]
    assert all(other.state == ["a"] for other in cluster.nodes.values())


def test_old_leaders_appends_are_answered_with_the_term_and_touch_nothing() -> None:
    core = make(log=[1, 1], term=5)

    core.receive(append("2", "1", 4, (2, 1), [4], commit=2))
    reply = one(AppendEntriesReply, drain(core))

    assert (reply.term, reply.rejected_prev_index) == (5, 0)
    assert (core.last_index, core.committed_index) == (2, 0)


def test_such_an_answer_means_nothing_to_a_leader_of_that_term() -> None:
    """It may arrive late, when the one that was old has been elected in the very term that it tells."""
    core = leader(make(log=[1, 1], term=4))
    core.receive(accept(core, "2", 3))
    drain(core)
    before = core.status().peers

    core.receive(AppendEntriesReply(source="2", target="1", term=5, rejected_prev_index=0, last_index=2))
    core.receive(AppendEntriesReply(source="3", target="1", term=5, rejected_prev_index=0, last_index=2))

    assert [(peer.state, peer.match_index, peer.next_index) for peer in core.status().peers] == [
        (peer.state, peer.match_index, peer.next_index) for peer in before
    ]


# -- a log that recovery cut ----------------------------------------------------------------------------------------------


def test_a_node_that_lost_what_it_may_have_promised_neither_campaigns_nor_votes_for_a_shorter_log() -> None:
    core = make(log=[1, 1, 1], maybe_promised=5)
    tick(core, 3 * TIMEOUT)
    core.campaign()
    assert (core.role, core.term) == (Role.FOLLOWER, 1)

    core.receive(vote_request("2", "1", 2, (4, 1)))
    assert not one(VoteReply, drain(core)).granted
    core.receive(pre_vote_request("2", "1", 3, (4, 1)))
    assert not one(PreVoteReply, drain(core)).granted
    core.receive(vote_request("3", "1", 3, (5, 1)))
    assert one(VoteReply, drain(core)).granted


def test_its_vote_counts_only_together_with_everybodys() -> None:
    cut = make(log=[1, 1, 1], maybe_promised=5)
    cut.receive(vote_request("2", "1", 2, (4, 1)))
    reply = one(VoteReply, drain(cut))
    assert (reply.granted, reply.conditional) == (False, True)
    assert cut.vote == "2"

    for second_voter_grants in (True, False):
        candidate = make(log=[1, 1, 1, 1])
        candidate.campaign(force=True)
        drain(candidate)
        candidate.receive(VoteReply(source="2", target="1", term=candidate.term, granted=False, conditional=True))
        assert candidate.role is Role.CANDIDATE
        candidate.receive(VoteReply(source="3", target="1", term=candidate.term, granted=second_voter_grants))
        assert candidate.is_leader is second_voter_grants


def test_a_refusal_keeps_a_conditional_majority_from_electing() -> None:
    candidate = make(voters=["1", "2", "3", "4", "5"], log=[1])
    candidate.campaign(force=True)
    drain(candidate)
    for node in ("2", "3"):
        candidate.receive(VoteReply(source=node, target="1", term=candidate.term, granted=False, conditional=True))
    candidate.receive(VoteReply(source="4", target="1", term=candidate.term, granted=False))
    assert candidate.role is Role.CANDIDATE
    candidate.receive(VoteReply(source="5", target="1", term=candidate.term, granted=True))
    assert not candidate.is_leader


def test_a_cluster_whose_logs_were_all_cut_elects_once_everybody_is_there() -> None:
    cluster = cluster_of("1", "2", "3")
    elected(cluster).propose(["a", "b", "c"])
    stabilize(cluster)
    for node in cluster.nodes.values():
        node.disk.maybe_promised = node.disk.last_index + 1  # a batch behind the last entry was torn, on every disk
        node.restart()

    tick_all(cluster, 40 * TIMEOUT)

    assert sum(node.core.is_leader for node in cluster.nodes.values()) == 1
    assert all(node.state == ["a", "b", "c"] for node in cluster.nodes.values())


def test_it_is_a_full_voter_again_once_its_log_reaches_that_point() -> None:
    core = make(log=[1, 1, 1], maybe_promised=5)
    core.receive(append("2", "1", 2, (3, 1), [2, 2]))
    drain(core)

    tick(core, TIMEOUT)

    assert core.role is Role.PRE_CANDIDATE


def test_an_only_voter_or_a_forced_campaign_does_not_wait_for_it() -> None:
    alone = make(voters=["1"], log=[1], maybe_promised=5)
    tick(alone, TIMEOUT)
    assert alone.is_leader

    forced = make(log=[1], maybe_promised=5)
    forced.campaign(force=True)
    assert forced.role is Role.CANDIDATE


def test_a_follower_that_came_back_without_its_tail_is_replicated_to_again() -> None:
    """Its acknowledgements were believed, so its rejections look stale; the broken connection tells them apart."""
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    node.propose(["a", "b", "c"])
    stabilize(cluster)
    follower = cluster.nodes["3"]
    follower.disk.maybe_promised = follower.disk.last_index
    del follower.disk.entries[-2:]
    follower.restart()
    node.core.peer_lost("3")

    tick_all(cluster, 6)

    assert follower.state == ["a", "b", "c"]
    assert node.core.is_leader


def test_who_has_voted_in_a_term_gives_no_conditional_vote_to_another() -> None:
    """Else two could win it: one with a majority's votes, one with everybody's of either kind."""
    core = make(log=[1, 1, 1], term=2, vote="3", maybe_promised=5)

    core.receive(vote_request("2", "1", 2, (4, 1)))

    reply = one(VoteReply, drain(core))
    assert (reply.granted, reply.conditional) == (False, False)
