"""Changes of the membership that take several steps, written so that whoever is interrupted just calls again.

A plan keeps nothing: each step looks at the membership that is there and does what is missing. So it may end anywhere (the caller gone, the leader
gone, the deadline passed), and the same call goes on, here or at the next leader::

    replace OLD NEW    NEW is no member        add it as a learner
                       NEW is a learner        wait until it holds the log
                       OLD leads               hand leadership over; the rest is for the next leader
                       OLD is a member         one change: NEW votes, OLD is gone (joint, if that moves two voters)
    readmit NODE       not heard since         wait: what is known may be of its last life
                       another directory       record the new incarnation and make it a learner, in one change
                       it is a learner         wait until it holds the log (and was promoted, where that happens by itself)

The new directory of a readmitted node has forgotten votes and acknowledgements. As a learner it may forget them: from the moment of the change nothing
counts on it (`replog.node.incarnations`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from replog.config import check_address
from replog.errors import MalformedMessage, MembershipChangePending, MembershipRefused, NotLeader, Unavailable, UnknownNode
from replog.node.served import ServedForOperators
from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode
from replog.types import Index, NodeId

STEP_SECONDS_MAX: Final = 30.0
"""How long one change, or leaving a joint membership, may take where the caller has set no deadline."""
CATCH_UP_SECONDS_MAX: Final = 3_600.0
"""... and a new node that gets the log."""
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done, for people, and the index of the membership that it led to."""

    message: str
    index: Index


