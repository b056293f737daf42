"""The smallest driver of `replog.raft`: cores with a disk of Python lists, and the links between them, one step at a time.

Nothing happens by itself: a test, a script (`replog.testing.script`) or a seeded schedule says which node takes its `Ready`, which message arrives,
which is lost. A `Ready` is executed in the order of its fields, as `replog.raft.ready` says; with `disk_held` step 2 and all behind it wait for
`finish_write`, as on a slow disk. A restart builds a new core from what the disk holds.

`CoreCluster.check` asserts after each step what must hold over all nodes: one leader a term (S1), which has every committed entry (S4), equal entries at
equal (index, term) (S3), committed entries fixed and held by a quorum's synced disks (S5, S7), no message ahead of its sender's
disk (S8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from replog.raft import CoreConfig, RaftCore, Ready
from replog.raft.messages import AppendEntries, AppendEntriesReply, CoreMessage, VoteReply, VoteRequest
from replog.raft.quorum import committed_index
from replog.raft.ready import EntriesToWrite
from replog.types import EntryId, EntryKind, HardState, Index, Member, Membership, NodeId, SnapshotMeta, Term


class DiskEntry(NamedTuple):
    term: Term
    kind: EntryKind
    payload: str
    membership: Membership | None = None


class Frames(NamedTuple):
    """The opaque `frames` of this driver: entries by position from `first_index`."""

    first_index: Index
    entries: tuple[DiskEntry, ...]

    def at(self, index: Index) -> DiskEntry:
        return self.entries[index - self.first_index]


@dataclass(slots=True, kw_only=True)
class CoreDisk:
    """What a node finds again after a restart."""

    initial: Membership
    hard_state: HardState = field(default_factory=HardState)
    first_index: Index = 1
    entries: list[DiskEntry] = field(default_factory=list)
    snapshot: SnapshotMeta | None = None
    snapshot_state: tuple[str, ...] = ()
    base_membership: Membership | None = None
    maybe_promised: Index = 0
    wiped: bool = False
    """Everything was lost, promises included: only its incarnation could tell."""

    @property
    def last_index(self) -> Index:
        return self.first_index + len(self.entries) - 1

    def at(self, index: Index) -> DiskEntry:
        return self.entries[index - self.first_index]

    def term_at(self, index: Index) -> Term | None:
        if self.first_index <= index <= self.last_index:
            return self.at(index).term
        return None

    def write(self, ready: Ready, installed_state: tuple[str, ...]) -> None:
        """Step 2 of a Ready."""
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        if ready.snapshot is not None:
            self.snapshot, self.snapshot_state = ready.snapshot, installed_state
            self.base_membership = ready.snapshot.membership
            self.first_index, self.entries = ready.snapshot.index + 1, []
        if ready.discard_from is not None:
            del self.entries[ready.discard_from - self.first_index :]
        for write in ready.entries:
            assert write.first_index == self.last_index + 1, "entries are written without a gap"
            self.entries.extend(entries_of(write))

    def runs(self) -> list[tuple[Index, Term]]:
        found: list[tuple[Index, Term]] = []
        for index, entry in enumerate(self.entries, self.first_index):
            if not found or found[-1][1] != entry.term:
                found.append((index, entry.term))
        return found


def entries_of(write: EntriesToWrite) -> list[DiskEntry]:
    """The entries that a write stands for."""
    if write.frames is None:
        payload = "no-op" if write.kind is EntryKind.NO_OP else "membership"
        return [DiskEntry(write.terms[0][1], write.kind, payload, write.membership)]
    frames = write.frames
    assert isinstance(frames, Frames)
    return [frames.at(index) for index in range(write.first_index, write.last_index + 1)]


class CoreNode:
    """A core and its disk, inbox-less: `cluster` carries its messages."""

    def __init__(self, cluster: CoreCluster, config: CoreConfig, disk: CoreDisk, draw_timeout: Callable[[], int]) -> None:
        self.cluster, self.config, self.disk, self.draw_timeout = cluster, config, disk, draw_timeout
        self.node_id = config.node_id
        self.disk_held = False
        self.unfinished: Ready | None = None
        """The Ready whose step 2 waits for the disk."""
        self.alive = True
        self.is_founder = False
        """It counts as one of the first members that may have lost its log, from its next restart on."""
        self.state: list[str] = []
        """The state machine: the commands applied."""
        self.reads: list[tuple[int, Index | None]] = []
        self.core = self._make_core()

    def _make_core(self) -> RaftCore:
        disk = self.disk
        self.state = list(disk.snapshot_state)
        return RaftCore(
            self.config,
            draw_timeout=self.draw_timeout,
            hard_state=disk.hard_state,
            membership=disk.base_membership or disk.initial,
            snapshot=disk.snapshot,
            first_index=disk.first_index,
            last_index=disk.last_index,
            terms=disk.runs(),
            memberships=[(i, e.membership) for i, e in enumerate(disk.entries, disk.first_index) if e.membership is not None],
            log_bytes=sum(len(entry.payload) for entry in disk.entries),
            maybe_promised=disk.maybe_promised,
            is_founder=self.is_founder,
        )

    def restart(self) -> None:
        """Crash and start again: what was not written is gone."""
        self.unfinished = None
        self.alive = True
        self.core = self._make_core()

    def crash(self) -> None:
        self.alive = False
        self.unfinished = None

    def propose(self, payloads: Sequence[str]) -> EntryId:
        core = self.core
        first = core.last_index + 1
        frames = Frames(first, tuple(DiskEntry(core.term, EntryKind.COMMAND, payload) for payload in payloads))
        return core.propose(count=len(payloads), size_bytes=sum(len(payload) for payload in payloads), frames=frames)

    def compact(self, snapshot_index: Index, first_index: Index) -> SnapshotMeta:
        """Take a snapshot at an applied index and drop the log before `first_index`."""
        core, disk = self.core, self.disk
        term = core.term_at(snapshot_index)
        assert term is not None
        assert snapshot_index <= core.applied_index
        meta = SnapshotMeta(index=snapshot_index, term=term, membership=core.membership_at(snapshot_index))
        base = disk.snapshot.index if disk.snapshot is not None else 0
        commands = list(disk.snapshot_state)
        entries = [disk.at(index) for index in range(base + 1, snapshot_index + 1)]
        commands.extend(entry.payload for entry in entries if entry.kind is EntryKind.COMMAND)
        disk.base_membership = core.membership_at(first_index - 1)
        disk.snapshot, disk.snapshot_state = meta, tuple(commands)
        if first_index > disk.first_index:
            del disk.entries[: first_index - disk.first_index]
            disk.first_index = first_index
        self.cluster.snapshot_states[meta.index, meta.term] = tuple(commands)
        core.compacted(first_index, meta)
        return meta

    # -- a turn -------------------------------------------------------------------------------------------------------

    def take_ready(self) -> Ready | None:
        """Take the next Ready and execute it as far as the disk lets; None when there is nothing, or the disk is still busy."""
        if not self.alive or self.unfinished is not None or not self.core.has_ready():
            return None
        ready = self.core.ready()
        self._send(ready, ready.messages_before_sync)
        for install in ready.snapshots_to_send:
            self.cluster.send(self, install)
        if self.disk_held and ready.must_sync:
            self.unfinished = ready
        else:
            self._finish(ready)
        return ready

    def finish_write(self) -> None:
        ready, self.unfinished = self.unfinished, None
        if ready is not None:
            self._finish(ready)

    def _finish(self, ready: Ready) -> None:
        if ready.must_sync:
            installed: tuple[str, ...] = ()
            if ready.snapshot is not None:
                installed = self.cluster.snapshot_states[ready.snapshot.index, ready.snapshot.term]
                self.state = list(installed)
            self.disk.write(ready, installed)
            if self.disk.last_index >= self.disk.maybe_promised:
                self.disk.maybe_promised = 0
            self.core.persisted(self.disk.last_index)
        self._send(ready, ready.messages_after_sync)
        if ready.committed is not None:
            first, last = ready.committed
            for index in range(first, last + 1):
                entry = self.disk.at(index)
                self.cluster.note_applied(self.node_id, index, entry)
                if entry.kind is EntryKind.COMMAND:
                    self.state.append(entry.payload)
            self.core.applied(last)
        self.reads.extend((read.context, read.index) for read in ready.reads)

    def _send(self, ready: Ready, messages: Iterable[CoreMessage]) -> None:
        for message in messages:
            if isinstance(message, AppendEntries) and message.entries is not None:
                message = self._with_frames(ready, message)
            self.cluster.send(self, message)

    def _with_frames(self, ready: Ready, message: AppendEntries) -> AppendEntries:
        """Attach the entries, from the disk or, not yet written, from the Ready."""
        assert message.entries is not None
        new = {}
        for write in ready.entries:
            new.update(dict(enumerate(entries_of(write), write.first_index)))
        span = range(message.entries.first_index, message.entries.last_index + 1)
        entries = tuple(new[index] if index in new else self.disk.at(index) for index in span)
        return replace(message, frames=Frames(message.entries.first_index, entries))


class CoreCluster:
    """Nodes, the queues of the links between them, and what must hold over all of them."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, CoreNode] = {}
        self.links: dict[tuple[NodeId, NodeId], deque[CoreMessage]] = {}
        self.cut: set[tuple[NodeId, NodeId]] = set()
        """Links that lose everything."""
        self.snapshot_states: dict[tuple[Index, Term], tuple[str, ...]] = {}
        self.committed: dict[Index, DiskEntry] = {}
        self.committed_by_term: dict[Index, Term] = {}
        """A term in which the entry was known to be committed: every leader of a later term has it."""
        self.leaders: dict[Term, NodeId] = {}
        self.votes: dict[tuple[Term, NodeId], NodeId] = {}
        self.dropped: list[CoreMessage] = []

    def add(self, config: CoreConfig, initial: Membership, draw_timeout: Callable[[], int]) -> CoreNode:
        node = CoreNode(self, config, CoreDisk(initial=initial), draw_timeout)
        self.nodes[config.node_id] = node
        return node

    def send(self, node: CoreNode, message: CoreMessage) -> None:
        """Put a message on its link, unless that is cut. S8: the sender's disk covers what it promises."""
        disk = node.disk
        if not isinstance(message, VoteReply) or message.granted:
            is_proposal = type(message).__name__.startswith("PreVote")
            assert is_proposal or disk.hard_state.term >= message.term, f"S8: {message} before its term is durable"
        if isinstance(message, VoteReply) and message.granted:
            assert self._covers(disk.hard_state, message.term, message.target), f"S8: {message} before the vote is durable"
            before = self.votes.setdefault((message.term, node.node_id), message.target)
            assert before == message.target, f"second vote in term {message.term}"
        if isinstance(message, VoteRequest):
            assert self._covers(disk.hard_state, message.term, node.node_id), f"S8: {message} before the own vote is durable"
        if isinstance(message, AppendEntriesReply) and message.rejected_prev_index is None:
            assert message.match_index <= disk.last_index, f"S8: {message} before the entries are durable"
        link = (message.source, message.target)
        if link in self.cut or message.target not in self.nodes:
            self.dropped.append(message)
        else:
            self.links.setdefault(link, deque()).append(message)

    @staticmethod
    def _covers(hard_state: HardState, term: Term, vote: NodeId) -> bool:
        """Whether no restart could vote for another in `term`: the vote is durable, or a later term is."""
        return hard_state.term > term or hard_state == HardState(term=term, vote=vote)

    def deliver(self, source: NodeId, target: NodeId, position: int = 0) -> CoreMessage | None:
        """Let one message of a link arrive; a dead node gets nothing."""
        queue = self.links.get((source, target))
        if not queue:
            return None
        message = queue[position]
        del queue[position]
        node = self.nodes[target]
        if node.alive:
            node.core.receive(message)
        return message

    def note_applied(self, node: NodeId, index: Index, entry: DiskEntry) -> None:
        """S5: every node applies the same entry at an index."""
        known = self.committed.setdefault(index, entry)
        self.committed_by_term.setdefault(index, self.nodes[node].core.term)
        assert known == entry, f"S5: {node} applies {entry} at {index}, but {known} is committed there"

    def check(self) -> None:
        """Assert the invariants of each core, and those over all of them."""
        for node in self.nodes.values():
            if not node.alive:
                continue
            core = node.core
            core.check()
            if core.is_leader:
                if core.term not in self.leaders:
                    self._check_new_leader(node)
                known = self.leaders.setdefault(core.term, node.node_id)
                assert known == node.node_id, f"S1: {known} and {node.node_id} lead term {core.term}"
                self._check_leader(node)
        self._check_log_matching()

    def _check_new_leader(self, leader: CoreNode) -> None:
        core = leader.core
        for index, term in self.committed_by_term.items():
            if term < core.term and index >= core.first_index:
                assert core.term_at(index) == self.committed[index].term, (
                    f"S4: {leader.node_id} leads term {core.term} without committed entry {index}"
                )

    def _check_leader(self, leader: CoreNode) -> None:
        core = leader.core
        for peer in core.status().peers:
            other = self.nodes.get(peer.node)
            if other is None or other.disk.hard_state.term > core.term:
                continue  # a later leader may have dropped what this one was told of
            if other.disk.maybe_promised == 0 and not other.disk.wiped:
                assert peer.match_index <= other.disk.last_index, f"S9: match {peer.match_index} of {peer.node} is not on its disk"
        index = core.committed_index
        if core.term_at(index) == core.term:
            match = {name: index for name, node in self.nodes.items() if self._holds(node, index, core.term)}
            # The membership that decided is the newest that was in the log then: the one at the index, or a later one, whose quorums meet its own.
            later = (core.membership_at(position) for position in range(index, core.last_index + 1))
            agreed = any(committed_index(match, one.voters, one.voters_outgoing) >= index for one in later)
            assert agreed, f"S7: {index} is on no quorum's disks"

    @staticmethod
    def _holds(node: CoreNode, index: Index, term: Term) -> bool:
        disk = node.disk
        is_lost = disk.term_at(index) is None and disk.maybe_promised >= index  # held it, before its recovery cut the log
        return disk.term_at(index) == term or is_lost or (disk.snapshot is not None and disk.snapshot.index >= index)

    def _check_log_matching(self) -> None:
        """S3, over what is on the disks: equal index and term, equal entry and equal predecessor."""
        seen: dict[tuple[Index, Term], tuple[DiskEntry, Term | None]] = {}
        for node in self.nodes.values():
            disk = node.disk
            before: Term | None = None
            for index, entry in enumerate(disk.entries, disk.first_index):
                known, known_before = seen.setdefault((index, entry.term), (entry, before))
                assert known == entry, f"S3: {node.node_id} has another entry at {index} of term {entry.term}"
                assert before is None or known_before is None or before == known_before, f"S3: predecessors of {index} differ"
                before = entry.term


def members(voters: Iterable[NodeId], learners: Iterable[NodeId] = ()) -> Membership:
    """A membership of nodes whose addresses are their names."""
    voters, learners = tuple(sorted(voters)), tuple(sorted(learners))
    return Membership(voters=voters, learners=learners, members={node: Member(address=node) for node in (*voters, *learners)})
