"""One peer: a long-lived stream to it, an outbox before it, and the patience to open it again.

`put` and `flush` never block: they queue, and where the stream is idle the write begins within `flush`, so that the bytes are out before the owner syncs. While a
write is under way, what comes in meanwhile makes up the next envelope, which is written when the first is taken; so the number of gRPC messages follows the
network's pace and not the number of Raft's messages. The peer's task opens streams and waits for their end; writing wakes no task.

Every connection is a new channel of its own, so that the name is resolved anew and no back-off that gRPC keeps for an address holds us up. Between attempts
the pause grows up to `BACKOFF_SECONDS_MAX`, short enough that a peer that comes back is found within an election timeout; a peer that connects to us
is tried at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from replog.errors import PeerError, PeerRefused, ReplogError
from replog.raft.messages import Message
from replog.rpc import raft_pb2 as pb
from replog.rpc.channel import EOF, open_channel
from replog.rpc.methods import DELIVER
from replog.transport.eager import Eager
from replog.transport.encode import EnvelopeEncoder
from replog.transport.identity import Identity, describe
from replog.transport.limits import (
    ENVELOPE_BYTES_TARGET,
    OUTBOX_UNCONNECTED_BYTES_MAX,
    OUTBOX_UNCONNECTED_MESSAGES_MAX,
    WireLimits,
)
from replog.transport.outbox import Outbox
from replog.types import NodeId

logger = logging.getLogger("replog.transport")

CONNECT_SECONDS_MAX: Final = 3.0
"""Resolve, connect and handshake together."""
BACKOFF_SECONDS_MIN: Final = 0.02
BACKOFF_SECONDS_MAX: Final = 1.0
_LIVED_SECONDS: Final = 1.0
"""A stream that held this long was a good one: the pauses start anew behind it."""


class StreamEnded(ReplogError):
    """The stream to a peer could not be opened or broke. It is opened again; nothing to do."""


class Counters:
    """What the transport counts, all peers together, since its start."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "connects",
        "envelopes_received",
        "envelopes_sent",
        "malformed",
        "messages_dropped",
        "messages_received",
        "messages_sent",
        "refused",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.connects = 0
        self.envelopes_received = 0
        self.envelopes_sent = 0
        self.malformed = 0
        self.messages_dropped = 0
        self.messages_received = 0
        self.messages_sent = 0
        self.refused = 0


