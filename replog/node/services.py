"""What a node shows to the network: its peers, clients and operators over gRPC, its metrics and health over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from replog.metrics import NodeCollector
from replog.metrics.definitions import Counts
from replog.node.admin_service import AdminService
from replog.node.client_service import ClientService
from replog.node.http import HttpServer
from replog.node.loop import OwnerLoop
from replog.node.replica import Replica
from replog.node.server import NodeServer
from replog.node.status import NodeStatus
from replog.transport import GrpcTransport, Identity, WireLimits
from replog.transport.interface import DecodeFrames
from replog.types import NodeId

if TYPE_CHECKING:
    from replog.node.node import Node

_HEALTH_SECONDS = 0.25
"""How often gRPC's health answer is brought up to date."""


class Services:
    """Made with the replica, bound and started by `start`; `stop` ends everything, also after a start that failed halfway."""

    def __init__(self, node: Node, replica: Replica, decode_frames: DecodeFrames, registry: CollectorRegistry) -> None:
        cluster, config = node.cluster, node.config
        limits = WireLimits.of(cluster)
        limits.check(config)
        self._node = node
        self._replica = replica
        self.identity = Identity(
            node_id=config.node_id,
            cluster_id=cluster.cluster_id,
            fingerprint=cluster.fingerprint(),
            members_fingerprint=cluster.members_fingerprint(),
            incarnation=replica.storage.recovered.incarnation,
            epoch=replica.core.membership.epoch,
            address=config.advertise_address,
            joining=lambda: replica.core.last_index == 0,
            expected_incarnation=replica.incarnations.expected,
            on_incarnation_seen=replica.incarnations.seen,
            on_log_seen=replica.founding.log_seen,
            on_epoch_seen=replica.fence.epoch_seen,
        )
        self.transport = GrpcTransport(self.identity, decode_frames=decode_frames, limits=limits, outbox_bytes_max=config.outbox_bytes_max)
        self._client_service = ClientService(node)
        self._admin_service = AdminService(node)
        self._server = NodeServer(
            config.bind_address,
            (self.transport.handler, self._client_service.handler, self._admin_service.handler),
            message_bytes_max=limits.envelope_bytes_max,
        )
        self._http: HttpServer | None = None
        if config.http_address:
            self._http = HttpServer(config.http_address, registry, alive=self._not_alive_reason, ready=node.not_ready_reason)
        self._registry = registry
        self.collector: NodeCollector = NodeCollector(registry, self._read)
        self._health: asyncio.Task[None] | None = None
        self._started = False

    @property
    def bound_address(self) -> str:
        return self._server.bound_address

    @property
    def bound_http_address(self) -> str | None:
        return self._http.bound_address if self._http is not None else None

    def peer_errors(self) -> dict[NodeId, str]:
        """Why there is no connection to a peer, by node."""
        return {node: error for node in self._replica.core.peers if (error := self.transport.peer_error(node))}

    async def start(self, loop: OwnerLoop) -> None:
        """Bind every port first (`PortTaken` leaves nothing running), then serve."""
        self._server.bind()
        if self._http is not None:
            await self._http.start()
        config = self._node.config
        if config.direct_port >= 0:
            self.transport.listen_directly(config.bind_address.rpartition(":")[0], config.direct_port)
        self._started = True
        if not self.identity.address:
            self.identity.address = self.bound_address
        await self._server.start()
        await self.transport.start(loop.receive, loop.peer_lost)
        self._health = asyncio.get_running_loop().create_task(self._tell_health(), name="replog-health")

    async def stop(self) -> None:
        self.collector.close()
        if self._health is not None:
            self._health.cancel()
            await asyncio.wait([self._health])
        if self._http is not None:
            await self._http.stop()
        if self._started:
            await self._server.set_serving(serving=False)
            self._client_service.close()
            await self.transport.stop()
            await self._server.stop()

    async def _tell_health(self) -> None:
        while True:
            await self._server.set_serving(serving=not self._node.not_ready_reason())
            self.identity.epoch = self._replica.core.membership.epoch
            await asyncio.sleep(_HEALTH_SECONDS)

    def _not_alive_reason(self) -> str:
        failure = self._node.failure
        return f"failed: {failure}" if failure is not None else ""

    def _read(self) -> tuple[NodeStatus, Counts]:
        node, replica, counters = self._node, self._replica, self.transport.counters
        seen = node.observations
        return node.status(), Counts(
            turns=node.turns,
            persists=node.persists,
            inline_persists=node.inline_persists,
            pending_proposals=replica.pending_proposals,
            rejected_messages=replica.rejected_messages + counters.malformed + counters.refused,
            elections_started=seen.elections_started,
            leader_changes=seen.leader_changes,
            conflicts=seen.conflicts,
            snapshots_taken=replica.snapshots.taken,
            snapshots_installed=seen.snapshots_installed,
            snapshot_chunks_sent=replica.snapshots.streams.chunks_sent,
            snapshot_chunks_received=replica.snapshots.streams.chunks_received,
            messages_sent=counters.messages_sent,
            messages_received=counters.messages_received,
            messages_dropped=counters.messages_dropped,
            bytes_sent=counters.bytes_sent,
            bytes_received=counters.bytes_received,
            connects=counters.connects,
            direct_connects=counters.direct_connects,
            divergences=replica.healing.divergences,
            heals=replica.healing.healed,
        )
