"""One session with one node: calls go out as the stream takes them, answers find their call by number.

While a write is under way, calls queue and stay open, so what is proposed meanwhile joins them: batches grow with the load, and with none there is no wait. Many are in
flight at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from replog.client.retry import NotSent
from replog.config import MIB
from replog.errors import PeerRefused, ReplogError
from replog.rpc import client_pb2 as pb
from replog.rpc.channel import EOF, open_channel
from replog.rpc.methods import PROTOCOL_VERSION, SESSION

REQUESTS_BYTES_TARGET: Final = 2 * MIB
CONNECT_SECONDS_MAX: Final = 3.0
_HELLO_ID: Final = 0


class Sendable(Protocol):
    """What a link carries; see `replog.client.calls.Call`."""

    over: bool
    size_bytes: int
    sent_to: str

    def take(self, request: pb.Request) -> None: ...

    def answered(self, reply: pb.Reply) -> None: ...

    def failed(self, error: ReplogError) -> None: ...


class Link:
    """Made open by `open`; `broken` once it is of no more use (then every call it had has failed)."""

    def __init__(self, address: str, cluster_id: str, message_bytes_max: int, *, on_broken: Callable[[Link], None]) -> None:
        self.address = address
        self.node = ""
        """Who answered there."""
        self.broken = False
        self._welcome: pb.Welcome | None = None
        self._on_broken = on_broken
        self._cluster_id = cluster_id
        self._channel = open_channel(address, message_bytes_max)
        self._call: Any = None
        self._queue: deque[Sendable] = deque()
        self._awaited: dict[int, Sendable] = {}
        self._next_id = _HELLO_ID + 1
        self._writer: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Connect and greet. Raises `NotSent` when there is nobody, `PeerRefused` when it is not one of ours; then the link is closed again."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await self._greet()
        except TimeoutError:
            await self.close()
            raise NotSent(f"no answer from {self.address} within {CONNECT_SECONDS_MAX} s") from None
        except BaseException:
            await self.close()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._write_all(), name=f"replog-client-write-{self.address}"),
            loop.create_task(self._read_all(), name=f"replog-client-read-{self.address}"),
        ]

    async def _greet(self) -> None:
        self._call = self._channel.stream_stream(SESSION)()
        hello = pb.Request(id=_HELLO_ID, hello=pb.Hello(version=PROTOCOL_VERSION, cluster_id=self._cluster_id))
        try:
            await self._call.write(pb.Requests(requests=[hello]).SerializeToString())
            data = await self._call.read()
            if data is EOF:
                code, details = await self._call.code(), await self._call.details()
                if code == grpc.StatusCode.INVALID_ARGUMENT:
                    raise PeerRefused(f"{self.address} refused this client: {details}")
                raise NotSent(f"{self.address} ended the session: {code.name}: {details}")
            replies = pb.Replies.FromString(data).replies
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                raise PeerRefused(f"{self.address} refused this client: {error.details()}") from None
            raise NotSent(f"{self.address}: {error.code().name}: {error.details()}") from None
        except DecodeError:
            raise PeerRefused(f"{self.address} answered with what is no reply of replog") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotSent(f"{self.address}: the session was cancelled") from None
        if len(replies) != 1 or replies[0].WhichOneof("content") != "welcome":
            raise PeerRefused(f"{self.address} did not answer the hello with a welcome")
        self._welcome = replies[0].welcome
        self.node = self._welcome.node

    def take_welcome(self) -> pb.Welcome | None:
        """What the node said when it was greeted, once: later its word of the leader is old."""
        welcome, self._welcome = self._welcome, None
        return welcome

    def submit(self, call: Sendable) -> None:
        """Queue `call`; it is taken in this or the next iteration of the loop, or once the write under way has ended."""
        call.sent_to = self.address
        if self.broken:
            call.failed(NotSent(f"the session with {self.address} is closed"))
            return
        self._queue.append(call)
        writer = self._writer
        if writer is not None and not writer.done():
            writer.set_result(None)

    async def close(self) -> None:
        """End the session; what was under way fails."""
        tasks, self._tasks = self._tasks, []
        current = asyncio.current_task()
        for task in tasks:
            if task is not current:
                task.cancel()
        others = [task for task in tasks if task is not current]
        if others:
            await asyncio.wait(others)
        self._break("closed by this client")
        if self._call is not None:
            self._call.cancel()
        await self._channel.close()

    # -- the tasks -------------------------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        queue, call = self._queue, self._call
        try:
            while not self.broken:
                if not queue:
                    writer = self._writer = loop.create_future()
                    await writer
                    continue
                if call.done():
                    # What was not written yet surely did not leave: found out before it is taken.
                    self._break(f"{(await call.code()).name}: {await call.details() or 'the session ended'}")
                    return
                data = self._take()
                if data:
                    await call.write(data)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            self._break(_reason(error))

    def _take(self) -> bytes:
        """What is queued, up to the target, as one message."""
        requests = pb.Requests()
        size = 0
        queue, awaited = self._queue, self._awaited
        while queue and size < REQUESTS_BYTES_TARGET:
            call = queue.popleft()
            if call.over:
                continue
            request = requests.requests.add()
            request.id = number = self._next_id
            self._next_id = number + 1
            awaited[number] = call
            call.take(request)
            size += call.size_bytes
        return requests.SerializeToString()

    async def _read_all(self) -> None:
        call, awaited = self._call, self._awaited
        try:
            while True:
                data = await call.read()
                if data is EOF:
                    self._break(f"{(await call.code()).name}: {await call.details() or 'the node ended the session'}")
                    return
                for reply in pb.Replies.FromString(data).replies:
                    waiting = awaited.pop(reply.id, None)
                    if waiting is not None:
                        waiting.answered(reply)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, DecodeError) as error:
            self._break(_reason(error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            self._break("the session was cancelled")
            if task is not None and task.cancelling():
                raise

    def _break(self, reason: str) -> None:
        """Fail all calls: those that left have an unknown outcome, which they know themselves."""
        if self.broken:
            return
        self.broken = True
        error = NotSent(f"the session with {self.address} broke: {reason}")
        waiting = [*self._awaited.values(), *self._queue]
        self._awaited.clear()
        self._queue.clear()
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        for call in waiting:
            call.failed(error)
        self._on_broken(self)


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
