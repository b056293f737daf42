"""A leader has a follower send the snapshot that a third node needs, and sends its own when that comes to nothing.

::

    leader --- SnapshotFetch (again and again) ---> follower --- chunks ---> receiver
           <-- SnapshotFetchReply (how far) -------          <-- answers ---
           <------------------------- acknowledges the installed snapshot ----

The follower sends its *own* newest snapshot. Any will do from which the leader's log goes on, so the log is kept from there while the transfer runs.
Nobody but the leader decides: a follower that is not asked again for `LEASE_TICKS` stops, and the leader takes over no earlier than
`SILENCE_TICKS` after the last report, so that two senders do not undo each other's work at the receiver.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from replog.raft.messages import InstallSnapshot, Message, SnapshotFetch, SnapshotFetchReply
from replog.raft.ready import CoreStatus
from replog.types import INDEX_MAX, Index, NodeId

RENEW_TICKS: Final = 25
"""Ticks between two requests; each is answered by a report."""
LEASE_TICKS: Final = 100
"""A follower that has not been asked for so long stops."""
SILENCE_TICKS: Final = 200
"""A follower that has not reported for so long is given up, and the leader sends itself."""


@dataclass(slots=True)
class _Delegated:
    install: InstallSnapshot
    follower: NodeId
    from_index: Index
    """The log goes on from here: what the follower may send at least, and what must not be purged meanwhile."""
    asked_tick: int
    heard_tick: int


@dataclass(slots=True)
class Report:
    """What a follower's answer means for the leader."""

    sent: InstallSnapshot | None = None
    sent_index: Index = 0
    """Index of the snapshot that has arrived; it need not be that of `sent`."""
    fall_back: InstallSnapshot | None = None
    reason: str = ""


class SnapshotDelegations:
    """The snapshots that followers send for this leader, at most one a receiver."""

    def __init__(self) -> None:
        self._delegated: dict[NodeId, _Delegated] = {}
        self.now_ticks = 0
        self.begun = 0
        """Transfers handed to a follower, and of those the ones that the leader had to take back."""
        self.fallen_back = 0

    def __bool__(self) -> bool:
        return bool(self._delegated)

    def choose(self, status: CoreStatus, receiver: NodeId, lag_max: int) -> NodeId | None:
        """A member that is in step and sends the fewest snapshots now; the first by name among equals."""
        members = status.membership.nodes
        able = [
            peer.node
            for peer in status.peers
            if peer.node != receiver
            and peer.node in members
            and peer.state == "replicate"
            and peer.recently_active
            and status.last_index - peer.match_index <= lag_max
        ]
        load = [delegated.follower for delegated in self._delegated.values()]
        return min(able, key=lambda node: (load.count(node), node), default=None)

    def begin(self, install: InstallSnapshot, follower: NodeId, from_index: Index) -> list[Message]:
        """Ask `follower` to serve `install.target` with a snapshot of `from_index` or later."""
        self.begun += 1
        delegated = _Delegated(install, follower, from_index, self.now_ticks, self.now_ticks)
        self._delegated[install.target] = delegated
        return [_fetch(delegated)]

    def tick(self) -> tuple[list[Message], list[InstallSnapshot]]:
        """What to say, and what the leader has to send itself now."""
        messages: list[Message] = []
        fall_back: list[InstallSnapshot] = []
        for receiver, delegated in sorted(self._delegated.items()):
            if self.now_ticks - delegated.heard_tick >= SILENCE_TICKS:
                messages.append(_fetch(delegated, stop=True))
                fall_back.append(self._take_back(receiver))
            elif self.now_ticks - delegated.asked_tick >= RENEW_TICKS:
                delegated.asked_tick = self.now_ticks
                messages.append(_fetch(delegated))
        return messages, fall_back

    def receive(self, reply: SnapshotFetchReply) -> Report:
        """A report; one of a transfer that is no longer wanted means nothing."""
        delegated = self._delegated.get(reply.receiver)
        if delegated is None or delegated.follower != reply.source or delegated.install.term != reply.term:
            return Report()
        if reply.refused:
            return Report(fall_back=self._take_back(reply.receiver), reason=reply.refused)
        if reply.snapshot_index < delegated.from_index:
            return Report(fall_back=self._take_back(reply.receiver), reason=f"it sends snapshot {reply.snapshot_index}, which is too old")
        delegated.heard_tick = self.now_ticks
        delegated.from_index = reply.snapshot_index
        if not reply.done:
            return Report()
        del self._delegated[reply.receiver]
        return Report(sent=delegated.install, sent_index=reply.snapshot_index)

    def _take_back(self, receiver: NodeId) -> InstallSnapshot:
        self.fallen_back += 1
        return self._delegated.pop(receiver).install

    def follower_of(self, receiver: NodeId) -> NodeId | None:
        """Who sends to `receiver` now."""
        delegated = self._delegated.get(receiver)
        return delegated.follower if delegated is not None else None

    def keep_only(self, receivers: Iterable[NodeId], term: int) -> None:
        """Forget transfers to others than these, or of another term: this node leads no more, or the receiver is gone. Who is not asked again stops."""
        wanted = frozenset(receivers)
        for receiver in list(self._delegated):
            if receiver not in wanted or self._delegated[receiver].install.term != term:
                del self._delegated[receiver]

    def keep_behind(self) -> Index:
        """Index behind which the log must stay."""
        return min((delegated.from_index for delegated in self._delegated.values()), default=INDEX_MAX)


def _fetch(delegated: _Delegated, *, stop: bool = False) -> SnapshotFetch:
    install = delegated.install
    return SnapshotFetch(
        source=install.source,
        target=delegated.follower,
        term=install.term,
        receiver=install.target,
        snapshot_index=delegated.from_index,
        snapshot_term=install.meta.term,
        stop=stop,
    )
