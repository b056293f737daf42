"""When a direct connection is tried for: beside the traffic, at once for a peer that was never in trouble with one, and ever more rarely for one that is."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

from replog.transport.direct import connect

logger = logging.getLogger("replog.transport")

CONNECT_SECONDS_MAX: Final = 3.0
PAUSE_SECONDS_MIN: Final = 1.0
PAUSE_SECONDS_MAX: Final = 60.0
HELD_SECONDS: Final = 10.0
"""A direct stream that held so long is a good way to the peer. One that breaks earlier may have somebody on the way who breaks it."""


class DirectAttempts:
    """Of one peer, over all its streams."""

    def __init__(self, title: str) -> None:
        """`title`: who connects to whom, for the log."""
        self._title = title
        self.pause_seconds = 0.0
        """Before the next attempt."""

    async def connect(self, host: str, port: int, token: bytes) -> socket.socket:
        """A proven connection, however long that takes."""
        while True:
            await asyncio.sleep(self.pause_seconds)
            try:
                async with asyncio.timeout(CONNECT_SECONDS_MAX):
                    return await connect(host, port, token)
            except (OSError, TimeoutError, ValueError) as error:
                self.failed(f"{host}:{port}: {str(error) or f'no connection within {CONNECT_SECONDS_MAX} s'}")

    def ended(self, held_seconds: float, *, blamed: bool) -> None:
        """A direct stream is over, after it held for so long; `blamed`: it was what broke, and not the peer that was gone or ended it."""
        if not blamed or held_seconds >= HELD_SECONDS:
            self.pause_seconds = 0.0
        else:
            self.failed(f"it held for only {held_seconds:.1f} s")

    def failed(self, reason: str) -> None:
        """Told to people once for each time of trouble; gRPC does meanwhile."""
        level = logging.DEBUG if self.pause_seconds else logging.INFO
        self.pause_seconds = min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, 2 * self.pause_seconds))
        logger.log(level, "%s: no direct stream, gRPC will do (tried again in %.0f s): %s", self._title, self.pause_seconds, reason)
