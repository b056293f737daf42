"""The port on which peers connect for their direct streams (`replog.transport.direct`), and who may.

Whoever connects shows the first half of a token that one of this node's own gRPC streams gave to its sender; all else is closed without an answer. A token is random
and good as long as its gRPC stream is open: so there are never more tokens than streams.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from replog.errors import PortTaken
from replog.transport.direct import PREFACE, TOKEN_BYTES, TOKEN_SHOWN_BYTES, read_exactly, send_at_once

logger = logging.getLogger("replog.transport")

GREETINGS_MAX: Final = 64
"""Connections at a time that have not shown a token yet; one more is closed at once."""
GREETING_SECONDS_MAX: Final = 3.0
_ACCEPTS_MAX: Final = 16
"""In one iteration of the loop."""
_BACKLOG: Final = 128
_PAUSE_SECONDS: Final = 1.0
"""After a failed accept (no descriptors left): the listener must not spin."""

Claimed = Callable[[socket.socket], None]
"""Takes over the connection of whom the token was given to, which has had its answer."""


class DirectListener:
    """Bound when it is made (raises `PortTaken`), accepting from `start` on, until `stop`."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._expected: dict[bytes, tuple[bytes, Claimed]] = {}
        """By the half of the token that is shown: the other half, and who takes the connection."""
        self._greetings: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def stop(self) -> None:
        """Close the port and every connection that has shown no token yet; the others belong to their streams. May be called twice."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        for greeting in self._greetings:
            greeting.cancel()
        if self._greetings:
            await asyncio.wait(self._greetings)

    def expect(self, claimed: Claimed) -> bytes:
        """A token; whoever connects with it is given to `claimed`."""
        token = secrets.token_bytes(TOKEN_BYTES)
        self._expected[token[:TOKEN_SHOWN_BYTES]] = token[TOKEN_SHOWN_BYTES:], claimed
        return token

    def forget(self, token: bytes) -> None:
        """The token is good no more."""
        self._expected.pop(token[:TOKEN_SHOWN_BYTES], None)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTS_MAX):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.warning("port %d: a peer's connection could not be accepted: %s", self.port, error)
                loop.remove_reader(self._socket)
                self._pause = loop.call_later(_PAUSE_SECONDS, self.start)
                return
            if len(self._greetings) >= GREETINGS_MAX:
                connection.close()
                continue
            greeting = loop.create_task(self._greet(connection))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)
            greeting.add_done_callback(partial(_close, connection))

    async def _greet(self, connection: socket.socket) -> None:
        """The connection is closed when this ends, also before it began; who claims it gets a descriptor of his own."""
        connection.setblocking(False)
        try:
            async with asyncio.timeout(GREETING_SECONDS_MAX):
                greeting = await read_exactly(connection, len(PREFACE) + TOKEN_SHOWN_BYTES)
            expected = self._expected.get(greeting[len(PREFACE) :]) if greeting.startswith(PREFACE) else None
            if expected is not None:
                proof, claimed = expected
                send_at_once(connection)
                connection.send(proof)  # the first bytes into an empty socket: there is room for them
                claimed(connection.dup())
        except (OSError, TimeoutError):
            pass  # a stranger, or a peer that will try again


def _close(connection: socket.socket, _: asyncio.Task[None]) -> None:
    connection.close()


def _listen(host: str, port: int) -> socket.socket:
    failure: OSError | None = None
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PortTaken(f"{host}:{port}", str(error)) from None
    for family, kind, protocol, _, address in found:
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            failure = error
        else:
            return listener
    raise PortTaken(f"{host}:{port}", str(failure))
