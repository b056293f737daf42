"""HTTP for people and machines that watch a node: ``/metrics``, ``/livez``, ``/readyz``, and a page that lists them.

Plain HTTP/1.1 over asyncio, GET and HEAD only, one request a connection. It is small enough to be read whole, so that a node needs no web framework. What comes in is
bounded: connections, bytes and time of a request, time of an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from replog.config import KIB
from replog.errors import PortTaken

CONNECTIONS_MAX: Final = 64
REQUEST_BYTES_MAX: Final = 8 * KIB
REQUEST_SECONDS_MAX: Final = 5.0
ANSWER_SECONDS_MAX: Final = 5.0

Reason = Callable[[], str]
"""Why not; empty when all is well."""

_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_TEXT: Final = "text/plain; charset=utf-8"
_PAGE: Final = b"""<!doctype html>
<html lang="en"><title>replog</title>
<h1>replog</h1>
<ul>
<li><a href="/metrics">/metrics</a>: the node's numbers, for Prometheus
<li><a href="/livez">/livez</a>: 200 while the process works; otherwise restart it
<li><a href="/readyz">/readyz</a>: 200 while the node can serve; otherwise why not
</ul>
"""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = _TEXT


class HttpServer:
    """`start` binds and serves, `stop` ends it. `alive` and `ready` are asked at each request."""

    def __init__(self, address: str, registry: CollectorRegistry, *, alive: Reason, ready: Reason) -> None:
        self._address = address
        self._registry = registry
        self._alive = alive
        self._ready = ready
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.bound_address = ""
        """``host:port`` after `start`, with the port that was taken for port 0."""

    async def start(self) -> None:
        """Raises `PortTaken`."""
        host, _, port = self._address.rpartition(":")
        try:
            self._server = await asyncio.start_server(
                self._connected, host.strip("[]"), int(port), limit=REQUEST_BYTES_MAX, reuse_address=True
            )
        except OSError as error:
            raise PortTaken(self._address, error.strerror or str(error)) from None
        self.bound_address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Take no more connections, end the open ones."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await self._server.wait_closed()
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            # Gone, too slow, or the node stops: there is nobody to tell.
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, answer = "GET", Answer(400, b"not a request\n")
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            answer = Answer(408, f"no request within {REQUEST_SECONDS_MAX} s\n".encode())
        except asyncio.LimitOverrunError:
            answer = Answer(431, f"a request has at most {REQUEST_BYTES_MAX} bytes\n".encode())
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return
        else:
            line = head.split(b"\r\n", 1)[0].split(b" ")
            if len(line) == 3 and line[2].startswith(b"HTTP/1."):
                method = line[0].decode("ascii", "replace")
                answer = self._answer(method, line[1].split(b"?", 1)[0])
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            writer.write(_encode(answer, with_body=method != "HEAD"))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    def _answer(self, method: str, path: bytes) -> Answer:
        if method not in ("GET", "HEAD"):
            return Answer(405, b"GET or HEAD\n")
        match path:
            case b"/metrics":
                return self._metrics()
            case b"/livez":
                return _health(self._alive())
            case b"/readyz":
                return _health(self._alive() or self._ready())
            case b"/":
                return Answer(200, _PAGE, "text/html; charset=utf-8")
            case _:
                return Answer(404, b"/metrics, /livez or /readyz\n")

    def _metrics(self) -> Answer:
        try:
            return Answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
        except Exception as error:  # noqa: BLE001 - whatever a collector of the application raises must not end the server
            return Answer(500, f"a collector failed: {type(error).__name__}: {error}\n".encode())


def _health(reason: str) -> Answer:
    if not reason:
        return Answer(200, b"ok\n")
    return Answer(503, " ".join(reason.split()).encode() + b"\n")


def _encode(answer: Answer, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    return head + answer.body if with_body else head
