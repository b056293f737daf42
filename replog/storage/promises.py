"""How far a log may have reached before recovery cut it: the bound behind `maybe_promised`.

A torn write was not acknowledged, so cutting it breaks no promise. But one picture has two explanations::

    | good entries | bad entry .. 0000 (a sector) 0000 .. | more bytes that are there |   zeros ...
                     ^ the log is cut here

either the power went while this batch was written and one of its sectors never came, or the batch was synced, acknowledged, and a sector of it has
rotted since. The log takes it for the first (`replog.wal.recovery`). If it was the second, entries up to the last one in those bytes were
promised to a leader. So the node remembers that index and, until its log is there again, elects nobody who may lack them (FAULTS, "The log").

What a killed process leaves is a prefix, with nothing behind the gap: that is no such picture, and nothing is remembered.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from replog.codec import ENTRY_HEAD_BYTES
from replog.filesystem import SECTOR_BYTES, FileSystem, join
from replog.types import Index
from replog.wal.format import Codec
from replog.wal.options import WalOptions
from replog.wal.segment import last_nonzero_end, parse_segment_name, scan_segment, segment_name

_SEARCH_BYTES_MAX: Final = 1 << 20
"""Behind it the bound is by size alone: reading every byte as a possible beginning is slow."""
_FRAME_BYTES_MIN: Final = 1 + ENTRY_HEAD_BYTES + 4


def possible_end(fs: FileSystem, wal_directory: str, options: WalOptions) -> Index:
    """The last index that may have been acknowledged from behind the place where recovery will cut; 0 when it cuts nothing ambiguous.

    Changes nothing. Raises OSError.
    """
    firsts = sorted(first for name in fs.list(wal_directory) if (first := parse_segment_name(name)) is not None)
    if not firsts:
        return 0
    path = join(wal_directory, segment_name(firsts[-1]))
    file = fs.open(path)
    try:
        segment = scan_segment(file, path, firsts[-1], options.entry_bytes_max).segment
        if segment is None:
            return 0
        start = segment.end_offset
        end = last_nonzero_end(file, start, file.size())
        if end <= start:
            return 0
        tail = file.pread(min(end - start, _SEARCH_BYTES_MAX), start)
        if not has_hole(tail, start):
            return 0
        return last_index_in(segment.codec, tail, segment.next_sequence) + (end - start - len(tail)) // _FRAME_BYTES_MIN
    finally:
        file.close()


def has_hole(tail: bytes, offset: int) -> bool:
    """Whether some sector's share of `tail`, which stands at `offset` and ends in a byte that is there, is all zeros."""
    first = -offset % SECTOR_BYTES
    cuts = [0, *range(first, len(tail), SECTOR_BYTES), len(tail)]
    return any(start < stop and not any(tail[start:stop]) for start, stop in pairwise(cuts))


def last_index_in(codec: Codec, tail: bytes, first_index: Index) -> Index:
    """The highest index of a good entry somewhere in `tail`; at least `first_index`, the bad entry that it begins with."""
    found = first_index
    highest = first_index + len(tail) // _FRAME_BYTES_MIN
    position, size = 1, len(tail)
    while position < size:
        if not tail[position]:
            zeros = len(tail) - position - len(tail[position:].lstrip(b"\0")) if not any(tail[position : position + 64]) else 0
            position += max(1, zeros - 8)
            continue
        decoded = codec.decode_length(tail, position, size)
        if decoded is not None and ENTRY_HEAD_BYTES <= decoded[0] <= size:
            data_start = position + decoded[1]
            end = data_start + decoded[0] + codec.check_bytes
            index = int.from_bytes(tail[data_start + 8 : data_start + 16], "little")
            if found < index <= highest and end <= size and codec.crc(tail[position:end]) == codec.residue:
                found, position = index, end
                continue
        position += 1
    return found
