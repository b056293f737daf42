"""The Raft paper's sections 5.1 and 5.2, a test a sentence (pre-vote off, as the paper has none)."""

from __future__ import annotations

import pytest

from replog.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, PreVoteReply, VoteReply, VoteRequest
from replog.types import HardState, Role
from tests.unit.raft.support import (
    TIMEOUT,
    append,
    candidate,
    cluster_of,
    drain,
    elected,
    granted,
    heartbeat,
    leader,
    make,
    one,
    only,
    pre_vote_request,
    stabilize,
    tick,
    tick_all,
    turn,
    vote_request,
)


@pytest.mark.parametrize("state", ["follower", "candidate", "leader"])
def test_a_server_updates_its_term_to_a_larger_one_and_reverts_to_follower(state: str) -> None:
    """5.1: "if one server's current term is smaller than the other's, then it updates its current term to the larger value. If a candidate or
    leader discovers that its term is out of date, it immediately reverts to follower state."
    """
    core = make(check_quorum=False)
    if state == "candidate":
        candidate(core)
    elif state == "leader":
        leader(core)

    core.receive(vote_request("2", "1", core.term + 5, (9, 9)))

    assert core.role is Role.FOLLOWER
    assert core.term == {"follower": 5, "candidate": 6, "leader": 6}[state]


@pytest.mark.parametrize(
    "message",
    [append("2", "1", 4, (0, 0), [4]), heartbeat("2", "1", 4), vote_request("2", "1", 4, (9, 9)), pre_vote_request("2", "1", 4, (9, 9))],
    ids=lambda message: type(message).__name__,
)
def test_a_request_with_a_stale_term_is_rejected(message: AppendEntries | Heartbeat | VoteRequest) -> None:
    """5.1: "If a server receives a request with a stale term number, it rejects the request." """
    core = make(log=[1, 2], term=5)

    core.receive(message)
    (reply,) = drain(core)

    assert reply.term == 5
    if isinstance(reply, AppendEntriesReply):
        assert reply.rejected_prev_index is not None
    else:
        assert isinstance(reply, VoteReply | PreVoteReply)
        assert not reply.granted
    assert core.last_index == 2
    assert core.leader is None


def test_the_term_never_goes_back() -> None:
    """5.1: "a current term number, which increases monotonically over time"."""
    core = make(term=5)

    for term in (6, 3, 5, 8, 7):
        core.receive(heartbeat("2" if term == 8 else "3", "1", term))

    assert core.term == 8


def test_every_message_carries_the_term() -> None:
    """5.1: "Current terms are exchanged whenever servers communicate"."""
    core = leader(make(log=[1, 1], term=3))
    core.propose(count=1, size_bytes=1, frames="x")
    tick(core, 2)

    assert {message.term for message in drain(core)} == {4}


def test_a_follower_is_passive() -> None:
    """5.1: "Followers are passive: they issue no requests on their own but simply respond to requests from leaders and candidates." """
    core = make()
    core.receive(heartbeat("2", "1", 1))
    drain(core)

    tick(core, TIMEOUT - 1)

    assert drain(core) == []


def test_a_server_starts_as_follower() -> None:
    """5.2: "When servers start up, they begin as followers." """
    core = make(term=7, vote="1")

    assert core.role is Role.FOLLOWER
    assert core.leader is None


def test_a_server_stays_follower_while_it_hears_a_leader_or_grants_a_vote() -> None:
    """5.2: "A server remains in follower state as long as it receives valid RPCs from a leader or candidate." """
    core = make(check_quorum=False)
    for _ in range(5):
        tick(core, TIMEOUT - 1)
        core.receive(heartbeat("2", "1", 1))
    tick(core, TIMEOUT - 1)
    core.receive(vote_request("3", "1", 2, (9, 9)))
    tick(core, TIMEOUT - 1)

    assert core.role is Role.FOLLOWER


def test_a_leader_sends_periodic_heartbeats_to_all() -> None:
    """5.2: "Leaders send periodic heartbeats (AppendEntries RPCs that carry no log entries) to all followers in order to maintain their authority." """
    core = leader(make())

    beats = []
    for _ in range(6):
        tick(core)
        beats.append([beat.target for beat in only(Heartbeat, drain(core))])

    assert beats == [[], ["2", "3"], [], ["2", "3"], [], ["2", "3"]]


def test_a_follower_that_hears_nothing_begins_an_election() -> None:
    """5.2: "If a follower receives no communication over a period of time called the election timeout, then it assumes there is no viable leader and
    begins an election [...] To begin an election, a follower increments its current term and transitions to candidate state. It then votes for
    itself and issues RequestVote RPCs in parallel to each of the other servers in the cluster."
    """
    core = make(log=[1, 2], term=2, pre_vote=False)
    tick(core, TIMEOUT - 1)
    assert core.role is Role.FOLLOWER

    tick(core)
    ready = turn(core)

    assert (core.role, core.term, core.vote) == (Role.CANDIDATE, 3, "1")
    assert ready.hard_state == HardState(term=3, vote="1")
    assert ready.messages_before_sync == ()
    assert list(ready.messages_after_sync) == [vote_request("1", "2", 3, (2, 2)), vote_request("1", "3", 3, (2, 2))]


