"""The streams of others to this node: hello and judgement, then envelopes until the end, over the gRPC stream or the direct one that it offers.

A node has one stream to us at a time: a newer one takes an older one's place, which may be half dead and not know it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import grpc

from replog.errors import MalformedMessage, PeerError
from replog.raft.messages import Message
from replog.rpc import raft_pb2 as pb
from replog.rpc.channel import EOF
from replog.rpc.methods import RAFT_SERVICE
from replog.transport.convert import Gateway, parse_envelope
from replog.transport.counters import Counters
from replog.transport.direct import DIRECT_BROKE, GOES_DIRECT, DirectReceiver
from replog.transport.direct_listener import DirectListener
from replog.transport.identity import Identity, describe
from replog.transport.interface import DecodeFrames, Receive
from replog.transport.limits import STREAMS_INBOUND_MAX, WireLimits
from replog.types import NodeId

logger = logging.getLogger("replog.transport")

REFUSALS_REMEMBERED_MAX: Final = 256
"""Strangers may come under any name; when so many are remembered, all are forgotten and told once more."""
HELLO_SECONDS_MAX: Final = 5.0
"""A stream that has not said hello by then is closed."""


class InboundStreams:
    """The Raft service (`handler`), delivering from `start` on, until `stop`. `on_heard` is told who calls and from where, `on_silent` whose stream is over."""

    def __init__(
        self,
        identity: Identity,
        *,
        decode_frames: DecodeFrames,
        limits: WireLimits,
        counters: Counters,
        on_heard: Callable[[NodeId, str], None],
        on_silent: Callable[[NodeId], None],
    ) -> None:
        self._identity = identity
        self._decode_frames = decode_frames
        self._limits = limits
        self._counters = counters
        self._on_heard = on_heard
        self._on_silent = on_silent
        self._newest: dict[NodeId, _Inbound] = {}
        self._refusals: dict[NodeId, str] = {}
        """Why each node was refused last, as people were told."""
        self._open = 0
        self._serving: set[_Inbound] = set()
        self._receive: Receive | None = None
        self._direct: DirectListener | None = None

    def __len__(self) -> int:
        """Nodes whose stream is open."""
        return len(self._newest)

    @property
    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        return grpc.method_handlers_generic_handler(RAFT_SERVICE, {"Deliver": grpc.stream_stream_rpc_method_handler(self._deliver)})

    @property
    def direct_port(self) -> int:
        return self._direct.port if self._direct is not None else 0

    def listen_directly(self, host: str, port: int) -> None:
        assert self._direct is None
        self._direct = DirectListener(host, port)

    def start(self, receive: Receive) -> None:
        self._receive = receive
        if self._direct is not None:
            self._direct.start()

    async def stop(self) -> None:
        """Streams end in order (cancelling gRPC's handlers would leave the calls open)."""
        self._receive = None
        for inbound in self._serving:
            inbound.end()
        if self._direct is not None:
            await self._direct.stop()

    # -- one stream ------------------------------------------------------------------------------------------------------

    async def _deliver(self, _requests: Any, context: Any) -> None:
        """From its hello to its end."""
        if self._receive is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node is starting or stopping")
        if self._open >= STREAMS_INBOUND_MAX:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._open} streams from peers are open, the limit is {STREAMS_INBOUND_MAX}"
            )
        self._open += 1
        try:
            await self._serve(context)
        except MalformedMessage as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"MalformedMessage: {error}")
        except _DirectBroke:
            await context.abort(grpc.StatusCode.ABORTED, DIRECT_BROKE)
        finally:
            self._open -= 1

    async def _serve(self, context: Any) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                first = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello within {HELLO_SECONDS_MAX} s")
        if first is EOF:
            return
        where = context.peer()
        try:
            hello = _hello_in(first)
            refused = self._identity.judge(hello)
        except MalformedMessage as error:
            self._tell_malformed(where, error)
            raise
        if refused is not None:
            self._counters.refused += 1
            self._tell_refused(hello.source, where, describe(refused))
            await context.write(pb.Notice(refused=refused).SerializeToString())
            return
        source: NodeId = hello.source
        self._refusals.pop(source, None)
        gateway = Gateway(source, self._identity.node_id, self._limits, self._decode_frames)
        inbound = _Inbound(gateway, self._limits.envelope_bytes_max, self._take, partial(self._tell_malformed, where))
        older, self._newest[source] = self._newest.get(source), inbound
        if older is not None:
            older.end()
        accepted = self._identity.accepted()
        direct = self._direct
        if direct is not None:
            accepted.direct_port, accepted.direct_token = direct.port, direct.expect(inbound.go_direct)
        self._serving.add(inbound)
        try:
            await context.write(pb.Notice(accepted=accepted).SerializeToString())
            self._on_heard(source, hello.address)
            await inbound.run(context)
        finally:
            inbound.close()
            self._serving.discard(inbound)
            if direct is not None:
                direct.forget(accepted.direct_token)
            if self._newest.get(source) is inbound:
                del self._newest[source]
                self._on_silent(source)

    def _take(self, gateway: Gateway, envelopes: Sequence[bytes]) -> None:
        """Raises `MalformedMessage`; of envelopes that came together those in front of the bad one count."""
        counters, receive = self._counters, self._receive
        if receive is None:
            return
        for data in envelopes:
            messages: list[Message] = gateway.decode(data)
            counters.envelopes_received += 1
            counters.messages_received += len(messages)
            counters.bytes_received += len(data)
            if messages:
                receive(messages)

    def _tell_malformed(self, where: str, error: MalformedMessage) -> None:
        self._counters.malformed += 1
        logger.warning("%s: dropped the stream of %s: %s", self._identity.node_id, where, error)

    def _tell_refused(self, source: NodeId, where: str, reason: str) -> None:
        """A refused node calls again and again: people hear of it once for each reason."""
        is_news = self._refusals.get(source) != reason
        if len(self._refusals) >= REFUSALS_REMEMBERED_MAX and source not in self._refusals:
            self._refusals.clear()
        self._refusals[source] = reason
        logger.log(logging.WARNING if is_news else logging.DEBUG, "%s: refused %s at %s: %s", self._identity.node_id, source, where, reason)


