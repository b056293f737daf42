"""S3: if two logs have an entry with the same index and term, they are identical up to it.

By the chain hash: (term, index) -> hash over everything up to there is a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property
from replog.types import Index

if TYPE_CHECKING:
    from replog.node.replica import Replica


class LogMatching(Property):
    name = "S3"
    title = "log matching"
    source = "paper 5.3, figure 3: Log Matching"

    def on_written(self, record: NodeRecord, replica: Replica, first: Index) -> None:  # noqa: ARG002
        log, known = record.log, self.ledger.entry_chains
        for position in range(first - log.base - 1, len(log.chains)):
            entry_id = (log.terms[position], log.base + position + 1)
            if known.setdefault(entry_id, log.chains[position]) != log.chains[position]:
                self.broken(
                    f"{record.node} has an entry of term {entry_id[0]} at {entry_id[1]} that differs, or whose past differs, from another's"
                )
