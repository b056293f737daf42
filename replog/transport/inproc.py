"""A transport inside one process, for tests and for several nodes on one loop: no sockets, the same promises.

Messages go through the same bytes as over gRPC (encoded, checked, decoded), so that what passes here passes the gateway. One iteration of the loop is the network's
latency. A rule may drop messages; a link that is cut loses them and reports the peer as lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from replog.raft.messages import Message
from replog.transport.convert import Gateway
from replog.transport.encode import encode_envelope
from replog.transport.interface import DecodeFrames, PeerLost, Receive
from replog.transport.limits import WireLimits
from replog.types import NodeId

Rule = Callable[[Message], bool]
"""True: the message passes."""


class InprocNetwork:
    """What the transports of one test have in common."""

    def __init__(self, *, decode_frames: DecodeFrames, limits: WireLimits) -> None:
        self.decode_frames = decode_frames
        self.limits = limits
        self.passes: Rule = lambda _: True
        self._nodes: dict[NodeId, InprocTransport] = {}
        self._cut: set[tuple[NodeId, NodeId]] = set()

    def transport(self, node: NodeId) -> InprocTransport:
        """A new transport for `node`; it takes the place of an older one of that name once it is started."""
        return InprocTransport(self, node)

    def cut(self, source: NodeId, target: NodeId) -> None:
        """Nothing passes from `source` to `target` any more; the source is told that the peer is lost."""
        self._cut.add((source, target))
        sender = self._nodes.get(source)
        if sender is not None:
            sender.lost(target)

    def heal(self) -> None:
        """Every link passes again."""
        self._cut.clear()

    def reaches(self, source: NodeId, target: NodeId) -> InprocTransport | None:
        """The transport at the other end, if there is one and the link is whole."""
        return None if (source, target) in self._cut else self._nodes.get(target)

    def attach(self, transport: InprocTransport) -> None:
        self._nodes[transport.node] = transport

    def detach(self, transport: InprocTransport) -> None:
        if self._nodes.get(transport.node) is transport:
            del self._nodes[transport.node]


class InprocTransport:
    """One node's end of an `InprocNetwork`; see `replog.transport.interface.Transport`."""

    def __init__(self, network: InprocNetwork, node: NodeId) -> None:
        self.node = node
        self.messages_sent = 0
        self.messages_dropped = 0
        self._network = network
        self._peers: frozenset[NodeId] = frozenset()
        self._receive: Receive | None = None
        self._peer_lost: PeerLost | None = None

    async def start(self, receive: Receive, peer_lost: PeerLost) -> None:
        self._receive, self._peer_lost = receive, peer_lost
        self._network.attach(self)

    def set_peers(self, addresses: Mapping[NodeId, str]) -> None:
        self._peers = frozenset(addresses)

    def send(self, messages: Sequence[Message]) -> None:
        """Encode now, deliver in the next iteration of the loop, in order."""
        by_target: dict[NodeId, list[Message]] = {}
        for message in messages:
            if message.target in self._peers and self._network.passes(message):
                by_target.setdefault(message.target, []).append(message)
            else:
                self.messages_dropped += 1
        loop = asyncio.get_running_loop()
        for target, batch in by_target.items():
            self.messages_sent += len(batch)
            loop.call_soon(self._deliver, target, encode_envelope(batch))

    def _deliver(self, target: NodeId, data: bytes) -> None:
        receiver = self._network.reaches(self.node, target)
        if receiver is None:
            self.lost(target)
        else:
            receiver.take(self.node, data)

    def take(self, source: NodeId, data: bytes) -> None:
        """What another node sent. Raises `MalformedMessage`: in one process that is our own mistake."""
        if self._receive is not None:
            self._receive(Gateway(source, self.node, self._network.limits, self._network.decode_frames).decode(data))

    def lost(self, target: NodeId) -> None:
        if self._peer_lost is not None:
            self._peer_lost(target)

    async def stop(self) -> None:
        self._network.detach(self)
        self._receive = self._peer_lost = None
