"""The Raft paper's sections 5.3 and 5.5, a test a sentence."""

from __future__ import annotations

import pytest

from replog.errors import MalformedMessage, NotLeader
from replog.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from replog.raft.ready import EntriesToWrite
from replog.types import EntryKind
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
    reject,
    stabilize,
    tick,
    tick_all,
    turn,
)


def test_a_leader_appends_a_command_and_sends_it_to_all_before_its_own_sync() -> None:
    """5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of the other servers to
    replicate the entry." (Before its own disk has it: thesis 10.2.1.)
    """
    core = leader(make(), commit=True)

    entry = core.propose(count=1, size_bytes=10, frames="x")
    ready = turn(core)

    assert entry == (1, 2)
    assert ready.entries == (EntriesToWrite(first_index=2, last_index=2, terms=((2, 1),), frames="x"),)
    assert [
        (m.target, m.prev_index, m.prev_term, m.entries.last_index) for m in only(AppendEntries, ready.messages_before_sync) if m.entries
    ] == [
        ("2", 1, 1, 2),
        ("3", 1, 1, 2),
    ]


def test_an_entry_is_applied_once_it_is_safely_replicated() -> None:
    """5.3: "When the entry has been safely replicated [...], the leader applies the entry to its state machine." """
    core = leader(make(), commit=True)
    core.propose(count=1, size_bytes=10, frames="x")
    assert turn(core).committed is None

    core.receive(accept(core, "2", 2))

    assert turn(core).committed == (2, 2)


@pytest.mark.parametrize(
    ("size", "acks", "committed"), [(1, 0, True), (3, 0, False), (3, 1, True), (5, 1, False), (5, 2, True), (7, 2, False), (7, 3, True)]
)
def test_an_entry_is_committed_once_a_majority_holds_it(size: int, acks: int, committed: bool) -> None:
    """5.3: "A log entry is committed once the leader that created the entry has replicated it on a majority of the servers." """
    core = leader(make(voters=[str(number) for number in range(1, size + 1)]), commit=True)
    core.propose(count=1, size_bytes=10, frames="x")
    drain(core)

    for number in range(acks):
        core.receive(accept(core, str(number + 2), 2))

    assert (core.committed_index == 2) is committed


def test_the_leader_counts_its_own_entry_only_once_it_is_synced() -> None:
    """5.3 with figure 2's "updated on stable storage before responding": the leader's log counts like any other server's, when it is durable."""
    core = leader(make(), commit=True)
    core.propose(count=1, size_bytes=10, frames="x")
    core.ready()
    core.receive(accept(core, "2", 2))
    assert core.committed_index == 1

    core.persisted(2)

    assert core.committed_index == 2


def test_the_leader_may_commit_before_its_own_sync_when_others_are_a_majority() -> None:
    """5.3: a majority is a majority, also without the leader (thesis 10.2.1)."""
    core = leader(make(), commit=True)
    core.propose(count=1, size_bytes=10, frames="x")
    core.ready()

    core.receive(accept(core, "2", 2))
    core.receive(accept(core, "3", 2))

    assert core.committed_index == 2


def test_lost_appends_are_sent_again_until_the_follower_has_everything() -> None:
    """5.3: "If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs indefinitely (even after it has
    responded to the client) until all followers eventually store all log entries."
    """
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    cluster.cut.add(("1", "3"))
    node.propose(["a", "b"])
    stabilize(cluster)
    cluster.cut.clear()
    assert node.core.committed_index == 3
    assert cluster.nodes["3"].disk.last_index == 1

    tick_all(cluster, 4)

    assert cluster.nodes["3"].disk.entries == node.disk.entries


def test_each_entry_has_the_term_in_which_the_leader_received_it() -> None:
    """5.3: "Each log entry stores a state machine command along with the term number when the entry was received by the leader." """
    core = leader(make(log=[1, 1], term=4))
    core.propose(count=2, size_bytes=2, frames="x")

    assert log_terms(core) == [1, 1, 5, 5, 5]


def test_committing_an_entry_commits_all_before_it() -> None:
    """5.3: "This also commits all preceding entries in the leader's log, including entries created by previous leaders." """
    core = leader(make(log=[1, 2, 2], term=2))
    assert core.committed_index == 0

    core.receive(accept(core, "2", 4))

    assert core.committed_index == 4
    assert turn(core).committed == (1, 4)


def test_the_commit_index_travels_in_appends_and_heartbeats() -> None:
    """5.3: "The leader keeps track of the highest index it knows to be committed, and it includes that index in future AppendEntries RPCs (including
    heartbeats) so that the other servers eventually find out."
    """
    core = leader(make(), commit=True)
    core.propose(count=1, size_bytes=10, frames="x")
    drain(core)
    core.receive(accept(core, "2", 2))

    assert {message.committed_index for message in only(AppendEntries, drain(core))} == {2}
    tick(core, 2)
    assert {beat.target: beat.committed_index for beat in only(Heartbeat, drain(core))} == {"2": 2, "3": 1}


