"""The newest entries in memory: what is sent, applied and written is fetched here before the segments are asked.

The tail is contiguous and ends at the log's last entry. It holds batches as they were framed, so a range is answered by the batches it
touches, the two at its rims cut; nothing is done per entry. Old batches leave when the tail is over its limit, but never one that is not yet on
disk: the segments could not answer for it.
"""

from __future__ import annotations

from bisect import bisect_right

from replog.types import EntryFrames, Index


class Tail:
    """Contiguous batches of entries, newest last, at most `bytes_max` bytes of those that are on disk."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self._batches: list[EntryFrames] = []
        self._firsts: list[Index] = []
        """First index of each batch, for the search."""

    @property
    def first_index(self) -> Index | None:
        """First entry held; None when empty."""
        return self._firsts[0] if self._firsts else None

    @property
    def last_index(self) -> Index | None:
        return self._batches[-1].last_index if self._batches else None

    def append(self, frames: EntryFrames) -> None:
        """Add a batch behind the last entry; anything held from its first index on must have been truncated."""
        assert not self._batches or frames.first_index == self._batches[-1].last_index + 1
        self._batches.append(frames)
        self._firsts.append(frames.first_index)
        self.size_bytes += frames.size_bytes

    def truncate_from(self, index: Index) -> None:
        """Drop the entries from `index` on (a conflict, paper 5.3)."""
        while self._batches and self._batches[-1].last_index >= index:
            batch = self._batches.pop()
            self._firsts.pop()
            self.size_bytes -= batch.size_bytes
            if batch.first_index < index:
                self.append(batch.slice(batch.first_index, index - 1))

    def clear(self) -> None:
        self._batches.clear()
        self._firsts.clear()
        self.size_bytes = 0

    def evict(self, upto: Index) -> None:
        """Drop oldest batches while over the limit, none that ends behind `upto` (what is on disk and applied)."""
        count = 0
        for batch in self._batches:
            if self.size_bytes <= self.bytes_max or batch.last_index > upto:
                break
            self.size_bytes -= batch.size_bytes
            count += 1
        if count:
            del self._batches[:count]
            del self._firsts[:count]

    def pieces(self, first: Index, last: Index) -> list[EntryFrames] | None:
        """The batches that cover `first` to `last`, cut at both ends; None when `first` is no longer (or not yet) held."""
        if not self._firsts or first < self._firsts[0] or last > self._batches[-1].last_index:
            return None
        position = bisect_right(self._firsts, first) - 1
        found: list[EntryFrames] = []
        while first <= last:
            batch = self._batches[position]
            end = min(last, batch.last_index)
            found.append(batch.slice(first, end))
            first = end + 1
            position += 1
        return found
