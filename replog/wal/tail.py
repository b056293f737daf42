"""What an interrupted write can leave behind the last good entry, told apart from damage. Pure functions over bytes.

A write that was not synced leaves any subset of its sectors, in any order; what is missing reads as zeros, because zeros is what follows the
last entry before it is written (preallocated or cut, see the zeroing rule in `recovery`). A process that dies inside a write leaves a
prefix of it. From this follows what a torn entry looks like::

    |  sector  |  sector  |  sector  |
       [len data.............data chk]        whole, but it does not match its checksum: DAMAGE, except
       [len data 0000000000 .....chk ]        a sector's share of it is all zeros: that sector never came
       [len data......|  end of file          the file ends inside it: the end never came
       [len data......data 0000000000]        the checksum is zeros, or its beginning and zeros, and nothing follows: a prefix came

and which damage looks like a torn entry at first sight: one wrong byte in a length makes the entry reach into the zeros, or beyond the file.
Taking that for a torn write would cut acknowledged entries in silence. So before a verdict of "torn" it is asked whether changing one single
byte makes the entry good. By chance that happens once in a million torn writes (CRC-32) and then refuses to open, loses nothing, and says what it saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import Final

from replog.filesystem import SECTOR_BYTES
from replog.wal.format import Codec, Stop

_ONE_BYTE_SEARCH_BYTES_MAX: Final = 1 << 17


class Tail(Enum):
    """What stands behind the last good entry of a segment that may end in an interrupted write."""

    END = "end of file"
    ZEROS = "zeros"
    MISSING_SECTOR = "a sector's share of the entry is all zeros"
    FILE_ENDS = "the file ends inside the entry"
    PREFIX = "the end of the entry was never written"
    WHOLE = "the entry does not match its checksum, and no lost sector explains it"
    LENGTH_LIMIT = "the length is over the limit, or no number of 64 bits"
    LENGTH_CHANGED = "the entry is whole but for one byte of its length"
    BYTE_CHANGED = "the entry is whole but for one byte"


def judge_tail(codec: Codec, stop: Stop, tail: bytes, offset: int, frame_bytes: int) -> Tail:
    """The verdict over a bad entry.

    `tail` is what the file has from the entry's beginning to its last byte that is not zero, or to the end of the entry's extent where that is
    further; `offset` is where it stands in the file, `frame_bytes` how long the entry claims to be (0: it cannot be told), `stop` why the
    scan of it ended.
    """
    if stop is Stop.LENGTH:
        return Tail.LENGTH_LIMIT
    frame = tail[:frame_bytes]
    if stop is Stop.SHORT:
        torn = Tail.FILE_ENDS
    elif _has_zero_share(frame, offset):
        torn = Tail.MISSING_SECTOR
    elif not any(tail[frame_bytes:]) and _is_prefix(codec, frame):
        torn = Tail.PREFIX
    else:
        return Tail.WHOLE
    # A byte in a share that is zeros may be all that a lost sector took (a length may lie across two sectors), if what follows in that sector is gone,
    # too. Any other one is damage: the zeros beside it are what the entry has there (the high bytes of its length, say).
    changed = _length_changed(codec, tail)
    if changed >= 0 and not _may_be_lost(tail, offset, frame_bytes, changed):
        return Tail.LENGTH_CHANGED
    if torn is Tail.MISSING_SECTOR:
        changed = _byte_changed(codec, frame)
        if changed >= 0 and not _may_be_lost(tail, offset, frame_bytes, changed):
            return Tail.BYTE_CHANGED
    return torn


def _shares(offset: int, length: int) -> list[tuple[int, int]]:
    """The parts of ``offset .. offset + length`` by sector, as (start, stop) from `offset`."""
    first = SECTOR_BYTES - offset % SECTOR_BYTES
    cuts = [0, *range(first, length, SECTOR_BYTES), length]
    return list(pairwise(cuts))


def _has_zero_share(frame: bytes, offset: int) -> bool:
    return any(not any(frame[start:stop]) for start, stop in _shares(offset, len(frame)))


def _may_be_lost(tail: bytes, offset: int, frame_bytes: int, position: int) -> bool:
    """Whether the byte at `position` may be missing with its whole sector."""
    return _in_zero_share(tail[:frame_bytes], offset, position) and _lost_sector(tail, offset, frame_bytes)


def _in_zero_share(frame: bytes, offset: int, position: int) -> bool:
    return any(start <= position < stop and not any(frame[start:stop]) for start, stop in _shares(offset, len(frame)))


def _lost_sector(tail: bytes, offset: int, frame_bytes: int) -> bool:
    """Whether some sector is zeros from the entry's beginning, or its own, to its end: a sector that never came takes its other entries along."""
    end = frame_bytes + -(offset + frame_bytes) % SECTOR_BYTES
    padded = tail[:end].ljust(end, b"\0")
    return any(not any(padded[start:stop]) for start, stop in _shares(offset, end))


