"""S15: equal applied index, equal state; restoring a snapshot is the same as replaying the log, for the membership that it carries, too."""

from __future__ import annotations

from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property
from replog.types import Index, NodeId, SnapshotMeta


class EqualStates(Property):
    name = "S15"
    title = "equal index, equal state"
    source = "paper 2 (replicated state machines), 5.4.3, 7"

    def on_state(self, node: NodeId, index: Index, digest: int) -> None:
        first = self.ledger.digests.setdefault(index, digest)
        if first != digest:
            self.broken(f"{node} has another state at {index} than the first node that reached it")

    def on_snapshot(self, record: NodeRecord, meta: SnapshotMeta) -> None:
        at, expected = next((index, one) for index, one in reversed(self.ledger.memberships) if index <= meta.index)
        if meta.membership != expected:
            self.broken(
                f"{record.node} takes a snapshot at {meta.index} with a membership that is not the one committed at {at}: {meta.membership}"
            )
