"""What a leader sends (paper 5.3, 7): decided once per Ready, so that all proposals of a turn leave in one message to each follower.

`flush` looks at each follower's progress and sends what its state allows; `broadcast_heartbeat` begins a round.
"""

from __future__ import annotations

from replog.raft.events import ProgressChanged
from replog.raft.log import OWN_ENTRY_BYTES
from replog.raft.messages import AppendEntries, EntryRange, Heartbeat, InstallSnapshot
from replog.raft.progress import PROBE, REPLICATE, Progress
from replog.raft.quorum import majority_index
from replog.raft.ready import EntriesToWrite
from replog.raft.state import State
from replog.types import INDEX_MAX, EntryKind, Index, Membership


def append_own_entry(state: State, kind: EntryKind, membership: Membership | None) -> Index:
    """Append an entry that the leader makes itself; the edge encodes it."""
    index = state.log.append(1, state.term, OWN_ENTRY_BYTES)
    state.entries.append(
        EntriesToWrite(first_index=index, last_index=index, terms=((index, state.term),), frames=None, kind=kind, membership=membership)
    )
    state.sends_wanted = True
    return index


def flush(state: State) -> None:
    """Send to each follower what it may get now: entries, else a commit index that it has not been told."""
    state.sends_wanted = False
    if state.reads.wants_round(state):
        broadcast_heartbeat(state)
    log = state.log
    last, committed = log.last_index, log.committed_index
    announce = state.config.announce_commit_at_once
    for peer in state.peers.values():
        if peer.state is REPLICATE:
            end = min(peer.last_wanted, last)
            if peer.next_index <= end:
                while peer.next_index <= end and not window_is_full(state, peer) and send_append(state, peer, end):
                    pass
            elif announce and committed > peer.commit_sent:
                send_append(state, peer, 0)
        elif peer.state is PROBE and not peer.paused:
            send_append(state, peer, min(last, peer.last_wanted))


def window_is_full(state: State, peer: Progress) -> bool:
    config = state.config
    return (
        len(peer.in_flight) >= config.in_flight_messages_max
        or peer.in_flight_bytes >= peer.window_bytes
        or peer.in_flight_bytes >= config.in_flight_bytes_max
    )


def announce_commit(state: State) -> None:
    """Tell every follower in the pipeline that waits for nothing the commit index, if no append has told it."""
    committed = state.log.committed_index
    for peer in state.peers.values():
        if peer.state is REPLICATE and committed > peer.commit_sent and peer.next_index > min(state.log.last_index, peer.last_wanted):
            send_append(state, peer, 0)


