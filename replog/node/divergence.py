"""Finding a state machine that has gone its own way: digests of what was applied, compared between nodes at equal index.

Equal logs give equal states only if `apply` is deterministic, and memory is sound. Where it is not, the nodes answer differently for ever, and no
property of the log shows it. So each node digests, window by window of the log, the results of the commands in it, and what the state machine
says of its whole state at the window's end (`StateMachine.state_digest`, if it has one), and tells it to the others::

    log      |......... window .........|......... window .........|...
    digest                              ^ results of the window, state here

A window is digested alone, so a node that restarts in the middle of one takes part again from the next. What a majority of the voters says is
right: who differs from it has diverged, stops serving, and replaces its state by a snapshot of one that is right. Where no two agree, or only
half of them, nobody can tell who is right: that is an alarm for people, and nobody stops.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from replog.node.effects import Result
from replog.types import Index, NodeId

WINDOWS_KEPT: Final = 16
"""Digests kept of each node: a node that lags by more is not compared."""
_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the digests known at `index` say. `right` and `wrong` are empty while they say nothing."""

    index: Index
    right: tuple[NodeId, ...] = ()
    """A majority of the voters (and learners that agree with it)."""
    wrong: tuple[NodeId, ...] = ()
    """Those that differ from it; with `right` empty: all, as they differ and none is a majority."""


class StateDigests:
    """The digests of this node and of the others. One owner, as the replica."""

    def __init__(self, node_id: NodeId, applied_index: Index, *, window_entries: int) -> None:
        """A window ends with each index that is a multiple of `window_entries`; 0: there are none."""
        self._node_id = node_id
        self._window = window_entries or 2**63
        self._known: dict[NodeId, dict[Index, bytes]] = {node_id: {}}
        self._told_upto: Index = 0
        """Disagreements without a majority were told up to this window."""
        self.reset(applied_index)

    # -- this node -----------------------------------------------------------------------------------------------------

    def reset(self, applied_index: Index) -> None:
        """The state was replaced, or the node starts: digest from the next whole window on."""
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._whole = applied_index % self._window == 0
        self._known[self._node_id].clear()

    def room(self, first_index: Index) -> int:
        """Entries from `first_index` on that the window has room for: results of one `add` must not cross its end."""
        return self._window - (first_index - 1) % self._window

    def add(self, results: Sequence[Result]) -> None:
        """The results of applied commands, in order."""
        try:
            self._hash.update(b"".join(results))  # type: ignore[arg-type]  # a CommandError among them takes the other way
        except TypeError:
            for result in results:
                self._hash.update(result if isinstance(result, bytes) else f"{result.kind}:{result.message}".encode())

    def ends_window(self, index: Index) -> bool:
        return index % self._window == 0

    def close_window(self, index: Index, state_digest: bytes) -> bytes | None:
        """The window that ends with `index` is applied; its digest, None when this node has not seen all of it."""
        self._hash.update(state_digest)
        digest = self._hash.digest() if self._whole else None
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._whole = True
        if digest is not None:
            self._note(self._node_id, index, digest)
        return digest

    # -- the others ----------------------------------------------------------------------------------------------------

    def hear(self, node: NodeId, index: Index, digest: bytes) -> None:
        """What `node` says of the window that ends with `index`."""
        if index > 0 and index % self._window == 0:
            self._note(node, index, digest)

    def _note(self, node: NodeId, index: Index, digest: bytes) -> None:
        kept = self._known.setdefault(node, {})
        kept[index] = digest
        while len(kept) > WINDOWS_KEPT:
            del kept[min(kept)]

    def keep_only(self, nodes: Collection[NodeId]) -> None:
        """Forget who is no member any more, so that strangers cost no memory."""
        for node in [node for node in self._known if node not in nodes and node != self._node_id]:
            del self._known[node]

    def judge(self, index: Index, voters: Collection[NodeId]) -> Verdict:
        """Compare what is known of the window that ends with `index`; a disagreement is told once, and again when a majority has formed."""
        by_digest: dict[bytes, list[NodeId]] = {}
        for node in sorted(self._known):
            digest = self._known[node].get(index)
            if digest is not None:
                by_digest.setdefault(digest, []).append(node)
        if len(by_digest) < 2:
            return Verdict(index=index)
        majority = len(voters) // 2 + 1
        for nodes in by_digest.values():
            if sum(node in voters for node in nodes) >= majority:
                wrong = sorted(node for other in by_digest.values() if other is not nodes for node in other)
                return Verdict(index=index, right=tuple(nodes), wrong=tuple(wrong))
        if sum(len(nodes) for nodes in by_digest.values()) < len(voters) or index <= self._told_upto:
            return Verdict(index=index)
        self._told_upto = index
        return Verdict(index=index, wrong=tuple(sorted(node for nodes in by_digest.values() for node in nodes)))