def _is_prefix(codec: Codec, frame: bytes) -> bool:
    """Whether the checksum is zeros, or begins rightly and goes on in zeros."""
    body, check = frame[: -codec.check_bytes], frame[-codec.check_bytes :]
    if not any(check):
        return True
    kept = check.rstrip(b"\0")
    right = codec.crc(body).to_bytes(codec.check_bytes, "little")
    return len(kept) < codec.check_bytes and right.startswith(kept)


def _length_changed(codec: Codec, tail: bytes) -> int:
    """The position of the one byte of the length that makes the entry good with another value; -1 if there is none."""
    padded = tail + bytes(codec.check_bytes)  # a checksum may end in zeros
    for position, head, length in _other_lengths(codec, tail):
        start, end = len(head), len(head) + length + codec.check_bytes
        if length <= codec.data_bytes_max and end <= len(padded) and codec.crc(padded[start:end], codec.crc(head)) == codec.residue:
            return position
    return -1


def _other_lengths(codec: Codec, tail: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Every encoded length that differs in one byte from the one that `tail` begins with: the byte's position, the encoding, and what it says, as far
    as `tail` could hold it."""
    width = codec.head_bytes
    if width:
        encoded = tail[:width].ljust(width, b"\0")
        found = int.from_bytes(encoded, "little")
        for shift in range(0, 8 * width, 8):
            others = found & ~(0xFF << shift)
            for value in range(min(255, (len(tail) - others) >> shift) + 1):
                if others | value << shift != found:
                    yield shift // 8, (others | value << shift).to_bytes(width, "little"), others | value << shift
        return
    for position in range(min(10, len(tail))):
        for value in range(256):
            changed = tail[:position] + bytes((value,)) + tail[position + 1 : 10]
            decoded = codec.decode_length(changed, 0, len(changed))
            if value != tail[position] and decoded is not None and decoded[0] >= 0 and position < decoded[1]:
                yield position, changed[: decoded[1]], decoded[0]
        if tail[position] < 0x80:
            return  # the length ends here; the bytes behind it are data


def _byte_changed(codec: Codec, frame: bytes) -> int:
    """The position of the one byte, anywhere in the entry, that makes it good with another value; -1 if there is none.

    A checksum is linear: one wrong byte with n bytes behind it changes it by a table value, moved on by n zero bytes. So the difference is moved
    back byte by byte, until it is one that a single byte makes.
    """
    if len(frame) > _ONE_BYTE_SEARCH_BYTES_MAX:
        return -1
    bits = 8 * codec.check_bytes
    zero = codec.crc(b"\0")
    table = [codec.crc(bytes((value,))) ^ zero for value in range(256)]
    back = {entry >> (bits - 8): value for value, entry in enumerate(table)}
    mask = 2**bits - 1
    stored = int.from_bytes(frame[-codec.check_bytes :], "little")
    difference = stored ^ codec.crc(frame[: -codec.check_bytes])
    body_bytes = len(frame) - codec.check_bytes
    for position in range(codec.check_bytes):
        if not difference & ~(0xFF << 8 * position):
            return body_bytes + position  # a byte of the checksum itself
    for position in range(body_bytes - 1, -1, -1):
        value = back[difference >> (bits - 8)]
        difference = ((difference ^ table[value]) << 8 & mask) | value
        if difference < 256:
            return position
    return -1
