"""Progress, windows and limits: how freely a leader sends, and what it refuses (issue: replication)."""

from __future__ import annotations

import pytest

from replog.config import ClusterConfig, NodeConfig
from replog.errors import Busy, MalformedMessage, MembershipRefused, NotLeader, Unavailable, UnknownNode
from replog.raft import AddLearner, RaftCore
from replog.raft.config import CoreConfig
from replog.raft.events import MessageIgnored, ProgressChanged, TransferEnded
from replog.raft.messages import AppendEntries, AppendEntriesReply, CoreMessage, EntryRange, Heartbeat, HeartbeatReply, TimeoutNow
from replog.testing.cores import members
from replog.types import Role
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    answer,
    append,
    cluster_of,
    drain,
    elected,
    heartbeat,
    leader,
    log_terms,
    make,
    one,
    only,
    reject,
    stabilize,
    tick,
    turn,
    vote_request,
)


def propose(core: RaftCore, count: int = 1, size: int = 10) -> None:
    core.propose(count=count, size_bytes=size, frames="x")


def to(target: str, messages: list[CoreMessage]) -> list[tuple[int, int]]:
    """(first, last) of each append with entries to `target`."""
    return [
        (message.entries.first_index, message.entries.last_index)
        for message in only(AppendEntries, messages)
        if message.target == target and message.entries is not None
    ]


def progress(core: RaftCore, node: str) -> tuple[str, int, int]:
    return next((peer.state, peer.match_index, peer.next_index) for peer in core.status().peers if peer.node == node)


def test_a_probe_is_one_message_until_it_is_answered() -> None:
    core = leader(make(log=[1, 1]))
    for _ in range(3):
        propose(core)
        assert to("2", drain(core)) == []

    core.receive(accept(core, "2", 3))

    assert to("2", drain(core)) == [(4, 6)]
    assert progress(core, "2") == ("replicate", 3, 7)


def test_in_the_pipeline_every_proposal_leaves_at_once() -> None:
    core = leader(make(), commit=True)

    sent = []
    for _ in range(3):
        propose(core)
        sent += to("2", drain(core))

    assert sent == [(2, 2), (3, 3), (4, 4)]


def test_all_proposals_of_a_turn_leave_in_one_message() -> None:
    core = leader(make(), commit=True)
    for _ in range(5):
        propose(core, count=3)

    ready = turn(core)

    assert to("2", list(ready.messages_before_sync)) == [(2, 16)]
    assert [(write.first_index, write.last_index) for write in ready.entries] == [(2, 4), (5, 7), (8, 10), (11, 13), (14, 16)]
    assert ready.messages_after_sync == ()


@pytest.mark.parametrize("limit", ["messages", "bytes"])
def test_the_window_closes_at_its_limit_and_opens_with_answers(limit: str) -> None:
    core = leader(make(in_flight_messages_max=3) if limit == "messages" else make(in_flight_bytes_max=21), commit=True)
    sent = []
    for _ in range(6):
        propose(core)
        sent += to("2", drain(core))
    assert sent == [(2, 2), (3, 3), (4, 4)]

    core.receive(accept(core, "2", 3))

    assert to("2", drain(core)) == [(5, 7)]


def test_a_range_is_cut_by_bytes_and_by_entries() -> None:
    core = leader(make(append_bytes_max=25, append_entries_max=100), commit=True)
    propose(core, count=5, size=50)
    assert to("2", drain(core)) == [(2, 3), (4, 5), (6, 6)]

    core = leader(make(append_entries_max=2), commit=True)
    propose(core, count=5, size=50)
    assert to("2", drain(core)) == [(2, 3), (4, 5), (6, 6)]

    core = leader(make(append_bytes_max=5), commit=True)
    propose(core, count=2, size=50)
    assert to("2", drain(core)) == [(2, 2), (3, 3)]


def test_a_range_may_span_terms() -> None:
    core = leader(make(log=[1, 1, 2], term=2))
    core.receive(reject(core, "2", 3, hint=(0, 0), last=0))

    entries = only(AppendEntries, drain(core))[0].entries

    assert entries == EntryRange(first_index=1, last_index=4, terms=((1, 1), (3, 2), (4, 3)), size_bytes=94)


