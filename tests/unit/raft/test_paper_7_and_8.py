"""The Raft paper's sections 7 (snapshots) and 8 (clients), a test a sentence."""

from __future__ import annotations

from random import Random

import pytest

from replog.errors import Busy
from replog.raft.events import SnapshotInstalled
from replog.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, InstallSnapshot, ReadIndexReply, ReadIndexRequest
from replog.raft.ready import ReadReady
from replog.testing.cores import members
from replog.types import INDEX_MAX, SnapshotMeta
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
    tick_all,
    turn,
    vote_request,
)


def meta(index: int, term: int, voters: tuple[str, ...] = ("1", "2", "3")) -> SnapshotMeta:
    return SnapshotMeta(index=index, term=term, membership=members(voters))


def install(index: int, term: int, *, message_term: int = 3) -> InstallSnapshot:
    return InstallSnapshot(source="2", target="1", term=message_term, meta=meta(index, term))


# -- 7 --------------------------------------------------------------------------------------------------------------------


def test_each_server_compacts_its_log_by_itself_and_keeps_the_last_term() -> None:
    """7: "each server takes snapshots independently, covering just the committed entries in its log"; "the last included index [...] and the last included
    term [...] are preserved to support the AppendEntries consistency check for the first log entry following the snapshot".
    """
    core = make(log=[1, 1, 2, 2])
    core.receive(heartbeat("2", "1", 2, commit=3))
    turn(core)

    core.compacted(4, meta(3, 2))

    core.check()
    assert (core.first_index, core.last_index, log_terms(core)) == (4, 4, [2])
    core.receive(append("2", "1", 2, (3, 2), [2, 2], commit=5))
    drain(core)
    assert core.committed_index == 5


def test_a_leader_sends_a_snapshot_when_it_has_discarded_the_next_entry() -> None:
    """7: "the leader must occasionally send snapshots to followers that lag behind. This happens when the leader has already discarded the next log entry
    that it needs to send to a follower."
    """
    core = leader(make(log=[2, 2], snapshot=meta(10, 1), term=2))

    core.receive(reject(core, "2", 12, hint=(3, 1), last=3))
    ready = turn(core)

    (sent,) = ready.snapshots_to_send
    assert (sent.target, sent.meta.index, sent.meta.term) == ("2", 10, 1)
    assert {peer.node: peer.state for peer in core.status().peers}["2"] == "snapshot"
    assert core.retain_index == 11


def test_a_follower_with_other_history_discards_its_whole_log_for_a_snapshot() -> None:
    """7: "Usually the snapshot will contain new information not already in the recipient's log. In this case, the follower discards its entire log; it is all
    superseded by the snapshot and may possibly have uncommitted entries that conflict with the snapshot."
    """
    core = make(log=[1, 1, 1, 1, 1])

    core.receive(install(4, 2))
    ready = turn(core)

    assert ready.snapshot == meta(4, 2)
    assert (core.first_index, core.last_index, core.committed_index, core.applied_index) == (5, 4, 4, 4)
    assert core.term_at(4) == 2
    assert one(SnapshotInstalled, ready.events) == SnapshotInstalled(index=4, term=2)
    assert one(AppendEntriesReply, ready.messages_after_sync).match_index == 4


def test_a_follower_keeps_what_follows_a_snapshot_of_a_prefix_of_its_log() -> None:
    """7: "If instead the follower receives a snapshot that describes a prefix of its log (due to retransmission or by mistake), then log entries covered by the
    snapshot are deleted but entries following the snapshot are still valid and must be retained." (Deleting is for its own compaction.)
    """
    core = make(log=[1, 1, 2, 2, 2])

    core.receive(install(3, 2))
    ready = turn(core)

    assert ready.snapshot is None
    assert log_terms(core) == [1, 1, 2, 2, 2]
    assert core.committed_index == 3
    assert one(AppendEntriesReply, ready.messages_after_sync).match_index == 3


def test_an_old_snapshot_changes_nothing() -> None:
    """7: a snapshot behind the commit index is a repeated message."""
    core = make(log=[1, 1, 1])
    core.receive(heartbeat("2", "1", 3, commit=3))
    turn(core)

    core.receive(install(2, 1))
    ready = turn(core)

    assert not ready.must_sync
    assert one(AppendEntriesReply, ready.messages_after_sync).match_index == 3


