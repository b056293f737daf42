"""An envelope as the pieces that make it up, so that the frames of a large append are not copied on their way to the socket.

In an append the frames are the last field of the last field, so what is around them stands in front of them (`replog/rpc/raft.proto`)::

    envelope | 0x12 | length |                                            Envelope.messages
    message                  | 0x08 | term | 0x12 | length |              Message.term, .append_entries
    append                                                 | fields 1 to 3 | 0x22 | length | frames ...
                                                                                             the log's own bytes
And envelopes one behind the other are one envelope with the messages of all, because that is what protobuf makes of a repeated field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from replog.raft.messages import AppendEntries, Message
from replog.rpc import raft_pb2 as pb
from replog.transport.encode import encode_envelope, encode_message
from replog.types import EntryFrames

Pieces = Sequence[bytes]
"""Whose concatenation is one envelope."""

PIECE_BYTES_MIN: Final = 16 * 1024
"""Frames of at least so many bytes are a piece of their own; below, copying them costs less than one more piece."""
_MESSAGES: Final = b"\x12"
_APPEND_ENTRIES: Final = b"\x12"
_FRAMES: Final = b"\x22"


class EnvelopeEncoder:
    """`encode_pieces` that remembers an append: followers in step get the same bytes, made once (who it is for is not on the wire)."""

    __slots__ = ("_message", "_pieces")

    def __init__(self) -> None:
        self._message: AppendEntries | None = None
        self._pieces: Pieces = ()

    def encode(self, messages: Sequence[Message]) -> Pieces:
        """As `encode_pieces`."""
        message = messages[0]
        if type(message) is not AppendEntries or message.frames is None or len(messages) > 1:
            return encode_pieces(messages)
        last = self._message
        if (
            last is None
            or last.frames is not message.frames
            or last.term != message.term
            or last.prev_index != message.prev_index
            or last.prev_term != message.prev_term
            or last.committed_index != message.committed_index
        ):
            self._pieces = encode_pieces(messages)
            self._message = message
        return self._pieces

    def forget(self) -> None:
        """Let go of the bytes."""
        self._message = None
        self._pieces = ()


def encode_pieces(messages: Sequence[Message]) -> Pieces:
    """One envelope of `messages`. Few pieces: two for each large append, one for all that stands between them."""
    pieces: list[bytes] = []
    small: list[Message] = []
    for message in messages:
        if type(message) is AppendEntries and message.entries is not None and message.entries.size_bytes >= PIECE_BYTES_MIN:
            if small:
                pieces.append(encode_envelope(small))
                small = []
            frames = message.frames
            assert isinstance(frames, EntryFrames), "the frames of an AppendEntries are attached before it is sent"
            pieces += (_in_front_of(message, len(frames.buffer)), frames.buffer)
        else:
            small.append(message)
    if small or not pieces:
        pieces.append(encode_envelope(small))
    return pieces


def _in_front_of(message: AppendEntries, frames_bytes: int) -> bytes:
    """All of the envelope of `message` but its frames, which follow."""
    without = pb.Message()
    encode_message(message, without, with_frames=False)
    append = without.append_entries.SerializeToString() + _FRAMES + _varint(frames_bytes)
    without.ClearField("append_entries")
    body = without.SerializeToString() + _APPEND_ENTRIES + _varint(len(append) + frames_bytes) + append
    return _MESSAGES + _varint(len(body) + frames_bytes) + body


def _varint(value: int) -> bytes:
    """LEB128, as protobuf writes lengths."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