def test_a_rejection_in_the_pipeline_leads_back_to_probing() -> None:
    core = leader(make(), commit=True)
    propose(core, 5)
    drain(core)

    core.receive(reject(core, "2", 6, hint=(1, 1), last=1))
    ready = turn(core)

    assert progress(core, "2") == ("probe", 1, 2)
    assert to("2", list(ready.messages_before_sync)) == [(2, 6)]
    assert one(ProgressChanged, ready.events).reason == "rejected 6"


@pytest.mark.parametrize("prev", [0, 1])
def test_stale_rejections_change_nothing(prev: int) -> None:
    core = leader(make(), commit=True)
    before = progress(core, "2")

    core.receive(reject(core, "2", prev, hint=(0, 0), last=0))

    assert progress(core, "2") == before
    assert one(MessageIgnored, core.ready().events).rule == "stale rejection"


def test_match_never_goes_back() -> None:
    core = leader(make(log=[1, 1, 1]))
    core.receive(accept(core, "2", 4))
    core.receive(accept(core, "2", 2))

    assert progress(core, "2") == ("replicate", 4, 5)


def test_a_lost_connection_is_probed_at_once() -> None:
    core = leader(make(), commit=True)
    propose(core, 3)
    drain(core)

    core.peer_lost("2")

    assert to("2", drain(core)) == [(2, 4)]
    assert progress(core, "2") == ("probe", 1, 2)


def test_a_lost_last_append_is_found_out_by_a_heartbeat() -> None:
    core = leader(make(), commit=True)
    propose(core)
    drain(core)
    tick(core, 2)
    (beat, _) = only(Heartbeat, drain(core))

    core.receive(answer(beat))
    probe = one(AppendEntries, drain(core))
    assert (probe.prev_index, probe.entries) == (2, None)
    core.receive(reject(core, "2", 2, hint=(1, 1), last=1))

    assert to("2", drain(core)) == [(2, 2)]


def test_a_full_window_whose_answers_were_lost_is_found_out_by_a_heartbeat() -> None:
    core = leader(make(in_flight_messages_max=1), commit=True)
    for _ in range(3):
        propose(core)
        drain(core)
    assert progress(core, "2") == ("replicate", 1, 3)
    tick(core, 2)
    (beat, _) = only(Heartbeat, drain(core))

    core.receive(answer(beat))
    assert one(AppendEntries, drain(core)).prev_index == 2
    core.receive(accept(core, "2", 2))

    assert to("2", drain(core)) == [(3, 4)]


def test_a_commit_is_announced_once_when_nothing_else_is_to_be_sent() -> None:
    core = leader(make(), commit=True)
    propose(core)
    drain(core)
    core.receive(accept(core, "2", 2))

    announced = only(AppendEntries, drain(core))
    assert [(message.target, message.committed_index, message.entries) for message in announced] == [("2", 2, None), ("3", 2, None)]
    core.receive(accept(core, "3", 2))
    assert drain(core) == []


def test_a_commit_travels_with_entries_where_there_are_some() -> None:
    core = leader(make(), commit=True)
    propose(core)
    drain(core)
    core.receive(accept(core, "2", 2))
    propose(core)

    messages = only(AppendEntries, drain(core))

    assert [(message.target, message.committed_index, message.entries is not None) for message in messages] == [
        ("2", 2, True),
        ("3", 2, True),
    ]


def test_commits_may_be_announced_with_the_tick_instead() -> None:
    core = leader(make(announce_commit_at_once=False), commit=True)
    propose(core)
    drain(core)
    core.receive(accept(core, "2", 2))
    assert drain(core) == []

    tick(core)

    assert {message.committed_index for message in only(AppendEntries, drain(core))} == {2}


def test_acknowledgements_of_a_batch_are_one_message() -> None:
    core = make()
    for index in range(5):
        core.receive(append("2", "1", 1, (index, 1 if index else 0), [1]))

    assert one(AppendEntriesReply, drain(core)).match_index == 5


def test_too_much_uncommitted_is_busy_but_an_empty_tail_takes_anything() -> None:
    core = leader(make(uncommitted_bytes_max=100), commit=True)
    propose(core, size=1000)

    with pytest.raises(Busy, match="uncommitted bytes is 1000"):
        propose(core, size=1)
    assert core.last_index == 2

    drain(core)
    core.receive(accept(core, "2", 2))
    propose(core, size=60)
    propose(core, size=40)
    with pytest.raises(Busy):
        propose(core, size=1)