def test_a_follower_is_replicated_to_again_after_its_snapshot() -> None:
    """7: a whole life: behind, snapshot, entries behind it."""
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    cluster.nodes["3"].crash()
    for number in range(10):
        node.propose([f"a{number}"])
    stabilize(cluster)
    node.compact(node.core.applied_index, node.core.applied_index + 1)
    node.propose(["after"])
    cluster.nodes["3"].restart()

    tick_all(cluster, 6)

    assert cluster.nodes["3"].state == [*(f"a{number}" for number in range(10)), "after"]
    assert cluster.nodes["3"].disk.first_index > 1
    assert {peer.state for peer in node.core.status().peers} == {"replicate"}


@pytest.mark.parametrize("how", ["accepted", "failed", "sent and silent"])
def test_a_snapshot_ends_in_one_of_three_ways(how: str) -> None:
    """7: the answer, a failure at the edge, or silence after the sending; in no case does the follower stay behind for ever."""
    core = leader(make(log=[2, 2], snapshot=meta(10, 1), term=2))
    core.receive(reject(core, "2", 12, hint=(3, 1), last=3))
    drain(core)

    if how == "accepted":
        core.receive(accept(core, "2", 10))
    elif how == "failed":
        core.snapshot_failed("2")
    else:
        core.snapshot_sent("2", 10)
    state = {peer.node: (peer.state, peer.next_index) for peer in core.status().peers}["2"]
    messages = [message for message in drain(core) if message.target == "2"]
    tick(core, 2)
    for beat in only(Heartbeat, drain(core)):
        core.receive(answer(beat))
    later = [message for message in drain(core) if message.target == "2"]

    if how == "accepted":
        assert state == ("replicate", 11)
        assert one(AppendEntries, messages).prev_index == 10
    elif how == "failed":
        assert state == ("probe", 1)
        assert messages == []
        assert one(InstallSnapshot, later).meta.index == 10
    else:
        assert state == ("probe", 11)
        assert messages == []
        assert one(AppendEntries, later).prev_index == 10


def test_a_follower_whose_log_ends_at_the_snapshot_does_not_stay_in_probe() -> None:
    """The known bug: the snapshot is what the follower has already, its answer brings no news, and nobody leaves the state."""
    core = leader(make(log=[2, 2], snapshot=meta(10, 1), term=2))
    core.receive(reject(core, "2", 12, hint=(3, 1), last=3))
    drain(core)
    core.receive(accept(core, "2", 10))
    core.peer_lost("2")
    drain(core)

    core.receive(accept(core, "2", 10))

    assert {peer.node: peer.state for peer in core.status().peers}["2"] == "replicate"


def test_no_snapshot_goes_to_a_silent_follower() -> None:
    """7: a snapshot is big; it waits until somebody is there to take it."""
    core = leader(make(log=[2, 2], snapshot=meta(10, 1), term=2, check_quorum=False))
    core.receive(reject(core, "2", 12, hint=(11, 2), last=11))
    drain(core)
    core.receive(accept(core, "3", 13))
    tick(core, 2 * TIMEOUT)
    drain(core)
    core.applied(core.committed_index)
    core.compacted(14, meta(13, 3))
    core.peer_lost("2")

    assert only(InstallSnapshot, drain(core)) == []


def test_a_vote_counts_the_snapshot_as_the_end_of_an_empty_log() -> None:
    """7: lastIncludedIndex and lastIncludedTerm stand for the log's end."""
    core = make(snapshot=meta(10, 2), term=2)

    core.receive(vote_request("2", "1", 3, (9, 2)))
    core.receive(vote_request("3", "1", 3, (10, 2)))

    assert [reply.granted for reply in drain(core)] == [False, True]  # type: ignore[union-attr]


# -- 8 --------------------------------------------------------------------------------------------------------------------


def read_of(core: object, reads: tuple[ReadReady, ...]) -> list[tuple[int, int | None]]:
    return [(read.context, read.index) for read in reads]


