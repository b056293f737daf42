"""Writing a log: appending, rolling over, syncing, and what a failure means.

Three locks, always taken in this order: `_shape` (truncate, reset, close: one at a time), `_append` (the order of entries), `_syncing` (one
sync at a time, and which file is the last one). A sync holds only the last of them, so appends go on beside it; a rollover holds it too, so no sync
can ever be of the wrong file: whatever is not in the last segment was synced when that segment was sealed.

The tip moves after the write, so whoever reads `next_sequence` finds those entries in the file, and a sync that begins afterwards covers them.
`durable_sequence` is the tip as it was before a sync that succeeded.

A failed write or sync is final: the log keeps the error, gives it to every waiter and every later call, and touches the file no more. What was
written before stays readable. To go on, it is opened again, which reads the disk afresh.
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Final

from replog.errors import DiskFull, ReplogError, StorageError, WalClosed, WalFailed
from replog.filesystem import Bytes, File, FileSystem, join
from replog.wal.format import HEADER_BYTES, Codec, Header
from replog.wal.options import SEQUENCE_MAX, WalOptions
from replog.wal.prepare import SegmentPreparer
from replog.wal.segment import Segment, make_segment, publish, segment_name
from replog.wal.segments import SegmentSet
from replog.wal.sync import NoSync, SyncPolicy
from replog.wal.tip import Tip
from replog.wal.turn import Turn

if TYPE_CHECKING:
    from replog.wal.metrics import WalMetrics

RolloverCallback = Callable[[int, int], None]
"""Told (first sequence of the sealed segment, first sequence of the new one) after a rollover, outside any lock."""
_NEVER: Final = 2**63
_WRITE_BYTES_MAX: Final = 1 << 30
"""No write is much larger: the system takes at most 2 GiB at once."""


def disk_error(error: OSError, doing: str) -> StorageError:
    """The named error for what the disk said: DiskFull, or WalFailed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DiskFull(f"{doing}: no space left") if full else WalFailed(f"{doing}: {error}")