def send_append(state: State, peer: Progress, end: Index) -> bool:
    """One append from the follower's `next_index` up to `end` or the limits; without entries when `end` is before it.

    A follower that needs what the log has no more gets a snapshot instead; then the answer is False, as nothing more can be sent to it.
    """
    log = state.log
    first = peer.next_index
    prev_index = first - 1
    prev_term = log.term_at(prev_index)
    if prev_term is None:
        send_snapshot(state, peer)
        return False
    entries: EntryRange | None = None
    if first <= end:
        bytes_max = min(state.config.append_bytes_max, peer.window_bytes // 2)  # half of it: one is on its way while the other is synced
        entries = range_of(state, first, end, bytes_max)
    state.before_sync.append(
        AppendEntries(
            source=state.node_id,
            target=peer.node,
            term=state.term,
            prev_index=prev_index,
            prev_term=prev_term,
            committed_index=min(log.committed_index, peer.last_wanted),
            entries=entries,
        )
    )
    peer.commit_sent = log.committed_index
    if entries is not None:
        peer.sent(entries.last_index, entries.size_bytes)
    elif peer.state is PROBE:
        peer.paused = True
    return True


def range_of(state: State, first: Index, end: Index, bytes_max: int) -> EntryRange:
    """What a message says of the entries from `first` on, up to `end` or the limits; followers in step share one value."""
    cached, entries_max = state.last_range, state.config.append_entries_max
    if cached is not None and cached.first_index == first and cached.last_index == end and cached.size_bytes <= bytes_max:
        return cached
    log = state.log
    last = log.last_within(first, end, bytes_max, entries_max)
    if cached is not None and cached.first_index == first and cached.last_index == last:
        return cached
    state.last_range = entries = EntryRange(
        first_index=first,
        last_index=last,
        terms=log.runs(first, last),
        size_bytes=log.size_bytes(first, last),
        memberships=state.history.between(first, last),
    )
    return entries


def send_snapshot(state: State, peer: Progress) -> None:
    """The follower needs entries that are compacted: the edge streams it the newest snapshot (paper 7)."""
    meta = state.snapshot
    assert meta is not None, "a log that does not begin at 1 has a snapshot before it"
    if not is_active(state, peer):
        # Nobody there to take it: wait until a heartbeat is answered.
        peer.become_probe(peer.next_index)
        peer.paused = True
        return
    change_progress(state, peer, "needs compacted entries", snapshot_index=meta.index)
    state.snapshots_to_send.append(
        InstallSnapshot(source=state.node_id, target=peer.node, term=state.term, meta=meta, committed_index=state.log.committed_index)
    )


def broadcast_heartbeat(state: State) -> None:
    """Begin a round: a heartbeat to everybody, with the commit index as far as the follower is known to hold the log (so that it may believe it)."""
    number = state.reads.begin_round(state)
    committed = state.log.committed_index
    for peer in state.peers.values():
        known = min(peer.match_index, committed)
        if known >= peer.last_wanted and not peer.departure_round:
            peer.departure_round = number
        state.before_sync.append(Heartbeat(source=state.node_id, target=peer.node, term=state.term, committed_index=known, round=number))
    state.heartbeat_elapsed = 0
    state.reads.confirm(state)  # for a leader that is a quorum alone


def is_active(state: State, peer: Progress) -> bool:
    """Heard of within the least election timeout."""
    return state.ticks - peer.active_at_tick < state.config.election_timeout_ticks_min


def quorum_is_active(state: State) -> bool:
    """Whether both halves have a majority that was heard of lately."""
    for voters, peers in ((state.membership.voters, state.voter_peers), (state.membership.voters_outgoing, state.voter_peers_outgoing)):
        active = sum(1 for peer in peers if is_active(state, peer)) + (state.node_id in voters)
        if voters and active < len(voters) // 2 + 1:
            return False
    return True


def maybe_commit(state: State) -> bool:
    """Commit what a quorum holds durably, if it is of the own term (paper 5.4.2, figure 8). The leader counts what it has synced itself."""
    log = state.log
    persisted = log.persisted_index
    membership = state.membership
    match = [peer.match_index for peer in state.voter_peers]
    if state.node_id in membership.voters:
        match.append(persisted)
    index = majority_index(match)
    if membership.voters_outgoing:
        match = [peer.match_index for peer in state.voter_peers_outgoing]
        if state.node_id in membership.voters_outgoing:
            match.append(persisted)
        index = min(index, majority_index(match))
    if index <= log.committed_index or index == INDEX_MAX or log.term_at(index) != state.term:
        return False
    return state.commit_to(index)


def change_progress(
    state: State, peer: Progress, reason: str, *, replicate: bool = False, probe_from: Index = 0, snapshot_index: Index = 0
) -> None:
    """Move a follower to another state of progress, and tell it."""
    if replicate:
        peer.become_replicate()
    elif snapshot_index:
        peer.become_snapshot(snapshot_index)
    else:
        peer.become_probe(probe_from or None)
    state.sends_wanted = True
    state.events.append(
        ProgressChanged(peer=peer.node, state=peer.state.value, match_index=peer.match_index, next_index=peer.next_index, reason=reason)
    )
