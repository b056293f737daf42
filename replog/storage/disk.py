"""The durable storage of a node: one directory with hard state, log and snapshots (DESIGN section 5).

::

    lock                                    held while this life lasts
    hard_state                              `replog.storage.hard_state`
    wal/<20 digits>.wal                     `replog.wal`; sequence number = Raft index
    snapshots/<20 digits>-<term>.snap       `replog.snapshot`

A persist is one write and one data sync; only an election (term, vote), a conflict, a rollover or an installation costs more. The first failed write or sync
ends this life: nothing is retried, every later call gets the error, and what was written before stays readable. Opening again reads the disk afresh.

Installing a received snapshot, and what a crash between any two steps leaves::

    1  hard state: installing = N, vouched <= N     the old state; the mark is forgotten at the next open
    2  N.part renamed to N.snap, directory synced   the new state; step 3 is done at the next open
    3  log reset to N + 1, or cut in front          the new state
    4  hard state: installing = none
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

from replog.codec import decode_membership
from replog.config import KIB, ClusterConfig, NodeConfig
from replog.errors import DirectoryExposed, DirectoryLocked, MalformedMessage, SnapshotDamaged, StorageError, StorageFailed, WalDamaged
from replog.filesystem import OS_FILE_SYSTEM, FileSystem, Lock, LockHeld, join
from replog.snapshot.files import storage_error
from replog.storage import hard_state as hard_state_file
from replog.storage.frames import EntryFrameCodec, join_ends
from replog.storage.hard_state import StoredHardState
from replog.storage.interface import Recovered, Write
from replog.storage.opening import Opened, adapt_log, open_directory, wal_options
from replog.types import EntryFrames, EntryKind, Index, SnapshotMeta, SnapshotWriter
from replog.wal import Recovery

LOCK_NAME = "lock"
_MEMBERSHIP = int(EntryKind.MEMBERSHIP)
_JOINED_BYTES_MAX = 128 * KIB
"""Batches below it are joined into one write: a system call costs what copying so much does."""


def _draw_incarnation() -> int:
    return secrets.randbelow(2**63 - 1) + 1


class DiskStorage:
    """Implements `replog.storage.interface.Storage`. Made by `open`."""

    def __init__(self, fs: FileSystem, directory: str, lock: Lock, opened: Opened, codec: EntryFrameCodec) -> None:
        """Use `open`."""
        self.directory = directory
        self._fs = fs
        self._lock = lock
        self._stored = opened.stored
        self._snapshots = opened.snapshots
        self._log = opened.log
        self._codec = codec
        self._failure: StorageError | None = None
        self._is_open = True
        self._segment_count = self._log.segment_count
        newest = opened.snapshots.newest()
        epochs = [membership.epoch for _, membership in opened.memberships] + ([newest.membership.epoch] if newest is not None else [])
        self._epoch = max([self._stored.epoch, *epochs])
        last = self._log.last_sequence
        self.recovered = Recovered(
            hard_state=self._stored.hard_state,
            incarnation=self._stored.incarnation,
            epoch=self._epoch,
            snapshot=newest,
            first_index=self._log.first_sequence,
            last_index=last,
            terms=opened.terms,
            memberships=opened.memberships,
            log_bytes=self._log.size_bytes,
            maybe_promised=self._stored.maybe_promised if self._stored.maybe_promised > last else 0,
        )

    @classmethod
    def open(
        cls,
        directory: str,
        cluster: ClusterConfig,
        node: NodeConfig,
        fs: FileSystem = OS_FILE_SYSTEM,
        *,
        draw_incarnation: Callable[[], int] = _draw_incarnation,
        prepare_segments: bool = True,
    ) -> DiskStorage:
        """Open the directory, or create it. Everything in it is read and verified; a torn end of the log is cut.

        `draw_incarnation` gives the number (1 to 2^63 - 1) of a new directory; `prepare_segments` makes segments in a background thread.

        Raises DirectoryLocked; DirectoryExposed when another user could write in it; IdentityMismatch for another node's or cluster's directory;
        HardStateDamaged; CommittedEntriesLost when the log ends before what was vouched for; WalError; DiskFull, StorageFailed when the disk cannot be read or written.
        """
        try:
            fs.make_dirs(directory)
            exposure = fs.exposure(directory)
            if exposure:
                raise DirectoryExposed(directory, exposure)
            lock = fs.lock(join(directory, LOCK_NAME))
        except LockHeld as held:
            raise DirectoryLocked(directory, held.pid) from None
        except OSError as error:
            raise storage_error(error, f"{directory}: opening the data directory") from error
        try:
            options = wal_options(cluster, node, prepare_next=prepare_segments)
            opened = open_directory(fs, directory, cluster, node, options, draw_incarnation)
            return cls(fs, directory, lock, opened, EntryFrameCodec.of(cluster))
        except OSError as error:
            lock.release()
            raise storage_error(error, f"{directory}: opening the data directory") from error
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open_for(cls, cluster: ClusterConfig, node: NodeConfig, *, filesystem: FileSystem = OS_FILE_SYSTEM) -> DiskStorage:
        """`open` in the node's `data_dir`."""
        return cls.open(node.data_dir, cluster, node, filesystem)

    # -- the log -----------------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> Index:
        return self._log.first_sequence

    @property
    def last_index(self) -> Index:
        return self._log.last_sequence

    @property
    def size_bytes(self) -> int:
        return self._log.size_bytes

    @property
    def hard_state(self) -> StoredHardState:
        """All that the hard state's file holds now."""
        return self._stored

    @property
    def log_recovery(self) -> Recovery:
        """What was done to the log when it was opened."""
        return self._log.recovery

    @property
    def damaged_snapshots(self) -> tuple[SnapshotDamaged, ...]:
        """Snapshots that did not verify and were put aside, for a warning."""
        return tuple(self._snapshots.damaged)

    def persist(self, write: Write) -> None:
        """As `Storage.persist`. Raises DiskFull, StorageFailed, WalError; each is final for this life."""
        self._check()
        try:
            if write.hard_state is not None or write.install is not None or write.discard_from is not None or write.epoch > self._epoch:
                self._persist_rare(write)
            if write.frames:
                self._append(write)
        except StorageError as error:
            self._failure = self._failure or error
            raise

    def _persist_rare(self, write: Write) -> None:
        """Everything but entries."""
        stored = self._stored
        self._epoch = max(self._epoch, write.epoch)
        if write.hard_state is not None:
            stored = replace(stored, hard_state=write.hard_state)
        if write.install is not None:
            meta = write.install
            stored = replace(stored, installing=(meta.index, meta.term), vouched_index=min(stored.vouched_index, meta.index))
        if write.discard_from is not None:
            stored = replace(stored, vouched_index=min(stored.vouched_index, write.discard_from - 1))
        self._store(stored)
        if write.install is not None:
            installed = self._snapshots.install(write.install)
            self._epoch = max(self._epoch, installed.membership.epoch)
            adapt_log(self._log, installed, self._codec)
            self._store(replace(self._stored, installing=None, vouched_index=self.last_index))
        if write.discard_from is not None:
            assert self.first_index <= write.discard_from <= self.last_index + 1
            self._log.truncate_behind(write.discard_from - 1)

    def _append(self, write: Write) -> None:
        batches = [frames for frames in write.frames if frames.kinds]
        if not batches:
            return
        log = self._log
        assert batches[0].first_index == log.next_sequence
        assert all(before.last_index + 1 == after.first_index for before, after in pairwise(batches))
        small: list[EntryFrames] = []
        for frames in batches:
            if frames.size_bytes < _JOINED_BYTES_MAX:
                small.append(frames)
                continue
            self._write_joined(small)
            small.clear()
            log.write_frames(frames.buffer, frames.ends)
        self._write_joined(small)
        log.sync()
        for frames in batches:
            if _MEMBERSHIP in frames.kinds:
                self._note_epoch(frames)
        segment_count = log.segment_count
        if segment_count != self._segment_count:
            if segment_count > self._segment_count:
                self._vouch()
            self._segment_count = segment_count

    def _write_joined(self, batches: Sequence[EntryFrames]) -> None:
        """Small batches in one write; copying a large one would cost more than a write of its own."""
        if len(batches) == 1:
            self._log.write_frames(batches[0].buffer, batches[0].ends)
        elif batches:
            self._log.write_frames(b"".join([frames.buffer for frames in batches]), join_ends(batches))

    def _note_epoch(self, frames: EntryFrames) -> None:
        for position, kind in enumerate(frames.kinds):
            if kind == _MEMBERSHIP:
                self._epoch = max(self._epoch, decode_membership(frames.payloads[position]).epoch)

    def _store(self, stored: StoredHardState) -> None:
        """Replace the hard state's file, if it would be another one."""
        if stored.maybe_promised and stored.maybe_promised <= self.last_index:
            stored = replace(stored, maybe_promised=0)
        if stored.epoch != self._epoch:
            stored = replace(stored, epoch=self._epoch)
        if stored != self._stored:
            hard_state_file.store(self._fs, self.directory, stored)
            self._stored = stored

    def _vouch(self) -> None:
        """All that is in the log now is synced: say so where a lost segment cannot take it along."""
        self._store(replace(self._stored, vouched_index=self.last_index))

    def read_frames(self, first: Index, last: Index, bytes_max: int) -> EntryFrames:
        """As `Storage.read_frames`; ends at the end of a segment too. Also after a failure. Raises WalDamaged, WalFailed, WalClosed."""
        assert self.first_index <= first <= last <= self.last_index
        found = self._log.read_frames(first, last, bytes_max)
        try:
            return self._codec.from_wal(found)
        except MalformedMessage as error:
            path = next(info.path for info in reversed(self._log.segments()) if info.first_sequence <= first)
            raise WalDamaged(path, 0, first, str(error)) from None

    def compact(self, upto: Index) -> Index:
        """As `Storage.compact`. What the oldest usable snapshot still needs stays: it is the way back if the newer ones do not verify."""
        self._check()
        metas = self._snapshots.all()
        assert metas
        assert upto <= metas[-1].index
        usable = [meta.index for meta in metas if meta.index >= self.first_index - 1]
        upto = min(upto, *usable)
        infos = self._log.segments()
        if len(infos) > 1 and infos[1].first_sequence <= upto + 1:
            try:
                self._vouch()
                self._log.truncate_before(upto + 1)
            except StorageError as error:
                self._failure = self._failure or error
                raise
            self._segment_count = self._log.segment_count
        return self.first_index

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def write_snapshot(self, meta: SnapshotMeta, writer: SnapshotWriter) -> SnapshotMeta:
        """As `Storage.write_snapshot`. An error (DiskFull, StorageFailed, the writer's own) leaves no file and does not end this life."""
        return self._snapshots.write(meta, writer)

    def newest_snapshot(self) -> SnapshotMeta | None:
        return self._snapshots.newest()

    def snapshots(self) -> tuple[SnapshotMeta, ...]:
        """All that are kept, oldest first."""
        return self._snapshots.all()

    def open_snapshot(self, meta: SnapshotMeta) -> BinaryIO:
        return self._snapshots.open_body(meta)

    def snapshot_checksum(self, meta: SnapshotMeta) -> int:
        return self._snapshots.checksum(meta)

    def receive_chunk(
        self, meta: SnapshotMeta, offset: int, data: bytes, *, checksum: int, body_checksum: int, done: bool
    ) -> tuple[int, bool]:
        self._check()
        return self._snapshots.receive(meta, offset, data, checksum=checksum, body_checksum=body_checksum, done=done)

    def export_snapshot(self, meta: SnapshotMeta, path: str) -> None:
        """Write a verified copy to the new file `path`. Raises SnapshotDamaged, DiskFull, StorageFailed."""
        self._snapshots.export(meta, path)

    def import_snapshot(self, path: str) -> SnapshotMeta:
        """Make an exported snapshot the state of this directory, as if a leader had sent it. For an operator, with no node running.

        Raises SnapshotDamaged, MalformedMessage when it is not newer than what is here, DiskFull, StorageFailed.
        """
        self._check()
        meta = self._snapshots.import_file(path)
        term = max(meta.term, self._stored.hard_state.term)
        hard_state = None if term == self._stored.hard_state.term else replace(self._stored.hard_state, term=term, vote=None)
        self.persist(Write(hard_state=hard_state, install=meta))
        return meta

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """As `Storage.close`; after a failure nothing is vouched for. The lock is free in any case. Raises StorageFailed."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self._failure is None and self._log.failure is None:
                self._vouch()
        finally:
            try:
                self._snapshots.close()
                self._log.close()
            except OSError as error:
                raise storage_error(error, f"{self.directory}: closing") from error
            finally:
                self._lock.release()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._is_open:
            raise StorageFailed(f"{self.directory}: the storage is closed")
