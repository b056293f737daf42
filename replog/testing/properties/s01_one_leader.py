"""S1: at most one leader can be elected in a term."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property

if TYPE_CHECKING:
    from replog.node.replica import Replica


class OneLeader(Property):
    name = "S1"
    title = "one leader per term"
    source = "paper 5.2, figure 3: Election Safety"

    def on_leader(self, record: NodeRecord, replica: Replica) -> None:
        other = self.ledger.leaders.setdefault(replica.core.term, record.node)
        if other != record.node:
            self.broken(f"{record.node} leads term {replica.core.term}, and so does {other}")
