"""Replication as other Raft cores script it: probing, pipelining, windows, unreachable followers; driven message by message."""

from __future__ import annotations

from typing import Any

import pytest

from replog.errors import Busy
from replog.raft import (
    AppendEntriesReply,
    Heartbeat,
    ProgressChanged,
    RaftCore,
)
from tests.unit.raft.support import (
    accept,
    answer,
    append,
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
    peer,
    reject,
    sent_to,
    spans,
    tick,
    tick_all,
    turn,
)


def propose(core: RaftCore, count: int = 1) -> None:
    core.propose(count=count, size_bytes=10 * count, frames="frames")


def replicating(**config: Any) -> RaftCore:
    """A leader in term 1 whose followers 2 and 3 are in the pipeline."""
    return leader(make(**config), commit=True)


def probing(core: RaftCore, node: str = "2") -> RaftCore:
    core.peer_lost(node)
    drain(core)
    assert peer(core, node).state == "probe"
    return core


# -- probe ----------------------------------------------------------------------------------------------------------------


def test_a_probed_follower_gets_one_append_until_it_answers_or_a_heartbeat_is_answered() -> None:
    core = probing(replicating())

    for _ in range(3):
        propose(core)
        assert sent_to("2", drain(core)) == []
    assert peer(core, "2").next_index == 2, "a probe does not move it"

    tick(core, 2)
    messages = drain(core)
    assert sent_to("2", messages) == []
    core.receive(answer(next(beat for beat in only(Heartbeat, messages) if beat.target == "2")))
    assert spans(sent_to("2", drain(core))) == [(2, 4)]
    propose(core)
    assert sent_to("2", drain(core)) == [], "paused again"


def test_a_probe_that_is_accepted_opens_the_pipeline_and_next_runs_ahead() -> None:
    core = probing(replicating())
    core.receive(accept(core, "2", 1))
    assert peer(core, "2").state == "replicate"

    for last in (2, 3, 4):
        propose(core)
        assert spans(sent_to("2", drain(core))) == [(last, last)]
        assert (peer(core, "2").match_index, peer(core, "2").next_index) == (1, last + 1)


def test_an_acceptance_of_what_was_known_ends_a_pause_too() -> None:
    """The answer to an empty probe says no more than the leader knew, and still shows that the follower is there."""
    core = probing(replicating())
    propose(core)
    assert sent_to("2", drain(core)) == []

    core.receive(accept(core, "2", 1))

    assert spans(sent_to("2", drain(core))) == [(2, 2)]


def test_an_unreachable_follower_falls_back_to_probe_behind_what_it_is_known_to_hold() -> None:
    core = replicating()
    propose(core, 5)
    drain(core)
    core.receive(accept(core, "2", 3))
    drain(core)
    assert peer(core, "2").next_index == 7

    core.peer_lost("2")

    told = only(ProgressChanged, turn(core).events)
    assert [(event.peer, event.state, event.match_index, event.next_index) for event in told] == [("2", "probe", 3, 4)]


def test_word_of_an_unreachable_node_that_is_no_member_or_of_a_leader_that_is_none_does_nothing() -> None:
    core = replicating()
    core.peer_lost("9")
    follower = make()
    follower.peer_lost("2")

    assert not core.has_ready()
    assert not follower.has_ready()


@pytest.mark.parametrize(
    ("leader_log", "follower_log", "probes"),
    [
        ([1, 2, 2, 4, 4, 4, 4], [1, 2, 2, 3, 3, 3, 3], [(7, 4), (3, 2)]),
        ([1, 2, 2, 3, 4, 4, 4, 5], [1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3], [(8, 5), (4, 3)]),
        ([1, 1, 1, 1, 5, 5], [1, 1, 1, 1], [(6, 5), (4, 1)]),
        ([1, 1, 1, 1, 5, 5], [1, 1, 1, 1, 4], [(6, 5), (4, 1)]),
        ([1, 1, 1, 1], [1, 1, 1, 1, 1], [(4, 1)]),
        ([1, 2, 2, 2, 4], [1, 3, 3, 3], [(5, 4), (4, 2), (1, 1)]),
        ([1, 3, 3, 3, 6], [1, 2, 2, 5, 5], [(5, 6), (4, 3), (1, 1)]),
        ([5, 5, 5], [1, 1, 1, 1, 1], [(3, 5), (0, 0)]),
        ([1, 1, 3], [], [(3, 3), (0, 0)]),
    ],
    ids=str,
)
def test_a_rejection_leads_back_a_term_at_a_time(leader_log: list[int], follower_log: list[int], probes: list[tuple[int, int]]) -> None:
    """Both sides skip what cannot match: a round trip for each term in conflict, at most, and none for each entry."""
    tail = make("2", log=follower_log, term=9)
    found: list[tuple[int, int]] = []
    core = make(log=leader_log, term=9)
    core.campaign(force=True)
    drain(core)
    core.receive(granted("3", core))
    pending = sent_to("2", drain(core))
    while pending:
        message = pending.pop(0)
        found.append((message.prev_index, message.prev_term))
        tail.receive(message)
        reply = one(AppendEntriesReply, drain(tail))
        core.receive(reply)
        if reply.rejected_prev_index is None:
            break
        pending = sent_to("2", drain(core))

    assert found == probes
    assert log_terms(tail) == [*leader_log, core.term]