def test_too_much_unapplied_is_busy() -> None:
    core = leader(make(unapplied_entries_max=3), commit=True)
    for _ in range(2):
        propose(core, count=2)
        core.ready()
        core.persisted(core.last_index)
        core.receive(accept(core, "2", core.last_index))
    core.ready()

    with pytest.raises(Busy, match="not applied is 4"):
        propose(core)

    core.applied(5)
    propose(core)


def test_proposals_cut_off_before_they_were_taken_are_not_written() -> None:
    core = leader(make(log=[1]), commit=True)
    propose(core, 2)
    propose(core, 2)

    core.receive(append("2", "1", 3, (3, 2), [3]))
    ready = turn(core)

    assert ready.discard_from is None
    assert [(write.first_index, write.last_index, write.terms[0][1]) for write in ready.entries] == [(3, 3, 2), (4, 4, 3)]
    assert log_terms(core) == [1, 2, 2, 3]


def test_what_was_cut_off_while_it_was_written_does_not_count_as_persisted() -> None:
    core = leader(make(log=[1]), commit=True)
    propose(core, 3)
    core.ready()
    core.receive(append("2", "1", 3, (3, 2), [3]))

    core.persisted(5)

    assert core.persisted_index == 3
    ready = turn(core)
    assert ready.discard_from == 4
    assert core.persisted_index == 4


# -- transfer -------------------------------------------------------------------------------------------------------------


def test_leadership_is_transferred_to_a_follower_that_is_up_to_date() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)

    node.core.transfer_leadership("3")
    events = [event for ready in [node.take_ready()] if ready is not None for event in ready.events]
    stabilize(cluster)

    assert cluster.nodes["3"].core.is_leader
    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 2)
    assert only(TransferEnded, events) == []


def test_a_transfer_brings_the_target_up_to_date_first_and_takes_no_proposals_meanwhile() -> None:
    core = leader(make(), commit=True)
    propose(core)
    drain(core)

    core.transfer_leadership("2")

    assert only(TimeoutNow, drain(core)) == []
    with pytest.raises(Busy, match="transfers"):
        propose(core)
    with pytest.raises(Busy, match="transfers"):
        core.change_membership([AddLearner(node="4")])
    core.receive(accept(core, "2", 2))
    assert one(TimeoutNow, drain(core)).target == "2"


@pytest.mark.parametrize("succeeds", [True, False])
def test_how_a_transfer_ended_is_told_when_the_next_leader_is_known(succeeds: bool) -> None:
    core = leader(make(), commit=True)
    core.transfer_leadership("2")
    drain(core)
    core.receive(vote_request("2" if succeeds else "3", "1", 2, (1, 1), transfer=True))
    assert core.role is Role.FOLLOWER
    assert only(TransferEnded, turn(core).events) == []

    core.receive(heartbeat("2" if succeeds else "3", "1", 2))

    assert one(TransferEnded, core.ready().events).succeeded is succeeds


def test_a_transfer_without_success_is_given_up_after_an_election_timeout() -> None:
    core = leader(make(check_quorum=False), commit=True)
    core.transfer_leadership("2")
    drain(core)

    tick(core, TIMEOUT)

    assert not one(TransferEnded, core.ready().events).succeeded
    propose(core)


def test_a_lost_order_to_campaign_is_given_again() -> None:
    core = leader(make(), commit=True)
    core.transfer_leadership("2")
    drain(core)
    tick(core, 2)
    for beat in only(Heartbeat, drain(core)):
        core.receive(answer(beat))

    assert one(TimeoutNow, drain(core)).target == "2"


def test_the_best_follower_is_the_one_with_the_longest_log_that_was_heard_of() -> None:
    core = leader(make(voters="1234", check_quorum=False), commit=True)
    propose(core)
    drain(core)
    core.receive(accept(core, "3", 2))
    core.transfer_leadership(None)
    assert core.status().transfer_target == "3"

    core = leader(make(check_quorum=False), commit=True)
    tick(core, TIMEOUT)
    with pytest.raises(Unavailable):
        core.transfer_leadership(None)


def test_transfers_to_others_than_voters_are_refused() -> None:
    core = leader(make(membership=members("123", "4")), commit=True)
    with pytest.raises(UnknownNode):
        core.transfer_leadership("9")
    with pytest.raises(MembershipRefused):
        core.transfer_leadership("4")
    core.transfer_leadership("1")
    assert core.status().transfer_target is None
    core.transfer_leadership("2")
    core.transfer_leadership("3")
    assert core.status().transfer_target == "3"
    with pytest.raises(NotLeader):
        make().transfer_leadership("2")