class LogWriter:
    """The half of `replog.wal.log.Log` that writes."""

    __slots__ = (
        "_active",
        "_append",
        "_closed",
        "_durable",
        "_failure",
        "_fs",
        "_metrics",
        "_on_rollover",
        "_prepare_at",
        "_preparer",
        "_roll_at",
        "_rolled",
        "_set",
        "_syncing",
        "_tip",
        "_waits",
        "append",
        "codec",
        "directory",
        "options",
        "policy",
    )

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        options: WalOptions,
        codec: Codec,
        segments: Sequence[Segment],
        file: File,
        policy: SyncPolicy,
        on_rollover: RolloverCallback | None = None,
        metrics: WalMetrics | None = None,
    ) -> None:
        self.directory: Final = directory
        self.options: Final = options
        self.codec: Final = codec
        """How entries are framed from the next segment on, and in `append_frames`."""
        self.policy: Final = policy
        self._fs = fs
        self._on_rollover = on_rollover
        self._metrics = metrics
        self._append, self._syncing = Turn(), Lock()
        self._failure: StorageError | None = None
        self._closed = False
        self._rolled: deque[tuple[int, int]] = deque()
        self._preparer = SegmentPreparer(fs, directory, options.preallocation) if options.prepare_next else None
        self._tip = Tip(
            self._append,
            append_other=self._append_other,
            attend=self._attend,
            finish_write=self._finish_write,
            fail=self._fail,
            after=self._after_append,
        )
        self._set = SegmentSet(fs, segments, self._tip)
        self._enter(segments[-1], file)
        self._durable = self._tip.next_sequence
        self.append: Callable[[Bytes], int] = self._tip.append
        """``append(data) -> sequence``: append one entry; returns when the sync policy's promise holds. Raises WalEntryTooLarge."""
        self._waits = None if isinstance(policy, NoSync) else policy.appended
        if metrics is not None or self._waits is not None or on_rollover is not None:
            self._append.add_duty()

    def _enter(self, segment: Segment, file: File) -> None:
        """This segment is the one that is written from now on; its `next_sequence` and `end_offset` are the log's."""
        self._active = segment
        self._tip.enter(file, segment.codec, segment.end_offset, segment.next_sequence)
        self._roll_at = max(self.options.segment_bytes_max, HEADER_BYTES + 1)
        self._prepare_at = self._roll_at // 2 if self._preparer is not None else _NEVER
        self._watch()

    def _watch(self) -> None:
        """Set when an append has more to do than to write. A failure in another thread, since it was last looked for, is not overlooked: it is noted
        before `attention` is set to -1, and here it is looked for after."""
        self._tip.attention = min(self._roll_at, self._active.index.next_point)
        if self._failure is not None:
            self._tip.attention = -1

    # --- Appending ----------------------------------------------------------------------------------------------------

    def append_many(self, datas: Sequence[Bytes]) -> int:
        """Append entries as one batch; returns the sequence number of the first (of the next one, if there are none).

        Raises WalEntryTooLarge, then none is written. A crash may leave any number of them, from the first on.
        """
        first = self.write_many(datas)
        if self._waits is not None:
            self._waits(first + len(datas))
        return first

    def append_frames(self, buffer: Bytes, ends: Sequence[int]) -> int:
        """Append entries that `codec` has framed, as they are; returns the sequence number of the first. The frames are not verified again."""
        first = self.write_frames(buffer, ends)
        if self._waits is not None:
            self._waits(first + len(ends))
        return first

    def write_many(self, datas: Sequence[Bytes]) -> int:
        """`append_many` that returns when the bytes are with the operating system, whatever the policy; `sync` makes them durable."""
        with self._append:
            if self._tip.end_offset >= self._tip.attention:
                self._attend()
            first, codec = self._tip.next_sequence, self._active.codec
            if codec is not self.codec:
                self.codec.encode_batch(datas)  # settings were changed at open: what is too large for the next segment is refused whole
            buffer, ends = codec.encode_batch(datas)
            done = self._store(buffer, ends, 0)
            if done < len(ends):
                buffer, ends = self.codec.encode_batch(datas[done:])
                self._store(buffer, ends, 0)
        if self._rolled:
            self._announce()
        if self._metrics is not None:
            self._metrics.appended(len(datas), sum(map(len, datas)))
        return first

    def write_frames(self, buffer: Bytes, ends: Sequence[int]) -> int:
        """`append_frames` that returns when the bytes are with the operating system, whatever the policy; `sync` makes them durable."""
        with self._append:
            if self._active.codec is not self.codec:
                self._check()
                self._roll()  # another encoding was chosen when the log was opened
            if not ends:
                self._check()
            first = self._tip.next_sequence
            done = self._store(buffer, ends, 0)
            assert done == len(ends)
        if self._rolled:
            self._announce()
        if self._metrics is not None:
            codec = self.codec
            self._metrics.appended(len(ends), sum(map(len, codec.split(bytes(buffer), 0, ends))))
        return first

    def _store(self, buffer: Bytes, ends: Sequence[int], done: int) -> int:
        """Write framed entries, rolling over between them where the limit says so. Returns how many are written: all, or those before
        a segment with another codec."""
        tip, codec, count = self._tip, self._active.codec, len(ends)
        base = 0
        while done < count:
            next_sequence, offset = tip.place()
            if offset >= tip.attention:
                self._attend()
                if self._active.codec is not codec:
                    return done
                next_sequence, offset = tip.place()
            last = count - 1
            room = min(self._roll_at - offset, _WRITE_BYTES_MAX)
            if count - done > 1 and ends[last - 1] - base >= room:
                last = bisect_left(ends, base + room, done)  # the first one to reach the limit is the last one in this write
            whole = not base and last == count - 1
            piece = buffer if whole else memoryview(buffer)[base : ends[last]]
            piece_ends = ends if whole else array("Q", [end - base for end in ends[done : last + 1]])
            try:
                if tip.file.pwrite(piece, offset) != len(piece):
                    self._finish_write(piece, offset)
            except OSError as error:
                raise self._fail(error, "append") from error
            index = self._active.index
            if offset + len(piece) > index.next_point:
                index.add(next_sequence - self._active.first_sequence, offset, piece_ends)
                self._watch()
            tip.move(next_sequence + last + 1 - done, offset + len(piece))
            base, done = ends[last], last + 1
        return done

    def _append_other(self, data: Bytes) -> int:
        """The append of an entry for which the tip has no packer: from now on it has one, if the entry is short."""
        with self._append:
            if self._tip.end_offset >= self._tip.attention:
                self._attend()
            first, codec = self._tip.next_sequence, self._active.codec
            codec.packer(len(data))
            frame = codec.encode_frame(data)
            self._store(frame, (len(frame),), 0)
        self._after_append(first + 1, len(data))
        return first

    def _after_append(self, next_sequence: int, data_bytes: int) -> None:
        """What follows the append of one entry, outside its turn, where there is anything: somebody waits for the turn, a rollover is to be told,
        it is to be counted, the policy has a promise to keep."""
        self._append.wake()
        if self._rolled:
            self._announce()
        if self._metrics is not None:
            self._metrics.appended(1, data_bytes)
        if self._waits is not None:
            self._waits(next_sequence)

    def _attend(self) -> None:
        """What an append finds to do once in 16 KiB: fail, roll over, note an index entry, prepare the next segment."""
        self._check()
        tip = self._tip
        if tip.end_offset >= self._roll_at:
            self._roll()
        active, offset = self._active, tip.end_offset
        if offset >= active.index.next_point:
            active.index.note(tip.next_sequence - active.first_sequence, offset)
        self._watch()
        if offset >= self._prepare_at:
            assert self._preparer is not None
            self._preparer.start()

    def _finish_write(self, data: Bytes, offset: int) -> None:
        """The device took only a part: ask for the rest once, to learn why. A part again is an error like any other.

        How much it took is not known here, so all of it is written again first. A full disk takes the same part again; what says ENOSPC is the write of
        the rest alone.
        """
        written = self._tip.file.pwrite(data, offset)
        if written < len(data):
            written += self._tip.file.pwrite(memoryview(data)[written:], offset + written)
        if written != len(data):
            raise OSError(errno.EIO, f"short write: {written} of {len(data)} bytes at offset {offset}", self._active.path)

    # --- Rolling over -------------------------------------------------------------------------------------------------

    def _roll(self) -> None:
        """Seal the last segment and begin the next one. The append lock is held.

        Cut, sync, and only then the next one's name: whoever finds a segment with a successor finds it whole.
        """
        started = self._metrics.now() if self._metrics is not None else 0.0
        with self._syncing:
            self._check()
            sealed, next_sequence = self._active, self._tip.next_sequence
            if next_sequence >= SEQUENCE_MAX:
                raise self._fail(OSError(errno.EOVERFLOW, "no sequence numbers are left"), "rollover")
            header = Header(self.codec.length_encoding, self.codec.checksum_type, next_sequence)
            try:
                if self._tip.file.size() != self._tip.end_offset:
                    self._tip.file.truncate(self._tip.end_offset)
                self._tip.file.sync()
                self._durable = max(self._durable, next_sequence)
                blank = self._preparer.take() if self._preparer is not None else None
                if blank is not None:
                    file = publish(self._fs, self.directory, blank, header, segment_name(next_sequence))
                else:
                    file = make_segment(self._fs, self.directory, header, self.options.preallocation)
                self._tip.file.close()
            except OSError as error:
                raise self._fail(error, "rollover") from error
            sealed.next_sequence, sealed.end_offset = next_sequence, self._tip.end_offset
            segment = Segment(join(self.directory, segment_name(next_sequence)), next_sequence, self.codec)
            if sealed.first_sequence == next_sequence:  # it was empty: the new one has taken its name
                self._set.replace([*self._set.all()[:-1], segment])
            else:
                self._set.add(segment)
                if self._on_rollover is not None:
                    self._rolled.append((sealed.first_sequence, next_sequence))
            self._enter(segment, file)
        if self._metrics is not None:
            self._metrics.rolled_over(started)

    def _announce(self) -> None:
        while self._rolled:
            try:
                previous, following = self._rolled.popleft()
            except IndexError:
                return  # another thread tells it
            if self._on_rollover is not None:
                self._on_rollover(previous, following)

    # --- Syncing ------------------------------------------------------------------------------------------------------

    def sync(self) -> int:
        """Data-sync all that is written; returns the durable sequence (the one behind the last durable entry)."""
        self._check()
        return self.sync_written()

    def sync_written(self) -> int:
        """As `sync`; on a closed log it returns what is durable (for the policies)."""
        with self._syncing:
            target = self._tip.next_sequence
            if target <= self._durable:
                return self._durable
            if self._failure is not None:
                raise self._failure
            started = self._metrics.now() if self._metrics is not None else 0.0
            try:
                self._tip.file.sync()
            except OSError as error:
                raise self._fail(error, "sync") from error
            self._durable = target
        if self._metrics is not None:
            self._metrics.synced(started)
        return target

    # --- State --------------------------------------------------------------------------------------------------------

    @property
    def first_sequence(self) -> int:
        """Of the oldest entry; equals `next_sequence` in an empty log."""
        return self._set.first_sequence

    @property
    def next_sequence(self) -> int:
        """The one that the next entry gets."""
        return self._tip.next_sequence

    @property
    def written_sequence(self) -> int:
        """Behind the last entry that is with the operating system; the same as `next_sequence`."""
        return self._tip.next_sequence

    @property
    def durable_sequence(self) -> int:
        """Behind the last entry that is known to be on the disk: everything before it survives a power cut."""
        return self._durable

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments, headers included and preallocation not."""
        return self._set.sealed_bytes + self._tip.end_offset

    @property
    def segment_count(self) -> int:
        return len(self._set)

    @property
    def failure(self) -> ReplogError | None:
        """The error that every call gets since a write or sync has failed; None while all is well."""
        return self._failure

    def check_usable(self) -> None:
        """Raise what every call raises once the log has failed or is closed."""
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise WalClosed(f"{self.directory}: the log is closed")

    def _fail(self, error: OSError, doing: str) -> StorageError:
        """The log is no longer to be written; returns what to raise."""
        if self._failure is None:
            self._failure = disk_error(error, f"{self._active.path}: {doing}")
            if self._metrics is not None:
                self._metrics.failed()
        self._tip.attention = -1
        return self._failure
