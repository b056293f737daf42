"""Envelopes over plain TCP, beside the gRPC stream that they belong to.

Why: a lone command is a chain of messages that each wake somebody up, and a message through gRPC's asyncio crosses threads, completion queues and event descriptors on both
ends. Between two processes, a message and its answer take 80 to 200 us that way, and 30 to 40 us over a socket that the loop itself waits for (docs/benchmarks.md).

How: the peer's stream is opened over gRPC as ever, where the two nodes judge each other, and carries envelopes at once. The answer to the hello names a port and a token.
The sender connects there beside the traffic, and when it has come through it says so as its last word over gRPC::

    sender                                                receiver
      | == gRPC: hello ===============================>   |
      | <= gRPC: accepted, port, token ================   |   the token belongs to this stream
      | == gRPC: envelope, envelope, ... =============>   |
      | -- TCP:  | "RPLGDIR1" 8 | token, first half 16 | ->   |
      | <- TCP:  | token, second half 16 | ------------   |   so this is who accepted the stream, and nobody else
      | == gRPC: goes_direct =========================>   |   not before it is the connection read
      | -- TCP:  | length u32 | envelope | ... ------->   |   little-endian; an envelope as over gRPC

So the order of the messages is that in which they were sent, and a connection that never comes about (a firewall, a proxy that knows only the gRPC port) costs nothing: it is
tried again now and then. From `goes_direct` on the two live and die together: when either ends, both are closed and the peer is connected anew. Nothing but the way is
new: who may send and what may be sent is judged where it always was, in the handshake and in the gateway. And that the other machine is gone without a word is
noticed by gRPC's keepalive, which a peer answers also while its loop is held up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

from replog.errors import MalformedMessage
from replog.rpc import raft_pb2 as pb
from replog.transport.pieces import Pieces

PREFACE: Final = b"RPLGDIR1"
TOKEN_BYTES: Final = 32
"""Both halves."""
TOKEN_SHOWN_BYTES: Final = 16
GOES_DIRECT: Final = pb.Envelope(goes_direct=True).SerializeToString()
DIRECT_BROKE: Final = "the direct connection broke"
"""What gRPC says of a stream that ended for no other reason."""
ADDRESS_SECONDS_MAX: Final = 1.0
"""For one of several addresses of a name; a firewall may swallow what goes there."""
_LENGTH: Final = struct.Struct("<I")
_LENGTH_BYTES: Final = _LENGTH.size
_BUFFER_BYTES: Final = 64 * 1024
"""To begin with; it doubles while an envelope that has come in fills it."""
_BUFFER_BYTES_KEPT_MAX: Final = 4 * 1024 * 1024
"""A buffer that grew to this is kept for the next envelope of that size; a larger one is let go when it is empty."""
_READ_BYTES_MAX: Final = 256 * 1024
"""In one iteration of the loop: the owner, and other peers, have their turn in between."""


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
        """The receiver says nothing behind its half of the token: what can be read is the end."""
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
    """The receiving end: `deliver` gets the envelopes of one read, in order; `on_end` is called once, with what was wrong or None for an end in order."""

    __slots__ = ("_buffer", "_connection", "_deliver", "_envelope_bytes_max", "_filled", "_loop", "_on_end", "_view")

    def __init__(
        self,
        connection: socket.socket,
        envelope_bytes_max: int,
        deliver: Callable[[list[bytes]], None],
        on_end: Callable[[Exception | None], None],
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
            self._room(0)  # now: who holds us may live until the garbage is collected

    def _on_readable(self) -> None:
        filled = self._filled
        try:
            count = self._connection.recv_into(self._view[filled : filled + _READ_BYTES_MAX])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if not count:
            self._end(None)
            return
        self._filled = filled + count
        try:
            self._take()
        except Exception as error:  # noqa: BLE001 - whatever it is, what was behind it is lost: the stream is over, and its owner judges the error
            self._end(error)

    def _take(self) -> None:
        """Deliver the envelopes that are whole; the rest stays at the start of the buffer. Raises `MalformedMessage` behind the good ones."""
        buffer, view, filled, at = self._buffer, self._view, self._filled, 0
        envelopes: list[bytes] = []
        wrong: MalformedMessage | None = None
        while filled - at >= _LENGTH_BYTES:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if not 0 < length <= self._envelope_bytes_max:
                wrong = MalformedMessage(f"envelope of {length} bytes; allowed are 1 to {self._envelope_bytes_max}")
                break
            end = at + _LENGTH_BYTES + length
            if end > filled:
                break
            envelopes.append(bytes(view[at + _LENGTH_BYTES : end]))
            at = end
        rest = self._filled = filled - at
        if rest == len(buffer):
            self._room(2 * rest)  # as the bytes come, not as a length promises them
            self._view[:rest] = view
        elif not rest and len(buffer) > _BUFFER_BYTES_KEPT_MAX:
            self._room(_BUFFER_BYTES)
        elif rest and at:
            view[:rest] = view[at:filled]
        if envelopes:
            self._deliver(envelopes)
        if wrong is not None:
            raise wrong

    def _room(self, size_bytes: int) -> None:
        self._buffer = bytearray(size_bytes)
        self._view = memoryview(self._buffer)

    def _end(self, error: Exception | None) -> None:
        self.close()
        self._on_end(error)


async def connect(host: str, port: int, token: bytes) -> socket.socket:
    """A connection to who gave `token`, each half of it shown. Raises OSError (or UnicodeError, for what is no name) when none comes about."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            async with asyncio.timeout(ADDRESS_SECONDS_MAX):
                await loop.sock_connect(connection, address)
                await _prove(connection, token)
        except TimeoutError:
            connection.close()
            failure = OSError(f"no answer within {ADDRESS_SECONDS_MAX} s")
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


async def _prove(connection: socket.socket, token: bytes) -> None:
    send_at_once(connection)
    shown, proof = token[:TOKEN_SHOWN_BYTES], token[TOKEN_SHOWN_BYTES:]
    await asyncio.get_running_loop().sock_sendall(connection, PREFACE + shown)
    answer = await read_exactly(connection, len(proof))
    if answer != proof:
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


def send_at_once(connection: socket.socket) -> None:
    """No waiting for more to send (Nagle)."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
