"""S2: a leader never overwrites or deletes entries in its log; it only appends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.storage.interface import Write
from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property

if TYPE_CHECKING:
    from replog.node.replica import Replica


class LeaderAppendOnly(Property):
    name = "S2"
    title = "a leader never changes its own entries"
    source = "paper 5.3, figure 3: Leader Append-Only"

    def on_write(self, record: NodeRecord, replica: Replica, write: Write) -> None:
        if not (record.is_leader and replica.core.is_leader and replica.core.term == record.term):
            return
        if write.install is not None:
            self.broken(f"{record.node} leads term {record.term} and installs a snapshot at {write.install.index}")
        if write.discard_from is not None and write.discard_from <= record.log.last_index:
            self.broken(f"{record.node} leads term {record.term} and drops its entries from {write.discard_from} on")
