"""Transfers of leadership as other Raft cores script them; driven message by message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from replog.errors import Busy, MembershipRefused, NotLeader, UnknownNode
from replog.raft import (
    AppendEntries,
    RemoveNode,
    Role,
    TimeoutNow,
    TransferEnded,
)
from replog.testing.cores import CoreCluster, members
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    cluster_of,
    drain,
    elected,
    leader,
    make,
    only,
    stabilize,
    tick,
    tick_all,
    turn,
    vote_request,
)


def cut_off(cluster: CoreCluster, name: str) -> None:
    for other in cluster.nodes:
        if other != name:
            cluster.cut |= {(name, other), (other, name)}


def leaders(cluster: CoreCluster) -> list[str]:
    return [name for name, node in cluster.nodes.items() if node.alive and node.core.is_leader]


def ended(events: Sequence[Any]) -> list[tuple[str, bool]]:
    return [(event.target, event.succeeded) for event in only(TransferEnded, events)]


# -- transfer -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pre_vote", [True, False])
@pytest.mark.parametrize("check_quorum", [True, False])
def test_leadership_goes_to_a_follower_in_step_and_back(pre_vote: bool, check_quorum: bool) -> None:
    """Whatever else keeps elections away: the order to campaign passes by stickiness and pre-vote."""
    cluster = cluster_of("1", "2", "3", pre_vote=pre_vote, check_quorum=check_quorum)
    elected(cluster)
    for source, target in (("1", "2"), ("2", "1")):
        cluster.nodes[source].core.transfer_leadership(target)
        stabilize(cluster)
        assert leaders(cluster) == [target]
        cluster.nodes[target].propose([f"by {target}"])
        stabilize(cluster)

    assert cluster.nodes["3"].state == ["by 2", "by 1"]
    assert cluster.nodes["1"].core.term == 3, "one term for each transfer"


def test_a_follower_does_not_transfer_and_says_who_leads() -> None:
    cluster = cluster_of("1", "2", "3")
    elected(cluster)

    with pytest.raises(NotLeader) as raised:
        cluster.nodes["2"].core.transfer_leadership("2")

    assert raised.value.leader == "1"


def test_a_follower_behind_is_brought_up_to_date_first() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    cut_off(cluster, "3")
    node.propose(["x", "y"])
    stabilize(cluster)
    cluster.cut.clear()

    node.core.transfer_leadership("3")
    stabilize(cluster)
    tick_all(cluster, 2)

    assert leaders(cluster) == ["3"]
    assert cluster.nodes["3"].state == ["x", "y"]


def test_a_follower_that_needs_a_snapshot_gets_it_first() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    cut_off(cluster, "3")
    node.propose(["x", "y"])
    stabilize(cluster)
    node.compact(3, 4)
    cluster.cut.clear()

    node.core.transfer_leadership("3")
    tick_all(cluster, 4)

    assert leaders(cluster) == ["3"]
    assert cluster.nodes["3"].state == ["x", "y"]


def test_to_transfer_to_oneself_is_to_stay_and_ends_a_transfer_under_way() -> None:
    core = leader(make(), commit=True)
    core.transfer_leadership("1")
    assert core.is_leader
    assert not core.has_ready()

    core.propose(count=1, size_bytes=1, frames="frames")
    core.transfer_leadership("3")
    turn(core)
    assert core.status().transfer_target == "3"
    core.transfer_leadership("1")

    assert core.status().transfer_target is None
    assert ended(turn(core).events) == [("3", False)]
    core.propose(count=1, size_bytes=1, frames="frames")


@pytest.mark.parametrize(("target", "error"), [("4", UnknownNode), ("5", MembershipRefused)], ids=["no member", "learner"])
def test_a_transfer_to_who_cannot_lead_is_refused_and_disturbs_none_under_way(target: str, error: type[Exception]) -> None:
    core = leader(make(membership=members("123", "5")))
    core.transfer_leadership("2")

    with pytest.raises(error):
        core.transfer_leadership(target)

    assert core.status().transfer_target == "2"


def test_a_transfer_that_does_not_come_about_is_given_up_after_an_election_timeout() -> None:
    core = leader(make(check_quorum=False), commit=True)
    core.propose(count=1, size_bytes=1, frames="frames")
    core.transfer_leadership("3")
    with pytest.raises(Busy, match="transfer"):
        core.propose(count=1, size_bytes=1, frames="frames")

    tick(core, TIMEOUT - 1)
    assert core.status().transfer_target == "3"
    tick(core)

    assert core.is_leader
    assert ended(turn(core).events) == [("3", False)]
    core.propose(count=1, size_bytes=1, frames="frames")


def test_to_ask_again_for_the_same_target_gives_it_no_more_time_and_for_another_one_begins_anew() -> None:
    core = leader(make(check_quorum=False), commit=True)
    core.propose(count=1, size_bytes=1, frames="frames")
    core.transfer_leadership("3")
    tick(core, TIMEOUT - 1)
    core.transfer_leadership("3")
    tick(core)
    assert ended(turn(core).events) == [("3", False)]

    core.transfer_leadership("3")
    tick(core, TIMEOUT - 1)
    core.transfer_leadership("2")
    tick(core, TIMEOUT - 1)

    assert core.status().transfer_target == "2"
    assert ended(turn(core).events) == [("3", False)]


def test_a_vote_of_a_later_term_during_a_transfer_ends_both() -> None:
    core = leader(make(check_quorum=False), commit=True)
    core.propose(count=1, size_bytes=1, frames="frames")
    core.transfer_leadership("3")

    core.receive(vote_request("2", "1", core.term + 1, (9, core.term)))

    assert core.role is Role.FOLLOWER
    core.receive(AppendEntries(source="2", target="1", term=core.term, prev_index=0, prev_term=0, committed_index=0))
    assert ended(turn(core).events) == [("3", False)]
    assert core.status().transfer_target is None


def test_a_transfer_and_a_membership_change_exclude_each_other() -> None:
    core = leader(make(), commit=True)
    core.propose(count=1, size_bytes=1, frames="frames")
    core.transfer_leadership("3")

    with pytest.raises(Busy):
        core.change_membership([RemoveNode(node="3")])


def test_an_order_to_campaign_is_said_once_the_target_holds_the_whole_log() -> None:
    core = leader(make(), commit=True)
    core.propose(count=1, size_bytes=1, frames="frames")
    core.transfer_leadership("3")
    assert only(TimeoutNow, drain(core)) == []

    core.receive(accept(core, "2", 2))
    assert only(TimeoutNow, drain(core)) == []
    core.receive(accept(core, "3", 2))

    assert [message.target for message in only(TimeoutNow, drain(core))] == ["3"]
