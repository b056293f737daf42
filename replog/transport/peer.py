"""One peer: a long-lived stream to it, an outbox before it, and the patience to open it again.

`put` and `flush` never block: they queue, and where the stream is idle the write begins within `flush`, so that the bytes are out before the owner syncs. While a
write is under way, what comes in meanwhile makes up the next envelope, which is written when the first is taken; so the number of gRPC messages follows the
network's pace and not the number of Raft's messages. The peer's task opens streams and waits for their end; writing wakes no task.

Every connection is a new channel of its own, so that the name is resolved anew and no back-off that gRPC keeps for an address holds us up. Between attempts
the pause grows up to `BACKOFF_SECONDS_MAX`, short enough that a peer that comes back is found within an election timeout; a peer that connects to us
is tried at once.

Where the peer offers it, what is written soon goes over plain TCP instead of the gRPC stream (`replog.transport.direct` says why and how).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from replog.errors import PeerError, PeerRefused
from replog.raft.messages import Message
from replog.rpc import raft_pb2 as pb
from replog.rpc.channel import EOF, open_channel
from replog.rpc.methods import DELIVER
from replog.transport.counters import Counters
from replog.transport.direct import DIRECT_BROKE, GOES_DIRECT, DirectSender
from replog.transport.direct_attempts import DirectAttempts
from replog.transport.grpc_stream import GrpcSender, StreamEnded, status_of, stream_errors
from replog.transport.identity import Identity, describe
from replog.transport.limits import (
    ENVELOPE_BYTES_TARGET,
    OUTBOX_UNCONNECTED_BYTES_MAX,
    OUTBOX_UNCONNECTED_MESSAGES_MAX,
    WireLimits,
)
from replog.transport.outbox import Outbox
from replog.transport.pieces import EnvelopeEncoder
from replog.types import NodeId

logger = logging.getLogger("replog.transport")

CONNECT_SECONDS_MAX: Final = 3.0
"""Resolve, connect and handshake together."""
BACKOFF_SECONDS_MIN: Final = 0.02
BACKOFF_SECONDS_MAX: Final = 1.0
_LIVED_SECONDS: Final = 1.0
"""A stream that held this long was a good one: the pauses start anew behind it."""
_PORT_MAX: Final = 65535
_REASON_SECONDS_MAX: Final = 0.2
"""How long the end of a direct stream waits for gRPC's word on it."""


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
        self._sender: GrpcSender | DirectSender | None = None
        """Of the open stream, from the end of its handshake on."""
        self._writing = False
        """Whether a write is under way."""
        self._attempts = DirectAttempts(f"{identity.node_id} to {node}")
        self._direct: DirectSender | None = None
        """The connection that takes over from gRPC, once gRPC has been told."""
        self._direct_told = False
        self._direct_since = 0.0
        """Time of the loop at which it took over."""
        self._direct_reason = ""
        """Why it ended."""
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
        if not self._writing:
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
                accepted = await self._handshake(call)
                await self._write_all(call, accepted)
            finally:
                self._end_stream()
                call.cancel()
        except (StreamEnded, PeerError) as error:
            self._told(str(error))
            if loop.time() - opened_at < _LIVED_SECONDS:
                raise
        except Exception as error:
            logger.exception("%s: a mistake of ours on the way to %s", self._identity.node_id, self._where)
            raise StreamEnded(f"{self._where}: {error}") from error  # tried again: it must not cost the peer for good
        finally:
            await channel.close()

    async def _handshake(self, call: Any) -> pb.Accepted:
        hello = pb.Envelope(hello=self._identity.hello(self.node)).SerializeToString()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                with stream_errors(self._where):
                    await call.write(hello)
                    answer = await call.read()
        except TimeoutError:
            raise StreamEnded(f"no handshake with {self._where} within {CONNECT_SECONDS_MAX} s") from None
        if answer is EOF:
            raise StreamEnded(f"{self._where} ended the stream: {await status_of(call)}")
        try:
            notice = pb.Notice.FromString(answer)
        except DecodeError:
            raise PeerRefused(f"{self._where} answered the handshake with {len(answer)} bytes that do not parse") from None
        if notice.HasField("refused"):
            self._counters.refused += 1
            self._identity.refused_by(self.node, notice.refused)
            raise PeerRefused(f"{self._where} refused this node: {describe(notice.refused)}")
        accepted = notice.accepted
        self._identity.judge_accepted(accepted, self.node)
        return accepted

    async def _write_all(self, call: Any, accepted: pb.Accepted) -> None:
        """Let `flush` write to the stream until it ends; raises `StreamEnded`."""
        loop = asyncio.get_running_loop()
        ended = self._ended = loop.create_future()
        call.add_done_callback(lambda _: _set_done(ended))
        over_grpc = GrpcSender(call, self._written, self._failed)
        self._sender, self._writing, self._direct_told = over_grpc, False, False
        self.connected = True
        self._counters.connects += 1
        self._told("")
        blamed = False
        upgrade = loop.create_task(self._go_direct(accepted)) if 0 < accepted.direct_port <= _PORT_MAX else None
        try:
            self._write_on()
            with stream_errors(self._where):
                await ended
            self._end_stream()
            reason = await self._why(call)
            blamed = DIRECT_BROKE in reason
            raise StreamEnded(f"the stream to {self._where} broke: {reason}")
        finally:
            if upgrade is not None:
                upgrade.cancel()
            self._end_direct(blamed=blamed)
            self._sender = self._ended = None
            over_grpc.close()

    async def _go_direct(self, accepted: pb.Accepted) -> None:
        """Connect directly, and have the stream go on that way."""
        host = self.address.rpartition(":")[0].strip("[]")
        connection = await self._attempts.connect(host, accepted.direct_port, accepted.direct_token)
        self._direct = DirectSender(connection, self._written, self._direct_ended)
        self._write_on()

    def _write_on(self) -> None:
        """Begin to write what is queued, if there is anything and a stream."""
        outbox, counters = self._outbox, self._counters
        while self._sender is not None and not self._writing:
            if self._direct is not None and self._sender is not self._direct:
                self._change_over(self._sender, self._direct)
                continue
            if not outbox:
                return
            messages = outbox.take(ENVELOPE_BYTES_TARGET)
            pieces = self._encoder.encode(messages)
            counters.envelopes_sent += 1
            counters.messages_sent += len(messages)
            counters.bytes_sent += sum(map(len, pieces))
            self._writing = not self._sender.write(pieces)

    def _change_over(self, over_grpc: GrpcSender | DirectSender, direct: DirectSender) -> None:
        """gRPC has the last word; when it has that, the rest goes directly."""
        if not self._direct_told:
            self._direct_told = True
            self._writing = not over_grpc.write((GOES_DIRECT,))
            return
        self._sender = direct
        self._direct_since = asyncio.get_running_loop().time()
        self._counters.direct_connects += 1
        logger.info("%s: directly connected to %s", self._identity.node_id, self._where)

    def _written(self) -> None:
        """An envelope that had to wait is on its way."""
        self._writing = False
        self._write_on()

    def _direct_ended(self, reason: str) -> None:
        if not self._direct_told:
            self._direct = None
            self._attempts.failed(reason)
            return
        self._direct_reason = reason
        self._sender = None
        if self._ended is not None:
            _set_done(self._ended)

    def _end_direct(self, *, blamed: bool) -> None:
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close()
            if self._direct_told:
                held = asyncio.get_running_loop().time() - self._direct_since if self._direct_since else 0.0
                self._attempts.ended(held, blamed=blamed)
        self._direct_since = 0.0

    async def _why(self, call: Any) -> str:
        """What gRPC says of the end, and only if it says nothing what the socket said: a peer that ends the stream has the reason there."""
        try:
            async with asyncio.timeout(_REASON_SECONDS_MAX):
                return await status_of(call)
        except TimeoutError:
            return f"{DIRECT_BROKE}: {self._direct_reason}"

    def _failed(self, error: BaseException) -> None:
        """The stream cannot be written to any more: let the task know."""
        self._sender = None
        if self._ended is not None and not self._ended.done():
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

    @property
    def _where(self) -> str:
        return f"{self.node} at {self.address}"

    def _told(self, error: str) -> None:
        """Tell people of a change, not of every attempt; a refusal for another reason is one."""
        if error:
            is_news = not self.last_error or ("refused" in error and error != self.last_error)
            logger.log(logging.WARNING if is_news else logging.DEBUG, "%s: %s", self._identity.node_id, error)
        else:
            logger.info("%s: connected to %s", self._identity.node_id, self._where)
        self.last_error = error


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
