"""The service that applications talk to: sessions of many requests in flight, answered in whatever order they finish.

A session is one gRPC stream. Its reader takes requests and starts them, its writer sends what has been answered: everything that is ready goes into one message,
because a gRPC message costs what hundreds of commands do. Nothing here knows Raft: a proposal becomes one future of the node, a query one barrier and
a look at the state machine.

Bounded are the sessions, the requests and bytes a session has under way (then it is not read from, and gRPC's flow control holds the client back; a client
that does not read its answers comes to stand the same way), and the bytes of proposals of all sessions together (above it `Busy`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from replog.config import MIB
from replog.errors import Busy, CommandFailed, MalformedMessage, ProposalTooLarge, QueryFailed, ReplogError, Unavailable
from replog.node.queries import answers_of
from replog.node.served import ServedForClients
from replog.rpc import client_pb2 as pb
from replog.rpc.channel import EOF
from replog.rpc.failures import failure_of
from replog.rpc.methods import CLIENT_SERVICE, PROTOCOL_VERSION
from replog.transport.limits import WireLimits
from replog.types import CommandError, Index

logger = logging.getLogger("replog.client_service")

SESSIONS_MAX: Final = 1_024
SESSION_REQUESTS_MAX: Final = 1_024
"""Requests of one session under way."""
SESSION_BYTES_MAX: Final = 32 * MIB
"""... and their bytes; one request may go over it alone."""
PROPOSALS_BYTES_MAX: Final = 256 * MIB
"""Bytes of proposals under way, of all sessions."""
HELLO_SECONDS_MAX: Final = 5.0
READ_SECONDS_MAX: Final = 30.0
"""A read that nobody confirms ends by then, also when the client named no time."""
_REPLIES_BYTES_TARGET: Final = 2 * MIB
_REPLY_OVERHEAD_BYTES: Final = 32

_ITEM_OVERHEAD_BYTES: Final = 6
"""Of a result in an answer: its tag and its length."""

Fill = Callable[[pb.Reply], int]
"""Puts the content into an answer; returns its bytes, about."""
Results = Sequence[bytes | CommandError | Exception]


class ClientService:
    """Register `handler` with the node's server. `close` before the server stops, so that sessions end in order."""

    def __init__(self, node: ServedForClients) -> None:
        self.node = node
        self.node_id = node.config.node_id
        self.cluster_id = node.cluster.cluster_id
        self.entry_bytes_max = node.cluster.entry_bytes_max
        self.reply_bytes_max = WireLimits.of(node.cluster).envelope_bytes_max - _REPLIES_BYTES_TARGET
        self.proposals_bytes = 0
        self.requests = 0
        self.commands = 0
        self.malformed = 0
        self._sessions: set[_Session] = set()
        self._closing = False

    @property
    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        return grpc.method_handlers_generic_handler(CLIENT_SERVICE, {"Session": grpc.stream_stream_rpc_method_handler(self._session)})

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return len(self._sessions)

    def close(self) -> None:
        """New sessions are refused, open ones end when what they have under way is answered."""
        self._closing = True
        for session in self._sessions:
            session.stop_reading()

    async def _session(self, _requests: Any, context: Any) -> None:
        if self._closing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node is stopping")
        if len(self._sessions) >= SESSIONS_MAX:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{len(self._sessions)} sessions are open, the limit is {SESSIONS_MAX}; use another node",
            )
        session = _Session(self, context)
        self._sessions.add(session)
        try:
            await session.run()
        except MalformedMessage as error:
            self.malformed += 1
            logger.warning("%s: ended the session of %s: %s", self.node_id, context.peer(), error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"MalformedMessage: {error}")
        finally:
            self._sessions.discard(session)


