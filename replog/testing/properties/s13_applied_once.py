"""S13: each command of a client is applied at most once, also over a snapshot and a restart."""

from __future__ import annotations

from replog.testing.properties.base import Property
from replog.types import Index, NodeId


class AppliedOnce(Property):
    name = "S13"
    title = "a command is applied at most once"
    source = "paper 8; thesis 6.3"

    def on_command(self, node: NodeId, index: Index, number: int) -> None:
        first = self.ledger.operation_index.setdefault(number, index)
        if first != index:
            self.broken(f"{node} applies operation {number} at {index}; it was applied at {first}")
