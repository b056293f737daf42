"""The port on which peers connect for their direct streams (`replog.transport.direct`), and who may.

Whoever connects shows a token that one of this node's own gRPC streams gave to its sender; all else is closed without an answer. A token is 16 random bytes, is
good once, and only as long as its gRPC stream is open: so there are never more tokens than streams.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Final

from replog.errors import PortTaken
from replog.transport.direct import PREFACE, TOKEN_BYTES, read_exactly, tune

logger = logging.getLogger("replog.transport")

GREETINGS_MAX: Final = 64
"""Connections at a time that have not shown a token yet; one more is closed at once."""
GREETING_SECONDS_MAX: Final = 3.0
_BACKLOG: Final = 128
_PAUSE_SECONDS: Final = 1.0
"""After a failed accept (no descriptors left): the listener must not spin."""

Claimed = Callable[[socket.socket], None]
"""Takes over the connection of whom the token was given to."""


class DirectListener:
    """Bound when it is made (raises `PortTaken`), accepting from `start` on, until `stop`."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._expected: dict[bytes, Claimed] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._greetings: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._accepting = asyncio.get_running_loop().create_task(self._accept(), name="replog-direct-listener")

    async def stop(self) -> None:
        """Close the port and every connection that has shown no token yet; the others belong to their streams."""
        tasks = [*self._greetings, *([self._accepting] if self._accepting is not None else [])]
        self._accepting = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._socket.close()

    def expect(self, claimed: Claimed) -> bytes:
        """A token; whoever connects with it is given to `claimed`."""
        token = secrets.token_bytes(TOKEN_BYTES)
        self._expected[token] = claimed
        return token

    def forget(self, token: bytes) -> None:
        """The token is good no more, whether it was used or not."""
        self._expected.pop(token, None)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                logger.warning("port %d: a peer's connection could not be accepted: %s", self.port, error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if len(self._greetings) >= GREETINGS_MAX:
                connection.close()
                continue
            greeting = loop.create_task(self._greet(connection))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket) -> None:
        """Until it has shown whose it is, the connection is ours to close."""
        try:
            connection.setblocking(False)
            async with asyncio.timeout(GREETING_SECONDS_MAX):
                claimed = await self._judge(connection)
        except (OSError, TimeoutError):
            claimed = None
        except BaseException:
            connection.close()
            raise
        if claimed is None:
            connection.close()
        else:
            claimed(connection)

    async def _judge(self, connection: socket.socket) -> Claimed | None:
        greeting = await read_exactly(connection, len(PREFACE) + TOKEN_BYTES)
        claimed = self._expected.pop(greeting[len(PREFACE) :], None) if greeting.startswith(PREFACE) else None
        if claimed is not None:
            tune(connection)
            await asyncio.get_running_loop().sock_sendall(connection, PREFACE)
        return claimed


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