class MembershipPlan:
    """One call of an operator to one node, with its deadline. Every method raises `NotLeader` where the node does not lead (any more)."""

    def __init__(self, node: ServedForOperators, timeout: float | None) -> None:
        """`timeout`: seconds for all of it."""
        self._node = node
        self._timeout = timeout
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + (timeout if timeout is not None else CATCH_UP_SECONDS_MAX)

    # -- the plans -----------------------------------------------------------------------------------------------------

    async def change(self, changes: Sequence[MembershipChange], *, force: bool = False) -> Index:
        """Make `changes` as one, and wait until they are committed and no joint membership is in force. Returns the index of what is then in force.

        A learner that is to vote must have caught up first, unless `force`: that is waited for, as a voter that is behind may hold up every commit.
        """
        done: Index
        for one in changes:
            if isinstance(one, AddVoter) and not force and self._is_learner(one.node):
                await self._caught_up(one.node)
        remaining = self._remaining() if self._timeout is not None else STEP_SECONDS_MAX
        entry = await self._node.change_membership(changes, force=force, timeout=remaining)
        while True:
            status = self._node.status()
            settled = not status.membership.is_joint and status.membership_index <= status.committed_index
            if settled or status.role != "leader":
                done = max(entry.index, status.membership_index)
                return done
            await self._pause("the change is made, but its joint membership is not left yet")

    async def replace(self, outgoing: NodeId, incoming: NodeId, address: str, *, force: bool = False) -> Done:
        """Put `incoming` (which runs at `address`, without initial members) in the place of `outgoing`.

        Raises `UnknownNode`, `MembershipRefused`, `Unavailable` (it did not catch up; call again), `NotLeader` (go on at the leader named).
        """
        changed = False
        while True:
            status = self._leading()
            membership = status.membership
            if membership.is_joint or status.membership_index > status.committed_index:
                await self._pause("a change of the membership is not committed")
                continue
            if outgoing not in membership.nodes:
                if incoming not in membership.nodes:
                    raise UnknownNode(outgoing, membership.nodes)
                return Done(message=f"{incoming} has replaced {outgoing}{'' if changed else ' already'}", index=status.membership_index)
            leaving = membership.members[outgoing]
            if incoming not in membership.nodes:
                self._check_address(incoming, address)
                await self._step([AddLearner(node=incoming, address=address, stays=leaving.stays_learner)], force=force)
                continue
            known = membership.members[incoming].address
            if address and known != address:
                raise MembershipRefused(
                    f"{incoming} is a member at {known}, not at {address}; correct one (member update), then call again"
                )
            await self._caught_up(incoming)
            if outgoing == self._node.config.node_id:
                await self._node.transfer_leadership(None)
                raise NotLeader(*self._hint())
            promoted: list[MembershipChange] = [AddVoter(node=incoming)] if membership.is_voter(outgoing) else []
            await self._step([*promoted, RemoveNode(node=outgoing)], force=force)
            changed = True

    async def readmit(self, node_id: NodeId, address: str = "", *, force: bool = False) -> Done:
        """Take `node_id` back, whose data directory was wiped or restored: as a learner, which then becomes a voter as any other does.

        What was seen of it before this call may have been its last life's, so nothing is concluded from that before it has answered again. `address`: where
        it runs now, if that is new. Raises as `replace`.
        """
        began = self._clock()
        changed = False
        while True:
            status = self._leading()
            membership = status.membership
            if node_id not in membership.nodes:
                raise UnknownNode(node_id, membership.nodes)
            if node_id == self._node.config.node_id:
                raise MembershipRefused(f"{node_id} leads, so its data directory is the one that the membership records")
            if membership.is_joint or status.membership_index > status.committed_index:
                await self._pause("a change of the membership is not committed")
                continue
            member = membership.members[node_id]
            if address and member.address != address and not membership.is_voter(node_id):
                await self._step([AddLearner(node=node_id, address=address, stays=member.stays_learner)], force=force)
                continue
            seen = status.incarnations_seen.get(node_id, 0)
            if not seen:
                await self._pause(f"{node_id} was not heard of yet: {status.peer_errors.get(node_id) or 'no connection'}")
            elif member.incarnation and seen != member.incarnation:
                await self._step([AddLearner(node=node_id, address=address, incarnation=seen, stays=member.stays_learner)], force=force)
                changed = True
            elif not changed and not self._answered_since(began, status, node_id):
                error = status.peer_errors.get(node_id)
                await self._pause(f"{node_id} has not answered since this call began{f': {error}' if error else ''}")
            elif membership.is_voter(node_id):
                return Done(message=f"{node_id} is a voter, with the data directory it has now", index=status.membership_index)
            elif member.stays_learner or not self._node.config.auto_promote:
                await self._caught_up(node_id)
                return Done(message=f"{node_id} is a learner, with the data directory it has now", index=status.membership_index)
            else:
                await self._pause(f"{node_id} is a learner and has not been promoted")

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def _step(self, changes: Sequence[MembershipChange], *, force: bool) -> None:
        """One change; refused because something else changes just now, the plan looks again."""
        try:
            await self.change(changes, force=force)
        except MembershipChangePending:
            await self._pause("another change of the membership is under way")

    async def _caught_up(self, node_id: NodeId) -> None:
        """Until `node_id` holds the log nearly to its end."""
        lag_max = self._node.config.promote_lag_entries
        while True:
            status = self._leading()
            if node_id == self._node.config.node_id:
                return
            match = next((peer.match_index for peer in status.peers if peer.node == node_id), 0)
            if match and status.last_index - match <= lag_max:
                return
            error = status.peer_errors.get(node_id, "")
            await self._pause(
                f"{node_id} has not caught up: it has {match:,} of {status.last_index:,} entries{f' ({error})' if error else ''}"
            )

    def _is_learner(self, node_id: NodeId) -> bool:
        membership = self._leading().membership
        return node_id in membership.nodes and not membership.is_voter(node_id)

    def _answered_since(self, began: float, status: Any, node_id: NodeId) -> bool:
        """Whether the directory seen last is that of a node that answers now. A follower counts as active for an election timeout after it was heard, so one that is
        active that long after `began` was heard after `began`, over a connection that began with its incarnation."""
        cluster = self._node.cluster
        window_seconds = cluster.election_timeout_ticks_min * cluster.tick_ms / 1000
        active = any(peer.node == node_id and peer.recently_active for peer in status.peers)
        return active and not status.peer_errors.get(node_id) and self._clock() > began + window_seconds

    async def _pause(self, why: str) -> None:
        """A moment; at the deadline `why` is the error."""
        if self._remaining() <= _POLL_SECONDS:
            raise Unavailable(f"{why}; what was done stays, the same call goes on from there")
        await asyncio.sleep(_POLL_SECONDS)

    def _remaining(self) -> float:
        return max(0.0, self._deadline - self._clock())

    def _leading(self) -> Any:
        """The node's status, on the leader; elsewhere `NotLeader`."""
        status = self._node.status()
        if status.role != "leader":
            raise NotLeader(*self._hint())
        return status

    def _hint(self) -> tuple[NodeId | None, str | None]:
        status = self._node.status()
        if status.leader == self._node.config.node_id:
            return None, None
        return status.leader, status.leader_address

    @staticmethod
    def _check_address(node_id: NodeId, address: str) -> None:
        if not address:
            raise MalformedMessage(f"address: found '', allowed: host:port, because {node_id} is no member yet")
        check_address("address", address)
