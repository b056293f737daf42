"""The memory twin of the disk storage, for tests of what stands above it: same calls, same errors, no files.

A `MemoryDisk` is what outlives a node; `MemoryStorage.open` is a life on it. What a `persist` has returned for is kept; a `persist` that fails keeps
what its fault says, like a disk that lost what was not synced. It passes the same conformance suite as the disk
(`replog.testing.storage_suite`).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from replog.codec import decode_membership
from replog.config import ClusterConfig, NodeConfig
from replog.errors import DirectoryLocked, IdentityMismatch, MalformedMessage, SnapshotDamaged, StorageError, StorageFailed
from replog.snapshot.chunks import Arrival, check_chunk
from replog.storage.frames import join
from replog.storage.interface import Recovered, Write
from replog.types import EntryFrames, EntryKind, HardState, Index, Membership, SnapshotMeta, SnapshotWriter, Term


@dataclass(slots=True)
class MemoryDisk:
    """What a node's disk holds between two lives."""

    incarnation: int = 1
    identity: tuple[str, str] | None = None
    """Cluster id and node id of whoever opened it first."""
    hard_state: HardState = field(default_factory=HardState)
    epoch: int = 0
    """The highest that was met."""
    maybe_promised: Index = 0
    first_index: Index = 1
    batches: list[EntryFrames] = field(default_factory=list)
    snapshots: list[tuple[SnapshotMeta, bytes]] = field(default_factory=list)
    """Ascending."""
    arrival: Arrival | None = None
    body: bytearray = field(default_factory=bytearray)
    is_open: bool = False

    @property
    def last_index(self) -> Index:
        return self.batches[-1].last_index if self.batches else self.first_index - 1

    def cut(self, first_lost: Index) -> None:
        """Lose the entries from `first_lost` on."""
        while self.batches and self.batches[-1].last_index >= first_lost:
            batch = self.batches.pop()
            if batch.first_index < first_lost:
                self.batches.append(batch.slice(batch.first_index, first_lost - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistFault:
    """How a `persist` fails: after the hard state (if `keeps_hard_state`) and `keeps_entries` of the entries have reached the disk."""

    error: StorageError
    keeps_hard_state: bool = True
    keeps_entries: int = 0


class MemoryStorage:
    """Implements `replog.storage.interface.Storage` over a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, node: NodeConfig) -> None:
        """Use `open`."""
        self.disk = disk
        self._node = node
        self._failure: StorageError | None = None
        self._fault: PersistFault | None = None
        self._is_open = True
        self.persists = 0
        """Calls of `persist` that succeeded."""
        self.recovered = self._recover()

    @classmethod
    def open(cls, disk: MemoryDisk, cluster: ClusterConfig, node: NodeConfig) -> MemoryStorage:
        """Begin a life. Raises DirectoryLocked while another one lasts, IdentityMismatch for another node's disk."""
        if disk.is_open:
            raise DirectoryLocked("memory", None)
        identity = (cluster.cluster_id, node.node_id)
        if disk.identity is None:
            disk.identity = identity
        for name, found, expected in zip(("cluster id", "node id"), disk.identity, identity, strict=True):
            if found != expected:
                raise IdentityMismatch("memory", name, found, expected)
        disk.is_open = True
        return cls(disk, node)

    def _recover(self) -> Recovered:
        disk = self.disk
        whole = join(disk.batches) if disk.batches else None
        memberships: list[tuple[Index, Membership]] = []
        if whole is not None:
            memberships = [
                (whole.first_index + position, decode_membership(whole.payloads[position]))
                for position, kind in enumerate(whole.kinds)
                if kind == EntryKind.MEMBERSHIP
            ]
        if disk.maybe_promised <= disk.last_index:
            disk.maybe_promised = 0
        return Recovered(
            hard_state=disk.hard_state,
            incarnation=disk.incarnation,
            epoch=max(
                [disk.epoch, *(membership.epoch for _, membership in memberships), *(meta.membership.epoch for meta, _ in disk.snapshots)]
            ),
            snapshot=self.newest_snapshot(),
            first_index=disk.first_index,
            last_index=disk.last_index,
            terms=whole.terms if whole is not None else (),
            memberships=tuple(memberships),
            log_bytes=self.size_bytes,
            maybe_promised=disk.maybe_promised,
        )

    # -- the log -----------------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> Index:
        return self.disk.first_index

    @property
    def last_index(self) -> Index:
        return self.disk.last_index

    @property
    def size_bytes(self) -> int:
        return sum(batch.size_bytes for batch in self.disk.batches)

    def fail_next(self, fault: PersistFault) -> None:
        """The next `persist` fails like this, and this life's storage with it."""
        self._fault = fault

    def persist(self, write: Write) -> None:
        self._check()
        disk = self.disk
        fault = self._fault
        if write.hard_state is not None and (fault is None or fault.keeps_hard_state):
            disk.hard_state = write.hard_state
        if fault is None:
            disk.epoch = max(disk.epoch, write.epoch)
        if fault is not None:
            if write.install is None and write.discard_from is None:
                self._append(write.frames, fault.keeps_entries)
            self._failure = fault.error
            raise fault.error
        if write.install is not None:
            self._install(write.install)
        if write.discard_from is not None:
            assert disk.first_index <= write.discard_from <= disk.last_index
            disk.cut(write.discard_from)
        self._append(write.frames, None)
        self.persists += 1

    def _append(self, batches: Sequence[EntryFrames], keep: int | None) -> None:
        for batch in batches:
            count = batch.count if keep is None else min(batch.count, keep)
            if not count:
                continue
            assert batch.first_index == self.disk.last_index + 1
            self.disk.batches.append(batch.slice(batch.first_index, batch.first_index + count - 1))
            if keep is not None:
                keep -= count

    def _install(self, meta: SnapshotMeta) -> None:
        disk = self.disk
        arrival = disk.arrival
        assert arrival is not None
        assert arrival.is_complete
        assert (arrival.meta.index, arrival.meta.term) == (meta.index, meta.term)
        disk.snapshots = [*(kept for kept in disk.snapshots if kept[0].index < meta.index), (arrival.meta, bytes(disk.body))]
        self._retain()
        if self._has(meta.index, meta.term):
            self._remove_before(meta.index + 1)
        else:
            disk.batches.clear()
            disk.first_index = meta.index + 1
        disk.arrival, disk.body = None, bytearray()

    def _has(self, index: Index, term: Term) -> bool:
        for batch in self.disk.batches:
            if batch.first_index <= index <= batch.last_index:
                return batch.slice(index, index).terms[0][1] == term
        return False

    def read_frames(self, first: Index, last: Index, bytes_max: int) -> EntryFrames:
        self._check_open()
        assert self.disk.first_index <= first <= last <= self.disk.last_index
        pieces: list[EntryFrames] = []
        size = 0
        for batch in self.disk.batches:
            low, high = max(first, batch.first_index), min(last, batch.last_index)
            if low > high:
                continue
            piece = batch.slice(low, high)
            fitting = sum(1 for end in piece.ends if size + end <= bytes_max)
            if fitting < piece.count:
                if fitting or not pieces:
                    pieces.append(piece.slice(low, low + max(1, fitting) - 1))
                break
            pieces.append(piece)
            size += piece.size_bytes
        return join(pieces)

    def compact(self, upto: Index) -> Index:
        self._check()
        newest = self.newest_snapshot()
        assert newest is not None
        assert upto <= newest.index
        self._remove_before(min(upto, self.disk.snapshots[0][0].index) + 1)
        return self.disk.first_index

    def _remove_before(self, index: Index) -> None:
        """Whole batches go, as whole segments do on a disk."""
        disk = self.disk
        while disk.batches and disk.batches[0].last_index < index:
            disk.first_index = disk.batches.pop(0).last_index + 1

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def write_snapshot(self, meta: SnapshotMeta, writer: SnapshotWriter) -> SnapshotMeta:
        sink = io.BytesIO()
        writer.write(sink)
        body = sink.getvalue()
        written = replace(meta, size_bytes=len(body))
        others = [kept for kept in self.disk.snapshots if (kept[0].index, kept[0].term) != (meta.index, meta.term)]
        self.disk.snapshots = sorted([*others, (written, body)], key=lambda kept: (kept[0].index, kept[0].term))
        self._retain()
        return written

    def _retain(self) -> None:
        del self.disk.snapshots[: -self._node.snapshots_retained]

    def newest_snapshot(self) -> SnapshotMeta | None:
        return self.disk.snapshots[-1][0] if self.disk.snapshots else None

    def _body(self, meta: SnapshotMeta) -> bytes:
        for kept, body in self.disk.snapshots:
            if (kept.index, kept.term) == (meta.index, meta.term):
                return body
        raise SnapshotDamaged(f"memory: no snapshot {meta.index}-{meta.term} here")

    def open_snapshot(self, meta: SnapshotMeta) -> BinaryIO:
        self._check_open()
        return io.BytesIO(self._body(meta))

    def snapshot_checksum(self, meta: SnapshotMeta) -> int:
        return zlib.crc32(self._body(meta))

    def receive_chunk(
        self, meta: SnapshotMeta, offset: int, data: bytes, *, checksum: int, body_checksum: int, done: bool
    ) -> tuple[int, bool]:
        self._check()
        disk = self.disk
        check_chunk(meta, offset, data, checksum=checksum, body_checksum=body_checksum, done=done, newest=self.newest_snapshot())
        if disk.arrival is None or not disk.arrival.is_same(meta, body_checksum):
            if offset:
                return 0, False
            disk.arrival, disk.body = Arrival(meta, body_checksum), bytearray()
        arrival = disk.arrival
        if offset == arrival.received_bytes and not arrival.is_complete:
            disk.body += data
            arrival.add(data)
            if arrival.received_bytes == meta.size_bytes:
                try:
                    arrival.complete()
                except MalformedMessage:
                    disk.arrival, disk.body = None, bytearray()
                    raise
        return arrival.received_bytes, arrival.is_complete

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.disk.is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageFailed("memory: the storage is closed")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._check_open()