@pytest.mark.parametrize(
    ("size", "yes", "no", "role"),
    [
        (1, 0, 0, Role.LEADER),
        (3, 0, 0, Role.CANDIDATE),
        (3, 1, 0, Role.LEADER),
        (3, 1, 1, Role.LEADER),
        (3, 0, 1, Role.CANDIDATE),
        (3, 0, 2, Role.FOLLOWER),
        (4, 1, 0, Role.CANDIDATE),
        (4, 2, 0, Role.LEADER),
        (4, 1, 2, Role.FOLLOWER),
        (5, 1, 2, Role.CANDIDATE),
        (5, 2, 2, Role.LEADER),
        (5, 1, 3, Role.FOLLOWER),
        (7, 3, 3, Role.LEADER),
        (7, 2, 4, Role.FOLLOWER),
    ],
)
def test_a_candidate_wins_with_votes_of_a_majority_of_the_full_cluster(size: int, yes: int, no: int, role: Role) -> None:
    """5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the same term." """
    core = make(voters=[str(number) for number in range(1, size + 1)])
    candidate(core)

    for number in range(yes + no):
        if core.role is Role.CANDIDATE:
            core.receive(granted(str(number + 2), core, yes=number < yes))

    assert core.role is role


def test_repeated_votes_count_once() -> None:
    """5.2: "votes from a majority of the servers": one server is one vote, however often its answer arrives."""
    core = make(voters=["1", "2", "3", "4", "5"])
    candidate(core)

    for _ in range(5):
        core.receive(granted("2", core))

    assert core.role is Role.CANDIDATE


def test_votes_of_another_term_do_not_count() -> None:
    """5.2: "... for the same term"."""
    core = make()
    candidate(core)
    old = granted("2", core)
    candidate(core)

    core.receive(old)

    assert core.role is Role.CANDIDATE


def test_each_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    """5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis." """
    core = make()

    core.receive(vote_request("2", "1", 3, (0, 0)))
    core.receive(vote_request("3", "1", 3, (5, 2)))
    core.receive(vote_request("2", "1", 3, (0, 0)))
    replies = only(VoteReply, drain(core))

    assert [(reply.target, reply.granted) for reply in replies] == [("2", True), ("3", False), ("2", True)]


def test_a_vote_survives_a_restart() -> None:
    """5.2, figure 2: votedFor is persistent state; a restarted server does not vote again in its term."""
    core = make(term=3, vote="2")

    core.receive(vote_request("3", "1", 3, (5, 2)))

    assert not one(VoteReply, drain(core)).granted


def test_a_winner_sends_appends_to_all_to_establish_its_authority() -> None:
    """5.2: "Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the other servers to establish its
    authority and prevent new elections." (Here with the term's first entry in them.)
    """
    core = make()
    candidate(core)

    core.receive(granted("2", core))

    assert [message.target for message in only(AppendEntries, drain(core))] == ["2", "3"]


@pytest.mark.parametrize("term_above", [0, 1])
def test_a_candidate_follows_a_leader_of_its_term_or_a_later_one(term_above: int) -> None:
    """5.2: "If the leader's term (included in its RPC) is at least as large as the candidate's current term, then the candidate recognizes the leader
    as legitimate and returns to follower state."
    """
    core = make()
    candidate(core)

    core.receive(append("2", "1", core.term + term_above, (0, 0)))

    assert (core.role, core.leader) == (Role.FOLLOWER, "2")


def test_a_candidate_rejects_a_leader_of_an_older_term() -> None:
    """5.2: "If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC and continues in candidate state." """
    core = make(term=3)
    candidate(core)

    core.receive(append("2", "1", 3, (0, 0), [3]))

    assert core.role is Role.CANDIDATE
    assert one(AppendEntriesReply, drain(core)).rejected_prev_index is not None
    assert core.last_index == 0


def test_a_candidate_that_neither_wins_nor_loses_starts_a_new_election() -> None:
    """5.2: "each candidate will time out and start a new election by incrementing its term and initiating another round of RequestVote RPCs"."""
    core = make(pre_vote=False)
    candidate(core)

    tick(core, TIMEOUT)

    assert (core.role, core.term) == (Role.CANDIDATE, 2)
    assert [request.target for request in only(VoteRequest, drain(core))] == ["2", "3"]


def test_the_election_timeout_is_drawn_anew_for_each_election() -> None:
    """5.2: "election timeouts are chosen randomly from a fixed interval [...] Each candidate restarts its randomized election timeout at the start of an
    election". (The draw is an argument of the core.)
    """
    core = make(pre_vote=False)
    timeouts = iter([12, 19, 15, 11])
    core._s.draw_timeout = lambda: next(timeouts)
    core.campaign()

    ticks = []
    for term in (2, 3, 4):
        count = 0
        while core.term < term:
            tick(core)
            count += 1
        ticks.append(count)

    assert ticks == [12, 19, 15]


def test_different_timeouts_let_one_server_win_before_the_others_time_out() -> None:
    """5.2: "in most cases only a single server will time out; it wins the election and sends heartbeats before any other servers time out"."""
    cluster = cluster_of("1", "2", "3")

    tick_all(cluster, 40)

    assert [node.core.role for node in cluster.nodes.values()] == [Role.LEADER, Role.FOLLOWER, Role.FOLLOWER]
    assert {node.core.term for node in cluster.nodes.values()} == {1}


def test_at_most_one_leader_is_elected_in_a_term() -> None:
    """5.2, figure 3, Election Safety: "at most one leader can be elected in a given term" - here with a split vote first."""
    cluster = cluster_of("1", "2", "3", "4")
    for name in ("1", "2"):
        cluster.nodes[name].core.campaign(force=True)
        cluster.nodes[name].take_ready()
    for link in (("1", "3"), ("2", "4"), ("1", "4"), ("2", "3"), ("1", "2"), ("2", "1")):
        cluster.deliver(*link)
    stabilize(cluster)
    assert [node.core.is_leader for node in cluster.nodes.values()] == [False] * 4

    elected(cluster, "3")

    assert sum(node.core.is_leader for node in cluster.nodes.values()) == 1
