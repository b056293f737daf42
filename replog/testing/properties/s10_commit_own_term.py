"""S10: a leader commits only up to an entry of its own term; older ones are committed with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property
from replog.types import Index

if TYPE_CHECKING:
    from replog.node.replica import Replica


class CommitOwnTerm(Property):
    name = "S10"
    title = "a leader commits by counting only in its own term"
    source = "paper 5.4.2, figure 8"

    def on_commit(self, record: NodeRecord, replica: Replica, before: Index, after: Index) -> None:
        core = replica.core
        if core.is_leader and after > before and record.is_leader and record.term == core.term and record.log.term_at(after) != core.term:
            self.broken(f"{record.node} leads term {core.term} and commits up to {after}, an entry of term {record.log.term_at(after)}")
