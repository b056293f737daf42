"""What the services ask of the node they serve; `replog.node.node.Node` has it, and so have the fakes of tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from replog.config import ClusterConfig, NodeConfig
from replog.raft.membership import MembershipChange
from replog.types import CommandError, EntryId, Index, NodeId, SnapshotMeta


class Queryable(Protocol):
    def query_batch(self, requests: Sequence[bytes]) -> Sequence[bytes | Exception]: ...


class ReportsStatus(Protocol):
    def to_json(self) -> str: ...


class Served(Protocol):
    """What every service needs."""

    @property
    def cluster(self) -> ClusterConfig: ...

    @property
    def config(self) -> NodeConfig: ...


class ServedForClients(Served, Protocol):
    """What `client_service` needs. All calls are on the node's loop."""

    @property
    def state_machine(self) -> Queryable: ...

    def propose_local(self, commands: Sequence[bytes]) -> asyncio.Future[list[bytes | CommandError]]:
        """Replicate on this node or not at all."""
        ...

    async def read_barrier(self, *, timeout: float | None = None) -> Index: ...

    async def lease_read(self, *, timeout: float | None = None) -> Index: ...

    def staleness_seconds(self) -> float: ...

    async def until_restored(self) -> None:
        """Before the state machine is asked: it is whole from then until the loop's next iteration."""
        ...

    def leader_hint(self) -> tuple[NodeId | None, str | None]: ...


class ServedForOperators(Served, Protocol):
    """What `admin_service` needs."""

    def status(self) -> Any:
        """A `replog.node.status.NodeStatus`."""
        ...

    def not_ready_reason(self) -> str: ...

    @property
    def failure(self) -> Exception | None: ...

    async def change_membership(
        self, changes: Sequence[MembershipChange], *, force: bool = False, timeout: float | None = None
    ) -> EntryId: ...

    async def transfer_leadership(self, target: NodeId | None = None, *, timeout: float | None = None) -> None: ...

    async def take_snapshot(self, *, timeout: float | None = None) -> SnapshotMeta | None: ...
