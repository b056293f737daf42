"""The first start of a cluster, told apart from the loss of a majority's disks.

Nodes with empty directories and the same `initial_members` are either a new cluster or what is left of an old one whose disks were wiped. Nothing in the
directory says which, and in the second case they would elect one another and begin with an empty log while a survivor still holds the old one. So such a
node is a *founder* (`RaftCore(is_founder=...)`): until it has got a log, its vote counts only together with that of every other member::

    all of initial_members are up, all empty     they elect at once, by everybody's votes
    one of them has a log                        it refuses, or is elected itself and brings the log back; who met it never founds anything
    one of them cannot be reached                after FOUNDING_TIMEOUTS this is taken for a first start, and a majority is enough

The last row is what remains: should every survivor be out of reach for that long while a wiped majority starts with `initial_members`, a second cluster
begins. Survivors and it refuse each other then by their incarnations, so that they never mix.
"""

from __future__ import annotations

from typing import Final

from replog.raft.core import RaftCore
from replog.types import NodeId

FOUNDING_TIMEOUTS: Final = 3
"""How long a founder waits for those who are not there: largest election timeouts since its start."""


class Founding:
    """What a founder has learned of the others. Does nothing on a node that has a log, or joins."""

    def __init__(self, core: RaftCore, *, election_timeout_ticks_max: int) -> None:
        self._core = core
        self._patience_ticks = FOUNDING_TIMEOUTS * election_timeout_ticks_max
        self._holders: set[NodeId] = set()
        """Who was met and has a log."""

    def log_seen(self, node: NodeId) -> None:
        """A handshake showed that `node` of this cluster has a log: so the cluster exists, and is not to be founded."""
        if self._core.waits_for_founders:
            self._holders.add(node)

    def tick(self, now_ticks: int) -> None:
        """`now_ticks`: since the start of the node."""
        if self._core.waits_for_founders and not self._holders and now_ticks >= self._patience_ticks:
            self._core.found()

    def reason(self) -> str:
        """Why nobody leads, for people; empty when it has to do with nothing here."""
        if not self._core.waits_for_founders or self._core.last_index:
            return ""
        if self._holders:
            return (
                f"this data directory is empty, but {', '.join(sorted(self._holders))} of the same cluster has a log: "
                "if it was wiped, see `replog member readmit`, or `replog recover` where a majority was"
            )
        return "this data directory is empty: waiting for all of initial_members, to be sure that this is the first start"
