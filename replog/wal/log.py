"""The log as its users have it: what `writer` does, and reading, truncating, awaiting, closing.

Three locks, always taken in this order: `_shape` (truncate, reset, close: one at a time), `_append` (the order of entries), `_syncing` (one
sync at a time, and which file is the last one).
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from replog.errors import WalFailed, WalSequenceUnknown
from replog.filesystem import Bytes, File, FileSystem, join
from replog.filesystem import Lock as DirectoryLock
from replog.wal.format import Codec, Header
from replog.wal.options import SEQUENCE_MAX, WalOptions
from replog.wal.recovery import Recovery, cut_and_zero, finish_reset
from replog.wal.segment import Segment, make_segment, segment_name
from replog.wal.segments import Frames
from replog.wal.sync import SyncPolicy
from replog.wal.writer import LogWriter, RolloverCallback

if TYPE_CHECKING:
    from asyncio import Future

    from replog.wal.aio import AsyncAppends
    from replog.wal.metrics import WalMetrics


class SegmentInfo(NamedTuple):
    """One segment as `Log.segments` reports it."""

    path: str
    first_sequence: int
    next_sequence: int
    """Behind its last entry."""
    end_offset: int
    """Behind its last entry, in bytes from the beginning of the file."""
    codec: Codec


class Log(LogWriter):
    """A log that is open for appending: locked, recovered, every entry verified. Made by `replog.wal.open`; any thread may call it.

    Errors of every method: WalClosed after `close`; WalFailed or DiskFull once a write or sync has failed.
    """

    __slots__ = ("_async", "_lock_file", "_shape", "recovery")

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        options: WalOptions,
        codec: Codec,
        segments: Sequence[Segment],
        file: File,
        lock: DirectoryLock,
        recovery: Recovery,
        policy: SyncPolicy,
        on_rollover: RolloverCallback | None = None,
        metrics: WalMetrics | None = None,
    ) -> None:
        super().__init__(fs, directory, options, codec, segments, file, policy, on_rollover, metrics)
        self.recovery: Final = recovery
        self._lock_file = lock
        self._shape = Lock()
        self._async: AsyncAppends | None = None
        policy.start(self)
        if metrics is not None:
            metrics.observe(self, recovery)

    # --- Asyncio ------------------------------------------------------------------------------------------------------

    def append_async(self, data: Bytes) -> Future[int]:
        """`append` for asyncio: awaited, gives the sequence number when the policy's promise holds.

        All that is handed over in one turn of the event loop is one write, and all that waits is one sync, in a thread beside the loop.
        """
        appends = self._async if self._async is not None else self._make_async()
        return appends.append(data)

    def append_many_async(self, datas: Sequence[Bytes]) -> Future[int]:
        """`append_many` for asyncio; one future for all of them."""
        appends = self._async if self._async is not None else self._make_async()
        return appends.append_many(datas)

    def _make_async(self) -> AsyncAppends:
        from replog.wal.aio import AsyncAppends

        with self._append:
            self._check()
            if self._async is None:
                self._async = AsyncAppends(self)
            return self._async

    # --- Reading ------------------------------------------------------------------------------------------------------

    def read(self, sequence: int) -> bytes:
        """The data of one entry, verified. Raises WalSequenceUnknown, WalDamaged."""
        return self.read_range(sequence, sequence, 0)[0]

    def read_range(self, first: int, last: int, bytes_max: int) -> list[bytes]:
        """The data of the entries that `read_frames` gives."""
        frames = self.read_frames(first, last, bytes_max)
        return frames.datas()

    def read_frames(self, first: int, last: int, bytes_max: int) -> Frames:
        """The entries from `first` on as they are on the disk, verified: up to `last` (included), or `bytes_max` bytes of frames, or
        the end of a segment, whichever comes first; at least one. Also what is written and not yet durable, and also after a failure.

        Raises WalSequenceUnknown when `first` is not in the log, WalDamaged, WalFailed when it cannot be read.
        """
        try:
            frames = self._set.read_frames(first, last, bytes_max)
        except FileNotFoundError:  # truncated beside us
            raise WalSequenceUnknown(first, self._set.first_sequence, self._tip.next_sequence) from None
        except OSError as error:
            raise WalFailed(f"{self.directory}: reading sequence {first}: {error}") from error
        if self._metrics is not None:
            self._metrics.read(len(frames.ends), sum(map(len, frames.datas())))
        return frames

    # --- Truncating ---------------------------------------------------------------------------------------------------

    def truncate_behind(self, sequence: int) -> None:
        """Discard every entry behind `sequence` (``first_sequence - 1`` discards all). Durable on return.

        Segments go from the newest to the oldest, each durably, and then the one that holds the cut is cut: a crash in between leaves a log
        that ends somewhere behind `sequence`, without a gap. Raises WalSequenceUnknown when the log does not reach back, or out, that far.
        """
        cut = sequence + 1
        with self._shape, self._append, self._syncing:
            self._check()
            if not self._set.first_sequence <= cut <= self._tip.next_sequence:
                raise WalSequenceUnknown(sequence, self._set.first_sequence, self._tip.next_sequence)
            if cut == self._tip.next_sequence:
                return
            try:
                segment, offset = self._set.locate(cut)
                segments = list(self._set.all())
                while segments[-1] is not segment:
                    self._remove(segments.pop().path)
                file = self._tip.file
                if segment is not self._active:
                    self._tip.file.close()
                    file = self._fs.open(segment.path, writable=True)
                cut_and_zero(file, offset, self.options.preallocation)
            except OSError as error:
                raise self._fail(error, "truncate") from error
            segment.next_sequence, segment.end_offset = cut, offset
            segment.index.cut(cut - segment.first_sequence)
            self._tip.move(cut, self._tip.end_offset)  # first, so that nobody looks for an entry behind the offset that is next
            self._durable = cut
            self._enter(segment, file)
            self._set.replace(segments)

    def truncate_before(self, sequence: int) -> None:
        """Remove the segments whose entries are all before `sequence`; never the last one. Durable on return.

        They go from the oldest to the newest, each durably: a crash in between leaves no gap.
        """
        with self._shape:
            self._check()
            for segment in self._set.take_before(sequence):
                try:
                    self._remove(segment.path)
                except OSError as error:
                    raise self._fail(error, "truncate") from error

    def reset(self, next_sequence: int) -> None:
        """Discard everything; the next entry gets `next_sequence`. Durable on return; after a crash it is either done or not begun.

        The empty log is made beside the old one under a name that recovery knows; once that name is durable, the old segments go.
        """
        if not 0 <= next_sequence < SEQUENCE_MAX:
            raise WalSequenceUnknown(next_sequence, 0, SEQUENCE_MAX)
        with self._shape, self._append, self._syncing:
            self._check()
            header = Header(self.codec.length_encoding, self.codec.checksum_type, next_sequence)
            try:
                file = make_segment(self._fs, self.directory, header, self.options.preallocation, suffix=".reset")
                self._tip.file.close()
                finish_reset(self._fs, self.directory)
            except OSError as error:
                raise self._fail(error, "reset") from error
            segment = Segment(join(self.directory, segment_name(next_sequence)), next_sequence, self.codec)
            self._tip.move(next_sequence, self._tip.end_offset)
            self._durable = next_sequence
            self._enter(segment, file)
            self._set.replace([segment])

    def _remove(self, path: str) -> None:
        self._fs.remove(path)
        self._fs.sync_dir(self.directory)

    # --- State --------------------------------------------------------------------------------------------------------

    @property
    def last_sequence(self) -> int:
        """Of the newest entry; `first_sequence` - 1 in an empty log."""
        return self._tip.next_sequence - 1

    @property
    def end_offset(self) -> int:
        """Behind the last entry, in the last segment."""
        return self._tip.end_offset

    def segments(self) -> tuple[SegmentInfo, ...]:
        """What the log consists of, oldest first."""
        with self._append:
            infos = [SegmentInfo(s.path, s.first_sequence, s.next_sequence, s.end_offset, s.codec) for s in self._set.all()]
            infos[-1] = infos[-1]._replace(next_sequence=self._tip.next_sequence, end_offset=self._tip.end_offset)
            return tuple(infos)

    def close(self) -> None:
        """Sync what is written, end the threads, release the directory. Closing again does nothing.

        An append that is waiting when this begins returns durable, or gets the error. Raises WalFailed if this sync fails; all is released then too.
        """
        with self._shape:
            with self._append:
                if self._closed:
                    return
                self._closed = True
                self._tip.attention = -1
            try:
                if self._failure is None:
                    self.sync_written()
            finally:
                self.policy.stop()
                if self._async is not None:
                    self._async.stop()
                if self._preparer is not None:
                    self._preparer.discard()
                with self._append, self._syncing:
                    self._set.close()
                    try:
                        self._tip.file.close()
                    finally:
                        self._lock_file.release()
        if self._rolled:
            self._announce()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