def test_a_heartbeat_tells_no_follower_to_commit_what_it_may_not_have() -> None:
    """5.3: a follower applies what is committed *in its log*: the leader says only what that follower has acknowledged."""
    core = leader(make(log=[1, 1, 1]))
    core.receive(accept(core, "2", 4))
    drain(core)

    tick(core, 2)

    assert {beat.target: beat.committed_index for beat in only(Heartbeat, drain(core))} == {"2": 4, "3": 0}


@pytest.mark.parametrize("by", ["append", "heartbeat"])
def test_a_follower_applies_what_it_learns_to_be_committed_in_log_order(by: str) -> None:
    """5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in log order)." """
    core = make(log=[1, 1, 1])
    applied = []

    for commit in (1, 3):
        core.receive(append("2", "1", 1, (3, 1), commit=commit) if by == "append" else heartbeat("2", "1", 1, commit=commit))
        applied.append(turn(core).committed)

    assert applied == [(1, 1), (2, 3)]


@pytest.mark.parametrize(("commit", "terms", "expected"), [(1, [1], 1), (2, [1], 2), (3, [1, 1], 3), (9, [1], 2), (9, [], 1), (1, [], 1)])
def test_a_follower_commits_no_further_than_the_message_matched(commit: int, terms: list[int], expected: int) -> None:
    """Figure 2: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)" - of the message, not of the log, whose
    tail may contradict the leader's.
    """
    core = make(log=[1, 1, 1, 1, 1])

    core.receive(append("2", "1", 2, (1, 1), terms, commit=commit))

    assert core.committed_index == expected
    assert core.last_index == 5


@pytest.mark.parametrize(
    ("log", "prev", "hint"),
    [
        ([], (1, 1), (0, 0)),
        ([1, 1], (3, 1), (2, 1)),
        ([1, 1, 2], (2, 2), (2, 1)),
        ([1, 2, 2, 2], (3, 3), (3, 2)),
        ([1, 4, 4, 4, 4], (4, 3), (1, 1)),
    ],
)
def test_a_follower_refuses_entries_whose_predecessor_it_does_not_have(
    log: list[int], prev: tuple[int, int], hint: tuple[int, int]
) -> None:
    """5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses the new entries." """
    core = make(log=log, term=5)

    core.receive(append("2", "1", 5, prev, [5]))
    reply = one(AppendEntriesReply, drain(core))

    assert (reply.rejected_prev_index, reply.hint_index, reply.hint_term, reply.last_index) == (prev[0], *hint, len(log))
    assert log_terms(core) == log


@pytest.mark.parametrize(
    ("prev", "terms", "expected"),
    [
        ((2, 2), [3], [1, 2, 3]),
        ((1, 1), [3, 4], [1, 3, 4]),
        ((0, 0), [3, 4], [3, 4]),
        ((1, 1), [2], [1, 2]),
        ((0, 0), [1], [1, 2]),
        ((0, 0), [1, 2, 2], [1, 2, 2]),
    ],
)
def test_conflicting_entries_are_overwritten_and_equal_ones_stay(prev: tuple[int, int], terms: list[int], expected: list[int]) -> None:
    """5.3: "conflicting entries in follower logs will be overwritten with entries from the leader's log"; figure 2: "If an existing entry conflicts with a
    new one (same index but different terms), delete the existing entry and all that follow it. Append any new entries not already in the log."
    """
    core = make(log=[1, 2], term=2)

    core.receive(append("2", "1", 5, prev, terms))
    ready = turn(core)

    assert log_terms(core) == expected
    same = next((i for i, (old, new) in enumerate(zip([1, 2], expected, strict=False)) if old != new), min(2, len(expected)))
    assert ready.discard_from == (same + 1 if same < 2 else None)
    assert [(write.first_index, write.last_index) for write in ready.entries] == (
        [(same + 1, len(expected))] if len(expected) > same else []
    )
    assert one(AppendEntriesReply, ready.messages_after_sync).match_index == prev[0] + len(terms)


def test_next_index_begins_just_after_the_leaders_last_entry() -> None:
    """5.3: "When a leader first comes to power, it initializes all nextIndex values to the index just after the last one in its log." """
    core = make(log=[1, 1, 2], term=2)
    core.campaign(force=True)
    drain(core)

    core = leader(core)

    assert {peer.next_index for peer in core.status().peers} == {4}
    assert {peer.match_index for peer in core.status().peers} == {0}


def test_after_a_rejection_the_leader_retries_where_the_logs_may_agree() -> None:
    """5.3: "After a rejection, the leader decrements nextIndex and retries the AppendEntries RPC. Eventually nextIndex will reach a point where the
    leader and follower logs match"; "a leader [can] decrement nextIndex to bypass all of the conflicting entries in that term; one AppendEntries RPC will be
    required for each term with conflicting entries".
    """
    core = leader(make(log=[1, 1, 4, 4, 5, 5, 6, 6, 6], term=7))

    core.receive(reject(core, "2", 9, hint=(9, 3), last=9))

    probe = one(AppendEntries, drain(core))
    assert (probe.prev_index, probe.prev_term) == (2, 1)


