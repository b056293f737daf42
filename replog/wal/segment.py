"""One segment: its name, its sparse index, how it comes to be, and how it is read from end to end.

A segment becomes visible only when it is whole: it is written as ``<name>.tmp``, given its blocks and its header, synced, renamed, and the
directory synced. So a file with a segment's name has a header, and a crash leaves at worst a temporary file.

::

    00000000000000000042.wal        a segment; nothing else is one
    00000000000000000042.wal.tmp    one that was being made       (removed at open)
    prepared.wal.tmp                the next one, without its header  (removed at open)
    00000000000000000099.wal.reset  an empty log that replaces everything here (finished at open)

To read from any sequence number without scanning from the start, a segment keeps the offset of one entry in every 16 KiB: 16 bytes of memory
each, 1 MiB for a gigabyte of log.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from replog.filesystem import File, FileSystem, join
from replog.wal.format import (
    HEADER_BYTES,
    Codec,
    Header,
    HeaderFault,
    Scan,
    Stop,
    codec_of,
    decode_header,
    encode_header,
)

INDEX_STRIDE_BYTES: Final = 16384
BLOCK_BYTES: Final = 1 << 20
"""How much is read at once: large enough that the calls do not count, small enough to stay in the processor's cache."""
PREPARED_NAME: Final = "prepared.wal.tmp"
ZEROS: Final = bytes(BLOCK_BYTES)

_SEGMENT: Final = re.compile(r"([0-9]{20})\.wal")
_RESET: Final = re.compile(r"([0-9]{20})\.wal\.reset")
_TEMPORARY: Final = re.compile(r"(?:[0-9]{20}|prepared)\.wal(?:\.reset)?\.tmp")


def segment_name(first_sequence: int) -> str:
    """The file name of the segment that begins with this sequence number."""
    return f"{first_sequence:020d}.wal"


