"""What a replica asks of its storage: one durable thing made of hard state, log and snapshots.

The disk and memory implementations pass one conformance suite. All calls are synchronous and come from one caller at a time; the node
runs `persist` in a thread while the loop goes on (the owner waits for it, so nothing else touches the storage meanwhile).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from replog.types import EntryFrames, EntryKind, HardState, Index, Membership, SnapshotMeta, SnapshotWriter, Term, made_often


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was found when the storage was opened; the core and the replica start from it."""

    hard_state: HardState
    incarnation: int
    """Drawn when the directory was made (never 0)."""
    epoch: int = 0
    """The highest cluster epoch that was ever met; above the newest membership's only where this node was fenced."""
    snapshot: SnapshotMeta | None
    """The newest snapshot that verifies; its body is `open_snapshot(snapshot)`."""
    first_index: Index
    """First entry in the log, 1 for a new one; `last_index` + 1 when the log is empty."""
    last_index: Index
    terms: tuple[tuple[Index, Term], ...]
    """Runs of equal term over the entries in the log."""
    memberships: tuple[tuple[Index, Membership], ...]
    """The membership entries in the log."""
    log_bytes: int
    maybe_promised: Index = 0
    """Above `last_index` only where recovery cut the log: it may have acknowledged up to here. Until the log reaches it again the node's
    vote for a candidate that may lack it too, and for itself, counts only if every member grants."""


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Step 2 of a `Ready`, made durable by one `persist`, in the order of the fields."""

    hard_state: HardState | None = None
    install: SnapshotMeta | None = None
    """A received snapshot (completed in the chunk receiver) becomes the newest one; the log is emptied unless it has the snapshot's last entry, in
    which case only what lies behind the snapshot's index stays."""
    discard_from: Index | None = None
    frames: Sequence[EntryFrames] = ()
    epoch: int = 0
    """A cluster epoch that was met, to be remembered if it is the highest."""


class Storage(Protocol):
    """Durable when a call returns, unless its docstring says otherwise. Errors: `DiskFull`, `StorageFailed`, `WalError`; all final until reopened."""

    @property
    def recovered(self) -> Recovered: ...

    @property
    def first_index(self) -> Index: ...

    @property
    def last_index(self) -> Index: ...

    @property
    def size_bytes(self) -> int:
        """Bytes of the log's segments on disk."""
        ...

    def persist(self, write: Write) -> None:
        """Make `write` durable: hard state first, then snapshot, truncation, and the frames with one write and one data sync."""
        ...

    def read_frames(self, first: Index, last: Index, bytes_max: int) -> EntryFrames:
        """Entries from `first`, at least one, up to `last` or as many as fit `bytes_max`. The caller asks only for what is in the log."""
        ...

    def compact(self, upto: Index) -> Index:
        """Entries up to `upto` (covered by a durable snapshot) may go; whole segments are removed. Returns the new first index."""
        ...

    # -- snapshots --------------------------------------------------------------------------------------------------

    def write_snapshot(self, meta: SnapshotMeta, writer: SnapshotWriter) -> SnapshotMeta:
        """Write a snapshot file (tmp, sync, rename, sync_dir), retain the newest ones; returns meta with its size. May run in another thread
        beside every other call."""
        ...

    def newest_snapshot(self) -> SnapshotMeta | None: ...

    def open_snapshot(self, meta: SnapshotMeta) -> BinaryIO:
        """The verified body, positioned at its start. Raises `SnapshotDamaged`. The file stays readable while it is open, even when retention removes it."""
        ...

    def snapshot_checksum(self, meta: SnapshotMeta) -> int:
        """CRC-32 of the body, as in the file's header."""
        ...

    def receive_chunk(
        self, meta: SnapshotMeta, offset: int, data: bytes, *, checksum: int, body_checksum: int, done: bool
    ) -> tuple[int, bool]:
        """Store a chunk of an incoming snapshot: (next wanted offset, complete and verified). Wrong offset: nothing stored, the wanted offset is
        returned. A chunk of another snapshot starts anew. Raises `MalformedMessage` for a bad checksum, `DiskFull`, `StorageFailed`."""
        ...

    def close(self) -> None:
        """Vouch for the last synced index (a clean close), release the lock."""
        ...


class FrameCodec(Protocol):
    """Frames entries as the cluster's log writes them (length encoding and checksum of `ClusterConfig`); see `replog.storage.frames`."""

    def encode(self, first_index: Index, term: Term, kind: EntryKind, payloads: Sequence[bytes]) -> EntryFrames:
        """Frame and checksum a batch of one kind and term."""
        ...

    def decode(self, buffer: bytes, first_index: Index) -> EntryFrames:
        """Verify every frame of `buffer` (length, checksum, index consecutive from `first_index`, terms not descending, kind known). Raises `MalformedMessage`."""
        ...
