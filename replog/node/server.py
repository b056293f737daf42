"""The node's one gRPC server: peers, clients and operators on one port, with gRPC's health service beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from replog.errors import PortTaken
from replog.rpc.channel import server_options
from replog.rpc.methods import ADMIN_SERVICE, CLIENT_SERVICE, RAFT_SERVICE

CONNECTIONS_CALLS_MAX: Final = 16_384
"""Calls being served at a time, over all connections; more are refused with RESOURCE_EXHAUSTED."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class NodeServer:
    """Bound by `bind`, serving from `start` on, until `stop`."""

    def __init__(self, bind_address: str, handlers: Sequence[grpc.GenericRpcHandler[bytes, bytes]], *, message_bytes_max: int) -> None:
        self._bind_address = bind_address
        self._server = grpc.aio.server(options=server_options(message_bytes_max), maximum_concurrent_rpcs=CONNECTIONS_CALLS_MAX)
        self._server.add_generic_rpc_handlers(tuple(handlers))
        library: Any = health
        self._health = library.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._serving: bool | None = None
        self.bound_address = ""
        """``host:port`` after `bind`, with the port that was taken for port 0."""

    def bind(self) -> str:
        """Take the port; returns the bound address. Raises `PortTaken`."""
        try:
            port = self._server.add_insecure_port(self._bind_address)
        except RuntimeError as error:
            raise PortTaken(self._bind_address, str(error)) from None
        if not port:
            raise PortTaken(self._bind_address, "the port is taken, or the host is not of this machine")
        host = self._bind_address.rpartition(":")[0]
        self.bound_address = f"{host}:{port}"
        return self.bound_address

    async def start(self) -> None:
        await self._server.start()
        await self.set_serving(serving=False)

    async def set_serving(self, *, serving: bool) -> None:
        """What gRPC's health service answers, for the whole server and for each service."""
        if serving == self._serving:
            return
        self._serving = serving
        for service in ("", RAFT_SERVICE, CLIENT_SERVICE, ADMIN_SERVICE):
            await self._health.set(service, _SERVING if serving else _NOT_SERVING)

    async def stop(self, grace_seconds: float = 0.5) -> None:
        """Take no new calls, give those under way `grace_seconds`, then cancel them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)
