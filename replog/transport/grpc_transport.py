"""Raft's messages over gRPC: one `Peer` for each node that is sent to, one stream from each node that sends (`replog.transport.inbound`).

The transport makes no gRPC server of its own: `handler` is registered with the node's one (`replog.node.server`), beside the other services. What it may have for itself
is the port for direct streams (`listen_directly`). A node that connects tells its advertised address, so that one which knows no membership yet can answer its leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import grpc

from replog.raft.messages import Message
from replog.transport.counters import Counters
from replog.transport.identity import Identity
from replog.transport.inbound import InboundStreams
from replog.transport.interface import DecodeFrames, PeerLost, Receive
from replog.transport.limits import WireLimits
from replog.transport.peer import Peer
from replog.transport.pieces import EnvelopeEncoder
from replog.types import NodeId


class GrpcTransport:
    """See `replog.transport.interface.Transport`. All methods are for the loop on which it was started."""

    def __init__(self, identity: Identity, *, decode_frames: DecodeFrames, limits: WireLimits, outbox_bytes_max: int) -> None:
        self.identity = identity
        self.counters = Counters()
        self._encoder = EnvelopeEncoder()
        self._limits = limits
        self._outbox_bytes_max = outbox_bytes_max
        self._peers: dict[NodeId, Peer] = {}
        self._members: dict[NodeId, str] = {}
        self._heard: dict[NodeId, str] = {}
        """Advertised addresses of nodes whose stream to us is open; one is used when something is sent to it that the membership has no address for."""
        self._inbound = InboundStreams(
            identity, decode_frames=decode_frames, limits=limits, counters=self.counters, on_heard=self._heard_of, on_silent=self._forget
        )
        self._stopping: set[asyncio.Task[None]] = set()
        self._receive: Receive | None = None
        self._peer_lost: PeerLost | None = None

    # -- Transport -------------------------------------------------------------------------------------------------------

    async def start(self, receive: Receive, peer_lost: PeerLost) -> None:
        """Deliver to `receive` from now on, and connect to the peers that are set."""
        self._receive, self._peer_lost = receive, peer_lost
        self._inbound.start(receive)
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
        await self._inbound.stop()
        while self._stopping:
            await asyncio.wait(self._stopping)

    # -- the node's server -----------------------------------------------------------------------------------------------

    @property
    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """The Raft service, for the node's gRPC server."""
        return self._inbound.handler

    def listen_directly(self, host: str, port: int) -> None:
        """Offer direct streams to the peers, on `port` (0: any free one). Before `start`. Raises `PortTaken`."""
        self._inbound.listen_directly(host, port)

    @property
    def direct_port(self) -> int:
        """Where direct streams come in; 0: none are offered."""
        return self._inbound.direct_port

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

    def _heard_of(self, source: NodeId, address: str) -> None:
        """`source` is up and calls from `address`."""
        if address and self._heard.get(source) != address:
            self._heard[source] = address
            self._end_answers_to(source)
        peer = self._peers.get(source)
        if peer is not None:
            peer.try_now()

    def _forget(self, source: NodeId) -> None:
        """The stream of `source` to us is over."""
        self._heard.pop(source, None)
        self._end_answers_to(source)

    def _end_answers_to(self, node: NodeId) -> None:
        if node not in self._members and node in self._peers:
            self._end(self._peers.pop(node))
