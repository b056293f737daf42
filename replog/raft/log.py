"""Positions, terms and sizes of the log, without the log: runs of equal term, and extents of bytes.

::

    first_index - 1 : its term is `boundary_term` (None when not known: then a follower there needs a snapshot)

    index    1 ........ 40 | 41 ....... 97 | 98 .... 120
    runs     term 1        | term 4        | term 6             one pair a term
    extents  |   |   |   |   |   |   |   |   |   |   |          one a batch: (last index, bytes up to and with it)

Nothing here is done per entry: an append adds an extent and at most a run. A size inside an extent is an estimate (its mean). Old extents are
joined pair by pair, so that a long log behind a slow follower costs no memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from replog.types import Index, Term, clip_terms

EXTENTS_MAX = 4096
"""Above so many extents the older half is joined in pairs."""
OWN_ENTRY_BYTES = 64
"""Estimate for an entry that the core makes itself (its bytes are encoded at the edge)."""


class Log:
    """Invariants: first_index - 1 <= persisted_index <= last_index (persisted may lag behind an installed snapshot until it is reported),
    committed_index <= last_index, runs ascend in index and in term."""

    __slots__ = (
        "applied_index",
        "boundary_term",
        "committed_index",
        "extent_bytes",
        "extent_ends",
        "first_index",
        "handed_index",
        "last_index",
        "last_term",
        "persisted_index",
        "run_starts",
        "run_terms",
    )

    def __init__(
        self,
        first_index: Index,
        last_index: Index,
        terms: Sequence[tuple[Index, Term]],
        log_bytes: int,
        boundary_term: Term | None,
    ) -> None:
        assert first_index >= 1
        assert last_index >= first_index - 1
        self.first_index = first_index
        self.last_index = last_index
        self.boundary_term = boundary_term
        runs = clip_terms(terms, first_index, last_index) if last_index >= first_index else ()
        assert bool(runs) == (last_index >= first_index)
        assert not runs or runs[0][0] == first_index
        self.run_starts: list[Index] = [start for start, _ in runs]
        self.run_terms: list[Term] = [term for _, term in runs]
        self.last_term: Term = self.run_terms[-1] if runs else (boundary_term or 0)
        # The first extent is the origin: everything before first_index counts 0 bytes.
        self.extent_ends: list[Index] = [first_index - 1]
        self.extent_bytes: list[int] = [0]
        if runs:
            self.extent_ends.append(last_index)
            self.extent_bytes.append(log_bytes)
        self.handed_index: Index = last_index
        """Highest index given out in `Ready.entries` (being written, or written); persisted_index <= handed_index <= last_index."""
        self.persisted_index: Index = last_index
        self.committed_index: Index = 0
        self.applied_index: Index = 0

    # -- terms --------------------------------------------------------------------------------------------------------

    def term_at(self, index: Index) -> Term | None:
        """Term of the entry at `index`; None where the log does not know it (behind its start, or beyond its end)."""
        starts = self.run_starts
        if starts and index >= starts[-1]:
            return self.run_terms[-1] if index <= self.last_index else None
        if index >= self.first_index:
            return self.run_terms[bisect_right(starts, index) - 1] if index <= self.last_index else None
        if index == self.first_index - 1:
            return self.boundary_term
        return None

    def runs(self, first: Index, last: Index) -> tuple[tuple[Index, Term], ...]:
        """The runs of equal term that cover `first` to `last` (both in the log), the first of them starting at `first`."""
        assert self.first_index <= first <= last <= self.last_index
        starts = self.run_starts
        if first >= starts[-1]:
            return ((first, self.run_terms[-1]),)
        low = bisect_right(starts, first) - 1
        high = bisect_right(starts, last)
        return ((first, self.run_terms[low]), *zip(starts[low + 1 : high], self.run_terms[low + 1 : high], strict=True))

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Whether a log that ends with (last_term, last_index) is at least as up to date as this one (paper 5.4.1)."""
        return last_term > self.last_term or (last_term == self.last_term and last_index >= self.last_index)

    def find_conflict_by_term(self, index: Index, term: Term) -> tuple[Index, Term]:
        """The largest position at or before `index` whose term is at most `term`: no entry after it can match a log with `term` at `index`.

        Lets either side skip a whole term of conflict in one round trip (paper 5.3). (index, 0) where the term is not known.
        """
        index = min(index, self.last_index)
        if index >= self.first_index:
            position = bisect_right(self.run_terms, term) - 1
            if position < 0:
                index = self.first_index - 1
            else:
                end = self.run_starts[position + 1] - 1 if position + 1 < len(self.run_starts) else self.last_index
                index = min(index, end)
                if index >= self.first_index:
                    return index, self.term_at(index) or 0
        boundary = self.term_at(index)
        if boundary is not None and boundary > term:
            return max(index - 1, 0), 0
        return index, boundary or 0

    def first_conflict(self, first: Index, last: Index, terms: Sequence[tuple[Index, Term]]) -> Index:
        """The first index of `first`..`last` where this log has another term than `terms` says, or ends; last + 1 when it has them all.

        Positions before `first_index` are committed and count as equal.
        """
        if first == self.last_index + 1:
            return first
        for position, (start, term) in enumerate(terms):
            end = terms[position + 1][0] - 1 if position + 1 < len(terms) else last
            index = max(start, self.first_index)
            while index <= end:
                if index > self.last_index or self.term_at(index) != term:
                    return index
                run = bisect_right(self.run_starts, index)
                index = self.run_starts[run] if run < len(self.run_starts) else self.last_index + 1
        return last + 1

    # -- sizes --------------------------------------------------------------------------------------------------------

    def bytes_upto(self, index: Index) -> int:
        """Bytes of all entries in the log up to and with `index`, counted from an origin that compaction leaves where it was."""
        ends = self.extent_ends
        if index >= ends[-1]:
            return self.extent_bytes[-1]
        position = bisect_left(ends, index)
        end = ends[position]
        if end == index or position == 0:
            return self.extent_bytes[position]
        begin, base = ends[position - 1], self.extent_bytes[position - 1]
        return base + (self.extent_bytes[position] - base) * (index - begin) // (end - begin)

    def size_bytes(self, first: Index, last: Index) -> int:
        return self.bytes_upto(last) - self.bytes_upto(first - 1)

    def last_within(self, first: Index, last: Index, bytes_max: int, entries_max: int) -> Index:
        """The largest index up to `last` such that `first` to it are within both limits; at least `first`."""
        if last - first >= entries_max:
            last = first + entries_max - 1
        base = self.bytes_upto(first - 1)
        limit = base + bytes_max
        if self.bytes_upto(last) <= limit:
            return last
        position = bisect_right(self.extent_bytes, limit) - 1
        best = self.extent_ends[position]
        # Inside the extent that passes the limit, or the one `first` is in: share it out by its mean.
        if position + 1 < len(self.extent_ends):
            begin, end = best, self.extent_ends[position + 1]
            room, whole = limit - self.extent_bytes[position], self.extent_bytes[position + 1] - self.extent_bytes[position]
            best = begin + (end - begin) * room // whole if whole else end
        return max(first, min(best, last))

    # -- changes ------------------------------------------------------------------------------------------------------

    def append(self, count: int, term: Term, size_bytes: int) -> Index:
        """`count` entries of `term` follow; returns the first one's index."""
        first = self.last_index + 1
        if term != self.last_term or not self.run_starts:
            assert term >= self.last_term
            self.run_starts.append(first)
            self.run_terms.append(term)
            self.last_term = term
        self.last_index = last = first + count - 1
        self.extent_ends.append(last)
        self.extent_bytes.append(self.extent_bytes[-1] + size_bytes)
        if len(self.extent_ends) > EXTENTS_MAX:
            self._join_extents()
        return first

    def append_runs(self, first: Index, last: Index, terms: Sequence[tuple[Index, Term]], size_bytes: int) -> None:
        """Entries `first` (the next index) to `last` follow, with the terms that `terms` says (runs that may begin before `first`)."""
        assert first == self.last_index + 1
        for start, term in clip_terms(terms, first, last):
            if term != self.last_term or not self.run_starts:
                assert term >= self.last_term
                self.run_starts.append(start)
                self.run_terms.append(term)
                self.last_term = term
        self.last_index = last
        self.extent_ends.append(last)
        self.extent_bytes.append(self.extent_bytes[-1] + size_bytes)
        if len(self.extent_ends) > EXTENTS_MAX:
            self._join_extents()

    def truncate(self, first_dropped: Index) -> None:
        """Drop `first_dropped` and everything after it. Never a committed entry."""
        assert self.committed_index < first_dropped <= self.last_index
        assert first_dropped >= self.first_index
        kept_bytes = self.bytes_upto(first_dropped - 1)
        while self.extent_ends[-1] >= first_dropped:
            self.extent_ends.pop()
            self.extent_bytes.pop()
        if self.extent_ends[-1] < first_dropped - 1:
            self.extent_ends.append(first_dropped - 1)
            self.extent_bytes.append(kept_bytes)
        while self.run_starts and self.run_starts[-1] >= first_dropped:
            self.run_starts.pop()
            self.run_terms.pop()
        self.last_index = first_dropped - 1
        self.last_term = self.run_terms[-1] if self.run_terms else (self.boundary_term or 0)
        self.handed_index = min(self.handed_index, self.last_index)
        self.persisted_index = min(self.persisted_index, self.last_index)

    def compact(self, first_index: Index) -> None:
        """The log begins at `first_index` from now on; all before it is applied. A smaller one than now changes nothing."""
        if first_index <= self.first_index:
            return
        assert first_index <= self.committed_index + 1
        self.boundary_term = self.term_at(first_index - 1)
        base = self.bytes_upto(first_index - 1)
        keep = bisect_right(self.extent_ends, first_index - 1)
        self.extent_ends[:keep] = [first_index - 1]
        self.extent_bytes[:keep] = [base]
        run = bisect_right(self.run_starts, first_index) - 1
        if first_index > self.last_index:
            self.run_starts.clear()
            self.run_terms.clear()
        elif run >= 0:
            del self.run_starts[:run]
            del self.run_terms[:run]
            self.run_starts[0] = first_index
        self.first_index = first_index

    def reset(self, index: Index, term: Term) -> None:
        """A snapshot replaces the whole log: it is empty and begins after `index`."""
        self.first_index = index + 1
        self.last_index = index
        self.last_term = self.boundary_term = term
        self.run_starts.clear()
        self.run_terms.clear()
        self.extent_ends[:] = [index]
        self.extent_bytes[:] = [0]
        self.handed_index = index
        self.persisted_index = min(self.persisted_index, index)
        self.committed_index = self.applied_index = index

    def _join_extents(self) -> None:
        """Join the older half in pairs: sizes there become means over wider stretches, memory stays bounded."""
        half = len(self.extent_ends) // 2 | 1
        self.extent_ends[:half] = self.extent_ends[0:half:2]
        self.extent_bytes[:half] = self.extent_bytes[0:half:2]

    def check(self) -> None:
        """Assert the invariants of the class."""
        assert self.first_index - 1 <= self.last_index
        assert self.persisted_index <= self.handed_index <= self.last_index
        assert self.applied_index <= self.committed_index <= self.last_index
        assert self.committed_index >= self.first_index - 1
        assert all(a < b for a, b in zip(self.run_starts, self.run_starts[1:], strict=False))
        assert all(a < b for a, b in zip(self.run_terms, self.run_terms[1:], strict=False))
        assert bool(self.run_starts) == (self.last_index >= self.first_index)
        assert not self.run_starts or self.run_starts[0] == self.first_index
        assert self.last_term == (self.run_terms[-1] if self.run_terms else (self.boundary_term or 0))
        assert self.extent_ends[0] == self.first_index - 1
        assert self.extent_ends[-1] == self.last_index
        assert all(a < b for a, b in zip(self.extent_ends, self.extent_ends[1:], strict=False))
        assert all(a <= b for a, b in zip(self.extent_bytes, self.extent_bytes[1:], strict=False))
