"""How a call of the application reaches the owner, and what it is told where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from replog.client.client import ReplogClient
from replog.config import ClusterConfig, NodeConfig
from replog.errors import DeadlineExceeded, NodeStopped, OutcomeUnknown, ReplogError, Unavailable
from replog.node.effects import Inputs, Ticket
from replog.node.loop import OwnerLoop
from replog.node.observers import Observations
from replog.node.queries import Queries

_T = TypeVar("_T")


class Asking:
    """The part of `replog.node.node.Node` that all of its calls go through."""

    def __init__(self, cluster: ClusterConfig, config: NodeConfig) -> None:
        self.cluster = cluster
        self.config = config
        self._observations = Observations()
        self._loop: OwnerLoop | None = None
        """The owner, from the start on, and also when it has stopped or failed."""
        self._queries: Queries | None = None
        self._client: ReplogClient | None = None
        """What goes to another node goes by it."""
        self._stopped = asyncio.Event()

    @property
    def failure(self) -> Exception | None:
        """Why the node has failed (its disk, or a broken invariant); None while it is well."""
        return self._loop.failure if self._loop is not None else None

    def _started(self) -> OwnerLoop:
        if self._loop is None:
            raise NodeStopped("the node has not been started")
        return self._loop

    def _running(self) -> OwnerLoop:
        loop = self._loop
        if loop is None or self._stopped.is_set():
            cause = self.failure
            error = NodeStopped("the node is not running" if cause is None else f"the node has failed: {cause}")
            raise error from cause
        if loop.replica.fence.epoch:
            raise NodeStopped(f"{self.config.node_id}: {loop.replica.fence.reason()}; use another node")
        if loop.replica.removed:
            raise NodeStopped(f"{self.config.node_id} was removed from the membership, so it serves no more; use another node")
        return loop

    async def _ask(self, kind: type[_T], timeout: float | None, add: Callable[[Inputs, Ticket], None]) -> _T:
        """Put a ticket into the inbox and wait for its value, which is a `kind`."""
        loop = self._running()
        if loop.stalls:
            raise loop.stalled_error()
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        add(loop.inbox.inputs, future)
        loop.inbox.wake()
        value = await (self._within(timeout, future, reads=True) if timeout is not None else future)
        assert isinstance(value, kind)
        return value

    async def until_restored(self) -> None:
        """Wait while a snapshot replaces the state. Whoever looks at the state machine in the same iteration of the loop sees it whole."""
        loop = self._running()
        if not loop.restored.is_set():
            await loop.restored.wait()
            if loop.failure is not None:
                raise NodeStopped(f"the node has failed: {loop.failure}") from loop.failure

    async def _first_query(self, request: bytes) -> bytes:
        """Look whether this node serves; those who ask until its owner's next turn join this one."""
        loop = self._running()
        if loop.replica.core.leader is None:
            await self._until_leader_known()
        if loop.stalls:
            raise loop.stalled_error()
        assert self._queries is not None
        return await self._queries.ask(request)

    async def _within(self, timeout: float, work: Awaitable[_T], *, reads: bool = False) -> _T:
        try:
            return await asyncio.wait_for(work, timeout)
        except TimeoutError:
            error: ReplogError = (
                DeadlineExceeded(f"no answer within {timeout:.3f} s")
                if reads
                else OutcomeUnknown(f"no answer within {timeout:.3f} s; the command may yet be committed")
            )
            raise error from None

    def _forwarder(self) -> ReplogClient | None:
        """The node's own client, for what only the leader can do; None while this node knows no other."""
        if self._client is None:
            replica = self._running().replica
            membership = replica.core.membership
            addresses = [member.address for node, member in sorted(membership.members.items()) if node != self.config.node_id]
            if not addresses:
                return None
            self._client = ReplogClient(addresses, cluster_id=self.cluster.cluster_id)
        return self._client

    async def _until_leader_known(self) -> None:
        """Just after the start nobody leads yet: what needs a leader waits, at most for two election timeouts. Raises `Unavailable`, `NodeStopped`."""
        core = self._running().replica.core
        patience = 2 * self.cluster.election_timeout_ticks_max * self.cluster.tick_ms / 1000
        try:
            await asyncio.wait_for(self._observations.leader_known(core), patience)
        except TimeoutError:
            raise Unavailable(f"no leader was known within {patience:.3f} s") from None
        self._running()
