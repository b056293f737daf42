"""S6: cursors never go back in a life; term and vote never across lives; purged <= snapshot <= applied <= committed <= last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.storage.interface import Recovered
from replog.testing.ledger import LogMirror, NodeRecord
from replog.testing.properties.base import Property
from replog.types import Index

if TYPE_CHECKING:
    from replog.node.replica import Replica


class NeverBack(Property):
    name = "S6"
    title = "commit, applied, term and vote never go back"
    source = "paper figure 2 (state is updated on stable storage before responding); 5.3"

    def on_term(self, record: NodeRecord, replica: Replica) -> None:
        if replica.core.term < record.term:
            self.broken(f"{record.node} went back from term {record.term} to {replica.core.term}")

    def on_commit(self, record: NodeRecord, replica: Replica, before: Index, after: Index) -> None:
        if after < before:
            self.broken(f"{record.node} moved its commit index back from {before} to {after}")
        if after > replica.core.last_index:
            self.broken(f"{record.node} committed {after} behind its last index {replica.core.last_index}")

    def on_apply(self, record: NodeRecord, replica: Replica, before: Index, after: Index) -> None:
        if after < before:
            self.broken(f"{record.node} moved its applied index back from {before} to {after}")
        snapshot = replica.snapshot_meta.index if replica.snapshot_meta is not None else 0
        purged = replica.core.first_index - 1
        if not purged <= snapshot <= after <= replica.core.committed_index:
            self.broken(
                f"{record.node}: purged {purged} <= snapshot {snapshot} <= applied {after} <= committed {replica.core.committed_index} does not hold"
            )

    def on_restart(self, record: NodeRecord, found: Recovered, mirror: LogMirror) -> None:  # noqa: ARG002
        promised, state = record.durable_state, found.hard_state
        if state.term < promised.term:
            self.broken(f"{record.node} comes back in term {state.term}, it had synced term {promised.term}")
        if state.term == promised.term and promised.vote is not None and state.vote != promised.vote:
            self.broken(f"{record.node} comes back with vote {state.vote} in term {state.term}, it had synced a vote for {promised.vote}")
