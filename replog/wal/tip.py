"""Where the log ends, and appending one entry there: the one function of this package that is written for nanoseconds.

A bare `os.write` of 100 bytes takes 0.3 us, and an append of one entry should not take twice that. So `append` is a closure, and what it reads and
moves with every entry are variables that it closes over: each costs a third of an attribute. What it needs seldom hangs on one object, because
each variable that is closed over costs with every call, and it has one `try` around all, because each costs two instructions. It asks one comparison
(`attention`) for everything that is rarely to be done before the write, one flag (`Turn.waiters`) for everything after it, and frames with one call
of a compiled `Struct`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from replog.filesystem import Bytes, File, raw_pwrite
from replog.wal.format import HEADER_BYTES, Codec, Packer
from replog.wal.turn import Turn


class Tip:
    """Where the next entry goes. Changed only by the one whose `Turn` it is (but `attention`, which a failure in any thread lowers)."""

    __slots__ = ("_variables", "after", "append", "append_other", "attend", "codec", "fail", "file", "finish_write", "place")

    def __init__(
        self,
        turn: Turn,
        *,
        append_other: Callable[[Bytes], int],
        attend: Callable[[], None],
        finish_write: Callable[[Bytes, int], None],
        fail: Callable[[OSError, str], Exception],
        after: Callable[[int, int], None],
    ) -> None:
        self.append_other: Final = append_other
        """Appends what there is no packer for."""
        self.attend: Final = attend
        """Called when the tip wants attention."""
        self.finish_write: Final = finish_write
        """Called with a frame and its offset when the device took only a part."""
        self.fail: Final = fail
        """Gives the error to raise."""
        self.after: Final = after
        """Called with the next sequence and the bytes of data, outside the turn, when `turn.waiters` is not 0."""
        self._variables = _close_over(self, turn)
        self.append: Final = self._variables.append
        self.place: Final = self._variables.place
        """``place() -> (next sequence, end offset)``, read in this order: next sequence is moved last."""

    def enter(self, file: File, codec: Codec, end_offset: int, next_sequence: int) -> None:
        """This is the file that is written from now on."""
        self.file = file
        self.codec = codec
        self._variables.write_to(codec, *raw_pwrite(file))
        self.move(next_sequence, end_offset)

    def move(self, next_sequence: int, end_offset: int) -> None:
        """Entries were written, or cut."""
        self._variables.move(next_sequence, end_offset)

    @property
    def next_sequence(self) -> int:
        return self.place()[0]

    @property
    def end_offset(self) -> int:
        """Behind the last entry, in the last segment."""
        return self.place()[1]

    @property
    def attention(self) -> int:
        """The offset from which on an append has more to do than to write: a rollover, an index entry, raising an error. -1: always."""
        return self._variables.attention()

    @attention.setter
    def attention(self, offset: int) -> None:
        self._variables.want_attention(offset)


class _Variables(NamedTuple):
    """`append`, and what reaches the variables that it closes over."""

    append: Callable[[Bytes], int]
    place: Callable[[], tuple[int, int]]
    attention: Callable[[], int]
    move: Callable[[int, int], None]
    want_attention: Callable[[int], None]
    write_to: Callable[[Codec, Callable[[Any, Bytes, int], int], Any], None]


def _close_over(tip: Tip, turn: Turn) -> _Variables:
    tokens = turn.tokens
    end_offset, next_sequence, attention = HEADER_BYTES, 0, 0
    packers: dict[int, Packer]
    crc: Callable[..., int]
    pwrite: Callable[[Any, Bytes, int], int]
    handle: Any

    def append(data: Bytes) -> int:
        """Append one entry; returns its sequence number when the sync policy's promise holds. Raises WalEntryTooLarge."""
        nonlocal end_offset, next_sequence
        try:
            tokens.pop()
        except IndexError:
            turn.take()
        try:
            if end_offset >= attention:
                tip.attend()
            pack, number, seed, size = packers[len(data)]
            if pwrite(handle, pack(number, data, crc(data, seed)), end_offset) != size:
                tip.finish_write(tip.codec.encode_frame(data), end_offset)
            end_offset += size
            sequence = next_sequence
            next_sequence = sequence + 1
        except (KeyError, struct.error):  # before anything was written: a length that is new, or long; a memoryview
            turn.give()
            return tip.append_other(data)
        except OSError as error:
            failure = tip.fail(error, "append")
            turn.give()
            raise failure from error
        except BaseException:
            turn.give()
            raise
        tokens.append(None)
        if turn.waiters:
            tip.after(sequence + 1, len(data))
        return sequence

    def place() -> tuple[int, int]:
        return next_sequence, end_offset

    def get_attention() -> int:
        return attention

    def move(to_sequence: int, to_offset: int) -> None:
        nonlocal end_offset, next_sequence
        end_offset = to_offset
        next_sequence = to_sequence

    def want_attention(offset: int) -> None:
        nonlocal attention
        attention = offset

    def write_to(codec: Codec, its_pwrite: Callable[[Any, Bytes, int], int], its_handle: Any) -> None:
        nonlocal packers, crc, pwrite, handle
        packers, crc, pwrite, handle = codec.packers, codec.crc, its_pwrite, its_handle

    return _Variables(append, place, get_attention, move, want_attention, write_to)