class Peer:
    """The sending side towards one node. `start` makes its task, `stop` ends it; `connected` says whether the stream is open now."""

    def __init__(
        self,
        node: NodeId,
        address: str,
        identity: Identity,
        *,
        limits: WireLimits,
        outbox_bytes_max: int,
        counters: Counters,
        encoder: EnvelopeEncoder,
        on_lost: Callable[[NodeId], None],
    ) -> None:
        self.node = node
        self.address = address
        self.connected = False
        self.last_error = ""
        """Why the last attempt failed or the last stream broke; empty while all is well."""
        self._identity = identity
        self._limits = limits
        self._outbox_bytes_max = outbox_bytes_max
        self._counters = counters
        self._encoder = encoder
        self._on_lost = on_lost
        self._outbox = Outbox()
        self._call: Any = None
        """The open stream, from the end of its handshake on."""
        self._writing: Eager | None = None
        """The write under way; None while the stream is idle."""
        self._ended: asyncio.Future[None] | None = None
        """What the task waits for while the stream is open: its end, or the error of a write."""
        self._nudge = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loss_scheduled = False

    # -- for the transport -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"replog-peer-{self._identity.node_id}-{self.node}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def put(self, message: Message) -> None:
        """Queue one message; `flush` follows when all of a batch are queued."""
        self._outbox.put(message)

    def flush(self) -> None:
        """Hold the outbox to its limit and have it written."""
        if self.connected:
            dropped = self._outbox.bound(self._outbox_bytes_max)
        else:
            dropped = self._outbox.bound(
                min(self._outbox_bytes_max, OUTBOX_UNCONNECTED_BYTES_MAX), messages_max=OUTBOX_UNCONNECTED_MESSAGES_MAX
            )
        if dropped:
            self._report_lost()
        if self._writing is None:
            self._write_on()

    def try_now(self) -> None:
        """The peer was heard of: do not wait for the end of the pause."""
        self._nudge.set()

    # -- the task --------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Stream after stream, for ever."""
        while True:
            await AsyncRetrying(
                sleep=self._pause,
                wait=wait_random_exponential(multiplier=BACKOFF_SECONDS_MIN, min=BACKOFF_SECONDS_MIN, max=BACKOFF_SECONDS_MAX),
                retry=retry_if_exception_type((StreamEnded, PeerError)),
            )(self._one_stream)

    async def _pause(self, seconds: float) -> None:
        self._nudge.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._nudge.wait()
        except TimeoutError:
            return

    async def _one_stream(self) -> None:
        """Open a stream and write until it ends. Returns when a stream that held for a while broke, raises when it did not even hold."""
        loop = asyncio.get_running_loop()
        channel = open_channel(self.address, self._limits.envelope_bytes_max)
        opened_at = loop.time()
        try:
            call: Any = channel.stream_stream(DELIVER)()
            try:
                await self._handshake(call)
                await self._write_all(call)
            finally:
                self._end_stream()
                call.cancel()
        except (StreamEnded, PeerError) as error:
            self._told(str(error))
            if loop.time() - opened_at < _LIVED_SECONDS:
                raise
        finally:
            await channel.close()

    async def _handshake(self, call: Any) -> None:
        hello = pb.Envelope(hello=self._identity.hello(self.node)).SerializeToString()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                with _stream_errors(self):
                    await call.write(hello)
                    answer = await call.read()
        except TimeoutError:
            raise StreamEnded(f"no handshake with {self.node} at {self.address} within {CONNECT_SECONDS_MAX} s") from None
        if answer is EOF:
            raise StreamEnded(f"{self.node} at {self.address} ended the stream: {await _status_of(call)}")
        try:
            notice = pb.Notice.FromString(answer)
        except DecodeError:
            raise PeerRefused(f"{self.node} at {self.address} answered the handshake with {len(answer)} bytes that do not parse") from None
        if notice.HasField("refused"):
            self._counters.refused += 1
            self._identity.refused_by(self.node, notice.refused)
            raise PeerRefused(f"{self.node} at {self.address} refused this node: {describe(notice.refused)}")
        self._identity.judge_accepted(notice.accepted, self.node)
        self._counters.connects += 1
        self.connected = True
        self._told("")

    async def _write_all(self, call: Any) -> None:
        """Let `flush` write to the stream until it ends; raises `StreamEnded`."""
        ended = self._ended = asyncio.get_running_loop().create_future()
        self._call = call
        call.add_done_callback(lambda _: _set_done(ended))
        try:
            self._write_on()
            with _stream_errors(self):
                await ended
            raise StreamEnded(f"the stream to {self.node} at {self.address} broke: {await _status_of(call)}")
        finally:
            self._call = self._ended = None
            writing, self._writing = self._writing, None
            if writing is not None:
                writing.abandon()

    def _write_on(self) -> None:
        """Begin to write what is queued, if there is anything and a stream."""
        call, outbox, counters = self._call, self._outbox, self._counters
        while outbox and call is not None and not call.done():
            messages = outbox.take(ENVELOPE_BYTES_TARGET)
            data = self._encoder.encode(messages)
            counters.envelopes_sent += 1
            counters.messages_sent += len(messages)
            counters.bytes_sent += len(data)
            writing = Eager(call.write(data), self._written)
            if not writing.done:
                self._writing = writing
                return
            if writing.error is not None:
                self._written(writing.error)
                return

    def _written(self, error: BaseException | None) -> None:
        """gRPC has taken an envelope, or has failed to."""
        self._writing = None
        if error is None:
            self._write_on()
        elif self._ended is not None and not self._ended.done():
            self._call = None
            if isinstance(error, asyncio.CancelledError):
                self._ended.cancel()
            else:
                self._ended.set_exception(error)

    def _end_stream(self) -> None:
        if self.connected:
            self.connected = False
            self._outbox.clear()
            self._report_lost()

    def _report_lost(self) -> None:
        """In a later iteration, once for all that was lost in this one: the owner may be in the middle of a turn."""
        self._counters.messages_dropped += self._outbox.dropped
        self._outbox.dropped = 0
        if not self._loss_scheduled:
            self._loss_scheduled = True
            asyncio.get_running_loop().call_soon(self._tell_lost)

    def _tell_lost(self) -> None:
        self._loss_scheduled = False
        self._on_lost(self.node)

    def _told(self, error: str) -> None:
        """Tell people of a change, not of every attempt; a refusal for another reason is one."""
        if error:
            is_news = not self.last_error or ("refused" in error and error != self.last_error)
            logger.log(logging.WARNING if is_news else logging.DEBUG, "%s: %s", self._identity.node_id, error)
        else:
            logger.info("%s: connected to %s at %s", self._identity.node_id, self.node, self.address)
        self.last_error = error


class _stream_errors:  # noqa: N801 - reads as a statement
    """Whatever gRPC raises for a broken stream becomes `StreamEnded`. gRPC says so by a `CancelledError` too, when the other side cancelled."""

    __slots__ = ("_peer",)

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        where = f"{self._peer.node} at {self._peer.address}"
        if isinstance(error, grpc.aio.AioRpcError):
            raise StreamEnded(f"{where}: {error.code().name}: {_in_short(error.details() or '')}") from None
        if isinstance(error, (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)):
            raise StreamEnded(f"{where}: {error}") from None
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise StreamEnded(f"{where}: the stream was cancelled") from None


def _in_short(details: str) -> str:
    """What gRPC says of a failed connection, without the addresses and layers it names on the way to it."""
    return details.rpartition(": ")[2] if details.startswith("failed to connect to all addresses") else details


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _status_of(call: Any) -> str:
    """Code and details of a call that is done."""
    return f"{(await call.code()).name}: {await call.details() or 'no details'}"
