"""The Raft core: verbs in, one `Ready` out. No clock, no disk, no socket, no randomness of its own (DESIGN section 1.1).

A turn: say `observe_time`, give the inputs (`receive`, `propose`, `tick`, ...), take `ready()`, do what it says in the order of its fields, say
`persisted` and `applied`. One write is in progress at a time: say `persisted` before the next `ready()`.

Every message passes one term check here; the rules are in the modules beside this one, a function for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from replog.errors import Busy, MalformedMessage, NotLeader
from replog.raft import candidate, follower, leader, replication, transfer
from replog.raft.changes import change
from replog.raft.check import check as check_state
from replog.raft.config import CoreConfig
from replog.raft.history import MembershipHistory
from replog.raft.log import Log
from replog.raft.membership import MembershipChange
from replog.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CoreMessage,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PreVoteReply,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from replog.raft.progress import PROBE, REPLICATE, SNAPSHOT
from replog.raft.ready import CoreStatus, EntriesToWrite, PeerStatus, ReadReady, Ready
from replog.raft.roles import CAMPAIGN_ASKED, HIGHER_TERM, STEPPED_DOWN, rest, resting_role
from replog.raft.state import ANYTHING, NOTHING, State
from replog.types import INDEX_MAX, EntryId, HardState, Index, Member, Membership, NodeId, Role, SnapshotMeta, Term

__all__ = ["CoreConfig", "RaftCore"]

_LEADER = Role.LEADER


class RaftCore:
    def __init__(
        self,
        config: CoreConfig,
        *,
        draw_timeout: Callable[[], int],
        hard_state: HardState,
        membership: Membership,
        snapshot: SnapshotMeta | None = None,
        first_index: Index = 1,
        last_index: Index = 0,
        terms: Sequence[tuple[Index, Term]] = (),
        memberships: Sequence[tuple[Index, Membership]] = (),
        log_bytes: int = 0,
        applied_index: Index = 0,
        incarnation: int = 0,
        maybe_promised: Index = 0,
        is_founder: bool = False,
    ) -> None:
        """A core over what was recovered.

        `draw_timeout` returns an election timeout in ticks; it is called whenever role or term change. `membership` is the one in force before
        `first_index` (the snapshot's, or the initial one); `terms` are the runs of equal term, `memberships` the membership entries of the log.
        `applied_index` is what a durable state machine holds already. `maybe_promised`: see `replog.storage.interface.Recovered`.
        `is_founder`: it belongs to the first members and, should the log be empty, may have lost it; until `found` is said its vote counts only
        together with everybody's, and it has one itself only so.
        """
        boundary_term: Term | None = 0 if first_index == 1 else None
        if snapshot is not None:
            if last_index < snapshot.index:  # the snapshot was installed, the log not yet emptied
                first_index, last_index, terms, log_bytes = snapshot.index + 1, snapshot.index, (), 0
            if snapshot.index == first_index - 1:
                boundary_term = snapshot.term
        assert first_index == 1 or (snapshot is not None and first_index <= snapshot.index + 1)
        log = Log(first_index, last_index, terms, log_bytes, boundary_term)
        log.applied_index = log.committed_index = max(applied_index, snapshot.index if snapshot is not None else 0)
        assert log.committed_index <= last_index
        # The base counts from before the log; a membership entry in front of the snapshot leads up to the snapshot's own.
        history = MembershipHistory(first_index - 1, membership, [one for one in memberships if one[0] <= last_index])
        self._s = State(config, draw_timeout, hard_state, log, history, snapshot, incarnation, maybe_promised, is_founder)
        self._s.role = resting_role(self._s)
        self._s.election_timeout = draw_timeout()

    # -- verbs: time --------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One tick of the protocol's time. Overdue ticks may be folded into one."""
        s = self._s
        s.ticks += 1
        if s.role is _LEADER:
            leader.tick(s)
        else:
            candidate.tick(s)

    def observe_time(self, now_ticks: int) -> None:
        """Ticks that really elapsed, by a monotonic clock; only leases use it. Say it at the start of a turn, after the inbox was drained."""
        s = self._s
        if s.now_ticks is None or now_ticks > s.now_ticks:
            s.now_ticks = now_ticks

    # -- verbs: messages ----------------------------------------------------------------------------------------------

    def receive(self, message: CoreMessage) -> None:
        """Take a message. Raises `MalformedMessage` for what no correct peer sends; the core goes on unharmed."""
        s = self._s
        if message.target != s.node_id or message.source == s.node_id:
            raise MalformedMessage(f"message from {message.source} to {message.target} reached {s.node_id}")
        if message.term != s.term and not self._take_term(message):
            return
        match message:
            case AppendEntriesReply():
                if s.role is _LEADER:
                    leader.on_append_reply(s, message)
                else:
                    s.ignore(message, "not leader")
            case AppendEntries():
                follower.on_append_entries(s, message)
            case HeartbeatReply():
                if s.role is _LEADER:
                    leader.on_heartbeat_reply(s, message)
                else:
                    s.ignore(message, "not leader")
            case Heartbeat():
                follower.on_heartbeat(s, message)
            case PreVoteRequest():
                candidate.on_pre_vote_request(s, message)
            case PreVoteReply():
                candidate.on_pre_vote_reply(s, message)
            case VoteRequest():
                candidate.on_vote_request(s, message)
            case VoteReply():
                candidate.on_vote_reply(s, message)
            case InstallSnapshot():
                follower.on_install_snapshot(s, message)
            case TimeoutNow():
                follower.on_timeout_now(s, message)
            case ReadIndexRequest():
                s.reads.on_request(s, message)
            case ReadIndexReply():
                s.reads.on_reply(s, message)
            case _:
                assert_never(message)
        if s.transfer_target is not None and s.leader is not None:
            transfer.on_leader_known(s, s.leader)

    def _take_term(self, message: CoreMessage) -> bool:
        """The one term check (paper 5.1) of a message whose term is not ours; says whether the message is to be looked at."""
        s = self._s
        if message.term > s.term:
            match message:
                case PreVoteRequest():
                    if candidate.refuses_by_stickiness(s, message):
                        candidate.on_sticky_request(s, message)
                        return False
                    return True  # its term is a proposal
                case VoteRequest() if candidate.refuses_by_stickiness(s, message):
                    candidate.on_sticky_request(s, message)
                    return False
                case PreVoteReply() if message.granted or message.conditional:
                    return True  # our own proposal comes back
                case AppendEntries() if message.entries is not None:
                    follower.check_range(message, message.entries)
                case _:
                    pass
            leads = isinstance(message, AppendEntries | Heartbeat | InstallSnapshot)
            rest(s, message.term, message.source if leads else None, HIGHER_TERM)
            return True
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot():
                # An old leader, or one whose follower (we) campaigned in vain while cut off: it must learn the term. A rejection of index 0
                # says nothing about any log, should the old leader lead this term when it arrives.
                s.after_sync.append(
                    AppendEntriesReply(
                        source=s.node_id, target=message.source, term=s.term, rejected_prev_index=0, last_index=s.log.last_index
                    )
                )
            case PreVoteRequest():
                candidate.refuse_old_pre_vote(s, message)
            case VoteRequest():
                s.after_sync.append(VoteReply(source=s.node_id, target=message.source, term=s.term, granted=False))
            case _:
                s.ignore(message, "stale term")
        return False

    # -- verbs: clients -----------------------------------------------------------------------------------------------

    def propose(self, *, count: int, size_bytes: int, frames: object) -> EntryId:
        """Append `count` entries of `size_bytes` together at last_index + 1; `frames` (opaque) comes back in `Ready.entries`.

        Returns the id of the last one. Raises `NotLeader`, or `Busy` (too much uncommitted or unapplied, or leadership is being transferred);
        then nothing was appended.
        """
        s = self._s
        if s.role is not _LEADER:
            self._raise_not_leader()
        log = s.log
        config = s.config
        if s.transfer_target is not None:
            raise Busy("leadership transfers under way", 1, 0)
        uncommitted = log.bytes_upto(log.last_index) - log.bytes_upto(log.committed_index)
        if uncommitted and uncommitted + size_bytes > config.uncommitted_bytes_max:
            raise Busy("uncommitted bytes", uncommitted, config.uncommitted_bytes_max)
        if log.committed_index - log.applied_index > config.unapplied_entries_max:
            raise Busy("entries committed but not applied", log.committed_index - log.applied_index, config.unapplied_entries_max)
        assert count > 0
        term = s.term
        first = log.append(count, term, size_bytes)
        last = log.last_index
        s.entries.append(EntriesToWrite(first_index=first, last_index=last, terms=((first, term),), frames=frames))
        s.sends_wanted = True
        return EntryId(term, last)

    def change_membership(
        self, changes: Sequence[MembershipChange], *, force: bool = False, joint: bool | None = None, auto_leave: bool = True
    ) -> EntryId:
        """Append a new membership; it is in force at once and counts once committed. No changes: leave a joint membership.

        `joint` None: joint if more than one voter changes. `auto_leave`: the leader leaves the joint membership by itself once it is committed.
        Unless `force`, each half must have a quorum of nodes that were heard of lately. Raises `NotLeader`, `MembershipRefused`, `UnknownNode`,
        `Busy` (leadership is being transferred).
        """
        s = self._s
        if s.role is not _LEADER:
            self._raise_not_leader()
        return change(s, changes, force=force, joint=joint, auto_leave=auto_leave)

    def read_index(self, context: int) -> None:
        """Begin a linearizable read; its index comes in `Ready.reads`, None if it must be begun again. Raises `Busy`."""
        self._s.reads.ask(self._s, context)

    def lease_read(self, context: int) -> None:
        """Begin a read that is linearizable as long as clocks differ by at most the configured drift: answered at once while the leader's lease
        holds, else like `read_index`."""
        s = self._s
        if s.reads.lease_is_valid(s):
            s.reads_ready.append(ReadReady(context=context, index=s.log.committed_index))
        else:
            s.reads.ask(s, context)

    def lease_is_valid(self) -> bool:
        return self._s.reads.lease_is_valid(self._s)

    def transfer_leadership(self, target: NodeId | None) -> None:
        """Hand leadership to `target`, None: to the best follower. How it went comes as the event `TransferEnded`.

        Raises `NotLeader`, `UnknownNode`, `MembershipRefused` (not a voter), `Unavailable` (nobody to take it).
        """
        s = self._s
        if s.role is not _LEADER:
            self._raise_not_leader()
        transfer.ask(s, target)

    def abdicate(self) -> TimeoutNow | None:
        """The disk has stalled: a message, to be sent at once, that asks the best follower to campaign; None when there is nobody to ask.

        May be called between `ready` and `persisted`: the message promises nothing. From here on the leader has no lease, as the election it asks for
        passes by the voters' stickiness (thesis 3.10).
        """
        return transfer.abdicate(self._s)

    def campaign(self, *, force: bool = False) -> None:
        """Campaign now, without waiting for the election timeout; nothing happens at a leader or a node that may not. `force`: without pre-vote,
        and although the log was cut by recovery."""
        s = self._s
        if s.role is _LEADER or not (s.is_elector if force else candidate.is_promotable(s)):
            return
        candidate.campaign(s, CAMPAIGN_ASKED, pre_vote=s.config.pre_vote and not force)

    def step_down(self) -> None:
        """Neither lead nor campaign any more, without a successor; the term stays. Nothing happens at a follower. (`transfer_leadership` is the polite way.)"""
        s = self._s
        if s.role in (Role.LEADER, Role.CANDIDATE, Role.PRE_CANDIDATE):
            rest(s, s.term, None, STEPPED_DOWN)

    @property
    def waits_for_founders(self) -> bool:
        """Whether this node has no log and was told (`is_founder`) that it may have lost one."""
        return self._s.promised == ANYTHING

    def found(self) -> None:
        """Nobody who can be reached has a log: this is the first start, so from here on an ordinary majority elects. Nothing happens otherwise."""
        s = self._s
        if s.promised == ANYTHING:
            s.promised = NOTHING

    # -- verbs: the edge ----------------------------------------------------------------------------------------------

    def persisted(self, index: Index) -> None:
        """Step 2 of the last `Ready` is durable; the own log is synced up to `index`."""
        s = self._s
        log = s.log
        index = min(index, log.handed_index)  # what was cut off since does not count
        if index > log.persisted_index:
            log.persisted_index = index
            s.persist_waiting_ticks = 0
            if s.role is _LEADER:
                leader.on_persisted(s)

    def applied(self, index: Index) -> None:
        """The state machine has applied everything up to `index`."""
        s = self._s
        assert index <= s.applying_index
        s.log.applied_index = max(s.log.applied_index, index)

    def compacted(self, first_index: Index, snapshot: SnapshotMeta) -> None:
        """A snapshot of our own is durable; the log begins at `first_index` now (up to snapshot.index + 1; a tail may be kept)."""
        s = self._s
        assert snapshot.index <= s.log.applied_index
        if s.snapshot is None or snapshot.index > s.snapshot.index:
            s.snapshot = snapshot
        assert first_index <= s.snapshot.index + 1
        s.log.compact(first_index)
        s.history.compact(first_index)

    def snapshot_sent(self, target: NodeId, index: Index) -> None:
        """The whole snapshot at `index` reached `target`: go on behind it once its answer, or a heartbeat's, comes."""
        s = self._s
        peer = s.peers.get(target)
        if peer is not None and peer.state is SNAPSHOT and peer.pending_snapshot == index:
            replication.change_progress(s, peer, "snapshot sent", probe_from=index + 1)
            peer.paused = True

    def snapshot_failed(self, target: NodeId) -> None:
        """The snapshot did not reach `target`: probe again once it answers a heartbeat."""
        s = self._s
        peer = s.peers.get(target)
        if peer is not None and peer.state is SNAPSHOT:
            replication.change_progress(s, peer, "snapshot failed")
            peer.paused = True

    def limit_in_flight(self, target: NodeId, bytes_max: int) -> None:
        """From now on have at most `bytes_max` bytes of entries on their way to `target` (one append may pass it), and half of that in one append.

        What the edge has measured, below the configured limits; it holds for this leadership."""
        peer = self._s.peers.get(target)
        if peer is not None:
            peer.window_bytes = bytes_max
            self._s.sends_wanted = True

    def peer_lost(self, target: NodeId) -> None:
        """The connection to `target` broke, or messages to it were dropped: what was in flight is unknown."""
        s = self._s
        peer = s.peers.get(target)
        if peer is None:
            return
        peer.may_have_lost_tail = True
        if peer.state is REPLICATE:
            replication.change_progress(s, peer, "connection lost")
        elif peer.state is PROBE:
            peer.paused = False
            s.sends_wanted = True

    # -- out ----------------------------------------------------------------------------------------------------------

    @property
    def awaits_round(self) -> bool:
        """Whether a read waits for the answers to a round of heartbeats."""
        return bool(self._s.reads.rounds)

    def has_ready(self) -> bool:
        """Whether `ready()` would have anything in it."""
        self._flush()
        s = self._s
        return bool(
            s.entries
            or s.after_sync
            or s.before_sync
            or s.applying_index < s.applicable_index()
            or s.events
            or s.reads_ready
            or s.snapshots_to_send
            or s.install is not None
            or s.discard_from is not None
            or s.hard_state_given.term != s.term
            or s.hard_state_given.vote != s.vote
        )

    def ready(self) -> Ready:
        """Everything there is to do, in the order of its fields. It is taken: the next one begins empty."""
        self._flush()
        s = self._s
        log = s.log
        before, after = s.before_sync, s.after_sync
        hard_state: HardState | None = None
        given = s.hard_state_given
        if given.term != s.term or given.vote != s.vote:
            s.hard_state_given = hard_state = HardState(term=s.term, vote=s.vote)
            if before:
                # No message of a term leaves before that term is durable.
                after = before + after
                before = []
        discard_from = s.discard_from
        # Else `persisted` could not say which of two entries at an index it means.
        assert discard_from is None or log.persisted_index >= log.handed_index or log.handed_index < log.first_index
        committed: tuple[Index, Index] | None = None
        last = s.applicable_index()
        if s.applying_index < last:
            committed = (s.applying_index + 1, last)
            s.applying_index = last
        log.handed_index = log.last_index
        ready = Ready(
            messages_before_sync=tuple(before),
            snapshots_to_send=tuple(s.snapshots_to_send),
            hard_state=hard_state,
            snapshot=s.install,
            discard_from=discard_from,
            entries=tuple(s.entries),
            messages_after_sync=tuple(after),
            committed=committed,
            reads=tuple(s.reads_ready),
            events=tuple(s.events),
        )
        s.before_sync = []
        s.after_sync = []
        s.entries = []
        s.install = None
        s.discard_from = None
        if s.snapshots_to_send:
            s.snapshots_to_send = []
        if s.reads_ready:
            s.reads_ready = []
        if s.events:
            s.events = []
        return ready

    def _flush(self) -> None:
        s = self._s
        if s.role is _LEADER:
            if s.sends_wanted:
                replication.flush(s)
        elif s.reads.asked:
            s.reads.forward(s)

    def _raise_not_leader(self) -> None:
        s = self._s
        member = s.member_of(s.leader)
        raise NotLeader(s.leader, member.address if member is not None else None)

    # -- questions ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert the invariants (tests and simulation call it after every verb)."""
        check_state(self._s)

    def membership_at(self, index: Index) -> Membership:
        """The membership in force at `index`: what `SnapshotMeta.membership` of a snapshot there must be."""
        return self._s.history.at(index)

    def term_at(self, index: Index) -> Term | None:
        """Term of the entry at `index`; None where the log does not know it."""
        return self._s.log.term_at(index)

    def status(self) -> CoreStatus:
        s = self._s
        log = s.log
        return CoreStatus(
            node=s.node_id,
            role=s.role.value,
            term=s.term,
            vote=s.vote,
            leader=s.leader,
            snapshot_index=s.snapshot.index if s.snapshot is not None else 0,
            first_index=log.first_index,
            last_index=log.last_index,
            persisted_index=log.persisted_index,
            committed_index=log.committed_index,
            applied_index=log.applied_index,
            membership=s.membership,
            membership_index=s.history.index,
            peers=tuple(
                PeerStatus(
                    node=peer.node,
                    state=peer.state.value,
                    match_index=peer.match_index,
                    next_index=peer.next_index,
                    in_flight_messages=len(peer.in_flight),
                    in_flight_bytes=peer.in_flight_bytes,
                    window_bytes=min(peer.window_bytes, s.config.in_flight_bytes_max),
                    recently_active=replication.is_active(s, peer),
                    is_learner=not s.membership.is_voter(peer.node),
                )
                for peer in s.peers.values()
            ),
            transfer_target=s.transfer_target,
        )

    @property
    def role(self) -> Role:
        return self._s.role

    @property
    def term(self) -> Term:
        return self._s.term

    @property
    def vote(self) -> NodeId | None:
        return self._s.vote

    @property
    def leader(self) -> NodeId | None:
        return self._s.leader

    @property
    def is_leader(self) -> bool:
        return self._s.role is _LEADER

    @property
    def first_index(self) -> Index:
        return self._s.log.first_index

    @property
    def last_index(self) -> Index:
        return self._s.log.last_index

    @property
    def persisted_index(self) -> Index:
        return self._s.log.persisted_index

    @property
    def committed_index(self) -> Index:
        return self._s.log.committed_index

    @property
    def applied_index(self) -> Index:
        return self._s.log.applied_index

    @property
    def membership(self) -> Membership:
        return self._s.membership

    @property
    def incarnation(self) -> int:
        """Number of this node's data directory (0: none given); the leader records it with `UpdateMember`."""
        return self._s.incarnation

    @property
    def peers(self) -> Mapping[NodeId, Member]:
        """Every other node this one may have to send to, a removed one that does not know it yet included."""
        s = self._s
        known = {node: member for node, member in s.membership.members.items() if node != s.node_id}
        return {**s.departed_members, **known}

    @property
    def retain_index(self) -> Index:
        """Entries from here on must not be purged now: a follower that installs a snapshot will want them (INDEX_MAX: nobody does)."""
        return min((peer.pending_snapshot + 1 for peer in self._s.peers.values() if peer.state is SNAPSHOT), default=INDEX_MAX)
