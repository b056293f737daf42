"""An ordered map of versioned values, with a frozen view that costs nothing to take and does not copy the map.

A snapshot must see the state of one index while later entries go on being applied, and a gigabyte must neither block the node (copying a dict costs
about 140 ns a key: 1.4 s at ten million keys, longer than an election timeout) nor be held twice. So `freeze` copies nothing::

    before          base {a b c}                      reads and writes: base
    frozen          base {a b c}   overlay {b' d}     writes: overlay (None: removed); reads: overlay, then base; the view reads base alone
    view is done    base {a b' c}  overlay {d}        each batch of writes folds a few overlay keys into base
    folded          base {a b' c d}                   reads and writes: base

The memory it costs is that of the keys written meanwhile. Whoever applies a put writes straight into `writable`, so the hot path pays nothing.

Scans need order, writes do not: keys are sorted when a scan asks. Dicts keep their order of insertion, so the keys that are new since the last scan stand at
the end; merging them into the sorted list is nearly linear, and a removed key is skipped by asking the dict.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from typing import Final
from weakref import ref

Versioned = tuple[bytes, int]
"""(value with its revision, mark): both are the owner's; the map only keeps them."""

FOLD_KEYS_MIN: Final = 1024
"""Overlay keys folded into the base at each `fold`, at least: a fraction of a millisecond."""


class FrozenView:
    """The map as it was at `VersionedMap.freeze`; may be read in another thread until `release`."""

    __slots__ = ("__weakref__", "base", "released")

    def __init__(self, base: dict[bytes, Versioned]) -> None:
        self.base = base
        self.released = False

    def release(self) -> None:
        """The view is not read any more; the map may fold what was written meanwhile. Dropping the view does the same."""
        self.released = True


class VersionedMap:
    """Keys to (value with its revision, mark). One caller at a time, a `FrozenView` apart."""

    __slots__ = ("_base", "_keys", "_overlay", "_removed_since_sort", "_view", "writable")

    def __init__(self) -> None:
        self._base: dict[bytes, Versioned] = {}
        self._overlay: dict[bytes, Versioned | None] = {}
        self._view: ref[FrozenView] | None = None
        self._keys: list[bytes] = []
        """Sorted, without repetition; every key of the base is here or among the last of the base; may hold removed keys."""
        self._removed_since_sort = 0
        self.writable: dict[bytes, Versioned] = self._base
        """Where a put goes: ``writable[key] = (value with its revision, mark)``. Ask for it again after each `fold` and `freeze`."""

    def __len__(self) -> int:
        if not self._overlay:
            return len(self._base)
        return sum(1 for _ in self.items())

    def get(self, key: bytes) -> Versioned | None:
        overlay = self._overlay
        if overlay and key in overlay:
            return overlay[key]
        return self._base.get(key)

    def reader(self) -> Callable[[bytes], Versioned | None]:
        """The fastest function that does what `get` does; good until the next `fold` or `freeze`, as `writable`."""
        return self._base.get if self.writable is self._base else self.get

    def remove(self, key: bytes) -> Versioned | None:
        """Remove `key` and return what it had; None: it was not there."""
        found = self.get(key)
        if found is not None:
            if self.writable is self._base:
                del self._base[key]
                self._removed_since_sort += 1
            else:
                self._overlay[key] = None
        return found

    def items(self) -> Iterator[tuple[bytes, Versioned]]:
        """Every key with its value, in no particular order."""
        overlay = self._overlay
        for key, versioned in self._base.items():
            if key not in overlay:
                yield key, versioned
        for key, changed in overlay.items():
            if changed is not None:
                yield key, changed

    # -- frozen views -------------------------------------------------------------------------------------------------

    def freeze(self) -> FrozenView:
        """A view of the map as it is now, at once. While an earlier view is still being read, the new one is a copy (which blocks)."""
        if self._is_viewed():
            return FrozenView(dict(self.items()))
        self._fold_all()
        view = FrozenView(self._base)
        self._view = ref(view)
        self.writable = self._overlay  # type: ignore[assignment]  # puts store no None; only `remove` does
        return view

    def fold(self, writes: int) -> None:
        """Call before a batch of `writes` changes. Moves a few keys from the overlay into the base once the view is done: more of them than the
        batch can add, so that it ends."""
        if self.writable is self._base or self._is_viewed():
            return
        overlay, base = self._overlay, self._base
        for _ in range(min(len(overlay), FOLD_KEYS_MIN + 4 * writes)):
            key, changed = overlay.popitem()
            if changed is not None:
                base[key] = changed
            elif base.pop(key, None) is not None:
                self._removed_since_sort += 1
        if not overlay:
            self.writable = base

    def _is_viewed(self) -> bool:
        view = self._view() if self._view is not None else None
        return view is not None and not view.released

    def _fold_all(self) -> None:
        while self.writable is not self._base:
            self.fold(len(self._overlay))

    # -- scans --------------------------------------------------------------------------------------------------------

    def scan(self, prefix: bytes, after: bytes) -> Iterator[tuple[bytes, Versioned]]:
        """Keys that begin with `prefix` and are greater than `after`, ascending. The map must not change before it is exhausted or dropped."""
        keys = self._sorted_keys()
        start = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        ordered: Iterator[bytes] = islice(keys, start, None)
        overlay = self._overlay
        if overlay:
            ordered = merge(ordered, sorted(key for key in overlay if key.startswith(prefix) and key > after))
        previous = b""
        for key in ordered:
            if not key.startswith(prefix):
                return
            if key != previous:
                previous = key
                found = self.get(key)
                if found is not None:
                    yield key, found

    def _sorted_keys(self) -> list[bytes]:
        added_max = len(self._base) - len(self._keys) + self._removed_since_sort
        if added_max or self._removed_since_sort:
            keys = self._keys
            keys.extend(islice(reversed(self._base), added_max))
            keys.sort()  # two sorted runs, nearly: the sort finds and merges them
            self._keys = [key for key in dict.fromkeys(keys) if key in self._base]
            self._removed_since_sort = 0
        return self._keys
