"""Check-quorum, and nodes with and without pre-vote side by side, as other Raft cores script them; driven message by message."""

from __future__ import annotations

from dataclasses import replace

from replog.raft import (
    AddVoter,
    AppendEntries,
    Heartbeat,
    Membership,
    PreVoteRequest,
    Role,
    RoleChanged,
    VoteRequest,
)
from replog.testing.cores import CoreCluster
from replog.types import HardState
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    answer,
    append,
    cluster_of,
    drain,
    elected,
    granted,
    leader,
    make,
    only,
    pre_granted,
    stabilize,
    tick,
    tick_all,
    turn,
)

ROLES = [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER]


def cut_off(cluster: CoreCluster, name: str) -> None:
    for other in cluster.nodes:
        if other != name:
            cluster.cut |= {(name, other), (other, name)}


def test_a_leader_stays_while_a_quorum_answers_and_steps_down_when_it_does_not() -> None:
    core = leader(make(voters="12345"))
    for _ in range(4 * TIMEOUT):
        tick(core)
        for beat in only(Heartbeat, drain(core)):
            if beat.target in "23":
                core.receive(answer(beat))
    assert core.is_leader

    tick(core, TIMEOUT + 1)

    assert core.role is Role.FOLLOWER
    assert [event.reason for event in only(RoleChanged, turn(core).events)] == ["quorum lost"]


def test_a_new_node_in_a_cluster_of_one_gets_time_to_answer_before_the_quorum_is_looked_for() -> None:
    core = make(voters=["1"])
    core.campaign()
    drain(core)
    tick(core, 3 * TIMEOUT)
    core.change_membership([AddVoter(node="2", address="2")])
    drain(core)

    tick(core, TIMEOUT - 1)
    assert core.is_leader
    tick(core, TIMEOUT)
    assert not core.is_leader


def test_a_follower_without_contact_takes_over_when_the_others_have_lost_the_leader_too() -> None:
    """Superseding with check-quorum: refused while the voter has heard the leader, granted when its own timeout has passed."""
    cluster = cluster_of("1", "2", "3", pre_vote=False)
    elected(cluster)
    cut_off(cluster, "1")
    cluster.nodes["3"].core.campaign()
    stabilize(cluster)
    assert not cluster.nodes["3"].core.is_leader
    assert cluster.nodes["2"].core.term == 1, "a refusal by stickiness takes no term over"

    for _ in range(TIMEOUT):
        cluster.nodes["2"].core.tick()
    cluster.nodes["3"].core.campaign()
    stabilize(cluster)

    assert cluster.nodes["3"].core.is_leader


def test_a_stuck_candidate_is_freed_by_the_leader_that_it_makes_step_down() -> None:
    """Without pre-vote: a cut-off node has raised its term; nobody votes for it, and it takes no append. Its answers end that leadership, once."""
    cluster = cluster_of("1", "2", "3", pre_vote=False)
    elected(cluster)
    cut_off(cluster, "3")
    for _ in range(2):
        cluster.nodes["3"].core.campaign()
        stabilize(cluster)
    assert cluster.nodes["3"].core.term == 3
    cluster.cut.clear()

    tick_all(cluster, 2)  # heartbeats reach it, its answers reach the leader
    assert cluster.nodes["1"].core.term >= 3
    tick_all(cluster, 4 * TIMEOUT)

    leaders = [node.node_id for node in cluster.nodes.values() if node.core.is_leader]
    assert len(leaders) == 1
    assert {node.core.leader for node in cluster.nodes.values()} == set(leaders)


def test_a_disruptive_follower_ends_a_leadership_without_pre_vote_and_none_with_it() -> None:
    for pre_vote in (False, True):
        cluster = cluster_of("1", "2", "3", pre_vote=pre_vote)
        elected(cluster)
        cluster.cut.add(("1", "3"))
        for _ in range(2 * TIMEOUT):
            cluster.nodes["3"].core.tick()
        stabilize(cluster)
        cluster.cut.clear()

        tick_all(cluster, 2)

        assert cluster.nodes["1"].core.is_leader is pre_vote
        assert cluster.nodes["3"].core.term == (1 if pre_vote else 2)


