"""What a node does about a state that has diverged: it tells, stops serving, and takes the state of a node that is right.

1. Each completed window's digest goes to every member (`StateDigest`), and what comes in is compared at equal index.
2. A node that finds itself against a majority of the voters answers nothing any more, hands leadership over, and takes no snapshots.
3. It asks one of those that are right for a snapshot newer than any of its own (those hold the wrong state), again and again until one has arrived.
4. The state is restored from it, and the log behind it, which was never in doubt, is applied again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from replog.errors import ReplogError
from replog.node.divergence import StateDigests, Verdict
from replog.node.effects import Effect, Observe, Send
from replog.raft.core import RaftCore
from replog.raft.events import StateDiverged, StateHealed
from replog.raft.messages import SnapshotFetch, StateDigest
from replog.types import Index, NodeId

_ASK_TICKS: Final = 25
"""Ticks between two requests for a snapshot; below the lease after which its sender stops."""


class Healing:
    """Invariant: `wrong_since` is set exactly while this node must not serve its state."""

    def __init__(self, node_id: NodeId, core: RaftCore, digests: StateDigests) -> None:
        self.wrong_since: Index | None = None
        """End of the window in which this node's state was first found to differ from the majority's."""
        self.divergences = 0
        """Windows in which any node was found to differ."""
        self.healed = 0
        self._node_id = node_id
        self._core = core
        self._digests = digests
        self._right: tuple[NodeId, ...] = ()
        self._asked_tick = 0
        self._asked = 0

    def tell(self, windows: Sequence[tuple[Index, bytes]], applied_index: Index) -> Iterator[Effect]:
        """Windows of ours are complete: everybody hears of them, and they are compared with what others have told."""
        core = self._core
        members = core.membership.nodes
        self._digests.keep_only(members)
        for index, digest in windows:
            messages = [
                StateDigest(source=self._node_id, target=node, term=core.term, index=index, digest=digest)
                for node in members
                if node != self._node_id
            ]
            if messages and self.wrong_since is None:
                yield Send(messages)
            yield from self._judge(index, applied_index)

    def hear(self, message: StateDigest, applied_index: Index) -> Iterator[Effect]:
        if message.source in self._core.membership.nodes:
            self._digests.hear(message.source, message.index, message.digest)
            yield from self._judge(message.index, applied_index)

    def _judge(self, index: Index, applied_index: Index) -> Iterator[Effect]:
        verdict: Verdict = self._digests.judge(index, self._core.membership.all_voters)
        if not verdict.wrong:
            return
        self.divergences += 1
        yield Observe((StateDiverged(index=index, right=verdict.right, wrong=verdict.wrong),), applied_index)
        if verdict.right and self._node_id in verdict.wrong:
            self._right = tuple(node for node in verdict.right if node in self._core.membership.all_voters)
            if self.wrong_since is None:
                self.wrong_since = index
                self._asked_tick = -_ASK_TICKS

    def tick(self, now_ticks: int, snapshot_index: Index) -> Iterator[Effect]:
        """While the state is wrong: lead no longer, and ask for a snapshot newer than our newest, `snapshot_index`."""
        if self.wrong_since is None:
            return
        core = self._core
        if core.is_leader:
            with suppress(ReplogError):
                core.transfer_leadership(self._right[0])
        if now_ticks - self._asked_tick < _ASK_TICKS:
            return
        self._asked_tick = now_ticks
        target = self._right[self._asked // 8 % len(self._right)]  # another one after a while, should the first be gone
        self._asked += 1
        wanted = max(snapshot_index + 1, core.first_index)
        yield Send(
            [
                SnapshotFetch(
                    source=self._node_id,
                    target=target,
                    term=core.term,
                    receiver=self._node_id,
                    snapshot_index=wanted,
                    snapshot_term=core.term,
                    fresh=True,
                )
            ]
        )

    def restored(self, index: Index) -> Iterator[Effect]:
        """The state was replaced by a snapshot at `index`."""
        if self.wrong_since is not None:
            self.wrong_since = None
            self.healed += 1
            yield Observe((StateHealed(index=index),), index)