def test_a_read_waits_for_a_heartbeat_round_with_a_majority() -> None:
    """8: "a leader must check whether it has been deposed before processing a read-only request [...] by having the leader exchange heartbeat messages with a
    majority of the cluster before responding to read-only requests".
    """
    core = leader(make(voters="12345"), commit=True)
    core.read_index(7)
    ready = turn(core)
    beats = only(Heartbeat, ready.messages_before_sync)
    assert len(beats) == 4
    assert ready.reads == ()

    core.receive(answer(beats[0]))
    assert not core.has_ready()
    core.receive(answer(beats[1]))

    assert core.ready().reads == (ReadReady(context=7, index=1),)


def test_a_read_waits_for_a_commit_in_the_leaders_term() -> None:
    """8: "a leader must have the latest information on which entries are committed [...] at the start of its term, it may not know which those are. To find
    out, it needs to commit an entry from its term."
    """
    core = leader(make(log=[1, 1]))
    core.read_index(7)
    assert only(Heartbeat, drain(core)) == []
    core.receive(accept(core, "2", 3))

    beats = only(Heartbeat, drain(core))
    core.receive(answer(beats[1]))

    assert core.ready().reads == (ReadReady(context=7, index=3),)


def test_one_round_confirms_all_reads_that_wait_and_the_next_begins_at_once() -> None:
    """Thesis 6.4: one round of heartbeats for any number of reads."""
    core = leader(make(), commit=True)
    for context in range(5):
        core.read_index(context)
    first = only(Heartbeat, drain(core))
    for context in range(5, 9):
        core.read_index(context)
    assert len(first) == 2
    assert drain(core) == []

    core.receive(answer(first[0]))
    ready = turn(core)

    assert [read.context for read in ready.reads] == [0, 1, 2, 3, 4]
    second = only(Heartbeat, ready.messages_before_sync)
    assert {beat.round for beat in second} == {first[0].round + 1}
    core.receive(answer(first[1]))
    assert not core.has_ready(), "an answer to the former round confirms nothing new"
    core.receive(answer(second[1]))
    assert [read.context for read in core.ready().reads] == [5, 6, 7, 8]


def test_a_lost_round_is_made_good_by_the_next_heartbeat() -> None:
    core = leader(make(), commit=True)
    core.read_index(1)
    drain(core)

    tick(core, 2)
    core.receive(answer(only(Heartbeat, drain(core))[0]))

    assert core.ready().reads == (ReadReady(context=1, index=1),)


def test_a_follower_asks_the_leader_for_all_its_reads_at_once() -> None:
    """Thesis 6.4: "the follower [...] could issue a request to the leader that just asked for a current readIndex"."""
    core = make("2")
    core.receive(heartbeat("1", "2", 1))
    drain(core)
    core.read_index(7)
    core.read_index(8)

    request = one(ReadIndexRequest, drain(core))
    core.receive(ReadIndexReply(source="1", target="2", term=1, context=request.context, read_index=5))

    assert read_of(core, core.ready().reads) == [(7, 5), (8, 5)]


def test_a_followers_request_is_repeated_and_then_refused() -> None:
    core = make("2", membership=members(["1", "3"], ["2"]))
    core.receive(heartbeat("1", "2", 1))
    core.read_index(7)
    drain(core)

    tick(core, 2)
    assert len(only(ReadIndexRequest, drain(core))) == 1
    tick(core, 2 * TIMEOUT)

    assert core.ready().reads == (ReadReady(context=7, index=None),)


def test_the_leader_answers_a_followers_request_after_a_round() -> None:
    core = leader(make(), commit=True)
    core.receive(ReadIndexRequest(source="2", target="1", term=1, context=3))
    beats = only(Heartbeat, drain(core))

    core.receive(answer(beats[0]))

    assert one(ReadIndexReply, drain(core)) == ReadIndexReply(source="1", target="2", term=1, context=3, read_index=1)


@pytest.mark.parametrize("who", ["leader", "follower", "nobody known"])
def test_reads_of_a_lost_leadership_are_refused(who: str) -> None:
    core = make() if who != "leader" else leader(make(), commit=True)
    if who == "follower":
        core.receive(heartbeat("2", "1", 1))
    core.read_index(7)
    if who != "nobody known":
        drain(core)
        core.receive(heartbeat("3", "1", core.term + 1))

    assert core.ready().reads == (ReadReady(context=7, index=None),)


def test_too_many_reads_are_busy() -> None:
    core = leader(make(reads_waiting_max=2), commit=True)
    core.read_index(1)
    core.read_index(2)

    with pytest.raises(Busy):
        core.read_index(3)


