"""The truth that the properties hold the nodes against: who led when, what was committed, what each disk vouches for.

The simulator writes it as things happen; a property only reads it. Everything is kept incrementally, so that checking costs what changed and not
what there is. An entry stands for itself by a *chain hash* over its payload, term, kind and the chain hash of its predecessor: two logs with the same
hash at an index are the same up to it (so log matching, paper section 5.3, is one comparison).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

from replog.codec import decode_membership
from replog.storage.interface import Recovered, Write
from replog.types import EntryFrames, EntryKind, HardState, Index, Membership, NodeId, Term

_MEMBERSHIP = int(EntryKind.MEMBERSHIP)


class PropertyBroken(AssertionError):
    """A checked property does not hold; the message says which one, where, and with what values."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        super().__init__(f"{name}: {text}")


def chain(before: int, term: Term, kind: int, payload: bytes) -> int:
    """The chain hash of an entry behind one whose chain hash is `before`."""
    return crc32(payload, (before * 31 + term * 7 + kind) & 0xFFFFFFFF)


class LogMirror:
    """What one node's log holds, in memory and at least on disk, as its persists tell.

    Entry `index` is at ``[index - base - 1]`` of the lists. Invariant: durable_last <= last_index; below base only while a snapshot is being installed.
    """

    __slots__ = ("base", "base_chain", "base_term", "chains", "durable_last", "memberships", "replaced", "terms")

    def __init__(self, base: Index = 0, base_term: Term = 0, base_chain: int = 0) -> None:
        self.base, self.base_term, self.base_chain = base, base_term, base_chain
        self.terms: list[Term] = []
        self.chains: list[int] = []
        self.memberships: list[tuple[Index, Membership]] = []
        self.durable_last: Index = base
        """Entries up to here, as they are now, are on the synced disk."""
        self.replaced: dict[Index, int] = {}
        """Chain hashes that the write in flight takes away: a crash may leave them."""

    @property
    def last_index(self) -> Index:
        return self.base + len(self.chains)

    def term_at(self, index: Index) -> Term:
        return self.base_term if index == self.base else self.terms[index - self.base - 1]

    def chain_at(self, index: Index) -> int | None:
        """None where the log no longer reaches back so far, or does not reach so far."""
        position = index - self.base
        if position == 0:
            return self.base_chain
        return self.chains[position - 1] if 0 < position <= len(self.chains) else None

    def truncate(self, first_lost: Index) -> None:
        """Drop `first_lost` and what follows, remembering it until `settle`."""
        keep = max(0, first_lost - self.base - 1)
        for position in range(keep, len(self.chains)):
            self.replaced[self.base + position + 1] = self.chains[position]
        del self.terms[keep:], self.chains[keep:]
        self.memberships = [pair for pair in self.memberships if pair[0] < first_lost]
        self.durable_last = min(self.durable_last, max(self.base, first_lost - 1))

    def append(self, frames: EntryFrames) -> None:
        before = self.chains[-1] if self.chains else self.base_chain
        runs, position, kinds, terms, chains = frames.terms, 0, frames.kinds, self.terms, self.chains
        for run, (first, term) in enumerate(runs):
            end = runs[run + 1][0] - frames.first_index if run + 1 < len(runs) else len(kinds)
            position = first - frames.first_index
            while position < end:
                before = chain(before, term, kinds[position], frames.payloads[position])
                terms.append(term)
                chains.append(before)
                position += 1
        if _MEMBERSHIP in kinds:
            self.memberships += [
                (frames.first_index + place, decode_membership(frames.payloads[place]))
                for place, kind in enumerate(kinds)
                if kind == _MEMBERSHIP
            ]

    def settle(self) -> None:
        """The write in flight is durable."""
        self.durable_last = self.last_index
        self.replaced.clear()


@dataclass(slots=True)
class NodeRecord:
    """What the outside knows of one node, over all its lives (`role` and cursors are of the present one)."""

    node: NodeId
    log: LogMirror = field(default_factory=LogMirror)
    durable_state: HardState = field(default_factory=HardState)
    writing_state: HardState | None = None
    """Hard state in the write in flight: a crash may leave it or the one before."""
    snapshot_index: Index = 0
    """The newest snapshot that this node's disk must have."""
    rotten: bool = False
    """Bits of its disk were flipped: it may come back from an older snapshot, as long as the log covers the rest."""
    alive: bool = False
    is_leader: bool = False
    term: Term = 0
    committed_index: Index = 0
    applied_index: Index = 0
    incarnation: int = 0
    match_seen: dict[NodeId, Index] = field(default_factory=dict)
    """As leader of `term`: the largest match index seen of each peer."""


@dataclass(slots=True)
class Commitment:
    """An index that some node committed first."""

    chain: int
    term: Term
    """Of the entry."""
    leader_term: Term
    """Of the node that committed it first."""


class Ledger:
    """The whole cluster's truth."""

    def __init__(self) -> None:
        self.records: dict[NodeId, NodeRecord] = {}
        self.entry_chains: dict[tuple[Term, Index], int] = {}
        self.leaders: dict[Term, NodeId] = {}
        self.memberships: list[tuple[Index, Membership]] = [(0, Membership())]
        """The membership that the cluster began with (set by the simulator), and those that were committed, with their indexes."""
        self.commitments: list[Commitment] = [Commitment(0, 0, 0)]
        """By index; what has once been committed never changes."""
        self.digests: dict[Index, int] = {}
        """Digest of the state after each index, as the first node that applied it had it."""
        self.operation_index: dict[int, Index] = {}
        """Index at which each operation (by its number) was applied first."""
        self.acknowledged_index: Index = 0
        """The largest index whose result a client has been told."""

    @property
    def committed_index(self) -> Index:
        return len(self.commitments) - 1

    def begin_write(self, record: NodeRecord, write: Write) -> None:
        """The node's log in memory is now this; its disk will be, once the write ends."""
        log = record.log
        if write.hard_state is not None:
            record.writing_state = write.hard_state
        if write.install is not None:
            self._install(record, write.install.index, write.install.term)
        log = record.log
        if write.discard_from is not None:
            log.truncate(write.discard_from)
        for frames in write.frames:
            assert frames.first_index == log.last_index + 1, f"{record.node} writes {frames.first_index} behind {log.last_index}"
            log.append(frames)

    def _install(self, record: NodeRecord, index: Index, term: Term) -> None:
        log = record.log
        if index > log.base and log.chain_at(index) is not None and log.term_at(index) == term:
            return
        replaced = {log.base + position: chained for position, chained in enumerate(log.chains, 1)}
        durable_last = log.durable_last
        record.log = LogMirror(index, term, self.commitments[index].chain)
        record.log.replaced, record.log.durable_last = replaced, min(durable_last, index)

    def end_write(self, record: NodeRecord, write: Write) -> None:
        if record.writing_state is not None:
            record.durable_state, record.writing_state = record.writing_state, None
        if write.install is not None:
            record.snapshot_index = max(record.snapshot_index, write.install.index)
        record.log.settle()

    def recovered(self, record: NodeRecord, found: Recovered, frames: Sequence[EntryFrames]) -> LogMirror:
        """The mirror of what a restart found on the disk; the caller compares and then installs it."""
        base = found.first_index - 1
        if base > self.committed_index:
            raise PropertyBroken(
                "S14", f"{record.node} starts with first index {base + 1}, beyond all that was ever committed ({self.committed_index})"
            )
        commitment = self.commitments[base]
        mirror = LogMirror(base, commitment.term, commitment.chain)
        for batch in frames:
            mirror.append(batch)
        mirror.settle()
        return mirror
