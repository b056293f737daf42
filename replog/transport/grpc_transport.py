"""Raft's messages over gRPC: one `Peer` for each node that is sent to, one stream from each node that sends.

The transport makes no server of its own: `handler` is registered with the node's one (`replog.node.server`), beside the other services. A node that connects
tells its advertised address, so that one which knows no membership yet can answer its leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

import grpc

from replog.errors import MalformedMessage
from replog.raft.messages import Message
from replog.rpc import raft_pb2 as pb
from replog.rpc.channel import EOF
from replog.rpc.methods import RAFT_SERVICE
from replog.transport.convert import Gateway, parse_envelope
from replog.transport.encode import EnvelopeEncoder
from replog.transport.identity import Identity, describe
from replog.transport.interface import DecodeFrames, PeerLost, Receive
from replog.transport.limits import STREAMS_INBOUND_MAX, WireLimits
from replog.transport.peer import Counters, Peer
from replog.types import NodeId

logger = logging.getLogger("replog.transport")

REFUSALS_REMEMBERED_MAX: Final = 256
"""Strangers may come under any name; when so many are remembered, all are forgotten and told once more."""
HELLO_SECONDS_MAX: Final = 5.0
"""A stream that has not said hello by then is closed."""


class GrpcTransport:
    """See `replog.transport.interface.Transport`. All methods are for the loop on which it was started."""

    def __init__(self, identity: Identity, *, decode_frames: DecodeFrames, limits: WireLimits, outbox_bytes_max: int) -> None:
        self.identity = identity
        self.counters = Counters()
        self._encoder = EnvelopeEncoder()
        self._decode_frames = decode_frames
        self._limits = limits
        self._outbox_bytes_max = outbox_bytes_max
        self._peers: dict[NodeId, Peer] = {}
        self._members: dict[NodeId, str] = {}
        self._heard: dict[NodeId, str] = {}
        """Advertised addresses of nodes whose stream to us is open; one is used when something is sent to it that the membership has no address for."""
        self._inbound: dict[NodeId, object] = {}
        """The newest stream of each sender: an older one that is still open (half dead) no longer counts."""
        self._refusals: dict[NodeId, str] = {}
        """Why each node was refused last, as people were told."""
        self._streams_open = 0
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._receive: Receive | None = None
        self._peer_lost: PeerLost | None = None

    # -- Transport -------------------------------------------------------------------------------------------------------

    async def start(self, receive: Receive, peer_lost: PeerLost) -> None:
        """Deliver to `receive` from now on, and connect to the peers that are set."""
        self._receive, self._peer_lost = receive, peer_lost
        self._reconcile(self._members)

    def send(self, messages: Sequence[Message]) -> None:
        """Queue each message for its `target`; one for a node whose address is not known is dropped."""
        peers = self._peers
        touched: dict[NodeId, Peer] = {}
        for message in messages:
            target = message.target
            peer = touched.get(target)
            if peer is None:
                peer = peers.get(target) or self._answer_to(target)
                if peer is None:
                    self.counters.messages_dropped += 1
                    continue
                touched[target] = peer
            peer.put(message)
        for peer in touched.values():
            peer.flush()
        self._encoder.forget()

    def set_peers(self, addresses: Mapping[NodeId, str]) -> None:
        """The membership's nodes, without this one. Connections to others are closed (one is opened again to answer a node that calls)."""
        assert self.identity.node_id not in addresses
        self._members = dict(addresses)
        if self._receive is not None:
            self._reconcile(self._members)

    async def stop(self) -> None:
        """Close every stream; nothing is delivered from now on."""
        self._receive = None
        self._members.clear()
        self._heard.clear()
        self._reconcile({})
        for reader in self._readers:
            reader.cancel()
        while self._stopping:
            await asyncio.wait(self._stopping)

    # -- for people ------------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> tuple[NodeId, ...]:
        """Peers whose stream is open now."""
        return tuple(sorted(node for node, peer in self._peers.items() if peer.connected))

    def peer_error(self, node: NodeId) -> str:
        """Why `node` is not connected; empty when it is, or when nothing has gone wrong yet."""
        peer = self._peers.get(node)
        return peer.last_error if peer is not None else "not a peer"

    # -- outbound --------------------------------------------------------------------------------------------------------

    def _reconcile(self, wanted: Mapping[NodeId, str]) -> None:
        """Have a peer for each of `wanted` and for no other."""
        for node in [node for node, peer in self._peers.items() if wanted.get(node) != peer.address]:
            self._end(self._peers.pop(node))
        for node, address in wanted.items():
            if node not in self._peers:
                self._open(node, address)

    def _answer_to(self, node: NodeId) -> Peer | None:
        """A peer for a node that the membership does not have (yet, or any more) and that calls us; None for one that does not."""
        address = self._heard.get(node)
        return self._open(node, address) if address is not None and self._receive is not None else None

    def _open(self, node: NodeId, address: str) -> Peer:
        peer = self._peers[node] = Peer(
            node,
            address,
            self.identity,
            limits=self._limits,
            outbox_bytes_max=self._outbox_bytes_max,
            counters=self.counters,
            encoder=self._encoder,
            on_lost=self._tell_lost,
        )
        peer.start()
        return peer

    def _end(self, peer: Peer) -> None:
        task = asyncio.get_running_loop().create_task(peer.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _tell_lost(self, node: NodeId) -> None:
        if self._peer_lost is not None and self._receive is not None:
            self._peer_lost(node)

    # -- inbound ---------------------------------------------------------------------------------------------------------

    @property
    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """The Raft service, for the node's gRPC server."""
        return grpc.method_handlers_generic_handler(RAFT_SERVICE, {"Deliver": grpc.stream_stream_rpc_method_handler(self._deliver)})

    async def _deliver(self, _requests: Any, context: Any) -> None:
        """One stream of one peer, from its hello to its end."""
        if self._receive is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node is starting or stopping")
        if self._streams_open >= STREAMS_INBOUND_MAX:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._streams_open} streams from peers are open, the limit is {STREAMS_INBOUND_MAX}"
            )
        self._streams_open += 1
        try:
            await self._serve(context)
        except MalformedMessage as error:
            self.counters.malformed += 1
            logger.warning("%s: dropped the stream of %s: %s", self.identity.node_id, context.peer(), error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"MalformedMessage: {error}")
        finally:
            self._streams_open -= 1

    async def _serve(self, context: Any) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                first = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello within {HELLO_SECONDS_MAX} s")
        if first is EOF:
            return
        envelope = parse_envelope(first)
        if not envelope.HasField("hello") or envelope.messages:
            raise MalformedMessage("the first envelope of a stream has a hello and nothing else")
        hello = envelope.hello
        refused = self.identity.judge(hello)
        if refused is not None:
            self.counters.refused += 1
            self._tell_refused(hello.source, context.peer(), describe(refused))
            await context.write(pb.Notice(refused=refused).SerializeToString())
            return
        stream = object()
        source: NodeId = hello.source
        self._inbound[source] = stream
        self._refusals.pop(source, None)
        try:
            await context.write(pb.Notice(accepted=self.identity.accepted()).SerializeToString())
            self._heard_of(source, hello.address)
            await self._until_stopped(self._take_messages(context, source, stream))
        finally:
            if self._inbound.get(source) is stream:
                del self._inbound[source]
                self._heard.pop(source, None)
                self._end_answers_to(source)

    def _tell_refused(self, source: NodeId, where: str, reason: str) -> None:
        """A refused node calls again and again: people hear of it once for each reason."""
        is_news = self._refusals.get(source) != reason
        if len(self._refusals) >= REFUSALS_REMEMBERED_MAX and source not in self._refusals:
            self._refusals.clear()
        self._refusals[source] = reason
        logger.log(logging.WARNING if is_news else logging.DEBUG, "%s: refused %s at %s: %s", self.identity.node_id, source, where, reason)

    async def _until_stopped(self, taking: Coroutine[Any, Any, None]) -> None:
        """Like awaiting `taking`, but `stop` ends it as a stream that ends in order (cancelling the handler itself would leave the call open)."""
        task = asyncio.get_running_loop().create_task(taking)
        self._readers.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._readers.discard(task)
            task.cancel()
        if not task.cancelled():
            task.result()

    def _heard_of(self, source: NodeId, address: str) -> None:
        """`source` is up and calls from `address`."""
        if address and self._heard.get(source) != address:
            self._heard[source] = address
            self._end_answers_to(source)
        peer = self._peers.get(source)
        if peer is not None:
            peer.try_now()

    def _end_answers_to(self, node: NodeId) -> None:
        if node not in self._members and node in self._peers:
            self._end(self._peers.pop(node))

    async def _take_messages(self, context: Any, source: NodeId, stream: object) -> None:
        """Until the stream ends or a newer one takes its place. Raises `MalformedMessage`."""
        counters = self.counters
        gateway = Gateway(source, self.identity.node_id, self._limits, self._decode_frames)
        while True:
            data = await context.read()
            if data is EOF or self._inbound.get(source) is not stream:
                return
            messages = gateway.decode(data)
            receive = self._receive
            if receive is None:
                return
            counters.envelopes_received += 1
            counters.messages_received += len(messages)
            counters.bytes_received += len(data)
            if messages:
                receive(messages)
                # The owner first: to begin the next read takes as long as a turn of a single entry.
                await asyncio.sleep(0)
