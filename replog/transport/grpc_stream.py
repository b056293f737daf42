"""Writing envelopes to a gRPC stream, and what gRPC means by the many ways in which it says that a stream is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from replog.errors import ReplogError
from replog.transport.eager import Eager
from replog.transport.pieces import Pieces


class StreamEnded(ReplogError):
    """The stream to a peer could not be opened or broke. It is opened again; nothing to do."""


class GrpcSender:
    """The sending end of an open call. `on_written` is called when a write that had to wait is taken, `on_end` when one failed."""

    __slots__ = ("_call", "_on_end", "_on_written", "_writing")

    def __init__(self, call: Any, on_written: Callable[[], None], on_end: Callable[[BaseException], None]) -> None:
        self._call = call
        self._on_written = on_written
        self._on_end = on_end
        self._writing: Eager | None = None

    def write(self, envelope: Pieces) -> bool:
        """True: gRPC has taken `envelope`. False: it will, and `on_written` is called then; nothing more may be written until that."""
        if self._call.done():
            return False
        writing = Eager(self._call.write(b"".join(envelope)), self._written)
        if not writing.done:
            self._writing = writing
            return False
        if writing.error is not None:
            self._on_end(writing.error)
            return False
        return True

    def close(self) -> None:
        """Let go of a write under way; the call is its owner's to cancel."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.abandon()

    def _written(self, error: BaseException | None) -> None:
        self._writing = None
        if error is None:
            self._on_written()
        else:
            self._on_end(error)


class stream_errors:  # noqa: N801 - reads as a statement
    """Whatever gRPC raises for a broken stream becomes `StreamEnded`. gRPC says so by a `CancelledError` too, when the other side cancelled."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        where = self._where
        if isinstance(error, grpc.aio.AioRpcError):
            raise StreamEnded(f"{where}: {error.code().name}: {_in_short(error.details() or '')}") from None
        if isinstance(error, (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)):
            raise StreamEnded(f"{where}: {error}") from None
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise StreamEnded(f"{where}: the stream was cancelled") from None


async def status_of(call: Any) -> str:
    """Code and details of a call that is done."""
    return f"{(await call.code()).name}: {await call.details() or 'no details'}"


def _in_short(details: str) -> str:
    """What gRPC says of a failed connection, without the addresses and layers it names on the way to it."""
    return details.rpartition(": ")[2] if details.startswith("failed to connect to all addresses") else details
