"""Which membership is in force at which index: the memberships in the log, above the one at its start.

A membership is in force from its own entry on (thesis 4.1), so truncating the log brings an older one back, and a snapshot at an index carries
the membership in force there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from replog.types import Index, Member, Membership, NodeId


class MembershipHistory:
    """Invariant: indexes ascend; only the first may lie before the log's first index."""

    __slots__ = ("_indexes", "_memberships")

    def __init__(self, base_index: Index, base: Membership, later: Sequence[tuple[Index, Membership]]) -> None:
        self._indexes: list[Index] = [base_index]
        self._memberships: list[Membership] = [base]
        for index, membership in later:
            if index > base_index:
                self.append(index, membership)

    @property
    def index(self) -> Index:
        """Index of the entry (or snapshot) that put the current membership in force."""
        return self._indexes[-1]

    @property
    def current(self) -> Membership:
        return self._memberships[-1]

    def at(self, index: Index) -> Membership:
        """The membership in force at `index` (the oldest one known for indexes before it)."""
        return self._memberships[max(bisect_right(self._indexes, index) - 1, 0)]

    def index_at(self, index: Index) -> Index:
        """Index of the entry that put the membership at `index` in force."""
        return self._indexes[max(bisect_right(self._indexes, index) - 1, 0)]

    def between(self, first: Index, last: Index) -> tuple[tuple[Index, Membership], ...]:
        """The memberships whose entries are among `first` to `last`."""
        if self._indexes[-1] < first:
            return ()
        low, high = bisect_right(self._indexes, first - 1), bisect_right(self._indexes, last)
        return tuple(zip(self._indexes[low:high], self._memberships[low:high], strict=True))

    def last_member(self, node: NodeId) -> Member | None:
        """What the newest membership that has `node` knows of it."""
        for membership in reversed(self._memberships):
            if node in membership.members:
                return membership.members[node]
        return None

    def append(self, index: Index, membership: Membership) -> None:
        assert index > self._indexes[-1]
        self._indexes.append(index)
        self._memberships.append(membership)

    def truncate(self, first_dropped: Index) -> bool:
        """Forget the memberships at `first_dropped` and after; says whether the one in force changed by it."""
        changed = False
        while self._indexes[-1] >= first_dropped:
            assert len(self._indexes) > 1
            self._indexes.pop()
            self._memberships.pop()
            changed = True
        return changed

    def compact(self, first_index: Index) -> None:
        """Forget what was replaced before `first_index`."""
        keep = max(bisect_right(self._indexes, first_index - 1) - 1, 0)
        del self._indexes[:keep]
        del self._memberships[:keep]

    def reset(self, index: Index, membership: Membership) -> None:
        """A snapshot with `membership` replaces the log up to `index`."""
        self._indexes = [index]
        self._memberships = [membership]

    def check(self, last_index: Index) -> None:
        assert all(a < b for a, b in zip(self._indexes, self._indexes[1:], strict=False))
        assert len(self._indexes) == 1 or self._indexes[-1] <= last_index