def test_who_is_no_member_by_its_own_log_follows_whoever_leads() -> None:
    outsider = make("2", voters=["1"], log=[1])

    tick(outsider, 5 * TIMEOUT)
    outsider.receive(append("1", "2", 2, (1, 1), [2], commit=2))

    assert (outsider.role, outsider.leader) == (Role.FOLLOWER, "1")
    assert outsider.committed_index == 2


# -- pre-vote beside nodes without it ---------------------------------------------------------------------------------------------


def mixed() -> CoreCluster:
    """1 leads; 2 is in step; 3 has no pre-vote yet, was cut off, and has come to a higher term without the last entry."""
    cluster = cluster_of("1", "2", "3")
    third = cluster.nodes["3"]
    third.config = replace(third.config, pre_vote=False)
    third.restart()
    elected(cluster)
    cut_off(cluster, "3")
    cluster.nodes["1"].propose(["some data"])
    stabilize(cluster)
    third.core.campaign()
    third.core.campaign()
    stabilize(cluster)
    assert third.core.term == 3
    return cluster


def test_nodes_come_to_a_leader_while_pre_vote_is_switched_on_one_by_one() -> None:
    cluster = mixed()
    cluster.nodes["1"].crash()
    cluster.cut.clear()
    third = cluster.nodes["3"]
    third.config = replace(third.config, pre_vote=True)
    third.restart()

    for _ in range(6 * TIMEOUT):
        for name in "23":
            cluster.nodes[name].core.tick()
        stabilize(cluster)

    assert cluster.nodes["2"].core.is_leader, "3 lacks an entry"
    assert third.core.leader == "2"


def test_a_pre_candidate_of_a_high_term_is_freed_where_a_leader_is() -> None:
    cluster = mixed()
    cluster.cut.clear()
    third = cluster.nodes["3"]
    third.core.campaign()
    stabilize(cluster)

    tick_all(cluster, 4 * TIMEOUT)

    leaders = [node.node_id for node in cluster.nodes.values() if node.core.is_leader]
    assert len(leaders) == 1
    assert {node.core.leader for node in cluster.nodes.values()} == set(leaders)
    assert third.state == ["some data"]


def test_a_node_of_a_smaller_term_can_complete_an_election() -> None:
    """3 was cut off while 2 led terms it never heard of. With 1 down both ask by pre-vote, and one of them wins."""
    cluster = cluster_of("1", "2", "3")
    cut_off(cluster, "3")
    cluster.nodes["1"].core.campaign()
    stabilize(cluster)
    for _ in range(TIMEOUT):
        cluster.nodes["1"].core.tick()
        cluster.nodes["2"].core.tick()
    cluster.nodes["2"].core.campaign(force=True)
    stabilize(cluster)
    cluster.cut.clear()
    cluster.nodes["1"].crash()

    for _ in range(6 * TIMEOUT):
        for name in "23":
            cluster.nodes[name].core.tick()
        stabilize(cluster)

    assert [name for name in "23" if cluster.nodes[name].core.is_leader] == ["2"]


def test_every_decision_of_a_campaign_stands_in_one_ready_after_another() -> None:
    """What `campaign` leads to, seen from outside: nothing is decided that no Ready says."""
    core = make()
    core.campaign()
    first = turn(core)
    assert first.hard_state is None
    assert {type(message) for message in first.messages_after_sync} == {PreVoteRequest}
    core.receive(pre_granted("2", core))
    second = turn(core)
    assert second.hard_state == HardState(term=1, vote="1")
    assert {type(message) for message in second.messages_after_sync} == {VoteRequest}
    core.receive(granted("2", core))
    third = turn(core)
    assert [write.last_index for write in third.entries] == [1]
    assert {type(message) for message in third.messages_before_sync} == {AppendEntries}
    core.receive(accept(core, "2", 1))
    assert turn(core).committed == (1, 1)
    assert third.hard_state is None


def test_a_core_without_a_membership_waits_to_be_contacted() -> None:
    core = make(membership=Membership())

    tick(core, 5 * TIMEOUT)
    core.campaign(force=True)

    assert (core.role, core.term) == (Role.FOLLOWER, 0)
    assert not core.has_ready()
