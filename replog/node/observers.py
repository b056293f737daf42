"""Readers of the replica's events: counts, waiting for a change of leader, and log lines for people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from replog.node.effects import Observe
from replog.raft.core import RaftCore
from replog.raft.events import (
    CampaignStarted,
    ConflictTruncated,
    Fenced,
    LeaderChanged,
    LearnerCaughtUp,
    MembershipCommitted,
    MessageIgnored,
    RemovedFromMembership,
    RoleChanged,
    SnapshotInstalled,
    StateDiverged,
    StateHealed,
    TransferEnded,
)
from replog.types import NodeId

logger = logging.getLogger("replog")


class Observations:
    """Counts events, and wakes who waits for the leader to change."""

    def __init__(self) -> None:
        self.elections_started = 0
        self.leader_changes = 0
        self.conflicts = 0
        self.snapshots_installed = 0
        self.ignored_messages = 0
        self._waiters: list[asyncio.Future[None]] = []

    def observe(self, observed: Observe) -> None:
        for event in observed.events:
            match event:
                case CampaignStarted():
                    self.elections_started += 1
                case LeaderChanged():
                    self.leader_changes += 1
                    self._wake()
                case TransferEnded() | RoleChanged():
                    self._wake()
                case ConflictTruncated():
                    self.conflicts += 1
                case SnapshotInstalled():
                    self.snapshots_installed += 1
                case MessageIgnored():
                    self.ignored_messages += 1
                case _:
                    pass

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def leadership_left(self, core: RaftCore, node: NodeId) -> bool:
        """Until `node`, whose core this is, follows another leader; False when it leads on, because the transfer has failed."""
        while core.is_leader or core.leader is None or core.leader == node:
            if core.is_leader and core.status().transfer_target is None:
                return False
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return True

    async def leader_known(self, core: RaftCore) -> None:
        """Until the node of `core` leads or follows somebody who does."""
        while core.leader is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


def log_events(node: NodeId) -> Callable[[Observe], None]:
    """An observer that writes one line an event to the logger ``replog``."""

    def observe(observed: Observe) -> None:
        for event in observed.events:
            match event:
                case RoleChanged(role=role, term=term, reason=reason):
                    logger.info("%s: %s in term %d (%s)", node, role.value, term, reason)
                case LeaderChanged(leader=leader, term=term) if leader is not None:
                    logger.info("%s: follows %s in term %d", node, leader, term)
                case ConflictTruncated(first_index=first, last_index=last):
                    logger.warning("%s: dropped entries %d to %d that the leader does not have", node, first, last)
                case MembershipCommitted(index=index, membership=membership):
                    logger.info("%s: membership at %d: voters %s, learners %s", node, index, membership.voters, membership.learners)
                case SnapshotInstalled(index=index, term=term):
                    logger.info("%s: installed the snapshot at %d of term %d", node, index, term)
                case TransferEnded(target=target, succeeded=succeeded, reason=reason):
                    logger.info("%s: transfer to %s %s (%s)", node, target, "done" if succeeded else "failed", reason)
                case LearnerCaughtUp(learner=learner):
                    logger.info("%s: learner %s has caught up", node, learner)
                case StateDiverged(index=index, right=right, wrong=wrong) if right:
                    logger.error("%s: at index %d the state of %s differs from that of %s", node, index, wrong, right)
                case StateDiverged(index=index, wrong=wrong):
                    logger.error(
                        "%s: at index %d the states of %s differ, and none has a majority; compare them by hand", node, index, wrong
                    )
                case StateHealed(index=index):
                    logger.warning("%s: replaced its diverged state by a snapshot at %d", node, index)
                case RemovedFromMembership(index=index):
                    logger.warning("%s: removed from the membership at index %d: it serves no more; stop it, or add it again", node, index)
                case Fenced(reason=reason):
                    logger.error("%s: %s", node, reason)
                case _:
                    pass

    return observe
