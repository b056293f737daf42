"""What a node does with a leader's messages: append, heartbeat, snapshot, and the order to campaign (paper 5.3, 7; thesis 3.10).

::

    log        [ committed ][ uncommitted      ]
    message          prev|-- entries ------|             prev unknown or of another term: reject, with a hint
                         |--same--|                      equal entries stay (a repeated message erases nothing)
                                  |--differ-|            from the first difference on ours are dropped: never a committed one
"""

from __future__ import annotations

from replog.errors import MalformedMessage
from replog.raft import candidate
from replog.raft.events import ConflictTruncated, LeaderChanged, MembershipChanged, SnapshotInstalled
from replog.raft.messages import AppendEntries, AppendEntriesReply, EntryRange, Heartbeat, HeartbeatReply, InstallSnapshot, TimeoutNow
from replog.raft.ready import EntriesToWrite
from replog.raft.roles import LEADER_HEARD, TRANSFER, follow_membership, rest
from replog.raft.state import State
from replog.types import Index, NodeId, Role, clip_terms


def hear_leader(state: State, source: NodeId) -> None:
    """`source` leads the current term: follow it, and begin the election timeout anew."""
    if state.leader != source:
        if state.role is Role.LEADER or state.leader is not None:
            raise MalformedMessage(f"{source} acts as leader of term {state.term}, which {state.leader} leads")
        if state.role is Role.PRE_CANDIDATE or state.role is Role.CANDIDATE:
            rest(state, state.term, source, LEADER_HEARD)
        else:
            state.leader = source
            state.events.append(LeaderChanged(leader=source, term=state.term))
    state.election_elapsed = 0
    state.leaderless_ticks = 0


def on_append_entries(state: State, message: AppendEntries) -> None:
    entries = message.entries
    if entries is not None:
        check_range(message, entries)
    hear_leader(state, message.source)
    log = state.log
    prev_index = message.prev_index
    last = prev_index if entries is None else entries.last_index

    if log.term_at(prev_index) != message.prev_term:
        if prev_index > log.committed_index:
            reject(state, message)
            return
        if log.term_at(prev_index) is not None:
            raise MalformedMessage(f"{message.source}: entry {prev_index} is committed here with another term than {message.prev_term}")
        # Behind the start of our log: committed, compacted and equal.

    if entries is not None:
        conflict = log.first_conflict(entries.first_index, last, entries.terms)
        if conflict <= last:
            if conflict <= log.committed_index:
                raise MalformedMessage(f"{message.source}: append rewrites entry {conflict}, but {log.committed_index} is committed here")
            if conflict <= log.last_index:
                state.events.append(ConflictTruncated(first_index=conflict, last_index=log.last_index))
                state.truncate(conflict)
            append(state, message, entries, conflict)

    if state.commit_to(min(message.committed_index, last), more_to_come=message.committed_index > log.last_index):
        follow_membership(state)
    state.acknowledge(message.source, max(last, log.committed_index))


def check_range(message: AppendEntries, entries: EntryRange) -> None:
    """Raise `MalformedMessage` unless the range follows its predecessor, without a gap and with terms that may be."""
    if entries.first_index != message.prev_index + 1 or entries.last_index < entries.first_index:
        raise MalformedMessage(f"{message.source}: entries {entries.first_index} to {entries.last_index} after {message.prev_index}")
    terms = entries.terms
    if not terms or terms[0][0] != entries.first_index or terms[0][1] < message.prev_term or terms[-1][1] > message.term:
        raise MalformedMessage(
            f"{message.source}: entries with terms {terms} after term {message.prev_term} in a message of term {message.term}"
        )


def append(state: State, message: AppendEntries, entries: EntryRange, first: Index) -> None:
    """Take the entries from `first` on: they follow our log."""
    log = state.log
    last = entries.last_index
    whole = first == entries.first_index
    size_bytes = entries.size_bytes if whole else entries.size_bytes * (last - first + 1) // entries.count
    log.append_runs(first, last, entries.terms, size_bytes)
    terms = entries.terms if whole else clip_terms(entries.terms, first, last)
    state.entries.append(EntriesToWrite(first_index=first, last_index=last, terms=terms, frames=message.frames))
    for index, membership in entries.memberships:
        if index >= first:
            state.adopt_membership(index, membership)
    state.regain()
    follow_membership(state)


def reject(state: State, message: AppendEntries) -> None:
    """Say where the logs may agree at best, so that the leader skips a whole term of ours at once (paper 5.3)."""
    hint_index, hint_term = state.log.find_conflict_by_term(message.prev_index, message.prev_term)
    state.after_sync.append(
        AppendEntriesReply(
            source=state.node_id,
            target=message.source,
            term=state.term,
            rejected_prev_index=message.prev_index,
            hint_index=hint_index,
            hint_term=hint_term,
            last_index=state.log.last_index,
        )
    )


def on_heartbeat(state: State, message: Heartbeat) -> None:
    hear_leader(state, message.source)
    if message.committed_index <= state.log.last_index:
        if state.commit_to(message.committed_index):
            follow_membership(state)
    else:
        # The leader believes that we hold more than we do: our recovery cut the log. Its next append finds out.
        state.ignore(message, "commit beyond the last entry")
    state.before_sync.append(HeartbeatReply(source=state.node_id, target=message.source, term=state.term, round=message.round))


def on_install_snapshot(state: State, message: InstallSnapshot) -> None:
    """Replace log and state by the snapshot, unless the log already has its last entry (paper figure 13)."""
    hear_leader(state, message.source)
    meta = message.meta
    log = state.log
    if meta.index <= log.committed_index:
        state.ignore(message, "snapshot is not newer than the commit")
        state.acknowledge(message.source, log.committed_index)
        return
    if log.term_at(meta.index) == meta.term:
        state.ignore(message, "log has the snapshot's last entry")
        state.commit_to(meta.index)
        follow_membership(state)
        state.acknowledge(message.source, meta.index)
        return
    before = state.history.at(log.committed_index)
    log.reset(meta.index, meta.term)
    state.withdraw_acknowledgements(meta.index)
    state.applying_index = meta.index
    state.entries.clear()
    state.discard_from = None
    state.install = state.snapshot = meta
    state.last_range = None
    state.history.reset(meta.index, meta.membership)
    state.membership = meta.membership
    state.regain()
    state.events.append(SnapshotInstalled(index=meta.index, term=meta.term))
    state.events.append(MembershipChanged(index=meta.index, membership=meta.membership))
    state.tell_membership_committed(meta.index, before, meta.membership)
    follow_membership(state)
    state.acknowledge(message.source, meta.index)


def on_timeout_now(state: State, message: TimeoutNow) -> None:
    """The leader hands its leadership to us: campaign without asking first, and without waiting."""
    hear_leader(state, message.source)
    if not candidate.is_promotable(state):
        state.ignore(message, "cannot campaign now")
        return
    candidate.become_candidate(state, TRANSFER, transfer=True)
