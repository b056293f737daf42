"""Elections as other Raft cores script them: campaigns, pre-vote, stale messages; driven message by message."""

from __future__ import annotations

from typing import Any

import pytest

from replog.raft import (
    AddVoter,
    AppendEntriesReply,
    CampaignStarted,
    Heartbeat,
    HeartbeatReply,
    MessageIgnored,
    PreVoteReply,
    RaftCore,
    Role,
    TimeoutNow,
    VoteReply,
)
from replog.testing.cores import CoreCluster, members
from replog.types import HardState
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
    log_terms,
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

ROLES = [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER]


def in_role(role: Role, **config: Any) -> RaftCore:
    core = make(log=[1], **config)
    if role is Role.PRE_CANDIDATE:
        core.campaign()
        drain(core)
    elif role is Role.CANDIDATE:
        candidate(core)
    elif role is Role.LEADER:
        leader(core)
    assert core.role is role
    return core


def cut_off(cluster: CoreCluster, name: str) -> None:
    for other in cluster.nodes:
        if other != name:
            cluster.cut |= {(name, other), (other, name)}


# -- campaigns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_single_node_elects_itself_at_once(pre_vote: bool) -> None:
    core = make(voters=["1"], pre_vote=pre_vote)

    core.campaign()

    assert core.is_leader
    ready = turn(core)
    assert ready.hard_state == HardState(term=1, vote="1")
    assert ready.committed is None, "its own entry counts once it is synced"
    assert turn(core).committed == (1, 1)


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_new_leader_overwrites_newer_entries_that_were_never_committed(pre_vote: bool) -> None:
    """1 and 2 have term 1's entry, 3 led term 2 with the votes of 4 and 5 and told nobody. 1 learns of term 2 in vain, then wins term 3."""
    cluster = cluster_of("1", "2", "3", "4", "5", pre_vote=pre_vote)
    third = cluster.nodes["3"]
    for other in "1245":
        cluster.cut.add(("3", other))
    elected_by = ("1", "2")
    first = cluster.nodes["1"]
    first.core.campaign(force=True)
    for name in "345":
        cluster.cut |= {("1", name)}
    stabilize(cluster, *elected_by)
    assert first.core.term == 1
    cluster.cut.clear()
    for name in "45":
        cluster.nodes[name].disk.hard_state = HardState(term=2, vote="3")
        cluster.nodes[name].restart()
    third.disk.hard_state = HardState(term=2, vote="3")
    third.restart()
    cluster.links.clear()

    for _ in range(3):
        if not first.core.is_leader:
            first.core.campaign(force=not pre_vote)
            stabilize(cluster)

    assert first.core.is_leader
    assert first.core.term >= 3
    terms = [log_terms(node.core) for node in cluster.nodes.values()]
    assert all(one_log == terms[0] for one_log in terms)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)
def test_a_vote_of_a_later_term_is_given_from_any_state(role: Role) -> None:
    core = in_role(role, check_quorum=False)
    core.receive(vote_request("2", "1", core.term + 1, (9, 9)))

    assert core.role is Role.FOLLOWER
    assert core.vote == "2"
    assert one(VoteReply, drain(core)).granted


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)
def test_a_pre_vote_of_a_later_term_is_given_from_any_state_and_changes_none(role: Role) -> None:
    core = in_role(role, check_quorum=False)
    before = (core.role, core.term, core.vote)

    core.receive(pre_vote_request("2", "1", core.term + 1, (9, 9)))

    assert (core.role, core.term, core.vote) == before
    reply = one(PreVoteReply, drain(core))
    assert (reply.granted, reply.term) == (True, core.term + 1)


def test_a_learner_never_campaigns_by_timeout_by_request_or_by_order() -> None:
    core = make("4", membership=members("123", "4"), log=[1], term=1)

    tick(core, 5 * TIMEOUT)
    core.campaign()
    core.campaign(force=True)
    core.receive(TimeoutNow(source="1", target="4", term=1))

    assert (core.role, core.term) == (Role.LEARNER, 1)
    assert only(CampaignStarted, turn(core).events) == []


def test_a_promoted_learner_campaigns_and_wins() -> None:
    cluster = cluster_of("1", "2", learners=["3"])
    elected(cluster).core.change_membership([AddVoter(node="3")])
    stabilize(cluster)
    assert cluster.nodes["3"].core.role is Role.FOLLOWER

    cluster.nodes["1"].crash()
    for _ in range(TIMEOUT):
        cluster.nodes["2"].core.tick()
    elected(cluster, "3")

    assert cluster.nodes["2"].core.leader == "3"


def test_an_order_to_campaign_means_nothing_to_who_is_no_member() -> None:
    core = make("1", voters=["2", "3", "4"])

    core.receive(TimeoutNow(source="2", target="1", term=1))
    core.receive(VoteReply(source="2", target="1", term=1, granted=True))
    core.receive(VoteReply(source="3", target="1", term=1, granted=True))

    assert core.role is Role.FOLLOWER
    assert [event.rule for event in only(MessageIgnored, turn(core).events)] == ["cannot campaign now"] + ["no such vote is open"] * 2


def test_a_leader_that_is_asked_to_campaign_stays_as_it_is() -> None:
    core = leader(make())

    core.campaign()
    core.campaign(force=True)

    assert core.is_leader
    assert not core.has_ready()


