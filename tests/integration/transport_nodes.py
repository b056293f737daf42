"""Two and more transports on real sockets, each with its own server, for tests."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc

from replog.config import ClusterConfig
from replog.node.server import NodeServer
from replog.raft.messages import AppendEntries, EntryRange, HeartbeatReply, Message
from replog.rpc import raft_pb2 as pb
from replog.rpc.methods import RAFT_SERVICE
from replog.storage.frames import EntryFrameCodec
from replog.transport import GrpcTransport, Identity, WireLimits
from replog.types import EntryKind, Index

CLUSTER = ClusterConfig(cluster_id="test")
CODEC = EntryFrameCodec.of(CLUSTER)
LIMITS = WireLimits.of(CLUSTER)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Endpoint:
    """A transport, its server, and what came in."""

    offers_direct = True
    """Whether endpoints offer direct streams; a test may change it for all, or say it of one."""

    def __init__(
        self,
        name: str,
        *,
        bind_address: str = "127.0.0.1:0",
        outbox_bytes_max: int = 64 << 20,
        offers_direct: bool | None = None,
        **identity: Any,
    ) -> None:
        fields: dict[str, Any] = {"cluster_id": "test", "fingerprint": CLUSTER.fingerprint(), "incarnation": 1}
        self.identity = Identity(node_id=name, **{**fields, **identity})
        self.transport = GrpcTransport(self.identity, decode_frames=CODEC.decode, limits=LIMITS, outbox_bytes_max=outbox_bytes_max)
        self.server = NodeServer(bind_address, [self.transport.handler], message_bytes_max=LIMITS.envelope_bytes_max)
        if offers_direct is not None:
            self.offers_direct = offers_direct
        self.received: list[Message] = []
        self.lost: list[str] = []

    @property
    def address(self) -> str:
        return self.server.bound_address

    async def start(self) -> None:
        self.identity.address = self.server.bind()
        await self.server.start()
        if self.offers_direct:
            self.transport.listen_directly("127.0.0.1", 0)
        await self.transport.start(self._receive, self.lost.append)

    def _receive(self, messages: Sequence[Message]) -> None:
        self.received += messages

    async def stop(self) -> None:
        await self.transport.stop()
        await self.server.stop(0.0)


@asynccontextmanager
async def running(*endpoints: Endpoint) -> AsyncIterator[None]:
    """Start them; they know nothing of each other yet."""
    try:
        for endpoint in endpoints:
            await endpoint.start()
        yield
    finally:
        for endpoint in endpoints:
            await endpoint.stop()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def reply(source: str, target: str, number: int) -> HeartbeatReply:
    return HeartbeatReply(source=source, target=target, term=1, round=number)


def append(source: str, target: str, first_index: Index, payloads: list[bytes]) -> AppendEntries:
    frames = CODEC.encode(first_index, 1, EntryKind.COMMAND, payloads)
    entries = EntryRange(first_index=first_index, last_index=frames.last_index, terms=frames.terms, size_bytes=frames.size_bytes)
    return AppendEntries(
        source=source,
        target=target,
        term=1,
        prev_index=first_index - 1,
        prev_term=int(first_index > 1),
        committed_index=0,
        entries=entries,
        frames=frames,
    )


@contextmanager
def recording_peer(arrived: list[float]) -> Iterator[str]:
    """A peer "b" in threads of its own: notes when each envelope comes in, whatever the test's loop does meanwhile."""

    def deliver(envelopes: Iterator[bytes], _context: Any) -> Iterator[bytes]:
        next(envelopes)
        yield pb.Notice(accepted=pb.Accepted(version=1, node="b", incarnation=1)).SerializeToString()
        try:
            arrived.extend(time.monotonic() for _ in envelopes)
        except grpc.RpcError:
            return  # the other side is gone

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    handler = grpc.method_handlers_generic_handler(RAFT_SERVICE, {"Deliver": grpc.stream_stream_rpc_method_handler(deliver)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0.0).wait()