class _DirectBroke(PeerError):
    """The direct connection of a stream is over and nothing was wrong with what came on it. The sender connects anew."""


class _Inbound:
    """One accepted stream: what comes over gRPC and, once the sender has said that it goes direct, over the direct connection. Both end together."""

    def __init__(
        self,
        gateway: Gateway,
        envelope_bytes_max: int,
        take: Callable[[Gateway, Sequence[bytes]], None],
        tell_malformed: Callable[[MalformedMessage], None],
    ) -> None:
        self._gateway = gateway
        self._envelope_bytes_max = envelope_bytes_max
        self._take = take
        self._tell_malformed = tell_malformed
        self._ended = asyncio.Event()
        self._error: Exception | None = None
        """Why it ended, if not in order."""
        self._claimed: socket.socket | None = None
        """The sender has connected, and may say that it goes direct."""
        self._receiver: DirectReceiver | None = None

    async def run(self, context: Any) -> None:
        """Until either way ends, or `end` is called. Raises `MalformedMessage`, or `_DirectBroke`."""
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._read(context))
        ended = loop.create_task(self._ended.wait())
        try:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            ended.cancel()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Take nothing more; `run` returns."""
        self._ended.set()

    def close(self) -> None:
        """`end`, and let go of the connection."""
        self.end()
        if self._receiver is not None:
            self._receiver.close()
        if self._claimed is not None:
            self._claimed.close()

    def go_direct(self, connection: socket.socket) -> None:
        """`DirectListener`'s `Claimed`. One more takes the place of one that the sender has given up in between."""
        if self._ended.is_set() or self._receiver is not None:
            connection.close()
            return
        if self._claimed is not None:
            self._claimed.close()
        self._claimed = connection

    async def _read(self, context: Any) -> None:
        """What comes over gRPC. Ends, and never raises but for cancellation."""
        try:
            while True:
                data = await context.read()
                if data is EOF or self._ended.is_set():
                    return
                if self._receiver is not None:
                    raise MalformedMessage("an envelope over gRPC behind the word that the stream goes direct")  # noqa: TRY301 - judged below with all others
                if data == GOES_DIRECT:
                    self._begin_direct()
                    continue
                self._take(self._gateway, (data,))
                # The owner first: to begin the next read takes as long as a turn of a single entry.
                await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - `run` raises it, in the task of the stream
            self._failed(error)

    def _begin_direct(self) -> None:
        connection, self._claimed = self._claimed, None
        if connection is None:
            raise MalformedMessage("the stream goes direct without a connection")
        self._receiver = DirectReceiver(connection, self._envelope_bytes_max, self._took, self._direct_ended)

    def _took(self, envelopes: Sequence[bytes]) -> None:
        if not self._ended.is_set():
            self._take(self._gateway, envelopes)

    def _direct_ended(self, error: Exception | None) -> None:
        self._failed(error if error is not None else _DirectBroke())

    def _failed(self, error: Exception) -> None:
        if self._ended.is_set():
            return
        self._error = error
        if isinstance(error, MalformedMessage):
            self._tell_malformed(error)
        self._ended.set()


def _hello_in(data: bytes) -> pb.Hello:
    envelope = parse_envelope(data)
    if not envelope.HasField("hello") or envelope.messages:
        raise MalformedMessage("the first envelope of a stream has a hello and nothing else")
    return envelope.hello
