"""Shutting out for good who still lives in an older epoch of the cluster.

A cluster that lost its quorum is recovered from one survivor under a higher epoch (`replog.storage.recovery_offline`). Its former members, should they come
back with their directories, are refused by the handshake; but a majority of them would still be a quorum among themselves. So a node that meets a member
of its own membership in a higher epoch writes that epoch into its hard state, and from then on takes no part in anything: it neither votes nor acknowledges
nor leads nor answers, in this life and every later one.

Only a member that shows its recorded directory is believed: a mix-up of addresses must not end a node. A node that never meets the recovered cluster cannot know of it:
a majority of old members that see only each other are the old cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from replog.errors import NodeStopped
from replog.node.effects import Fail, Inputs
from replog.raft.core import RaftCore
from replog.types import NodeId


class Fence:
    """Invariant: `epoch` is 0 or higher than the membership's."""

    def __init__(self, core: RaftCore, stored_epoch: int) -> None:
        """`stored_epoch`: the highest that the hard state has seen."""
        self._core = core
        self.epoch = stored_epoch if stored_epoch > core.membership.epoch else 0
        """The epoch that shuts this node out; 0 while it lives in the newest one that it knows."""
        self.met = 0
        """A higher one that was met and is not durable yet."""

    def epoch_seen(self, node: NodeId, epoch: int) -> None:
        """A handshake with `node`, whose directory is the recorded one, showed `epoch`."""
        membership = self._core.membership
        if node in membership.members and epoch > max(membership.epoch, self.epoch):
            self.met = max(self.met, epoch)

    def close(self) -> None:
        """What was met is durable now."""
        self.epoch, self.met = self.met, 0

    def refuse(self, inputs: Inputs) -> Iterator[Fail]:
        """Whoever asks is sent elsewhere; what peers say is not even looked at."""
        asked = [*inputs.tickets, *inputs.reads, *inputs.lease_reads, *inputs.snapshot_requests]
        asked += [ticket for _, ticket in (*inputs.groups, *inputs.requests, *inputs.changes)]
        if asked:
            yield Fail(asked, NodeStopped(self.reason()))

    def reason(self) -> str:
        """What to do, for people; empty while the node is not shut out."""
        if not self.epoch:
            return ""
        return (
            f"fenced: this data directory is of epoch {self._core.membership.epoch} of the cluster, which was recovered as epoch {self.epoch}; "
            "wipe it, start it without initial_members and add it as a learner"
        )
