"""S12: a read's index covers every index that was acknowledged before the read began."""

from __future__ import annotations

from replog.testing.properties.base import Property
from replog.types import Index, NodeId


class FreshReads(Property):
    name = "S12"
    title = "a read sees what was acknowledged before it"
    source = "paper 8; thesis 6.4"

    def on_read(self, node: NodeId, index: Index, acknowledged_before: Index) -> None:
        if index < acknowledged_before:
            self.broken(f"{node} releases a read at {index}; {acknowledged_before} had been acknowledged before it began")
