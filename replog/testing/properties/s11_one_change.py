"""S11: one membership change at a time, none before a commit in the leader's term, and neighbouring memberships share every quorum."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from replog.testing.ledger import NodeRecord
from replog.testing.properties.base import Property
from replog.types import Index, Membership, NodeId

if TYPE_CHECKING:
    from replog.node.replica import Replica


class OneChange(Property):
    name = "S11"
    title = "one membership change at a time, with intersecting quorums"
    source = "paper 6; thesis 4.1; Ongaro's mail of 2015-07-10 on raft-dev (a bug in single-server membership changes)"

    def on_written(self, record: NodeRecord, replica: Replica, first: Index) -> None:
        log, core = record.log, replica.core
        if not log.memberships or log.memberships[-1][0] < first or not core.is_leader:
            return
        for position, (index, membership) in enumerate(log.memberships):
            if index < first or log.term_at(index) != core.term:
                continue
            before = log.memberships[position - 1] if position else None
            if before is not None and before[0] > core.committed_index:
                self.broken(f"{record.node} changes the membership at {index} while the change at {before[0]} is not committed")
            if self._term_of(record, core.committed_index) != core.term:
                self.broken(f"{record.node} changes the membership at {index} before it has committed an entry of its term {core.term}")
            if before is not None and not quorums_intersect(before[1], membership):
                self.broken(
                    f"{record.node} changes the membership at {index} so that a quorum before and one after share no node: from {_short(before[1])} at {before[0]} to {_short(membership)}"
                )

    def _term_of(self, record: NodeRecord, index: Index) -> int:
        return record.log.term_at(index) if index > record.log.base else self.ledger.commitments[index].term


def _short(membership: Membership) -> str:
    return f"{list(membership.voters)} & {list(membership.voters_outgoing)}"


def quorums_intersect(before: Membership, after: Membership) -> bool:
    """Whether every quorum of the one shares a node with every quorum of the other. Exponential in the voters, of which there are few."""
    return all(one & other for one in _quorums(before) for other in _quorums(after))


def _quorums(membership: Membership) -> list[frozenset[NodeId]]:
    """The smallest quorums: a majority of the voters, joined with one of the outgoing voters in a joint membership."""
    majorities = [_majorities(membership.voters), _majorities(membership.voters_outgoing)]
    return [one | other for one in majorities[0] for other in majorities[1]]


def _majorities(voters: tuple[NodeId, ...]) -> list[frozenset[NodeId]]:
    return [frozenset(chosen) for chosen in combinations(voters, len(voters) // 2 + 1)] if voters else [frozenset()]