def test_a_single_node_reads_at_once() -> None:
    core = leader(make(voters=["1"]), commit=True)

    core.read_index(7)

    assert core.ready().reads == (ReadReady(context=7, index=1),)


def lease_round(core: object, now: int) -> None:
    from replog.raft import RaftCore

    assert isinstance(core, RaftCore)
    core.observe_time(now)
    tick(core, 2)
    for beat in only(Heartbeat, drain(core)):
        core.receive(answer(beat))


def test_a_lease_holds_for_the_least_election_timeout_less_the_drift_from_when_its_round_was_sent() -> None:
    """Thesis 6.4.1: "the leader [...] would extend its lease to start + election timeout / clock drift bound"."""
    core = leader(make(lease_drift_percent=20), commit=True)
    assert not core.lease_is_valid()
    lease_round(core, 100)

    core.observe_time(107)
    core.lease_read(1)
    assert core.ready().reads == (ReadReady(context=1, index=1),)

    core.observe_time(108)
    assert not core.lease_is_valid()
    core.lease_read(2)
    ready = turn(core)
    assert ready.reads == ()
    assert len(only(Heartbeat, ready.messages_before_sync)) == 2


def test_a_lease_counts_from_the_sending_not_from_the_answer() -> None:
    core = leader(make(lease_drift_percent=0), commit=True)
    core.observe_time(100)
    tick(core, 2)
    beats = only(Heartbeat, drain(core))
    core.observe_time(109)
    core.receive(answer(beats[0]))
    assert core.lease_is_valid()

    core.observe_time(110)

    assert not core.lease_is_valid()


def test_a_transfer_ends_leases_for_the_rest_of_the_term() -> None:
    """Thesis 6.4.1: leases assume that nobody campaigns within the timeout; a transfer makes somebody do so, even when the leader has given up on it."""
    core = leader(make(), commit=True)
    lease_round(core, 100)
    assert core.lease_is_valid()

    core.transfer_leadership("2")
    assert not core.lease_is_valid()
    for _ in range(2 * TIMEOUT):
        lease_round(core, 100)

    assert core.status().transfer_target is None
    assert core.is_leader
    assert not core.lease_is_valid()


def test_a_restarted_voter_is_quiet_for_the_least_election_timeout_where_leases_are_used() -> None:
    """Thesis 6.4.1: it may have confirmed a lease before the crash, which it cannot remember."""
    core = make(term=3, quiet_after_start=True)
    core.receive(vote_request("2", "1", 4, (9, 9)))
    assert core.term == 3

    core.receive(vote_request("2", "1", 4, (9, 9), transfer=True))
    assert core.term == 4
    core = make(term=3, quiet_after_start=True, timeout=2 * TIMEOUT)
    tick(core, TIMEOUT)
    core.receive(vote_request("2", "1", 4, (9, 9)))
    assert core.vote == "2"


def test_retain_index_is_free_without_snapshots() -> None:
    assert leader(make(), commit=True).retain_index == INDEX_MAX


def test_a_heartbeat_round_before_the_commit_in_the_term_confirms_no_read() -> None:
    """8: leadership alone is not enough, the commit index may be old."""
    core = leader(make(log=[1, 1]))
    core.read_index(7)
    tick(core, 2)
    for beat in only(Heartbeat, drain(core)):
        core.receive(answer(beat))

    assert turn(core).reads == ()


def test_an_answer_to_a_former_life_answers_no_read_of_this_one() -> None:
    """It has an index from before the restart, and the read began after it. (Found by a seeded schedule.)"""
    timeouts = Random(1)
    requests = []
    for _ in range(2):
        core = make("2", term=1)
        core._s.draw_timeout = lambda: timeouts.randint(10, 20)
        core.receive(heartbeat("1", "2", 1))
        core.read_index(7)
        requests.append(one(ReadIndexRequest, drain(core)))
    assert requests[0].context != requests[1].context

    core.receive(ReadIndexReply(source="1", target="2", term=1, context=requests[0].context, read_index=5))
    assert core.ready().reads == ()

    core.receive(ReadIndexReply(source="1", target="2", term=1, context=requests[1].context, read_index=9))
    assert core.ready().reads == (ReadReady(context=7, index=9),)
