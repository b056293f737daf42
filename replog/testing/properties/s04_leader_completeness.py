"""S4: an entry committed in a term is in the logs of the leaders of all higher terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property

if TYPE_CHECKING:
    from replog.node.replica import Replica


class LeaderCompleteness(Property):
    name = "S4"
    title = "a new leader has every committed entry"
    source = "paper 5.4, figure 3: Leader Completeness"

    def on_leader(self, record: NodeRecord, replica: Replica) -> None:
        commitments, term = self.ledger.commitments, replica.core.term
        index = len(commitments) - 1
        while commitments[index].leader_term >= term:
            index -= 1
        if index <= record.log.base:
            return
        held = record.log.chain_at(index)
        if held != commitments[index].chain:
            what = "has another entry" if held is not None else f"ends at {record.log.last_index}"
            self.broken(
                f"{record.node} leads term {term} without index {index}, committed in term {commitments[index].leader_term}: its log {what}"
            )
