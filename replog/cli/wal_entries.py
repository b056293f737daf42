"""The entries of a log as `dump` and `rewrite` need them: where each one is, a batch at a time, read with little memory.

Damage does not raise here: the walk ends where entries end, and says whether that is the end of the log. What is wrong is then the business of
`replog.wal.recovery`, which judges it as an open would.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Final, NamedTuple

from replog.errors import WalMissing
from replog.filesystem import File, FileSystem, join
from replog.wal.format import HEADER_BYTES, Codec, Header, Stop, codec_of, decode_header
from replog.wal.segment import BLOCK_BYTES, is_zero, parse_segment_name, segment_name

_DUMP_BATCH_ENTRIES_MAX: Final = 4096


class Batch(NamedTuple):
    """Entries that follow each other in one segment."""

    segment: str
    """The file's name."""
    first_sequence: int
    offsets: Sequence[int]
    """Where each frame begins in the file."""
    datas: Sequence[bytes]


class Walk:
    """One pass over a log. When the iteration is over, `is_whole` tells whether every byte of the log was accounted for."""

    def __init__(self, fs: FileSystem, directory: str, entry_bytes_max: int) -> None:
        self._fs = fs
        self._directory = directory
        self._entry_bytes_max = entry_bytes_max
        self.firsts = segment_firsts(fs, directory)
        self.is_whole = False
        self.next_sequence = self.firsts[0]
        """Behind the last entry that was given."""

    def batches(self, first: int = 0, last: int | None = None) -> Iterator[Batch]:
        """The entries `first` to `last` (included; None: all), in order."""
        start = max(0, next((at for at, value in enumerate(self.firsts) if value > first), len(self.firsts)) - 1)
        self.next_sequence = self.firsts[start]
        for at in range(start, len(self.firsts)):
            if self.firsts[at] != self.next_sequence:
                return
            if last is not None and self.firsts[at] > last:
                break
            name = segment_name(self.firsts[at])
            file = self._fs.open(join(self._directory, name))
            try:
                is_clean = yield from self._segment(file, name, self.firsts[at], is_last=at == len(self.firsts) - 1, first=first, last=last)
            finally:
                file.close()
            if not is_clean:
                return
        self.is_whole = True

    def _segment(
        self, file: File, name: str, sequence: int, *, is_last: bool, first: int, last: int | None
    ) -> Generator[Batch, None, bool]:
        """The entries of one segment; returns whether it ends as it should (or was not read to its end because `last` came)."""
        header = decode_header(file.pread(HEADER_BYTES, 0))
        if not isinstance(header, Header) or header.first_sequence != sequence:
            return False
        codec = codec_of(header.length_encoding, header.checksum_type, self._entry_bytes_max)
        offset, size, want = HEADER_BYTES, file.size(), BLOCK_BYTES
        while offset < size:
            buffer = file.pread(min(want, size - offset), offset)
            ends: list[int] = []
            scan = codec.scan(buffer, 0, len(buffer), ends)
            yield from _cut(codec, buffer, ends, offset, name, sequence, first, last)
            sequence += len(ends)
            offset += scan.position
            self.next_sequence = sequence
            if last is not None and sequence > last:
                return True
            if scan.stop is Stop.SHORT and offset + scan.needed <= size:
                want = max(BLOCK_BYTES, scan.needed)
            elif scan.stop is not Stop.END or not buffer:
                return is_last and is_zero(file, offset, size)
        return True


def _cut(
    codec: Codec, buffer: bytes, ends: list[int], base: int, name: str, sequence: int, first: int, last: int | None
) -> Iterator[Batch]:
    """The scanned entries from `first` to `last` in batches of bounded length."""
    low = max(0, first - sequence)
    high = len(ends) if last is None else min(len(ends), last + 1 - sequence)
    for at in range(low, high, _DUMP_BATCH_ENTRIES_MAX):
        part = ends[at : min(high, at + _DUMP_BATCH_ENTRIES_MAX)]
        start = ends[at - 1] if at else 0
        offsets = [base + start, *(base + end for end in part[:-1])]
        yield Batch(name, sequence + at, offsets, codec.split(buffer, start, part))


def segment_firsts(fs: FileSystem, directory: str) -> list[int]:
    """First sequence numbers of all segment files, ascending. Raises WalMissing when there is none."""
    try:
        names = fs.list(directory)
    except FileNotFoundError:
        raise WalMissing(directory) from None
    firsts = sorted(first for name in names if (first := parse_segment_name(name)) is not None)
    if not firsts:
        raise WalMissing(directory)
    return firsts
