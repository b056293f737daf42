"""Reading a log without opening it: from any sequence number, beside a live writer, without a lock.

A reader knows the segments by their names and the end of the log by what it finds there. Behind the last good entry of the last segment it may meet
an entry that is being written right now; it looks like a torn write, means "no more yet", and is looked at again later. A
segment that has a successor has been sealed: what is bad in it is damage. The writer may also take entries away:

* compaction removes segments in front: a reader that is still inside one finishes it, then finds its successor gone (`WalSequenceUnknown`);
* a truncation behind takes back entries that this reader may have returned. It keeps the end of the last frame it read, compares it
  before it goes on, and raises `WalDiscarded` when it has changed.

A reader sees what is written, which may not be durable yet.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from replog.errors import WalClosed, WalDamaged, WalDiscarded, WalFailed, WalMissing, WalSequenceUnknown
from replog.filesystem import OS_FILE_SYSTEM, File, FileSystem, join
from replog.wal import recovery
from replog.wal.format import HEADER_BYTES, Codec, Header, Stop, codec_of, decode_header
from replog.wal.options import ENTRY_BYTES_MAX_DEFAULT, WalOptions
from replog.wal.segment import BLOCK_BYTES, SparseIndex, is_zero, parse_segment_name, segment_name
from replog.wal.segments import Frames
from replog.wal.table import Action, Place, tail_row
from replog.wal.tail import Tail

if TYPE_CHECKING:
    from replog.wal.metrics import WalMetrics

_IDLE_READ_BYTES: Final = 4096
_KEPT_BYTES: Final = 64
_ZEROS_BYTES: Final = 65536
"""So many zeros behind the last entry are the end of the log, or a write that has not come there yet; what stands far behind them is for the one who opens
the log to judge. Reading all of a preallocated segment with each look would take the time of ten thousand entries."""
_ATTEMPTS: Final = 3


class Reader:
    """Iterates over ``(sequence, data)`` from `from_sequence` on (None: the oldest). At the end it stops, or with `follow` waits for more.

    `read_batch` gives whole blocks. One thread at a time; `close` may be called from another one and ends a `follow`.

    Raises WalMissing, WalSequenceUnknown (`from_sequence` is not in the log, nor the next), WalDamaged, WalDiscarded, WalFailed.
    """

    def __init__(
        self,
        directory: str,
        from_sequence: int | None = None,
        *,
        follow: bool = False,
        poll_seconds: float = 0.01,
        entry_bytes_max: int = ENTRY_BYTES_MAX_DEFAULT,
        metrics: WalMetrics | None = None,
        fs: FileSystem = OS_FILE_SYSTEM,
    ) -> None:
        self._directory = directory
        self._follow = follow
        self._poll_seconds = poll_seconds
        self._entry_bytes_max = entry_bytes_max
        self._metrics = metrics
        self._fs = fs
        self._closed = Event()
        self._file: File | None = None
        self._idle = False
        self._kept = b""
        self._first = self._sequence = 0
        self._index = SparseIndex()
        self.seek(from_sequence)

    @property
    def next_sequence(self) -> int:
        """Of the entry that is returned next."""
        return self._sequence

    def seek(self, sequence: int | None) -> None:
        """Go on at this sequence number (None: the oldest). In a segment that was read before it is found without reading from its start."""
        firsts = self._firsts()
        if not firsts:
            raise WalMissing(self._directory)
        sequence = firsts[0] if sequence is None else sequence
        if sequence < firsts[0]:
            raise WalSequenceUnknown(sequence, firsts[0], firsts[-1])
        first = firsts[bisect_right(firsts, sequence) - 1]
        if self._file is None or first != self._first or sequence > self._sequence:
            self._enter(first)
        else:
            position, self._offset = self._index.find(sequence - first)
            self._sequence, self._kept = first + position, b""
        while self._sequence < sequence:
            if self._read(sequence - self._sequence) is None:
                raise WalSequenceUnknown(sequence, firsts[0], self._sequence)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while True:
            datas: list[bytes] = []
            frames = self._read(None, datas)
            if frames is not None:
                if self._metrics is not None:
                    self._metrics.read(len(datas), sum(map(len, datas)))
                yield from enumerate(datas, frames.first_sequence)
            elif not self._follow or self._closed.wait(self._poll_seconds):
                return

    def read_batch(self) -> Frames | None:
        """The next entries of one segment, about 1 MiB, verified; None when there is nothing more now."""
        frames = self._read(None)
        if frames is not None and self._metrics is not None:
            self._metrics.read(len(frames.ends), sum(map(len, frames.datas())))
        return frames

    def close(self) -> None:
        """Give the file back. Closing again does nothing."""
        self._closed.set()
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    # --- One segment --------------------------------------------------------------------------------------------------

    def _enter(self, first: int) -> None:
        """Begin a segment."""
        self._path = join(self._directory, segment_name(first))
        file = self._reopen()
        decoded = decode_header(file.pread(HEADER_BYTES, 0))
        if not isinstance(decoded, Header) or decoded.first_sequence != first:
            raise next(iter(self._inspect_damage()), WalDamaged(self._path, 0, first, "its header is unusable"))
        self._codec: Codec = codec_of(decoded.length_encoding, decoded.checksum_type, self._entry_bytes_max)
        self._first = self._sequence = first
        self._offset = HEADER_BYTES
        self._index = SparseIndex()
        self._kept = b""

    def _inspect_damage(self) -> Iterator[WalDamaged]:
        inspection = recovery.inspect(self._fs, self._directory, WalOptions(entry_bytes_max=self._entry_bytes_max))
        return (finding.error() for finding in inspection.damage if finding.path == self._path)

    def _reopen(self) -> File:
        """The file that has the segment's name now: it may be another one than before."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._closed.is_set():
            raise WalClosed(f"{self._directory}: the reader is closed")
        self._file = self._fs.open(self._path)
        return self._file

    def _read(self, count_max: int | None, datas: list[bytes] | None = None) -> Frames | None:
        """At most `count_max` of the next entries; their data into `datas`, which then must be all of them."""
        assert count_max is None or datas is None
        try:
            return self._read_on(count_max, datas)
        except FileNotFoundError:
            raise self._gone() from None
        except OSError as error:
            raise WalFailed(f"{self._path}: reading sequence {self._sequence}: {error}") from error

    def _read_on(self, count_max: int | None, datas: list[bytes] | None) -> Frames | None:
        attempts = 0
        while True:
            if self._sequence == self._first:
                self._enter(self._first)  # nothing was read of it: it may be another one by now, with other settings
            file = self._reopen() if self._idle or self._file is None else self._file
            # Asked before the bytes are read: if the successor is there, everything of this segment is, too.
            sealed = self._fs.exists(join(self._directory, segment_name(self._sequence))) if self._sequence > self._first else False
            self._check_kept(file)
            buffer, ends, stop, position = self._scan(file, datas)
            if ends:
                self._idle = False
                return self._take(buffer, ends, count_max)
            offset = self._offset + position
            size = file.size()
            if sealed and offset >= size:
                self._enter(self._sequence)
                continue
            if not sealed and offset < size and is_zero(file, offset, min(size, offset + _ZEROS_BYTES)):
                tail = Tail.ZEROS
            else:
                tail, _ = recovery.classify_tail(file, self._codec, stop, offset, size)
            row = tail_row(tail, Place.SEALED if sealed else Place.LAST)
            if row.action is not Action.REFUSE:
                self._idle = True
                if sealed or tail not in (Tail.END, Tail.ZEROS) or not self._is_passed():
                    return None
            # Once more: it may have been written, or sealed, while it was read.
            self._idle = True
            attempts += 1
            if attempts == _ATTEMPTS:
                if row.error is None:
                    raise self._gone()
                raise row.error(self._path, offset, self._sequence, f"{row.meaning}: {tail.value}")

    def _scan(self, file: File, datas: list[bytes] | None) -> tuple[bytes, list[int], Stop, int]:
        want = _IDLE_READ_BYTES if self._idle else BLOCK_BYTES
        while True:
            buffer = file.pread(want, self._offset)
            ends: list[int] = []
            scan = self._codec.scan(buffer, 0, len(buffer), ends, datas)
            if ends or scan.stop is not Stop.SHORT or len(buffer) < want:
                return buffer, ends, scan.stop, scan.position
            if self._offset + scan.needed > file.size():
                return buffer, ends, scan.stop, scan.position
            want = max(scan.needed, BLOCK_BYTES)

    def _take(self, buffer: bytes, ends: list[int], count_max: int | None) -> Frames:
        if count_max is not None:
            del ends[count_max:]
        frames = Frames(self._sequence, buffer[: ends[-1]], ends, self._codec)
        if self._offset >= self._index.next_point or self._offset + ends[-1] > self._index.next_point:
            self._index.add(self._sequence - self._first, self._offset, ends)
        self._sequence += len(ends)
        self._offset += ends[-1]
        self._kept = frames.buffer[-min(_KEPT_BYTES, len(frames.buffer)) :]
        return frames

    def _check_kept(self, file: File) -> None:
        """What was read last is still what stands there."""
        kept = self._kept
        if kept and self._idle and file.pread(len(kept), self._offset - len(kept)) != kept:
            raise WalDiscarded(self._path, self._sequence - 1)

    # --- The directory ------------------------------------------------------------------------------------------------

    def _firsts(self) -> list[int]:
        try:
            names = self._fs.list(self._directory)
        except FileNotFoundError:
            raise WalMissing(self._directory) from None
        except OSError as error:
            raise WalFailed(f"{self._directory}: {error}") from error
        return sorted(first for name in names if (first := parse_segment_name(name)) is not None)

    def _is_passed(self) -> bool:
        """Whether there are later segments, but not the one that goes on here."""
        later = [first for first in self._firsts() if first > self._first]
        return bool(later) and self._sequence not in later

    def _gone(self) -> WalSequenceUnknown | WalDiscarded | WalDamaged:
        """Why the next entry's segment is not there."""
        firsts = self._firsts()
        if firsts and firsts[0] > self._sequence:
            return WalSequenceUnknown(self._sequence, firsts[0], firsts[-1])
        if firsts and firsts[-1] > self._sequence:
            inspection = recovery.inspect(self._fs, self._directory, WalOptions(entry_bytes_max=self._entry_bytes_max))
            return next((f.error() for f in inspection.damage), WalSequenceUnknown(self._sequence, firsts[0], firsts[-1]))
        return WalDiscarded(self._path, self._sequence - 1)
