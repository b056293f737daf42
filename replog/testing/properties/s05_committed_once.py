"""S5: what is committed at an index is fixed when it is first committed, and every node agrees.

This is State Machine Safety for the log; S15 is the same for the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.testing.ledger import Commitment, NodeRecord
from replog.testing.properties.base import Property
from replog.types import Index

if TYPE_CHECKING:
    from replog.node.replica import Replica


class CommittedOnce(Property):
    name = "S5"
    title = "a committed index never changes, and every node agrees"
    source = "paper 5.4.3, figure 3: State Machine Safety"

    def on_commit(self, record: NodeRecord, replica: Replica, before: Index, after: Index) -> None:
        log, commitments = record.log, self.ledger.commitments
        for index in range(max(before, log.base) + 1, after + 1):
            held = log.chain_at(index)
            if held is None:
                self.broken(f"{record.node} commits {index}, but its log ends at {log.last_index}")
            if index < len(commitments):
                if commitments[index].chain != held:
                    self.broken(
                        f"{record.node} commits another entry at {index} (term {log.term_at(index)}) than was committed there before"
                    )
            else:
                commitments.append(Commitment(held, log.term_at(index), replica.core.term))
        known = self.ledger.memberships
        known += [(index, membership) for index, membership in log.memberships if known[-1][0] < index <= after]
        if after > len(commitments) - 1:
            self.broken(f"{record.node} commits up to {after}, known committed is {len(commitments) - 1}")