def parse_segment_name(name: str) -> int | None:
    """The first sequence number of the segment with this file name; None if it is not a segment's."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match and int(match[1]) < 2**64 else None


def parse_reset_name(name: str) -> int | None:
    """The sequence number at which the log was to begin anew; None for any other name."""
    match = _RESET.fullmatch(name)
    return int(match[1]) if match and int(match[1]) < 2**64 else None


def is_temporary_name(name: str) -> bool:
    """Whether this is a file of ours that was being made."""
    return _TEMPORARY.fullmatch(name) is not None


class SparseIndex:
    """Offset of one entry in every `INDEX_STRIDE_BYTES`. Read beside the one thread that adds to it: an entry's offset is there before its position."""

    __slots__ = ("_offsets", "_positions", "next_point")

    def __init__(self) -> None:
        self._positions = array("Q")
        self._offsets = array("Q")
        self.next_point = HEADER_BYTES
        """The first entry that begins here or behind is the next to be noted."""

    def note(self, position: int, offset: int) -> None:
        self._offsets.append(offset)
        self._positions.append(position)
        self.next_point = offset + INDEX_STRIDE_BYTES

    def add(self, position: int, base: int, ends: Sequence[int]) -> None:
        """Entries from `position` on were added at the offset `base`, their frames ending at ``base + end``."""
        if not ends:
            return
        if isinstance(ends, range):  # frames of one size: it is known where they begin
            size = ends.step
            skipped = max(0, -(-(self.next_point - base) // size))
            step = -(-INDEX_STRIDE_BYTES // size)
            if skipped < len(ends):
                self._offsets.extend(range(base + skipped * size, base + ends[-1], step * size))
                self._positions.extend(range(position + skipped, position + len(ends), step))
                self.next_point = self._offsets[-1] + INDEX_STRIDE_BYTES
            return
        if base >= self.next_point:
            self.note(position, base)
        while base + ends[-1] > self.next_point:
            before = bisect_left(ends, self.next_point - base)
            if before + 1 >= len(ends):
                return
            self.note(position + before + 1, base + ends[before])

    def find(self, position: int) -> tuple[int, int]:
        """(position, offset) of the last entry noted at or before `position`."""
        at = bisect_right(self._positions, position) - 1
        return (self._positions[at], self._offsets[at]) if at >= 0 else (0, HEADER_BYTES)

    def bound(self, position: int, end_offset: int) -> int:
        """An offset at or behind the end of the entry at `position`: where the next noted one begins, else `end_offset`."""
        at = bisect_right(self._positions, position)
        return self._offsets[at] if at < len(self._positions) else end_offset

    def cut(self, position: int) -> None:
        """Forget the entries from `position` on."""
        keep = bisect_left(self._positions, position)
        del self._positions[keep:]
        del self._offsets[keep:]
        self.next_point = self._offsets[-1] + INDEX_STRIDE_BYTES if keep else HEADER_BYTES


class Segment:
    """What is known of a segment. Of the one being written, `next_sequence` and `end_offset` are kept by the log until it is sealed."""

    __slots__ = ("codec", "end_offset", "first_sequence", "index", "next_sequence", "path")

    def __init__(self, path: str, first_sequence: int, codec: Codec) -> None:
        self.path = path
        self.first_sequence = first_sequence
        self.codec = codec
        self.next_sequence = first_sequence
        self.end_offset = HEADER_BYTES
        """Behind the last entry; the size of the file once it is sealed."""
        self.index = SparseIndex()


def make_segment(fs: FileSystem, directory: str, header: Header, preallocate_bytes: int, *, suffix: str = "") -> File:
    """Create the segment that `header` describes, whole and durable, its name too; returns it open for writing."""
    name = segment_name(header.first_sequence) + suffix
    file = make_blank(fs, join(directory, name + ".tmp"), preallocate_bytes)
    return publish(fs, directory, file, header, name)


def make_blank(fs: FileSystem, path: str, preallocate_bytes: int) -> File:
    """A temporary file with real blocks and no header."""
    if fs.exists(path):
        fs.remove(path)
    file = fs.create(path)
    try:
        if preallocate_bytes:
            file.allocate(preallocate_bytes)
        file.sync()
    except OSError:
        file.close()
        _remove_quietly(fs, path)
        raise
    return file


def publish(fs: FileSystem, directory: str, file: File, header: Header, name: str) -> File:
    """Turn a blank file into the segment `name`: header, sync, rename, directory sync, in this order."""
    path = file.path
    try:
        write_all(file, encode_header(header), 0)
        file.sync()
        fs.rename(path, join(directory, name))
        fs.sync_dir(directory)
    except OSError:
        file.close()
        _remove_quietly(fs, path)
        raise
    return file


def _remove_quietly(fs: FileSystem, path: str) -> None:
    try:
        fs.remove(path)
    except OSError:
        return  # what is left is a temporary file, removed at the next open


def write_all(file: File, data: bytes, offset: int) -> None:
    """Write all of `data`. Raises OSError; after that, what was written is not known."""
    written = file.pwrite(data, offset)
    while written < len(data):
        more = file.pwrite(memoryview(data)[written:], offset + written)
        if more <= 0:
            raise OSError(5, f"short write: {written} of {len(data)} bytes at offset {offset}", file.path)
        written += more


class SegmentScan:
    """A segment read from end to end: the good entries from its beginning, and what stopped the reading."""

    __slots__ = ("fault", "fault_text", "header", "scan", "segment", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.header: Header | None = None
        self.fault: HeaderFault | None = None
        self.fault_text = ""
        self.segment: Segment | None = None
        """Its `next_sequence` and `end_offset` are those behind the last good entry. None when the header is unusable."""
        self.scan = Scan(Stop.END, HEADER_BYTES, 0)
        """`position` is an offset in the file."""
        self.size_bytes = size_bytes


def scan_segment(
    file: File, path: str, first_sequence: int, entry_bytes_max: int, on_bytes: Callable[[int], None] | None = None
) -> SegmentScan:
    """Read and verify a whole segment, a block at a time; memory does not grow with it. `on_bytes` is told how many bytes each block had.

    Raises OSError. Damage is in the result. A length that the file cannot hold is never believed: nothing is allocated for it.
    """
    size = file.size()
    result = SegmentScan(size)
    head = file.pread(HEADER_BYTES, 0)
    decoded = decode_header(head)
    if not isinstance(decoded, Header):
        result.fault, result.fault_text = decoded
        if result.fault is HeaderFault.MISSING and size > HEADER_BYTES and not is_zero(file, 0, size):
            result.fault, result.fault_text = HeaderFault.MAGIC, "zeros where the header should be, and bytes behind them"
        return result
    result.header = decoded
    codec = codec_of(decoded.length_encoding, decoded.checksum_type, entry_bytes_max)
    segment = result.segment = Segment(path, first_sequence, codec)
    offset, count, want = HEADER_BYTES, 0, BLOCK_BYTES
    while offset < size:
        buffer = file.pread(min(want, size - offset), offset)
        if not buffer:
            size = result.size_bytes = offset  # it was cut beside us
            break
        ends: list[int] = []
        scan = codec.scan(buffer, 0, len(buffer), ends)
        segment.index.add(count, offset, ends)
        count += len(ends)
        offset += scan.position
        result.scan = Scan(scan.stop, offset, scan.needed)
        if on_bytes is not None:
            on_bytes(scan.position)
        if scan.stop is Stop.SHORT:
            if offset + scan.needed > size:
                break
            want = max(BLOCK_BYTES, scan.needed)
        elif scan.stop is not Stop.END:
            break
    segment.next_sequence = first_sequence + count
    segment.end_offset = offset
    return result


def is_zero(file: File, start: int, stop: int) -> bool:
    """Whether every byte of ``start`` to ``stop`` is zero."""
    return first_nonzero(file, start, stop) < 0


def first_nonzero(file: File, start: int, stop: int) -> int:
    """Offset of the first byte that is not zero; -1 if there is none."""
    while start < stop:
        block = file.pread(min(BLOCK_BYTES, stop - start), start)
        if not block:
            return -1
        if block != ZEROS[: len(block)]:
            return start + len(block) - len(block.lstrip(b"\0"))
        start += len(block)
    return -1


def last_nonzero_end(file: File, start: int, stop: int) -> int:
    """Offset behind the last byte that is not zero; `start` if there is none."""
    while stop > start:
        low = max(start, stop - BLOCK_BYTES)
        block = file.pread(stop - low, low)
        kept = len(block.rstrip(b"\0"))
        if kept:
            return low + kept
        stop = low
    return start
