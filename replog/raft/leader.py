"""The leader: its beginning, its ticks, and the answers of its followers (paper 5.3, 5.4, 8; thesis 6.2)."""

from __future__ import annotations

from replog.errors import MalformedMessage
from replog.raft import changes, transfer
from replog.raft.messages import AppendEntriesReply, HeartbeatReply
from replog.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from replog.raft.replication import (
    announce_commit,
    append_own_entry,
    broadcast_heartbeat,
    change_progress,
    maybe_commit,
    quorum_is_active,
    send_append,
    window_is_full,
)
from replog.raft.roles import DISK_STALLED, ELECTION_WON, QUORUM_LOST, become, rest
from replog.raft.state import NOTHING, State
from replog.types import EntryKind, Role


def become_leader(state: State) -> None:
    """Take office with an entry of the new term: committing it commits all before it, and shows that the commit index is the newest (paper 8)."""
    become(state, Role.LEADER, state.term, state.node_id, ELECTION_WON)
    next_index = state.log.last_index + 1
    for node in state.membership.nodes:
        if node != state.node_id:
            state.peers[node] = Progress(node, next_index, state.ticks)
    changes.index_voters(state)
    changes.tell_last_departed(state)
    if state.transfer_target is not None:
        transfer.end(state, succeeded=False, reason="elected again")
    append_own_entry(state, EntryKind.NO_OP, None)
    state.leaderless_ticks = 0
    state.promised = NOTHING  # whoever elected this leader found nothing that its log lacks


def after_commit(state: State) -> None:
    """The commit index rose by the leader's own counting."""
    changes.after_commit(state)
    if state.reads.waiting:
        state.sends_wanted = True


def on_persisted(state: State) -> None:
    """The leader's own log is synced further: it counts like any other voter's."""
    if maybe_commit(state):
        after_commit(state)


def tick(state: State) -> None:
    config = state.config
    if config.check_quorum and not quorum_is_active(state):
        rest(state, state.term, None, QUORUM_LOST)
        return
    if state.log.handed_index > state.log.persisted_index:
        state.persist_waiting_ticks += 1
        if on_stalled_disk(state):
            return
    if transfer.tick(state):
        return
    changes.tick(state)
    if not config.announce_commit_at_once:
        announce_commit(state)
    state.heartbeat_elapsed += 1
    if state.heartbeat_elapsed >= config.heartbeat_ticks:
        broadcast_heartbeat(state)


def on_stalled_disk(state: State) -> bool:
    """A leader whose writes make no progress for an election timeout hands over, and steps down after another one; says whether it did."""
    limit = state.config.election_timeout_ticks_min
    if state.persist_waiting_ticks >= 2 * limit:
        rest(state, state.term, None, DISK_STALLED)
        return True
    if state.persist_waiting_ticks == limit:
        best = transfer.best_target(state)
        if best is not None:
            transfer.start(state, best)
    return False


# -- answers ------------------------------------------------------------------------------------------------------------


def on_append_reply(state: State, message: AppendEntriesReply) -> None:
    peer = state.peers.get(message.source)
    if peer is None:
        state.ignore(message, "not a member")
        return
    match_index = message.match_index
    if match_index > state.log.last_index:
        raise MalformedMessage(f"{message.source} acknowledges {match_index}, but the leader's log ends at {state.log.last_index}")
    peer.active_at_tick = state.ticks
    if message.rejected_prev_index is not None:
        on_rejected(state, peer, message)
        return

    news = peer.accepted(match_index)
    if peer.state is PROBE:
        if news or match_index == peer.match_index:
            change_progress(state, peer, "accepted", replicate=True)
    elif peer.state is SNAPSHOT:
        if match_index >= state.log.first_index - 1:
            # It holds something that our log goes on from, by this snapshot or otherwise.
            change_progress(state, peer, "snapshot installed", replicate=True)
        elif match_index >= peer.pending_snapshot:
            change_progress(state, peer, "snapshot installed, but what follows it is compacted")
    peer.may_have_lost_tail = False
    if news:
        if maybe_commit(state):
            after_commit(state)
        transfer.on_match(state, peer)
        changes.on_match(state, peer)
    # A full window has room again.
    if peer.next_index <= state.log.last_index:
        state.sends_wanted = True


def on_rejected(state: State, peer: Progress, message: AppendEntriesReply) -> None:
    rejected = message.rejected_prev_index
    assert rejected is not None
    if peer.may_have_lost_tail and peer.state is PROBE and rejected == peer.match_index > message.last_index:
        peer.lost_tail()
    probe_index = message.hint_index
    if message.hint_term > 0:
        # Our side of the same jump: where our log has a larger term than the follower has there, it cannot match either.
        probe_index = state.log.find_conflict_by_term(message.hint_index, message.hint_term)[0]
    if peer.rejected(rejected, probe_index):
        if peer.state is REPLICATE:
            change_progress(state, peer, f"rejected {rejected}", probe_from=peer.next_index)
        state.sends_wanted = True
    else:
        state.ignore(message, "stale rejection")


def on_heartbeat_reply(state: State, message: HeartbeatReply) -> None:
    peer = state.peers.get(message.source)
    if peer is None:
        state.ignore(message, "not a member")
        return
    if message.round > state.reads.round:
        raise MalformedMessage(f"{message.source} answers round {message.round}, but the leader's last was {state.reads.round}")
    peer.active_at_tick = state.ticks
    if message.round > peer.acked_round:
        peer.acked_round = message.round
        state.reads.confirm(state)
    if peer.departure_round and message.round >= peer.departure_round:
        changes.forget_departed(state, peer)
        return
    transfer.on_match(state, peer)
    wanted = min(state.log.last_index, peer.last_wanted)
    if peer.state is PROBE and peer.paused:
        peer.paused = False  # the probe or its answer may be lost
        state.sends_wanted = True
    elif peer.state is REPLICATE and peer.match_index < wanted and (peer.next_index > wanted or window_is_full(state, peer)):
        # All is sent that may be, not all is answered: if an append was lost, this one is rejected; if an answer was, it is given again.
        send_append(state, peer, 0)