# -- the window ------------------------------------------------------------------------------------------------------------


def test_a_full_window_stops_the_pipeline_and_each_answer_opens_it_by_what_it_covers() -> None:
    core = replicating(in_flight_messages_max=3)
    for _ in range(3):
        propose(core)
        drain(core)
    propose(core)
    assert sent_to("2", drain(core)) == []

    core.receive(accept(core, "2", 2))
    assert spans(sent_to("2", drain(core))) == [(5, 5)], "one slot is free, and takes all that waits"
    propose(core)
    assert sent_to("2", drain(core)) == []
    core.receive(accept(core, "2", 4))
    assert spans(sent_to("2", drain(core))) == [(6, 6)]
    assert peer(core, "2").in_flight_messages == 2


def test_stale_answers_do_not_open_a_full_window() -> None:
    core = replicating(in_flight_messages_max=2)
    for _ in range(2):
        propose(core)
        drain(core)
    for _ in range(3):
        core.receive(accept(core, "2", 1))
        propose(core)
        assert sent_to("2", drain(core)) == []


def test_a_heartbeat_answer_frees_a_full_window_by_one_empty_append() -> None:
    """All that is on its way may be lost: the empty append is rejected then, and the follower probed."""
    core = replicating(in_flight_messages_max=2)
    for _ in range(3):
        propose(core)
        drain(core)

    for _ in range(2):
        tick(core, 2)
        beats = only(Heartbeat, drain(core))
        core.receive(answer(next(beat for beat in beats if beat.target == "2")))
        assert spans(sent_to("2", drain(core))) == [None]
    core.receive(reject(core, "2", 3, hint=(1, 1), last=1))

    assert spans(sent_to("2", drain(core))) == [(2, 4)]
    assert peer(core, "2").state == "probe"


def test_uncommitted_bytes_are_bounded_and_free_again_with_the_commit() -> None:
    core = replicating(uncommitted_bytes_max=30)
    for _ in range(3):
        propose(core)
    with pytest.raises(Busy, match="uncommitted bytes"):
        propose(core)
    drain(core)

    core.receive(accept(core, "2", 4))
    drain(core)

    propose(core, 100)  # an empty tail takes anything, so that a large proposal is not refused for ever
    with pytest.raises(Busy):
        propose(core)


def test_what_is_committed_is_given_out_once_in_order_and_without_a_gap() -> None:
    core = replicating()
    given: list[tuple[int, int]] = []
    for _ in range(4):
        propose(core, 3)
        ready = core.ready()
        core.persisted(core.last_index)
        core.receive(accept(core, "2", core.last_index))
        ready = core.ready()
        if ready.committed is not None:
            given.append(ready.committed)  # applied late, in one piece
    core.applied(given[-1][1])

    assert given == [(2, 4), (5, 7), (8, 10), (11, 13)]
    assert core.applied_index == 13


def test_a_commit_whose_announcement_was_lost_comes_with_the_next_heartbeat() -> None:
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    node.propose(["x"])
    cluster.nodes["1"].take_ready()
    for target in "23":
        cluster.deliver("1", target)
        cluster.nodes[target].take_ready()
        cluster.deliver(target, "1")
    node.take_ready()
    for link in cluster.links.values():
        link.clear()  # the announcements
    assert node.core.committed_index == 2
    assert cluster.nodes["2"].core.committed_index == 1

    tick_all(cluster, 2)

    assert {one_node.core.committed_index for one_node in cluster.nodes.values()} == {2}


# -- a follower ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prev", "terms", "commit", "last", "committed", "accepted"),
    [
        ((2, 3), [], 3, 2, 0, False),
        ((3, 3), [], 3, 2, 0, False),
        ((1, 1), [], 1, 2, 1, True),
        ((0, 0), [2], 1, 1, 1, True),
        ((2, 2), [2, 2], 3, 4, 3, True),
        ((2, 2), [2], 4, 3, 3, True),
        ((1, 1), [2], 4, 2, 2, True),
        ((1, 1), [], 3, 2, 1, True),
        ((1, 1), [2], 3, 2, 2, True),
        ((2, 2), [], 3, 2, 2, True),
        ((2, 2), [], 4, 2, 2, True),
    ],
    ids=str,
)
def test_a_follower_takes_an_append_by_its_predecessor_and_commits_no_further_than_it_reaches(
    prev: tuple[int, int], terms: list[int], commit: int, last: int, committed: int, accepted: bool
) -> None:
    core = make(log=[1, 2], term=3)

    core.receive(append("2", "1", 3, prev, terms, commit=commit))

    reply = one(AppendEntriesReply, drain(core))
    assert (core.last_index, core.committed_index, reply.rejected_prev_index is None) == (last, committed, accepted)


@pytest.mark.parametrize(("commit", "expected"), [(3, 3), (1, 2)])
def test_a_stale_heartbeat_does_not_take_a_commit_back(commit: int, expected: int) -> None:
    core = make(log=[1, 2, 3], term=3)
    core.receive(heartbeat("2", "1", 3, commit=2))
    drain(core)

    core.receive(heartbeat("2", "1", 3, commit=commit))

    assert core.committed_index == expected
