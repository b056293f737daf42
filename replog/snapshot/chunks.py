"""A snapshot that comes in pieces: what a chunk must be, and how far the body has come.

::

    body     0 ......... received_bytes ........................ size_bytes
             | on disk   | wanted next  |
    chunk                | offset, data |                 done: its end is the body's end

Chunks arrive in order; one that begins elsewhere is answered with the offset that is wanted, so a sender resumes where the connection broke and a
repeated chunk does no harm. Each chunk has its own checksum, and the whole body another one, kept up as the pieces come: nothing is read twice and
memory stays flat. Which body it is, is said by index, term, size and checksum together: two nodes may write different bytes for the same state.
"""

from __future__ import annotations

import zlib
from typing import Final

from replog.errors import MalformedMessage
from replog.types import INDEX_MAX, TERM_MAX, SnapshotMeta

SIZE_BYTES_MAX: Final = 2**63 - 1


def check_chunk(
    meta: SnapshotMeta, offset: int, data: bytes, *, checksum: int, body_checksum: int, done: bool, newest: SnapshotMeta | None
) -> None:
    """Raise `MalformedMessage` for a chunk that no honest sender makes, or of a snapshot that is not newer than the `newest` one here."""
    name = f"chunk at {offset} of snapshot {meta.index}-{meta.term} ({meta.size_bytes} bytes)"
    if not 1 <= meta.index <= INDEX_MAX or not 0 <= meta.term <= TERM_MAX or not 0 <= meta.size_bytes <= SIZE_BYTES_MAX:
        raise MalformedMessage(f"{name}: index, term or size is out of range")
    if not 0 <= body_checksum < 2**32:
        raise MalformedMessage(f"{name}: checksum {body_checksum} of the body is out of range")
    if newest is not None and meta.index <= newest.index:
        raise MalformedMessage(f"{name}: not newer than the snapshot {newest.index}-{newest.term} that is here")
    if not 0 <= offset <= meta.size_bytes:
        raise MalformedMessage(f"{name}: begins outside the body")
    end = offset + len(data)
    if end > meta.size_bytes:
        raise MalformedMessage(f"{name}: ends at {end}, behind the body's end")
    if not data and meta.size_bytes:
        raise MalformedMessage(f"{name}: empty")
    if done != (end == meta.size_bytes):
        raise MalformedMessage(f"{name}: ends at {end}, but says {'' if done else 'not '}to be the last one")
    found = zlib.crc32(data)
    if found != checksum:
        raise MalformedMessage(f"{name}: checksum of the data is {found:#010x}, the chunk says {checksum:#010x}")


class Arrival:
    """How far one incoming snapshot has come. Invariant: `checksum` is that of the first `received_bytes` of the body."""

    __slots__ = ("body_checksum", "checksum", "is_complete", "meta", "received_bytes")

    def __init__(self, meta: SnapshotMeta, body_checksum: int) -> None:
        self.meta = meta
        self.body_checksum = body_checksum
        self.received_bytes = 0
        self.checksum = 0
        self.is_complete = False
        """All of it has come and verified."""

    def is_same(self, meta: SnapshotMeta, body_checksum: int) -> bool:
        """Whether a chunk of (`meta`, `body_checksum`) belongs to this body."""
        mine = self.meta
        return (mine.index, mine.term, mine.size_bytes, self.body_checksum) == (meta.index, meta.term, meta.size_bytes, body_checksum)

    def add(self, data: bytes) -> None:
        """The next piece of the body has been stored."""
        assert self.received_bytes + len(data) <= self.meta.size_bytes
        self.checksum = zlib.crc32(data, self.checksum)
        self.received_bytes += len(data)

    def complete(self) -> None:
        """All has come: raises `MalformedMessage` unless it is the body that was promised."""
        assert self.received_bytes == self.meta.size_bytes
        if self.checksum != self.body_checksum:
            raise MalformedMessage(
                f"snapshot {self.meta.index}-{self.meta.term}: checksum of the body is {self.checksum:#010x}, the sender says {self.body_checksum:#010x}"
            )
        self.is_complete = True
