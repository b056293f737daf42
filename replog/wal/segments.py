"""The segments of an open log, oldest first, and reading from them at any sequence number.

Readers come from any thread, beside the one that appends. What changes shape (a new segment, a removed one, a closed file) changes under one
lock, which a read holds while it reads; so no read meets a descriptor that was closed, and reused, beside it. An append does not take it:
it moves the log's tip, which a read takes once, at its beginning.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final, NamedTuple, Protocol

from replog.errors import WalClosed, WalEntryDamaged, WalSequenceUnknown
from replog.filesystem import File, FileSystem
from replog.wal.format import Codec, Stop
from replog.wal.segment import BLOCK_BYTES, Segment

_FILES_OPEN_MAX: Final = 8
_SINGLE_READ_BYTES: Final = 4096


class Tip(Protocol):
    """Where the last segment ends now."""

    @property
    def place(self) -> Callable[[], tuple[int, int]]:
        """(next sequence, end offset). The sequence is read before the offset, and moved after it."""
        ...


class Frames(NamedTuple):
    """Entries as they are on the disk, verified: the frame i is ``buffer[ends[i-1]:ends[i]]``, ends[-1] counting as 0."""

    first_sequence: int
    buffer: bytes
    ends: Sequence[int]
    codec: Codec

    @property
    def next_sequence(self) -> int:
        """Behind the last entry."""
        return self.first_sequence + len(self.ends)

    def datas(self) -> list[bytes]:
        """The data of each entry."""
        return self.codec.split(self.buffer, 0, self.ends)


class SegmentSet:
    """The segments and their open files. Invariant: segments are contiguous, and the last one is the one being written."""

    __slots__ = ("_cursor", "_files", "_firsts", "_fs", "_lock", "_segments", "_tip", "sealed_bytes")

    def __init__(self, fs: FileSystem, segments: Sequence[Segment], tip: Tip) -> None:
        assert segments
        self._fs = fs
        self._tip = tip
        self._lock = Lock()
        self._segments = list(segments)
        self._firsts = [segment.first_sequence for segment in segments]
        self._files: OrderedDict[str, File] | None = OrderedDict()
        """Open for reading, least recently used first; None once closed."""
        self._cursor: tuple[int, int, Segment | None] = (-1, 0, None)
        """(sequence, offset, segment) where the last read ended: one that goes on there needs no search."""
        self.sealed_bytes = sum(segment.end_offset for segment in segments[:-1])

    @property
    def first_sequence(self) -> int:
        return self._firsts[0]

    @property
    def active(self) -> Segment:
        return self._segments[-1]

    def __len__(self) -> int:
        return len(self._segments)

    def all(self) -> tuple[Segment, ...]:
        """A copy of the list, oldest first."""
        with self._lock:
            return tuple(self._segments)

    # --- Shape --------------------------------------------------------------------------------------------------------

    def add(self, segment: Segment) -> None:
        """A new last segment; the one before it has been sealed."""
        with self._lock:
            sealed = self._segments[-1]
            assert segment.first_sequence == sealed.next_sequence
            self._forget(sealed.path)
            self._segments.append(segment)
            self._firsts.append(segment.first_sequence)
            self.sealed_bytes += sealed.end_offset

    def replace(self, segments: Sequence[Segment]) -> None:
        """Other segments altogether; every file is opened afresh."""
        assert segments
        with self._lock:
            for path in list(self._files or ()):
                self._forget(path)
            self._segments = list(segments)
            self._firsts = [segment.first_sequence for segment in segments]
            self._cursor = (-1, 0, None)
            self.sealed_bytes = sum(segment.end_offset for segment in segments[:-1])

    def take_before(self, sequence: int) -> list[Segment]:
        """Give up the oldest segments, those with no entry at or behind `sequence`; never the last one. Their files are the caller's to remove."""
        with self._lock:
            count = 0
            while count + 1 < len(self._segments) and self._segments[count].next_sequence <= sequence:
                count += 1
            taken = self._segments[:count]
            for segment in taken:
                self._forget(segment.path)
                self.sealed_bytes -= segment.end_offset
            del self._segments[:count]
            del self._firsts[:count]
            return taken

    def close(self) -> None:
        with self._lock:
            for path in list(self._files or ()):
                self._forget(path)
            self._files = None

    def _forget(self, path: str) -> None:
        file = self._files.pop(path, None) if self._files is not None else None
        if file is not None:
            file.close()

    def _file(self, path: str) -> File:
        """The segment's file, open for reading; the lock is held."""
        files = self._files
        if files is None:
            raise WalClosed("the log is closed")
        file = files.get(path)
        if file is None:
            while len(files) >= _FILES_OPEN_MAX:
                _, oldest = files.popitem(last=False)
                oldest.close()
            file = files[path] = self._fs.open(path)
        else:
            files.move_to_end(path)
        return file

    # --- Reading ------------------------------------------------------------------------------------------------------

    def locate(self, sequence: int) -> tuple[Segment, int]:
        """The segment of an entry and its frame's offset there; of `next_sequence`, the tip.

        Raises WalSequenceUnknown, WalDamaged, OSError.
        """
        with self._lock:
            next_sequence, end_offset = self._tip.place()
            if sequence == next_sequence:
                return self._segments[-1], end_offset
            segment, offset, _ = self._locate(sequence, next_sequence, end_offset)
            return segment, offset

    def _locate(self, sequence: int, next_sequence: int, tip_offset: int) -> tuple[Segment, int, int]:
        """(segment, offset of the frame, end of the segment's entries); the lock is held."""
        if not self._firsts[0] <= sequence < next_sequence:
            raise WalSequenceUnknown(sequence, self._firsts[0], next_sequence)
        at = bisect_right(self._firsts, sequence) - 1
        segment = self._segments[at]
        end = tip_offset if at == len(self._segments) - 1 else segment.end_offset
        if self._cursor[0] == sequence and self._cursor[2] is segment:
            return segment, self._cursor[1], end
        wanted = sequence - segment.first_sequence
        position, offset = segment.index.find(wanted)
        if position == wanted:
            return segment, offset, end
        bound = min(segment.index.bound(wanted, end), end)
        file = self._file(segment.path)
        while True:
            # Nearly always once: from one noted entry to the next. More often only where entries are large, or the index ends early.
            buffer = file.pread(min(bound - offset, BLOCK_BYTES), offset)
            position, relative = segment.codec.skip(buffer, position, wanted)
            offset += relative
            if position == wanted:
                return segment, offset, end
            if not relative:
                head = segment.codec.decode_length(buffer, 0, len(buffer))
                size = head[0] + head[1] + segment.codec.check_bytes if head is not None and head[0] >= 0 else 0
                if not size or offset + size > bound:
                    raise WalEntryDamaged(
                        segment.path, offset, segment.first_sequence + position, "its length has changed since it was verified"
                    )
                offset += size
                position += 1

    def read_frames(self, first: int, last: int, bytes_max: int) -> Frames:
        """The frames from `first` on: up to `last`, or `bytes_max` bytes, or the end of the segment, whichever is first; one at least.

        Raises WalSequenceUnknown for a `first` that is not there, WalDamaged for what no longer verifies, OSError.
        """
        assert last >= first
        with self._lock:
            next_sequence, tip_offset = self._tip.place()
            segment, offset, end = self._locate(first, next_sequence, tip_offset)
            file = self._file(segment.path)
            codec = segment.codec
            bound = min(segment.index.bound(last - segment.first_sequence, end), end)
            # An entry at the tip may have been written since, so `bound` may lie in the middle of the next one: it is cut below.
            want = min(bound - offset, max(bytes_max, _SINGLE_READ_BYTES))
            while True:
                buffer = file.pread(want, offset)
                ends: list[int] = []
                stop = len(buffer)
                if first == last:  # no more than is asked for is verified
                    head = codec.decode_length(buffer, 0, stop)
                    stop = min(stop, head[0] + head[1] + codec.check_bytes) if head is not None and head[0] >= 0 else stop
                scan = codec.scan(buffer, 0, stop, ends)
                if ends or scan.stop is not Stop.SHORT or len(buffer) < want or offset + scan.needed > end:
                    break
                want = scan.needed
            if not ends:
                raise WalEntryDamaged(segment.path, offset, first, "it no longer matches its checksum")
            del ends[last - first + 1 :]
            if ends[-1] > bytes_max:
                keep = max(1, bisect_right(ends, bytes_max))
                del ends[keep:]
            # What is bad behind good ones is no error yet: who asks for it gets it.
            self._cursor = (first + len(ends), offset + ends[-1], segment)
            return Frames(first, buffer if ends[-1] == len(buffer) else buffer[: ends[-1]], ends, codec)
