"""S7: when a leader commits an index, a quorum of the membership holds it on its synced disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property
from replog.types import Index, Membership, NodeId

if TYPE_CHECKING:
    from replog.node.replica import Replica


class SyncedQuorum(Property):
    name = "S7"
    title = "a committed entry is on the synced disks of a quorum"
    source = "paper 5.3, figure 2 (replicated on a majority; stable storage); thesis 10.2.1 (the leader's own write counts once durable)"

    def on_commit(self, record: NodeRecord, replica: Replica, before: Index, after: Index) -> None:
        if not replica.core.is_leader or after <= before:
            return
        wanted = record.log.chain_at(after)
        # What counted was the newest membership of that moment: the one at the index, or a later one. Since then, in the same turn, another may have come.
        memberships = [replica.core.membership_at(after), *(one for index, one in record.log.memberships if index > after)]
        lacking = [self._lacking(membership, after, wanted) for membership in memberships]
        if all(lacking):
            self.broken(f"{record.node} commits {after}, synced only by {lacking[0]}")

    def _lacking(self, membership: Membership, after: Index, wanted: int | None) -> str:
        """The half of `membership` of which no majority holds the entry; empty if there is none."""
        for half in (membership.voters, membership.voters_outgoing):
            holders = [node for node in half if self._holds(node, after, wanted)]
            if half and 2 * len(holders) <= len(half):
                return f"{holders} of {list(half)}"
        return ""

    def _holds(self, node: NodeId, index: Index, wanted: int | None) -> bool:
        record = self.ledger.records.get(node)
        if record is None:
            return False
        log = record.log
        if index <= log.base:
            return record.snapshot_index >= index or log.durable_last >= index
        return log.durable_last >= index and log.chain_at(index) == wanted
