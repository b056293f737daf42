"""Votes of nodes that lack what they may have promised: `replog.raft.candidate` says why each of these must come out as it does."""

from __future__ import annotations

import pytest

from replog.raft.messages import PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from replog.testing.cores import CoreCluster, members
from replog.types import Role
from tests.unit.raft.support import (
    TIMEOUT,
    append,
    cluster_of,
    drain,
    elected,
    heartbeat,
    make,
    one,
    only,
    pre_vote_request,
    stabilize,
    tick,
    tick_all,
    vote_request,
)


def conditional(source: str, term: int) -> VoteReply:
    return VoteReply(source=source, target="1", term=term, granted=False, conditional=True)


def lose_tail(cluster: CoreCluster, name: str, count: int) -> None:
    """The node restarts, and its recovery cuts its last `count` entries."""
    node = cluster.nodes[name]
    node.disk.maybe_promised = node.disk.last_index
    del node.disk.entries[len(node.disk.entries) - count :]
    node.restart()


# -- whose log is good enough ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "full", "is_conditional"),
    [
        ((1, 3), True, False),
        ((5, 2), True, False),
        ((6, 2), True, False),
        ((4, 2), False, True),
        ((9, 1), False, True),
        ((3, 1), False, True),
        ((2, 1), False, False),
    ],
    ids=["later term", "promised index", "behind it", "before it", "older term but longer", "equal log", "shorter log"],
)
def test_a_full_vote_needs_the_promised_position_or_one_behind_it(last: tuple[int, int], full: bool, is_conditional: bool) -> None:
    cut = make(log=[1, 1, 1], term=2, maybe_promised=5)

    cut.receive(vote_request("2", "1", 4, last))

    reply = one(VoteReply, drain(cut))
    assert (reply.granted, reply.conditional) == (full, is_conditional)


def test_a_longer_log_of_an_older_term_does_not_stand_in_for_what_was_promised() -> None:
    """
    1. Node 1 leads term 1 and appends a long tail that nobody gets. 2. Nodes 2 and 3 commit E in term 2, at an index that 1's tail has too.
    3. Node 3's recovery cuts E; node 2 is down. 4. Node 1 campaigns, its log being longer than the index that 3 may have promised.
    """
    cluster = cluster_of("1", "2", "3")
    first = elected(cluster, "1")
    for other in "23":
        cluster.cut |= {("1", other), (other, "1")}
    first.propose(list("abcdef"))
    stabilize(cluster)
    for _ in range(TIMEOUT):
        cluster.nodes["2"].core.tick()
        cluster.nodes["3"].core.tick()
    elected(cluster, "2").propose(["E"])
    stabilize(cluster)
    lose_tail(cluster, "3", 2)
    cluster.nodes["2"].crash()
    cluster.cut.clear()

    tick_all(cluster, 20 * TIMEOUT)  # CoreCluster.check: S4 after each step
    assert not first.core.is_leader

    cluster.nodes["2"].restart()
    tick_all(cluster, 20 * TIMEOUT)
    assert [node.state for node in cluster.nodes.values()] == [["E"]] * 3


def test_the_log_is_whole_again_with_the_promised_index_or_an_entry_of_a_later_term() -> None:
    for terms in ([2, 2], [3]):
        core = make(log=[1, 1, 1], term=2, maybe_promised=5)
        core.receive(append("2", "1", 3, (3, 1), terms))
        drain(core)

        tick(core, TIMEOUT)

        assert core.role is Role.PRE_CANDIDATE


# -- conditional votes ----------------------------------------------------------------------------------------------------


def test_a_conditional_vote_is_kept_like_any_other() -> None:
    """
    Members 1, 2, 3 elect 1 by everybody's conditional votes. Were those not kept, 2 and 3 could also give their full votes of the same term to 4, whom a
    newer membership has and whose log has all that they lost: two leaders in a term.
    """
    cut = make("2", log=[1, 1, 1], term=1, maybe_promised=5)
    cut.receive(vote_request("1", "2", 2, (3, 1)))
    assert one(VoteReply, drain(cut)).conditional

    cut.receive(vote_request("4", "2", 2, (9, 1)))

    refused = one(VoteReply, drain(cut))
    assert (refused.granted, refused.conditional) == (False, False)