@pytest.mark.parametrize(
    "follower",
    [
        [1, 1, 1, 4, 4, 5, 5, 6, 6],
        [1, 1, 1, 4],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        [1, 1, 1, 4, 4, 4, 4],
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ],
    ids=list("abcdef"),
)
def test_followers_of_figure_7_come_to_the_leaders_log(follower: list[int]) -> None:
    """5.3, figure 7: "When the leader at the top comes to power, it is possible that any of scenarios (a-f) could occur in follower logs"; "the leader
    handles inconsistencies by forcing the followers' logs to duplicate its own".
    """
    one_log = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    first = leader(make(log=one_log, term=8))
    second = make("2", log=follower, term=7)
    trips = 0

    messages = [append("1", "2", 9, (10, 6), [9])]
    while messages:
        for message in messages:
            second.receive(message)
        trips += 1
        for reply in drain(second):
            first.receive(reply)
        messages = [message for message in only(AppendEntries, drain(first)) if message.target == "2"]

    assert log_terms(second) == [*one_log, 9]
    assert trips <= 5


def test_a_leader_never_overwrites_its_own_entries() -> None:
    """5.3, figure 3, Leader Append-Only: "A leader never overwrites or deletes entries in its own log"; a second leader of its term cannot be."""
    core = leader(make(log=[1, 1]))

    with pytest.raises(MalformedMessage, match="acts as leader of term"):
        core.receive(append("2", "1", core.term, (0, 0), [2]))

    assert log_terms(core) == [1, 1, 2]


def test_a_slow_follower_does_not_hold_up_the_others() -> None:
    """2.1 and 5.3: "a single slow follower will not impact performance": a majority commits while one is silent, and its window bounds what it gets."""
    core = leader(make(in_flight_messages_max=3), commit=True)
    sent = 0

    for index in range(2, 20):
        core.propose(count=1, size_bytes=10, frames="x")
        sent += sum(message.target == "3" and message.entries is not None for message in only(AppendEntries, drain(core)))
        core.receive(accept(core, "2", index))
        assert core.committed_index == index

    assert sent == 3


def test_a_repeated_append_changes_nothing() -> None:
    """5.5: "Raft RPCs are idempotent [...] if a follower receives an AppendEntries request that includes log entries already present in its log, it ignores
    those entries in the new request."
    """
    core = make()
    core.receive(append("2", "1", 1, (0, 0), [1, 1, 1]))
    turn(core)

    core.receive(append("2", "1", 1, (0, 0), [1]))
    core.receive(append("2", "1", 1, (0, 0), [1, 1, 1]))
    ready = turn(core)

    assert not ready.must_sync
    assert log_terms(core) == [1, 1, 1]


def test_a_crashed_follower_gets_what_it_missed_when_it_is_back() -> None:
    """5.5: "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it will fail. Raft handles these failures by
    retrying indefinitely; if the crashed server restarts, then the RPC will complete successfully."
    """
    cluster = cluster_of("1", "2", "3")
    node = elected(cluster)
    cluster.nodes["3"].crash()
    node.propose(["a"])
    tick_all(cluster, 30)

    cluster.nodes["3"].restart()
    tick_all(cluster, 5)

    assert cluster.nodes["3"].state == ["a"]


def test_a_follower_does_not_take_proposals_and_says_who_does() -> None:
    """5.1: "if a client contacts a follower, the follower redirects it to the leader"."""
    core = make()
    core.receive(heartbeat("2", "1", 1))

    with pytest.raises(NotLeader) as caught:
        core.propose(count=1, size_bytes=1, frames="x")

    assert (caught.value.leader, caught.value.address) == ("2", "2")


def test_a_new_leader_begins_with_an_entry_of_its_own_term() -> None:
    """8: "it commits a blank no-op entry into the log at the start of its term" (here for 5.3's appends)."""
    core = make(log=[1])
    core.campaign(force=True)
    drain(core)
    core.receive(accept(core, "2", 1))  # no leader yet: says nothing
    core.campaign(force=True)
    drain(core)
    core.receive(granted("2", core))

    (write,) = turn(core).entries
    assert (write.kind, write.frames, write.first_index) == (EntryKind.NO_OP, None, 2)


def test_heartbeat_answers_release_a_probe_that_was_lost() -> None:
    """5.3: retries are indefinite; in the probing state the heartbeat's answer paces them."""
    core = leader(make(log=[1, 1]))
    drain(core)
    tick(core, 2)
    beats = only(Heartbeat, drain(core))

    core.receive(answer(beats[0]))

    assert [message.target for message in only(AppendEntries, drain(core))] == ["2"]