def test_a_leader_whose_disk_stalls_hands_over() -> None:
    core = leader(make(), commit=True)
    propose(core)
    core.ready()
    for _ in range(TIMEOUT):
        for node in "23":
            core.receive(accept(core, node, 2))
        tick(core)

    assert one(TimeoutNow, core.ready().messages_before_sync).target == "2"


# -- what a peer must not send --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        append("2", "1", 3, (1, 1), [3, 3]),
        append("2", "1", 3, (1, 3)),
        AppendEntries(
            source="2",
            target="1",
            term=3,
            prev_index=2,
            prev_term=1,
            committed_index=0,
            entries=EntryRange(first_index=4, last_index=4, terms=((4, 3),)),
        ),
        append("2", "1", 3, (2, 1), [4]),
        append("2", "1", 3, (3, 3), [2]),
        append("2", "9", 3, (0, 0)),
        append("1", "1", 3, (0, 0)),
    ],
    ids=[
        "rewrites a committed entry",
        "other term at a committed entry",
        "gap",
        "entry term above message term",
        "terms go back",
        "not to us",
        "from us",
    ],
)
def test_what_no_correct_peer_sends_is_refused_by_name_and_changes_nothing(message: AppendEntries) -> None:
    core = make(log=[1, 1, 1], term=3)
    core.receive(heartbeat("2", "1", 3, commit=2))
    turn(core)

    with pytest.raises(MalformedMessage):
        core.receive(message)

    core.check()
    assert log_terms(core) == [1, 1, 1]
    assert (core.committed_index, core.term, core.role) == (2, 3, Role.FOLLOWER)


def test_acknowledgements_of_what_was_never_sent_are_refused() -> None:
    core = leader(make(), commit=True)

    with pytest.raises(MalformedMessage):
        core.receive(accept(core, "2", 9))
    with pytest.raises(MalformedMessage):
        core.receive(HeartbeatReply(source="2", target="1", term=1, round=99))

    assert core.committed_index == 1


def test_a_malformed_append_of_a_later_term_does_not_raise_ours() -> None:
    core = make(log=[1])

    with pytest.raises(MalformedMessage):
        core.receive(append("2", "1", 99, (1, 1), [100]))

    assert core.term == 1


def test_a_heartbeat_that_commits_what_is_not_there_commits_nothing() -> None:
    core = make(log=[1, 1])

    core.receive(heartbeat("2", "1", 1, commit=5))

    assert core.committed_index == 0
    assert one(MessageIgnored, core.ready().events).rule == "commit beyond the last entry"


def test_strangers_answers_are_ignored() -> None:
    core = leader(make(), commit=True)

    core.receive(AppendEntriesReply(source="9", target="1", term=1, match_index=1, last_index=1))
    core.receive(HeartbeatReply(source="9", target="1", term=1))

    assert {event.rule for event in only(MessageIgnored, core.ready().events)} == {"not a member"}


def test_the_core_config_comes_from_the_two_configs() -> None:
    config = CoreConfig.from_configs(ClusterConfig(heartbeat_ticks=3), NodeConfig(node_id="n", data_dir="x", promote_lag_entries=7))

    assert (config.node_id, config.heartbeat_ticks, config.promote_lag_entries, config.quiet_after_start) == ("n", 3, 7, True)


def test_what_an_earlier_ready_still_writes_is_not_handed_out_to_be_applied() -> None:
    """Heartbeats may be taken while a write is in progress; entries of that write that others have committed wait for it."""
    core = leader(make(), commit=True)
    propose(core, 2)
    core.ready()
    for node in "23":
        core.receive(accept(core, node, 3))
    assert core.committed_index == 3

    ready = core.ready()
    assert ready.committed is None
    assert not core.has_ready()

    core.persisted(3)
    assert core.ready().committed == (2, 3)


def test_an_acknowledgement_does_not_leave_for_entries_that_the_same_batch_drops() -> None:
    """S8: when it would leave, the disk has another leader's entries there. (Found by a seeded schedule.)"""
    core = make(log=[1])
    core.receive(append("2", "1", 2, (1, 1), [2, 2]))
    core.receive(append("3", "1", 3, (1, 1), [3]))

    replies = only(AppendEntriesReply, drain(core))

    assert [(reply.target, reply.term, reply.match_index) for reply in replies] == [("3", 3, 2)]
