"""Where the log ends, and appending one entry there: the one function of this package that is written for nanoseconds.

A bare `os.write` of 100 bytes takes 0.4 us, and an append of one entry should not take twice that. So it is a closure (its constants are cells,
not attributes), it asks one comparison (`attention`) for everything that is rarely to be done before the write and one flag (`Turn.waiters`)
for everything after it, and it frames with one call of a compiled `Struct`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from replog.filesystem import Bytes, File, raw_pwrite
from replog.wal.format import HEADER_BYTES, Codec
from replog.wal.turn import Turn


class Tip:
    """Where the next entry goes. Changed only by the one whose `Turn` it is; `next_sequence` is changed last, so whoever reads it first and
    `end_offset` after it sees a whole log."""

    __slots__ = ("attention", "codec", "end_offset", "file", "next_sequence", "writing")

    def __init__(self) -> None:
        self.end_offset = HEADER_BYTES
        """Behind the last entry, in the last segment."""
        self.next_sequence = 0
        self.attention = 0
        """The offset from which on an append has more to do than to write: a rollover, an index entry, raising an error. -1: always."""

    def enter(self, file: File, codec: Codec, end_offset: int, next_sequence: int) -> None:
        """This is the file that is written from now on."""
        self.file = file
        self.codec = codec
        self.writing = (codec.packers, codec.crc, *raw_pwrite(file))
        """What an append needs of the two."""
        self.end_offset = end_offset
        self.next_sequence = next_sequence


def make_append(
    tip: Tip,
    turn: Turn,
    attend: Callable[[], None],
    finish_write: Callable[[Bytes, int], None],
    fail: Callable[[OSError, str], Exception],
    after: Callable[[int, int], None],
) -> Callable[[Bytes], int]:
    """The function that appends one entry.

    `attend` is called when the tip wants attention, `finish_write` (frame, offset) when the device took only a part, `fail` gives the error to
    raise, `after` (next sequence, bytes of data) is called outside the turn when `turn.waiters` is not 0.
    """
    tokens = turn.tokens
    struct_error = struct.error

    def append(data: Bytes) -> int:
        """Append one entry; returns its sequence number when the sync policy's promise holds. Raises WalEntryTooLarge."""
        try:
            tokens.pop()
        except IndexError:
            turn.take()
        try:
            offset = tip.end_offset
            if offset >= tip.attention:
                attend()
                offset = tip.end_offset
            packers, crc, pwrite, handle = tip.writing
            try:
                pack, number, seed, size = packers[len(data)]
            except KeyError:
                pack, number, seed, size = tip.codec.packer(len(data))
            try:
                frame = pack(number, data, crc(data, seed))
            except struct_error:  # a memoryview
                frame = tip.codec.encode_frame(data)
            if pwrite(handle, frame, offset) != size:
                finish_write(frame, offset)
            tip.end_offset = offset + size
            sequence = tip.next_sequence
            tip.next_sequence = sequence + 1
        except OSError as error:
            failure = fail(error, "append")
            turn.give()
            raise failure from error
        except BaseException:
            turn.give()
            raise
        tokens.append(None)
        if turn.waiters:
            after(sequence + 1, len(data))
        return sequence

    return append
