"""Envelopes over plain TCP, beside the gRPC stream that they belong to.

Why: a lone command is a chain of messages that each wake somebody up, and a message through gRPC's asyncio crosses threads, completion queues and event descriptors on both
ends. Between two processes, a message and its answer take 80 to 200 us that way, and 30 to 40 us over a socket that the loop itself waits for (docs/benchmarks.md).

How: the peer's stream is opened over gRPC as ever, where the two nodes judge each other; the answer to the hello names a port and a token. The sender connects there
and shows the token, and from then on its envelopes go this way::

    sender                                          receiver
      | -- gRPC: hello ---------------------------->  |
      | <- gRPC: accepted, port, token -------------  |    the token belongs to this stream, and is good once
      | -- TCP:  | "RPLGDIR1" 8 | token 16 | ------>  |
      | <- TCP:  | "RPLGDIR1" 8 | ------------------  |
      | -- TCP:  | length u32 | envelope | ... ---->  |    little-endian; an envelope as over gRPC

The two live and die together: when either ends, both are closed and the peer is connected anew. Where no connection comes about (a firewall, a proxy that knows only the
gRPC port), the envelopes go over gRPC as before: slower, and otherwise the same. Nothing but the order of the bytes is new, so who may send and what may be
sent is judged where it always was: in the handshake and in the gateway.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

from replog.errors import MalformedMessage
from replog.rpc.channel import KEEPALIVE_SECONDS, KEEPALIVE_TIMEOUT_SECONDS
from replog.transport.pieces import Pieces

PREFACE: Final = b"RPLGDIR1"
TOKEN_BYTES: Final = 16
_LENGTH: Final = struct.Struct("<I")
_LENGTH_BYTES: Final = _LENGTH.size
_BUFFER_BYTES: Final = 64 * 1024
"""Read at a time, until a larger envelope comes."""
_BUFFER_BYTES_KEPT_MAX: Final = 4 * 1024 * 1024
"""A buffer that grew to this is kept for the next envelope of that size; a larger one is let go when it is empty."""


class DirectSender:
    """The sending end. `on_written` is called when a write that did not fit the socket has left, `on_end` once when the connection is over, with the reason."""

    __slots__ = ("_connection", "_loop", "_on_end", "_on_written", "_unsent")

    def __init__(self, connection: socket.socket, on_written: Callable[[], None], on_end: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._on_written = on_written
        self._on_end = on_end
        self._unsent: list[bytes | memoryview] = []
        """Of the envelope that is being written, its length in front."""
        self._loop.add_reader(connection, self._on_readable)

    def write(self, envelope: Pieces) -> bool:
        """True: the system has all of `envelope`. False: it will have, and `on_written` is called then; nothing more may be written until that."""
        assert not self._unsent
        self._unsent = [_LENGTH.pack(sum(map(len, envelope))), *envelope]
        if self._send():
            return True
        if self._connection.fileno() >= 0:
            self._loop.add_writer(self._connection, self._on_writable)
        return False

    def close(self) -> None:
        """Harmless when it is closed. Nobody is told."""
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()

    def _on_writable(self) -> None:
        if self._send():
            self._loop.remove_writer(self._connection)
            self._on_written()

    def _send(self) -> bool:
        """Give the system what it takes; True when that was all."""
        unsent = self._unsent
        try:
            sent = self._connection.sendmsg(unsent)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._end(str(error))
            return False
        for number, piece in enumerate(unsent):
            if sent < len(piece):
                self._unsent = [memoryview(piece)[sent:], *unsent[number + 1 :]]
                return False
            sent -= len(piece)
        self._unsent = []
        return True

    def _on_readable(self) -> None:
        """The receiver says nothing behind its preface: what can be read is the end."""
        try:
            data = self._connection.recv(1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(str(error))
            return
        self._end("it sent something" if data else "closed by the other side")

    def _end(self, reason: str) -> None:
        self.close()
        self._on_end(reason)


class DirectReceiver:
    """The receiving end: `deliver` gets the envelopes of one read, in order; `on_end` is called once, with what `deliver` raised or None."""

    __slots__ = ("_buffer", "_connection", "_deliver", "_envelope_bytes_max", "_filled", "_loop", "_on_end", "_view")

    def __init__(
        self,
        connection: socket.socket,
        envelope_bytes_max: int,
        deliver: Callable[[list[bytes]], None],
        on_end: Callable[[MalformedMessage | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._envelope_bytes_max = envelope_bytes_max
        self._deliver = deliver
        self._on_end = on_end
        self._filled = 0
        """Bytes of the buffer that have come in; the first of them is the first of an envelope's length."""
        self._room(_BUFFER_BYTES)
        self._loop.add_reader(connection, self._on_readable)

    def close(self) -> None:
        """Harmless when it is closed. Nobody is told."""
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection)
            self._connection.close()

    def _on_readable(self) -> None:
        """One read a call: between two of them the owner has its turn."""
        try:
            count = self._connection.recv_into(self._view[self._filled :])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if not count:
            self._end(None)
            return
        self._filled += count
        try:
            envelopes = self._cut()
            if envelopes:
                self._deliver(envelopes)
        except MalformedMessage as error:
            self._end(error)

    def _cut(self) -> list[bytes]:
        """The envelopes that are whole; the rest stays at the start of the buffer, which has room for the envelope that it begins."""
        buffer, view, filled, at = self._buffer, self._view, self._filled, 0
        envelopes: list[bytes] = []
        size = 0
        while filled - at >= _LENGTH_BYTES:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > self._envelope_bytes_max:
                raise MalformedMessage(f"envelope of {length} bytes; allowed are {self._envelope_bytes_max}")
            size = _LENGTH_BYTES + length
            if filled - at < size:
                break
            envelopes.append(bytes(view[at + _LENGTH_BYTES : at + size]))
            at += size
            size = 0
        rest = self._filled = filled - at
        if size > len(buffer) or (not rest and len(buffer) > _BUFFER_BYTES_KEPT_MAX):
            self._room(max(size, _BUFFER_BYTES))
            self._view[:rest] = view[at:filled]
        elif rest and at:
            view[:rest] = view[at:filled]
        return envelopes

    def _room(self, size_bytes: int) -> None:
        self._buffer = bytearray(size_bytes)
        self._view = memoryview(self._buffer)

    def _end(self, error: MalformedMessage | None) -> None:
        self.close()
        self._on_end(error)


async def connect(host: str, port: int, token: bytes) -> socket.socket:
    """A connection to the receiver that gave `token`, behind its preface. Raises OSError when none comes about; the caller says how long it may take."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
            await _show(connection, token)
            tune(connection)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


async def _show(connection: socket.socket, token: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, PREFACE + token)
    answer = await read_exactly(connection, len(PREFACE))
    if answer != PREFACE:
        raise ConnectionError(f"who listens there is no peer: it answered {answer!r}")


async def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Raises ConnectionError when it ends before."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(connection, count - len(data))
        if not more:
            raise ConnectionError(f"closed after {len(data)} of {count} bytes")
        data += more
    return data


def tune(connection: socket.socket) -> None:
    """Send at once; notice a peer that is gone without a word as soon as gRPC does."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(KEEPALIVE_SECONDS))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int((KEEPALIVE_SECONDS + KEEPALIVE_TIMEOUT_SECONDS) * 1000))