class _Session:
    """One client's stream. Invariant: `_requests_open` and `_bytes_open` count what was read and whose reply gRPC has not taken yet."""

    def __init__(self, service: ClientService, context: Any) -> None:
        self._service = service
        self._node = service.node
        self._context = context
        self._outgoing: list[tuple[int, Fill, int]] = []
        self._writer_waiter: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._requests_open = 0
        self._bytes_open = 0
        self._reading: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    async def run(self) -> None:
        """Until the client ends its side (what is under way is still answered) or the stream breaks. Raises `MalformedMessage`."""
        loop = asyncio.get_running_loop()
        reading = self._reading = loop.create_task(self._read_all())
        writing = loop.create_task(self._write_all())
        try:
            await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
            self._ended = True
            broken = reading.exception() if reading.done() and not reading.cancelled() else None
            if broken is not None:
                self._outgoing.clear()
                self._requests_open = 0
            # A write under way is never cancelled: gRPC could not send the status that ends the stream.
            self._wake_writer()
            await asyncio.wait([writing])
            if broken is not None:
                raise broken
        finally:
            self._ended = True
            leftover = [task for task in (reading, writing, *self._tasks) if not task.done()]
            for task in leftover:
                task.cancel()
            if leftover:
                await asyncio.wait(leftover)
            for task in (reading, writing):
                if not task.cancelled() and task.exception() is not None:
                    logger.debug("session of %s: %r", self._context.peer(), task.exception())

    def stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    # -- reading ---------------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        await self._greet()
        while True:
            while self._requests_open >= SESSION_REQUESTS_MAX or self._bytes_open >= SESSION_BYTES_MAX:
                self._room.clear()
                await self._room.wait()
            data = await self._context.read()
            if data is EOF:
                return
            for request in _parse(data).requests:
                self._begin(request)

    async def _greet(self) -> None:
        context, service = self._context, self._service
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                data = await context.read()
        except TimeoutError:
            raise MalformedMessage(f"no hello within {HELLO_SECONDS_MAX} s") from None
        if data is EOF:
            return
        requests = _parse(data).requests
        if not requests or requests[0].WhichOneof("content") != "hello":
            raise MalformedMessage("the first request of a session is a hello")
        hello = requests[0].hello
        if hello.version != PROTOCOL_VERSION:
            raise MalformedMessage(f"hello.version: found {hello.version}, this node speaks {PROTOCOL_VERSION}")
        if hello.cluster_id and hello.cluster_id != service.cluster_id:
            raise MalformedMessage(f"hello.cluster_id: found {hello.cluster_id[:64]!r}, this node is of cluster {service.cluster_id!r}")
        leader, address = self._node.leader_hint()
        welcome = pb.Welcome(
            version=PROTOCOL_VERSION,
            cluster_id=service.cluster_id,
            node=service.node_id,
            leader=leader or "",
            leader_address=address or "",
            entry_bytes_max=service.entry_bytes_max,
        )
        self._open(0)
        self._reply(requests[0].id, partial(_fill_welcome, welcome), 0)
        for request in requests[1:]:
            self._begin(request)

    def _begin(self, request: pb.Request) -> None:
        """Start one request; nothing here waits."""
        self._service.requests += 1
        match request.WhichOneof("content"):
            case "propose":
                self._propose(request.id, list(request.propose.commands), together=request.propose.together)
            case "query":
                self._open(0)
                self._spawn(request.id, self._query(request.id, request.query))
            case "barrier":
                self._open(0)
                self._spawn(request.id, self._barrier(request.id, request.barrier))
            case "hello":
                raise MalformedMessage("a second hello in a session")
            case _:
                raise MalformedMessage(f"request {request.id} has no content that is known here")

    def _propose(self, request_id: int, commands: list[bytes], *, together: bool) -> None:
        service = self._service
        size = sum(map(len, commands))
        self._open(size)
        if service.proposals_bytes and service.proposals_bytes + size > PROPOSALS_BYTES_MAX:
            self._fail(request_id, Busy("bytes of proposals from clients", service.proposals_bytes, PROPOSALS_BYTES_MAX), size)
            return
        limit = service.entry_bytes_max
        oversized: dict[int, ReplogError] = {}
        if size > limit:
            oversized = {
                position: ProposalTooLarge(len(command), limit) for position, command in enumerate(commands) if len(command) > limit
            }
            if oversized and together:
                self._fail(request_id, oversized[min(oversized)], size)
                return
            if oversized:
                commands = [command for position, command in enumerate(commands) if position not in oversized]
        service.commands += len(commands)
        service.proposals_bytes += size
        future = self._node.propose_local(commands)
        future.add_done_callback(partial(self._proposed, request_id, size, oversized))

    def _proposed(
        self, request_id: int, size: int, oversized: dict[int, ReplogError], future: asyncio.Future[list[bytes | CommandError]]
    ) -> None:
        self._service.proposals_bytes -= size
        if future.cancelled():
            self._fail(request_id, asyncio.CancelledError("the node cancelled the proposal"), size)
            return
        error = future.exception()
        if error is not None:
            self._fail(request_id, error, size)
            return
        results: Results = future.result()
        if oversized:
            merged: list[bytes | CommandError | Exception] = list(results)
            for position in sorted(oversized):
                merged.insert(position, oversized[position])
            results = merged
        self._reply(request_id, partial(self._fill_results, results, CommandFailed), size)

    async def _barrier(self, request_id: int, barrier: pb.Barrier) -> None:
        index = await self._node.read_barrier(timeout=_read_seconds(barrier.timeout_ms))
        self._reply(request_id, partial(_fill_barrier, index), 0)

    async def _query(self, request_id: int, query: pb.Query) -> None:
        timeout = _read_seconds(query.timeout_ms)
        if query.consistency == pb.LINEARIZABLE:
            await self._node.read_barrier(timeout=timeout)
        elif query.consistency == pb.LEASE:
            await self._node.lease_read(timeout=timeout)
        elif query.consistency == pb.STALE:
            age = self._node.staleness_seconds()
            if query.staleness_max_ms and age * 1000 > query.staleness_max_ms:
                raise Unavailable(f"the state of {self._service.node_id} is {age:.3f} s old, the read allows {query.staleness_max_ms} ms")
        else:
            raise MalformedMessage(f"query.consistency: found {query.consistency}, allowed: linearizable, lease, stale")
        while self._bytes_open >= SESSION_BYTES_MAX:
            # Answers that the client does not read: no more of them are made.
            self._room.clear()
            await self._room.wait()
        await self._node.until_restored()
        answers = answers_of(self._node.state_machine, list(query.requests))
        size = _bytes_of(answers)
        self._bytes_open += size
        self._reply(request_id, partial(self._fill_results, answers, QueryFailed), size)

    def _spawn(self, request_id: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._worked, request_id))

    def _worked(self, request_id: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(request_id, error, 0)

    # -- answering -------------------------------------------------------------------------------------------------------

    def _open(self, size: int) -> None:
        self._requests_open += 1
        self._bytes_open += size

    def _fail(self, request_id: int, error: BaseException, request_bytes: int) -> None:
        if not isinstance(error, ReplogError):
            logger.error("%s: request %d: %r", self._service.node_id, request_id, error)
        self._reply(request_id, partial(_fill_failure, failure_of(error)), request_bytes)

    def _reply(self, request_id: int, fill: Fill, freed_bytes: int) -> None:
        """Queue an answer; `freed_bytes` stop to count once it is written."""
        if self._ended and self._requests_open <= 0:
            return
        self._outgoing.append((request_id, fill, freed_bytes))
        self._wake_writer()

    def _wake_writer(self) -> None:
        waiter = self._writer_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fill_results(self, results: Results, error: type[CommandFailed | QueryFailed], reply: pb.Reply) -> int:
        """Everything that is bytes goes in at once; only where something is not, each is looked at."""
        into = reply.results
        into.SetInParent()
        limit = self._service.reply_bytes_max
        try:
            # Not `ByteSize`, which encodes all of it and throws that away.
            size = sum(map(len, results)) + len(results) * _ITEM_OVERHEAD_BYTES  # type: ignore[arg-type]  # what is no bytes raises
            if size <= limit:
                into.results.extend(results)  # type: ignore[arg-type]  # as above
                return size
        except TypeError:
            into.ClearField("results")
        room = limit
        for position, result in enumerate(results):
            if isinstance(result, bytes) and len(result) < room:
                into.results.append(result)
                room -= len(result) + _REPLY_OVERHEAD_BYTES
            else:
                into.results.append(b"")
                into.errors.append(pb.ItemError(position=position, failure=_item_failure(result, limit, error)))
        return limit - room

    async def _write_all(self) -> None:
        while True:
            if not self._outgoing:
                if self._ended and self._requests_open <= 0:
                    return
                waiter = self._writer_waiter = asyncio.get_running_loop().create_future()
                await waiter
                continue
            replies = pb.Replies()
            size = taken = freed_bytes = 0
            for request_id, fill, freed in self._outgoing:
                reply = replies.replies.add()
                reply.id = request_id
                size += fill(reply)
                taken += 1
                freed_bytes += freed
                if size >= _REPLIES_BYTES_TARGET:
                    break
            del self._outgoing[:taken]
            await self._context.write(replies.SerializeToString())
            self._requests_open -= taken
            self._bytes_open -= freed_bytes
            self._room.set()


def _parse(data: bytes) -> pb.Requests:
    try:
        return pb.Requests.FromString(data)
    except DecodeError:
        raise MalformedMessage(f"requests of {len(data)} bytes do not parse as protobuf") from None


def _read_seconds(timeout_ms: int) -> float:
    return min(timeout_ms / 1000, READ_SECONDS_MAX) if timeout_ms else READ_SECONDS_MAX


def _bytes_of(answers: Sequence[bytes | Exception]) -> int:
    try:
        return sum(map(len, answers))  # type: ignore[arg-type]  # an exception among them has no length
    except TypeError:
        return sum(len(answer) for answer in answers if isinstance(answer, bytes))


def _fill_welcome(welcome: pb.Welcome, reply: pb.Reply) -> int:
    reply.welcome.CopyFrom(welcome)
    return _REPLY_OVERHEAD_BYTES


def _fill_barrier(index: Index, reply: pb.Reply) -> int:
    reply.barrier.index = index
    return _REPLY_OVERHEAD_BYTES


def _fill_failure(failure: pb.Failure, reply: pb.Reply) -> int:
    reply.failure.CopyFrom(failure)
    return failure.ByteSize()


def _item_failure(result: object, limit: int, error: type[CommandFailed | QueryFailed]) -> pb.Failure:
    """`error`: what a result is told as that cannot be passed on."""
    if isinstance(result, CommandError):
        return failure_of(CommandFailed(result.kind, result.message))
    if isinstance(result, ReplogError) and error is CommandFailed:
        return failure_of(result)
    if isinstance(result, Exception):
        return failure_of(QueryFailed(type(result).__name__, str(result)))
    if isinstance(result, bytes):
        return failure_of(error("ResultTooLarge", f"done, but the result of {len(result)} bytes does not fit an answer of {limit} bytes"))
    return failure_of(error("TypeError", f"done, but the state machine's result is a {type(result).__name__}, not bytes"))