def test_two_candidates_at_once_lead_to_one_leader_and_the_loser_follows() -> None:
    cluster = cluster_of("1", "2", "3", pre_vote=False)
    cluster.cut |= {("1", "3"), ("3", "1")}
    cluster.nodes["1"].core.campaign()
    cluster.nodes["3"].core.campaign()
    stabilize(cluster)
    assert cluster.nodes["1"].core.is_leader
    assert cluster.nodes["3"].core.role in (Role.CANDIDATE, Role.FOLLOWER)

    cluster.cut.clear()
    tick_all(cluster, 3 * TIMEOUT)

    leaders = [node for node in cluster.nodes.values() if node.core.is_leader]
    assert len(leaders) == 1
    assert all(node.core.leader == leaders[0].node_id for node in cluster.nodes.values())


def test_two_pre_candidates_at_once_cost_no_term_to_the_loser() -> None:
    cluster = cluster_of("1", "2", "3")
    cluster.cut |= {("1", "3"), ("3", "1")}
    cluster.nodes["1"].core.campaign()
    cluster.nodes["3"].core.campaign()
    stabilize(cluster)
    assert cluster.nodes["1"].core.is_leader
    term = cluster.nodes["1"].core.term

    cluster.cut.clear()
    cluster.nodes["3"].core.campaign()
    tick_all(cluster, 3)

    assert {node.core.term for node in cluster.nodes.values()} == {term}
    assert cluster.nodes["3"].core.leader == "1"


def test_a_pre_vote_that_is_split_is_followed_by_another_that_is_not() -> None:
    cluster = cluster_of("1", "2", "3")
    elected(cluster)
    cut_off(cluster, "1")
    for _ in range(TIMEOUT):
        cluster.nodes["2"].core.tick()
        cluster.nodes["3"].core.tick()
    for name in "23":
        cluster.nodes[name].core.campaign()
        cluster.nodes[name].core.campaign(force=True)
    stabilize(cluster)
    assert {cluster.nodes[name].core.term for name in "23"} == {2}
    assert not any(cluster.nodes[name].core.is_leader for name in "23")

    cluster.nodes["2"].core.campaign()
    stabilize(cluster)

    assert cluster.nodes["2"].core.is_leader
    assert cluster.nodes["3"].core.leader == "2"


@pytest.mark.parametrize("by", ["append", "heartbeat"])
@pytest.mark.parametrize("term_above", [0, 1])
def test_a_candidate_concedes_to_a_leader_of_its_term_or_a_later_one(by: str, term_above: int) -> None:
    core = make()
    candidate(core)
    term = core.term + term_above

    core.receive(append("2", "1", term, (0, 0)) if by == "append" else heartbeat("2", "1", term))

    assert (core.role, core.term, core.leader) == (Role.FOLLOWER, term, "2")


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)
def test_every_server_steps_down_for_a_later_term(role: Role) -> None:
    for message in (append("3", "1", 7, (0, 0)), heartbeat("3", "1", 7)):
        core = in_role(role)
        core.receive(message)
        assert (core.role, core.term, core.leader) == (Role.FOLLOWER, 7, "3")


# -- old and repeated messages ------------------------------------------------------------------------------------------------


def test_messages_of_an_old_term_change_nothing_and_are_answered_with_the_term() -> None:
    core = make(log=[1, 2], term=3)
    before = core.status()

    for message in (
        append("2", "1", 2, (2, 2), [2]),
        heartbeat("2", "1", 2),
        vote_request("2", "1", 2, (9, 2)),
        pre_vote_request("2", "1", 2, (9, 2)),
    ):
        core.receive(message)

    assert core.status() == before
    answers = drain(core)
    assert [type(reply) for reply in answers] == [AppendEntriesReply, AppendEntriesReply, VoteReply, PreVoteReply]
    assert {reply.term for reply in answers} == {3}


def test_answers_of_an_old_term_are_dropped() -> None:
    core = leader(make(term=4))
    before = core.status()

    for message in (
        AppendEntriesReply(source="2", target="1", term=2, match_index=1, last_index=1),
        HeartbeatReply(source="2", target="1", term=2, round=1),
        VoteReply(source="3", target="1", term=2, granted=True),
    ):
        core.receive(message)

    assert core.status() == before
    assert {event.rule for event in only(MessageIgnored, turn(core).events)} == {"stale term"}


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE], ids=lambda role: role.value)
def test_only_a_leader_sends_heartbeats(role: Role) -> None:
    core = in_role(role)
    tick(core, 5)

    assert only(Heartbeat, drain(core)) == []


def test_votes_that_come_after_the_election_was_lost_do_not_make_a_leader() -> None:
    core = make()
    candidate(core)
    for node in "23":
        core.receive(granted(node, core, yes=False))
    assert core.role is Role.FOLLOWER

    core.receive(granted("2", core))
    core.receive(granted("3", core))

    assert core.role is Role.FOLLOWER


def test_pre_votes_that_come_after_the_candidacy_do_not_count_as_votes() -> None:
    core = make(voters="12345")
    core.campaign()
    drain(core)
    for node in "23":
        core.receive(pre_granted(node, core))
    assert core.role is Role.CANDIDATE

    for node in "45":
        core.receive(PreVoteReply(source=node, target="1", term=core.term, granted=True))

    assert core.role is Role.CANDIDATE
