"""The replica: core, log, state machine and pending replies in one synchronous owner, without a clock, a task or a socket.

`turn(inputs)` is where the order of execution is written once (DESIGN sections 1.2 and 3): drain the inputs into the core, then for each
`Ready` in the order of its fields: send what may leave before the disk; persist; send what had to wait; apply; reply; release reads. It is a generator
of effects; whoever drives it carries out each effect before asking for the next. The asyncio shell runs `Persist` in a thread or inline; the
simulator on a virtual disk. So a message that promises something cannot leave before the sync that it promises, whoever drives.

Applying is bounded per turn, so that a long replay does not keep heartbeats waiting: `has_work` says that another turn is due at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from replog.config import ClusterConfig, NodeConfig
from replog.errors import (
    Busy,
    CommittedEntriesLost,
    MembershipRefused,
    NodeStopped,
    NotLeader,
    OutcomeUnknown,
    ProposalTooLarge,
    ReplogError,
    TryLater,
    Unavailable,
)
from replog.node.applier import Applier
from replog.node.divergence import StateDigests
from replog.node.effects import Answer, Effect, Fail, Inputs, Observe, Persist, RestoreState, Send, SetPeers, Ticket
from replog.node.entries import Entries
from replog.node.fence import Fence
from replog.node.founding import Founding
from replog.node.healing import Healing
from replog.node.incarnations import Incarnations
from replog.node.snapshots import Snapshots
from replog.node.waiting import Waiting
from replog.raft.core import CoreConfig, RaftCore
from replog.raft.events import Fenced, MembershipChanged, RemovedFromMembership
from replog.raft.messages import (
    EDGE_MESSAGES,
    AppendEntries,
    CoreMessage,
    EdgeMessage,
    Heartbeat,
    InstallSnapshot,
    Message,
    SnapshotFetchReply,
    StateDigest,
)
from replog.raft.ready import Ready
from replog.statemachine import StateMachine
from replog.storage.interface import FrameCodec, Storage, Write
from replog.types import Index, Member, Membership, NodeId, SnapshotMeta

_OF_A_LEADER = (AppendEntries, Heartbeat)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """The two configurations a replica is made from."""

    cluster: ClusterConfig
    node: NodeConfig


class Replica:
    """One node without its shell. Only its owner may call it, one call at a time.

    Invariant: `applied_index` <= the core's committed index.
    """

    def __init__(
        self,
        config: ReplicaConfig,
        *,
        storage: Storage,
        state_machine: StateMachine,
        frame_codec: FrameCodec,
        draw_timeout: Callable[[], int],
    ) -> None:
        """`state_machine` must hold exactly the state at `initial_applied_index(storage, state_machine)`."""
        found = storage.recovered
        self.config = config
        self.storage = storage
        self.state_machine = state_machine
        initial = Membership()
        if config.cluster.initial_members:
            members = {node: Member(address=address) for node, address in sorted(config.cluster.initial_members.items())}
            initial = Membership(voters=tuple(members), members=members)
        membership = found.snapshot.membership if found.snapshot is not None else initial
        applied_index = initial_applied_index(storage, state_machine)
        self.core = RaftCore(
            CoreConfig.from_configs(config.cluster, config.node),
            draw_timeout=draw_timeout,
            hard_state=found.hard_state,
            membership=membership,
            snapshot=found.snapshot,
            first_index=found.first_index,
            last_index=found.last_index,
            terms=found.terms,
            memberships=found.memberships,
            log_bytes=found.log_bytes,
            applied_index=applied_index,
            incarnation=found.incarnation,
            maybe_promised=found.maybe_promised,
            is_founder=bool(config.cluster.initial_members),
        )
        self.founding = Founding(self.core, election_timeout_ticks_max=config.cluster.election_timeout_ticks_max)
        self.fence = Fence(self.core, found.epoch)
        self._fence_told = False
        self.incarnations = Incarnations(self.core, config.node.node_id, found.incarnation)
        digests = StateDigests(config.node.node_id, applied_index, window_entries=config.cluster.state_digest_entries)
        self._entries = Entries(config.node, storage, frame_codec)
        self._applier = Applier(
            state_machine, self._entries, digests, applied_index, _newest_membership(membership, found.memberships, applied_index)
        )
        self.snapshots = Snapshots(config.node, self.core, storage, state_machine, self._applier)
        self.healing = Healing(config.node.node_id, self.core, digests)
        self._waiting = Waiting()
        base = [membership, *(held for _, held in found.memberships)]
        self.removed = _lacks(self.core.membership, config.node.node_id) and any(config.node.node_id in held.nodes for held in base)
        """A committed membership has this node no more: it serves nothing, until it is added again."""
        self.rejected_messages = 0
        """Messages of peers that broke a rule; `last_rejection` says of the last one who sent it and which rule."""
        self.last_rejection = ""
        self._peers: dict[str, str] | None = None
        self.fresh_tick: int | None = None
        """Tick at which the state here was last known to be as new as the leader's commit index then."""
        self._leader_heard = False

    # -- what it holds -------------------------------------------------------------------------------------------------

    @property
    def applied_index(self) -> Index:
        """What the state machine holds."""
        return self._applier.applied_index

    @property
    def snapshot_meta(self) -> SnapshotMeta | None:
        """The newest durable snapshot."""
        return self.snapshots.meta

    @property
    def has_work(self) -> bool:
        """Whether another turn is due at once, without new inputs."""
        return not self.fence.epoch and (bool(self._applier) or self.core.has_ready())

    @property
    def unapplied_entries(self) -> int:
        return self._applier.unapplied_entries

    @property
    def pending_proposals(self) -> int:
        """Proposals that wait for their result."""
        return len(self._applier.pending)

    def refusal(self) -> ReplogError | None:
        """Why this node answers nothing about its state now; None while it does."""
        if self.fence.epoch:
            return NodeStopped(self.fence.reason())
        if self.removed:
            return NodeStopped(f"{self.config.node.node_id} was removed from the membership")
        if self.healing.wrong_since is not None:
            return _diverged(self.config.node.node_id, self.healing.wrong_since)
        return None

    # -- a turn --------------------------------------------------------------------------------------------------------

    def turn(self, inputs: Inputs) -> Iterator[Effect]:
        """Take `inputs` in and yield what is to be done, in the only right order."""
        core, applier = self.core, self._applier
        self._leader_heard = False
        if self._peers is None:
            yield from self._announce_peers()
        if self.fence.met or (self.fence.epoch and not self._fence_told):
            yield from self._put_up_fence()
        if self.fence.epoch:
            yield from self.fence.refuse(inputs)
            return
        yield from self._take_in(inputs)
        while core.has_ready():
            yield from self._carry_out(core.ready())
        if applier:
            yield from self._apply_some()
            while core.has_ready():
                yield from self._carry_out(core.ready())
        yield from self._waiting.release(applier.applied_index, core)
        if (self._leader_heard or core.lease_is_valid()) and not applier:
            self.fresh_tick = inputs.now_ticks

    def _put_up_fence(self) -> Iterator[Effect]:
        """Take no part any more: durable first, then nobody is left waiting for this node."""
        if self.fence.met:
            yield Persist(Write(epoch=self.fence.met))
            self.fence.close()
        self._fence_told = True
        self.core.step_down()
        while self.core.has_ready():
            yield from self._carry_out(self.core.ready())
        yield from self._waiting.fail(NodeStopped(self.fence.reason()))
        yield Observe((Fenced(reason=self.fence.reason()),), self.applied_index)

    def _take_in(self, inputs: Inputs) -> Iterator[Effect]:
        core = self.core
        core.observe_time(inputs.now_ticks)
        self.snapshots.observe_time(inputs.now_ticks)
        if inputs.windows is not None:
            for node, bytes_max in inputs.windows.items():
                core.limit_in_flight(node, bytes_max)
        for message in inputs.messages:
            if isinstance(message, EDGE_MESSAGES):
                yield from self._on_edge_message(message)
            else:
                self._give(message)
                if type(message) in _OF_A_LEADER and message.source == core.leader:
                    self._leader_heard = True
        for peer in inputs.peers_lost:
            core.peer_lost(peer)
            self.snapshots.streams.peer_lost(peer)
        for meta, failure in inputs.snapshots_done:
            yield from self.snapshots.on_done(meta, failure)
        if inputs.ticks:
            core.tick()
            yield from self._on_tick(inputs.now_ticks)
        if inputs.payloads:
            yield from self._propose(inputs.payloads, inputs.tickets)
        for payloads, ticket in inputs.groups:
            yield from self._propose_group(payloads, ticket)
        yield from self._take_requests(inputs)

    def _take_requests(self, inputs: Inputs) -> Iterator[Effect]:
        """What is asked for now and then."""
        for call, ticket in inputs.requests:
            try:
                value = call()
            except ReplogError as error:
                yield Fail([ticket], error)
            else:
                yield Answer([ticket], value)
        for change, ticket in inputs.changes:
            try:
                self._waiting.add_change(change(), ticket)
            except ReplogError as error:
                yield Fail([ticket], error)
        if inputs.snapshot_requests:
            yield from self.snapshots.ask(inputs.snapshot_requests)
        for tickets, verb in ((inputs.reads, self.core.read_index), (inputs.lease_reads, self.core.lease_read)):
            if tickets:
                refusal = self.refusal()
                if refusal is None:
                    yield from self._waiting.begin_read(tickets, verb)
                else:
                    yield Fail(tickets, refusal)

    def _on_tick(self, now_ticks: int) -> Iterator[Effect]:
        yield from self.snapshots.tick()
        yield from self._announce_peers()
        self.founding.tick(now_ticks)
        yield from self.healing.tick(now_ticks, self.snapshots.index)
        if self.core.is_leader:
            self._record_incarnations()

    # -- while the disk is slow ----------------------------------------------------------------------------------------------

    def keepalive(self) -> list[Message]:
        """Heartbeats for a leader whose persist takes long; may be called while a turn waits for its `Persist`.

        They promise nothing that is not durable: the term was when it was won, and the commit index is a majority's.
        """
        core = self.core
        if not core.is_leader:
            return []
        status = core.status()
        return [
            Heartbeat(source=status.node, target=peer.node, term=status.term, committed_index=min(peer.match_index, status.committed_index))
            for peer in status.peers
        ]

    def hand_over_stalled(self) -> list[Message]:
        """A leader whose disk has stalled for an election timeout asks the best follower to campaign; may be called as `keepalive`."""
        message = self.core.abdicate()
        return [message] if message is not None else []

    def give_up_waiting(self) -> Iterator[Fail]:
        """Nobody is to wait for a disk that stalls: what was appended has an unknown outcome. May be called as `keepalive`."""
        tickets = self._applier.pending.drop_from(0)
        if tickets:
            yield Fail(tickets, OutcomeUnknown("the disk stalls before the command was committed here; it may yet be committed"))
        yield from self._waiting.fail_reads(
            Unavailable("the disk stalls before the read was confirmed; nothing was read, ask another node")
        )

    # -- proposals ---------------------------------------------------------------------------------------------------

    def _propose(self, payloads: list[bytes], tickets: list[Ticket]) -> Iterator[Effect]:
        refusal = self._append(payloads)
        if refusal is None:
            self._applier.pending.add(self.core.last_index - len(payloads) + 1, tickets)
        else:
            yield Fail(tickets, refusal)

    def _propose_group(self, payloads: Sequence[bytes], ticket: Ticket) -> Iterator[Effect]:
        refusal = self._append(payloads)
        if refusal is None:
            self._applier.pending.add_group(self.core.last_index - len(payloads) + 1, len(payloads), ticket)
        else:
            yield Fail([ticket], refusal)

    def _append(self, payloads: Sequence[bytes]) -> ReplogError | None:
        """Frame the commands once and give the core their range; the refusal, if nothing was appended."""
        core = self.core
        if not core.is_leader:
            return self.not_leader()
        if self.unapplied_entries > self.config.node.unapplied_entries_max:
            return Busy("committed but unapplied entries", self.unapplied_entries, self.config.node.unapplied_entries_max)
        if self.healing.wrong_since is not None:
            return _diverged(self.config.node.node_id, self.healing.wrong_since)
        frames = self._entries.encode(core.last_index + 1, core.term, payloads)
        try:
            core.propose(count=frames.count, size_bytes=frames.size_bytes, frames=frames)
        except ReplogError as error:
            return error
        return None

    def check_size(self, payload: bytes) -> None:
        """Raises `ProposalTooLarge`; called before a command is queued."""
        if len(payload) > self.config.cluster.entry_bytes_max:
            raise ProposalTooLarge(len(payload), self.config.cluster.entry_bytes_max)

    def not_leader(self) -> NotLeader:
        leader = self.core.leader
        if leader is None:
            return NotLeader()
        member = self.core.membership.members.get(leader)
        return NotLeader(leader, member.address if member is not None else None)

    # -- one Ready, in the order of its fields ---------------------------------------------------------------------------

    def _carry_out(self, ready: Ready) -> Iterator[Effect]:
        write = self._entries.prepare_write(ready)
        if ready.messages_before_sync:
            yield Send(self._entries.attach(ready.messages_before_sync))
        if ready.snapshots_to_send:
            yield from self.snapshots.start(ready.snapshots_to_send)
        if write is not None:
            yield Persist(write)
            if ready.snapshot is not None:
                yield from self._installed(ready.snapshot)
            self.core.persisted(self.core.last_index)
        if ready.messages_after_sync:
            yield Send(self._entries.attach(ready.messages_after_sync))
        if ready.committed is not None:
            self._applier.add(*ready.committed)
        if ready.reads:
            yield from self._waiting.confirmed(ready.reads)
        if ready.events:
            yield Observe(ready.events, self.applied_index)
            yield from self._on_events(ready)
        if self._applier.pending and not self.core.is_leader:
            tickets = self._applier.pending.drop_from(0)
            yield Fail(tickets, OutcomeUnknown("leadership was lost before the command was committed here; it may yet be committed"))

    def _apply_some(self) -> Iterator[Effect]:
        applier = self._applier
        yield from applier.apply_some()
        self.core.applied(max(applier.applied_index, self.core.applied_index))
        self._entries.evict(applier.applied_index)
        if applier.windows:
            windows, applier.windows = applier.windows, []
            yield from self.healing.tell(windows, applier.applied_index)
            yield from self._stop_serving_if_wrong()
        yield from self.snapshots.take_if_due()

    # -- snapshots that arrive, and states that differ --------------------------------------------------------------------

    def _on_edge_message(self, message: EdgeMessage) -> Iterator[Effect]:
        if isinstance(message, SnapshotFetchReply):
            yield from self.snapshots.on_fetch_reply(message)
        elif isinstance(message, StateDigest):
            yield from self.healing.hear(message, self.applied_index)
            yield from self._stop_serving_if_wrong()
        else:
            arrived: list[InstallSnapshot] = []
            # A state that is wrong is replaced by any right one that is newer than our own snapshots, old as it may be for the log.
            behind = self.core.committed_index if self.healing.wrong_since is None else self.snapshots.index
            yield from self.snapshots.receive(message, committed_index=behind, arrived=arrived)
            for install in arrived:
                if install.meta.index > self.core.committed_index:
                    leader = install.source if install.source != self.config.node.node_id else (self.core.leader or "")
                    self._give(replace(install, source=leader))
                elif self.healing.wrong_since is not None:
                    yield from self._heal(install.meta)

    def _installed(self, meta: SnapshotMeta) -> Iterator[Effect]:
        """A received snapshot is durable: its state replaces ours, unless ours is newer and right."""
        self.snapshots.meta = meta
        if meta.index > self.applied_index or self.healing.wrong_since is not None:
            yield from self._restore(meta)
            self.core.applied(max(meta.index, self.core.applied_index))

    def _heal(self, meta: SnapshotMeta) -> Iterator[Effect]:
        """A right state has arrived that ends within our log: it replaces ours, and the log behind it is applied again."""
        if meta.index + 1 < self.core.first_index or meta.index <= self.snapshots.index:
            return
        yield Persist(Write(install=meta))
        self.snapshots.meta = meta
        self.core.compacted(self.storage.first_index, meta)
        yield from self._restore(meta)

    def _restore(self, meta: SnapshotMeta) -> Iterator[Effect]:
        yield RestoreState(meta)
        self._applier.replaced(meta)
        self.snapshots.wanted = True
        yield from self.healing.restored(meta.index)

    def _stop_serving_if_wrong(self) -> Iterator[Effect]:
        wrong_since = self.healing.wrong_since
        if wrong_since is None or not self.snapshots.wanted:
            return
        self.snapshots.wanted = False
        yield from self._waiting.fail_reads(_diverged(self.config.node.node_id, wrong_since))

    def _give(self, message: CoreMessage) -> None:
        """Have the core take a message; one that breaks a rule is counted and dropped."""
        try:
            self.core.receive(message)
        except ReplogError as error:
            self.rejected_messages += 1
            self.last_rejection = f"{type(message).__name__} from {message.source}: {error}"

    def _record_incarnations(self) -> None:
        """Bind the members' names to their data directories, once, when no other change is under way."""
        updates = self.incarnations.to_record()
        if updates:
            with suppress(MembershipRefused, TryLater, NotLeader):
                self.core.change_membership(updates)

    def set_tick_seconds(self, seconds: float) -> None:
        """Length of a tick, for the throttle of snapshots."""
        self.snapshots.streams.tick_seconds = seconds

    def close(self, error: ReplogError) -> Iterator[Fail]:
        """The node ends: everything that waits fails with `error` (what was proposed may yet be committed elsewhere)."""
        tickets = self._applier.pending.drop_from(0)
        if tickets:
            unknown = OutcomeUnknown("the node ended before the command was committed here; it may yet be committed")
            unknown.__cause__ = error
            yield Fail(tickets, unknown)
        yield from self._waiting.fail(error)
        yield from self.snapshots.close(error)

    # -- what the core tells ------------------------------------------------------------------------------------------

    def _on_events(self, ready: Ready) -> Iterator[Effect]:
        for event in ready.events:
            if isinstance(event, MembershipChanged):
                yield from self._announce_peers()
                self.incarnations.follow(event.membership)
                self.removed = self.removed and _lacks(event.membership, self.config.node.node_id)
            elif isinstance(event, RemovedFromMembership) and _lacks(self.core.membership, self.config.node.node_id):
                self.removed = True
                yield from self._waiting.fail_reads(
                    NodeStopped(f"{self.config.node.node_id} was removed from the membership at index {event.index}")
                )

    def _announce_peers(self) -> Iterator[Effect]:
        """Whom the transport has to reach; a removed node too, until it knows of it."""
        addresses = {node: member.address for node, member in sorted(self.core.peers.items())}
        if addresses != self._peers:
            self._peers = addresses
            yield SetPeers(addresses)


def initial_applied_index(storage: Storage, state_machine: StateMachine) -> Index:
    """The log is replayed behind this index: the newest snapshot's, or what a durable state machine holds itself.

    Raises `CommittedEntriesLost` when the state machine holds more than the log, which has lost what was committed then.
    """
    found = storage.recovered
    held = state_machine.durable_index()
    if held > found.last_index:
        raise CommittedEntriesLost(f"the state machine holds everything up to index {held}, but the log ends at {found.last_index}")
    return max(found.snapshot.index if found.snapshot is not None else 0, held)


def _diverged(node_id: NodeId, since: Index) -> Unavailable:
    return Unavailable(
        f"the state of {node_id} differs from the majority's since index {since} or earlier; it is being replaced, ask another node"
    )


def _lacks(membership: Membership, node_id: NodeId) -> bool:
    """Whether `membership` is one (a joining node has none yet) and has no such node."""
    return bool(membership.voters) and node_id not in membership.nodes


def _newest_membership(initial: Membership, changes: Sequence[tuple[Index, Membership]], upto: Index) -> Membership:
    found = initial
    for index, membership in changes:
        if index <= upto:
            found = membership
    return found
