"""Committed entries on their way into the state machine, a bounded share of them a turn, and their results on the way back.

Batches go to the state machine as they were framed, cut only where the term changes, where Raft's own entries stand between commands, and at the end
of a digest's window (`replog.node.divergence`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from replog.codec import decode_membership
from replog.node.divergence import StateDigests
from replog.node.effects import Reply, ReplyGroup
from replog.node.entries import Entries
from replog.node.pending import Pending
from replog.statemachine import StateMachine
from replog.types import EntryFrames, EntryKind, Index, Membership, SnapshotMeta, Term

_COMMAND: Final = int(EntryKind.COMMAND)
_TURN_BYTES_MAX: Final = 4 * 1024 * 1024
_TURN_ENTRIES_MAX: Final = 16_384
"""A turn applies no more than this, so that a long replay does not keep heartbeats waiting."""


class Applier:
    """Invariant: `applied_index` is what the state machine holds; the backlog goes on behind it without a gap."""

    def __init__(
        self, state_machine: StateMachine, entries: Entries, digests: StateDigests, applied_index: Index, membership: Membership
    ) -> None:
        self.applied_index = applied_index
        self.membership = membership
        """The newest membership among the applied entries."""
        self.bytes_since_snapshot = 0
        self.pending = Pending()
        self.windows: list[tuple[Index, bytes]] = []
        """Digests of the windows that were completed and not yet told."""
        self._state_machine = state_machine
        self._entries = entries
        self._digests = digests
        self._backlog: deque[tuple[Index, Index]] = deque()

    def __bool__(self) -> bool:
        """Whether committed entries wait to be applied."""
        return bool(self._backlog)

    @property
    def unapplied_entries(self) -> int:
        return sum(last - first + 1 for first, last in self._backlog) if self._backlog else 0

    def add(self, first: Index, last: Index) -> None:
        """The core has committed these."""
        self._backlog.append((first, last))

    def replaced(self, meta: SnapshotMeta) -> None:
        """The state machine's state is now that of `meta`; what was committed behind it is applied (again, if `meta` is older than the state was)."""
        last = self._backlog[-1][1] if self._backlog else self.applied_index
        self._backlog = deque([(meta.index + 1, last)] if last > meta.index else [])
        self.applied_index = meta.index
        self.membership = meta.membership
        self.bytes_since_snapshot = 0
        self._digests.reset(meta.index)

    def apply_some(self) -> Iterator[Reply | ReplyGroup]:
        """Apply the next committed entries, at most one turn's share of them; yields the replies that are complete."""
        room_bytes, room_entries = _TURN_BYTES_MAX, _TURN_ENTRIES_MAX
        while self._backlog and room_bytes > 0 and room_entries > 0:
            first, last = self._backlog.popleft()
            end = min(last, first + room_entries - 1)
            for frames in self._entries.fetch(first, end, room_bytes):
                yield from self._apply_frames(frames)
                first = frames.last_index + 1
                room_bytes -= frames.size_bytes
                room_entries -= frames.count
                self.bytes_since_snapshot += frames.size_bytes
                if room_bytes <= 0:
                    break
            if first <= last:
                self._backlog.appendleft((first, last))

    def _apply_frames(self, frames: EntryFrames) -> Iterator[Reply | ReplyGroup]:
        assert frames.first_index == self.applied_index + 1
        runs = frames.terms
        for position, (first, term) in enumerate(runs):
            last = runs[position + 1][0] - 1 if position + 1 < len(runs) else frames.last_index
            low, high = first - frames.first_index, last - frames.first_index + 1
            kinds = frames.kinds[low:high]
            if kinds.count(_COMMAND) == len(kinds):
                payloads = frames.payloads if high - low == frames.count else frames.payloads[low:high]
                yield from self._apply_commands(first, term, payloads)
                continue
            start = low
            for at in range(low, high):
                if frames.kinds[at] == _COMMAND:
                    continue
                if start < at:
                    yield from self._apply_commands(frames.first_index + start, term, frames.payloads[start:at])
                self._apply_internal(frames.first_index + at, frames.kinds[at], frames.payloads[at])
                start = at + 1
            if start < high:
                yield from self._apply_commands(frames.first_index + start, term, frames.payloads[start:high])

    def _apply_commands(self, first: Index, term: Term, payloads: Sequence[bytes]) -> Iterator[Reply | ReplyGroup]:
        room = self._digests.room(first)
        while len(payloads) > room:
            yield from self._apply_in_window(first, term, payloads[:room])
            first, payloads = first + room, payloads[room:]
            room = self._digests.room(first)
        yield from self._apply_in_window(first, term, payloads)

    def _apply_in_window(self, first: Index, term: Term, payloads: Sequence[bytes]) -> Iterator[Reply | ReplyGroup]:
        results = self._state_machine.apply_batch(first, term, payloads)
        assert len(results) == len(payloads), f"apply_batch returned {len(results)} results for {len(payloads)} commands"
        self._digests.add(results)
        self._advance(first + len(payloads) - 1)
        if self.pending:
            yield from self.pending.applied(first, results)

    def _apply_internal(self, index: Index, kind: int, payload: bytes) -> None:
        """An entry that is Raft's own and not the application's."""
        if kind == EntryKind.MEMBERSHIP:
            self.membership = decode_membership(payload)
        self._advance(index)

    def _advance(self, index: Index) -> None:
        self.applied_index = index
        if self._digests.ends_window(index):
            digest = self._digests.close_window(index, self._state_machine.state_digest())
            if digest is not None:
                self.windows.append((index, digest))
