"""Who waits for an index to be applied: reads that were confirmed at one, and changes that were appended at one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

from replog.errors import OutcomeUnknown, ReplogError, Unavailable
from replog.node.effects import Answer, Fail, Ticket
from replog.raft.core import RaftCore
from replog.raft.ready import ReadReady
from replog.types import EntryId, Index


class Waiting:
    """Invariant: a ticket given to it is answered or failed once, by `release`, `confirmed` or `fail`."""

    def __init__(self) -> None:
        self._contexts: dict[int, list[Ticket]] = {}
        """Reads whose index is not known yet."""
        self._reads: list[tuple[Index, int, list[Ticket]]] = []
        """Heap of reads whose index is known but not yet applied."""
        self._changes: list[tuple[EntryId, Ticket]] = []
        self._next_context = 1

    def begin_read(self, tickets: list[Ticket], verb: Callable[[int], None]) -> Iterator[Fail]:
        """One context for all that wait: one round confirms them together (thesis 6.4)."""
        context = self._next_context
        self._next_context += 1
        self._contexts[context] = tickets
        try:
            verb(context)
        except ReplogError as error:
            del self._contexts[context]
            yield Fail(tickets, error)

    def confirmed(self, reads: Sequence[ReadReady]) -> Iterator[Fail]:
        """What the core says of the reads that were begun."""
        for read in reads:
            tickets = self._contexts.pop(read.context, None)
            if tickets is None:
                continue
            if read.index is None:
                yield Fail(tickets, Unavailable("the read could not be confirmed by a leader; nothing was read, try again"))
            else:
                heappush(self._reads, (read.index, read.context, tickets))

    def add_change(self, entry_id: EntryId, ticket: Ticket) -> None:
        self._changes.append((entry_id, ticket))

    def release(self, applied_index: Index, core: RaftCore) -> Iterator[Answer | Fail]:
        """Answer those whose index is applied."""
        while self._reads and self._reads[0][0] <= applied_index:
            index, _, tickets = heappop(self._reads)
            yield Answer(tickets, index)
        if self._changes:
            yield from self._release_changes(applied_index, core)

    def _release_changes(self, applied_index: Index, core: RaftCore) -> Iterator[Answer | Fail]:
        """A change is done when its entry is applied; an entry of another term in its place means that it was lost."""
        waiting: list[tuple[EntryId, Ticket]] = []
        for entry_id, ticket in self._changes:
            replaced = core.last_index < entry_id.index or (
                core.first_index <= entry_id.index and core.term_at(entry_id.index) != entry_id.term
            )
            if replaced:
                yield Fail([ticket], OutcomeUnknown(f"entry {entry_id.index} of term {entry_id.term} was replaced by another leader's"))
            elif entry_id.index <= applied_index:
                yield Answer([ticket], entry_id)
            else:
                waiting.append((entry_id, ticket))
        self._changes = waiting

    def fail_reads(self, error: ReplogError) -> Iterator[Fail]:
        for tickets in [*self._contexts.values(), *(tickets for _, _, tickets in self._reads)]:
            yield Fail(tickets, error)
        self._contexts.clear()
        self._reads.clear()

    def fail(self, error: ReplogError) -> Iterator[Fail]:
        """The node ends: reads fail with `error`; what was appended may yet be committed elsewhere."""
        changes, self._changes = self._changes, []
        if changes:
            unknown = OutcomeUnknown("the node ended before the change was applied here")
            unknown.__cause__ = error
            yield Fail([ticket for _, ticket in changes], unknown)
        yield from self.fail_reads(error)