def test_learners_are_asked_as_soon_as_a_vote_is_conditional_and_one_of_them_may_refuse() -> None:
    """Learner 4 may have been made a voter by an entry that the voters have lost, and hold what was committed then."""
    for learner_grants in (True, False):
        core = make(log=[1], membership=members(["1", "2"], ["4"]))
        core.campaign(force=True)
        assert {message.target for message in only(VoteRequest, drain(core))} == {"2"}
        core.receive(conditional("2", core.term))
        assert {message.target for message in only(VoteRequest, drain(core))} == {"4"}
        assert core.role is Role.CANDIDATE

        core.receive(VoteReply(source="4", target="1", term=core.term, granted=learner_grants))

        assert core.is_leader is learner_grants


def test_a_node_whose_own_vote_is_conditional_asks_everybody_in_the_pre_vote_already() -> None:
    core = make(log=[1], maybe_promised=4, membership=members(["1", "2"], ["4"]), pre_vote=True)

    tick(core, 11 * TIMEOUT)

    assert {message.target for message in only(PreVoteRequest, drain(core))} == {"2", "4"}


def test_the_last_resort_comes_although_others_campaign_in_vain_meanwhile() -> None:
    core = make(log=[1, 1], maybe_promised=4, pre_vote=False)
    for term in range(2, 14):
        tick(core, TIMEOUT - 1)
        core.receive(vote_request("2", "1", term, (1, 1)))
        drain(core)

    tick(core, TIMEOUT)

    assert core.role is Role.CANDIDATE


def test_a_heard_leader_puts_the_last_resort_off() -> None:
    core = make(log=[1, 1], maybe_promised=4)
    for _ in range(30):
        tick(core, TIMEOUT - 1)
        core.receive(heartbeat("2", "1", 1))
        drain(core)

    tick(core, TIMEOUT)

    assert core.role is Role.FOLLOWER


# -- founders: an empty disk is a first start or a loss ---------------------------------------------------------------------


def founders(*names: str, without: tuple[str, ...] = ()) -> CoreCluster:
    """First members with empty disks; those `without` are not running."""
    cluster = cluster_of(*names)
    for node in cluster.nodes.values():
        node.is_founder = True
        node.restart()
    for name in without:
        cluster.nodes[name].crash()
    return cluster


def test_founders_elect_at_once_when_all_of_them_are_there() -> None:
    cluster = founders("1", "2", "3")

    tick_all(cluster, TIMEOUT)

    assert cluster.nodes["1"].core.is_leader
    stabilize(cluster)
    assert not any(node.core.waits_for_founders for node in cluster.nodes.values())


def test_a_majority_of_founders_does_not_elect_before_it_is_told_that_this_is_the_first_start() -> None:
    cluster = founders("1", "2", "3", without=("3",))
    tick_all(cluster, 20 * TIMEOUT)
    assert not any(node.core.is_leader for node in cluster.nodes.values())
    assert cluster.nodes["1"].core.term == 0

    for name in "12":
        cluster.nodes[name].core.found()
    tick_all(cluster, 4 * TIMEOUT)

    assert sum(cluster.nodes[name].core.is_leader for name in "12") == 1


def test_a_wiped_majority_elects_nobody_against_the_survivor_which_leads() -> None:
    cluster = founders("1", "2", "3")
    tick_all(cluster, TIMEOUT)
    cluster.nodes["1"].propose(["kept"])
    stabilize(cluster)
    for name in "12":
        node = cluster.nodes[name]
        node.disk.hard_state, node.disk.entries, node.disk.wiped = type(node.disk.hard_state)(), [], True
        node.restart()

    tick_all(cluster, 20 * TIMEOUT)

    assert cluster.nodes["3"].core.is_leader
    assert [node.state for node in cluster.nodes.values()] == [["kept"]] * 3


def test_a_founder_that_restarts_without_a_log_may_have_lost_it_whatever_its_term() -> None:
    """A wiped node takes over the terms of those who campaign; after another restart it must not pass for a node that never promised anything."""
    core = make(term=7, vote="2", is_founder=True)

    core.receive(pre_vote_request("2", "1", 8, (0, 0)))

    reply = one(PreVoteReply, drain(core))
    assert (reply.granted, reply.conditional) == (False, True)


def test_a_founder_is_whole_with_an_entry_of_its_leaders_own_term() -> None:
    core = make(is_founder=True)
    core.receive(append("2", "1", 4, (0, 0), [1, 1]))
    drain(core)
    assert core.waits_for_founders

    core.receive(append("2", "1", 4, (2, 1), [4]))
    drain(core)

    assert not core.waits_for_founders


def test_a_founder_with_a_log_or_alone_is_no_founder_to_wait_for() -> None:
    assert not make(log=[1], is_founder=True).waits_for_founders

    alone = make(voters=["1"], is_founder=True)
    tick(alone, TIMEOUT)
    assert alone.is_leader
