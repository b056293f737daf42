"""Which data directory stands behind a node's name.

A node whose directory was wiped or restored from a backup has forgotten votes and acknowledgements; if it came back as the voter it was, a committed
entry could be lost. So each directory has a number, drawn when it was made, which a node shows in every handshake. The leader records the
number of each member in the membership, once; from then on everybody refuses another one under that name, until the node has been removed
and added again as a learner.
"""

from __future__ import annotations

from replog.raft.core import RaftCore
from replog.raft.membership import UpdateMember
from replog.types import Membership, NodeId


class Incarnations:
    """What the handshakes showed, against what the membership has."""

    def __init__(self, core: RaftCore, own: NodeId, incarnation: int) -> None:
        """`own` is the node itself, `incarnation` that of its directory."""
        self._core = core
        self._own = own
        self._seen: dict[NodeId, int] = {own: incarnation}
        self._members = frozenset(core.membership.members)

    def expected(self, node: NodeId) -> int | None:
        """The recorded incarnation; 0 where none is recorded (any is accepted). A node that is no member is accepted too: it may be a leader whose
        membership has not reached us yet. A removed one that is still to be told of it is the directory that was removed, and no other."""
        member = self._core.membership.members.get(node) or self._core.peers.get(node)
        return member.incarnation if member is not None else 0

    def seen(self, node: NodeId, incarnation: int) -> None:
        self._seen[node] = incarnation

    def follow(self, membership: Membership) -> None:
        """Another membership is in force. What a node showed before it was added is no longer to be recorded: it may have been wiped since."""
        for node, member in membership.members.items():
            if node not in self._members and not member.incarnation and node != self._own:
                self._seen.pop(node, None)
        self._members = frozenset(membership.members)

    def all_seen(self) -> dict[NodeId, int]:
        """What each node showed last, this one included."""
        return dict(sorted(self._seen.items()))

    def to_record(self) -> list[UpdateMember]:
        """What a leader should record now: members without a number that have shown one."""
        membership = self._core.membership
        return [
            UpdateMember(node=node, incarnation=self._seen[node])
            for node, member in sorted(membership.members.items())
            if not member.incarnation and self._seen.get(node)
        ]
