"""How a data directory comes to be and how it is opened: what must agree before a node may promise anything again.

::

    hard_state   vouched = 120                       the log, or a snapshot, reached 120 at least
    snapshots                [..... 100]             the newest that verifies
    wal             [61 ................ 131]        first <= 101, last >= 120, last >= 100, the entry 100 has the snapshot's term

The order is lock, hard state, snapshots, log, and nothing is changed in the log before all of it has been read. A directory is created in the opposite
order, the hard state last: so whoever finds a hard state finds the rest, or something is lost.

A crash inside the installation of a received snapshot is told apart from loss by the hard state's `installing` (see `DiskStorage.persist`), and finished
here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from replog import wal
from replog.codec import decode_membership
from replog.config import ClusterConfig, NodeConfig
from replog.errors import CommittedEntriesLost, HardStateDamaged, IdentityMismatch, MalformedMessage, WalDamaged, WalEntriesLost
from replog.filesystem import FileSystem, join
from replog.snapshot import SnapshotStore
from replog.snapshot.files import storage_error
from replog.storage import hard_state as hard_state_file
from replog.storage.frames import DATA_BYTES_MAX, EntryFrameCodec
from replog.storage.hard_state import StoredHardState
from replog.storage.promises import possible_end
from replog.types import EntryFrames, EntryKind, Index, Membership, SnapshotMeta, Term
from replog.wal.format import HEADER_BYTES

WAL_DIRECTORY = "wal"
SNAPSHOT_DIRECTORY = "snapshots"
_READ_BYTES = 1 << 20


@dataclass(slots=True, kw_only=True)
class Opened:
    """A data directory that agrees with itself."""

    stored: StoredHardState
    snapshots: SnapshotStore
    log: wal.Log
    terms: tuple[tuple[Index, Term], ...]
    memberships: tuple[tuple[Index, Membership], ...]


def wal_options(cluster: ClusterConfig, node: NodeConfig, *, prepare_next: bool = True) -> wal.WalOptions:
    """The log's settings out of the configuration."""
    return wal.WalOptions(
        length_encoding=wal.LengthEncoding[cluster.length_encoding.upper()],
        checksum_type=wal.ChecksumType[cluster.checksum_type.upper()],
        segment_bytes_max=node.segment_bytes_max,
        preallocate_bytes=None if node.preallocate else 0,
        entry_bytes_max=DATA_BYTES_MAX,
        first_sequence=1,
        prepare_next=prepare_next,
    )


def open_directory(
    fs: FileSystem, directory: str, cluster: ClusterConfig, node: NodeConfig, options: wal.WalOptions, draw_incarnation: Callable[[], int]
) -> Opened:
    """Open, or create, the directory; the caller holds its lock. Raises StorageError, each kind as `DiskStorage.open` says."""
    path = join(directory, WAL_DIRECTORY)
    if not hard_state_file.exists(fs, directory):
        _create(fs, directory, cluster, node, options, draw_incarnation)
    stored = hard_state_file.load(fs, directory)
    try:
        # What was read may be known to the system only: the process before this one may have died between a rename and its sync.
        fs.sync_dir(directory)
    except OSError as error:
        raise storage_error(error, f"{directory}: syncing the directory") from error
    check_identity(directory, stored, cluster.cluster_id, node.node_id)
    snapshots = SnapshotStore.open(fs, join(directory, SNAPSHOT_DIRECTORY), node.snapshots_retained)
    newest = snapshots.newest()
    if not wal.exists(path, fs=fs):
        raise CommittedEntriesLost(f"{path}: no log here, but {hard_state_file.FILE_NAME} is; term {stored.hard_state.term}")
    stored = _remember_promises(fs, directory, stored, options)
    is_vouched_by_log = stored.vouched_index > (newest.index if newest is not None else 0)
    try:
        vouched_sequence = stored.vouched_index + 1 if is_vouched_by_log else None
        log = wal.open(path, options, sync=wal.NoSync(), vouched_sequence=vouched_sequence, fs=fs)
    except WalEntriesLost as error:
        raise CommittedEntriesLost(f"{error}; vouched for in {join(directory, hard_state_file.FILE_NAME)}") from error
    try:
        codec = EntryFrameCodec.of(cluster)
        stored = _finish_install(fs, directory, stored, log, newest, codec)
        check_ends(path, log.first_sequence, log.last_sequence, newest, snapshots)
        terms, memberships = read_log(log, codec)
        _check_terms(directory, stored, newest, terms)
    except BaseException:
        log.close()
        raise
    return Opened(stored=stored, snapshots=snapshots, log=log, terms=terms, memberships=memberships)


def _create(
    fs: FileSystem, directory: str, cluster: ClusterConfig, node: NodeConfig, options: wal.WalOptions, draw_incarnation: Callable[[], int]
) -> None:
    """Make the parts that are missing. A former attempt may have been interrupted; anything that was in use is not touched."""
    path, snapshots = join(directory, WAL_DIRECTORY), join(directory, SNAPSHOT_DIRECTORY)
    try:
        fs.make_dirs(snapshots)
        if any(name.endswith(".snap") for name in fs.list(snapshots)):
            raise HardStateDamaged(f"{join(directory, hard_state_file.FILE_NAME)}: missing, but there are snapshots in {snapshots}")
    except OSError as error:
        raise storage_error(error, f"{directory}: creating the directory") from error
    if wal.exists(path, fs=fs):
        with wal.open(path, options, sync=wal.NoSync(), fs=fs) as log:
            if log.next_sequence != 1:
                raise HardStateDamaged(f"{join(directory, hard_state_file.FILE_NAME)}: missing, but there are entries in {path}")
    else:
        wal.create(path, options, fs=fs)
    incarnation = draw_incarnation()
    assert 0 < incarnation < 2**63
    hard_state_file.store(fs, directory, StoredHardState(cluster_id=cluster.cluster_id, node_id=node.node_id, incarnation=incarnation))


def check_identity(directory: str, stored: StoredHardState, cluster_id: str, node_id: str) -> None:
    """Raise `IdentityMismatch` unless the directory is this node's."""
    path = join(directory, hard_state_file.FILE_NAME)
    if stored.cluster_id != cluster_id:
        raise IdentityMismatch(path, "cluster id", stored.cluster_id, cluster_id)
    if stored.node_id != node_id:
        raise IdentityMismatch(path, "node id", stored.node_id, node_id)


def _remember_promises(fs: FileSystem, directory: str, stored: StoredHardState, options: wal.WalOptions) -> StoredHardState:
    """Note what recovery is about to cut and may have been acknowledged, before it is cut."""
    try:
        promised = possible_end(fs, join(directory, WAL_DIRECTORY), options)
    except OSError as error:
        raise storage_error(error, f"{directory}: reading the log") from error
    if promised > stored.maybe_promised:
        stored = replace(stored, maybe_promised=promised)
        hard_state_file.store(fs, directory, stored)
    return stored


def _finish_install(
    fs: FileSystem, directory: str, stored: StoredHardState, log: wal.Log, newest: SnapshotMeta | None, codec: EntryFrameCodec
) -> StoredHardState:
    """Do the rest of an installation that a crash has interrupted, or forget one that had not begun."""
    if stored.installing is None:
        return stored
    if newest is not None and (newest.index, newest.term) == stored.installing:
        adapt_log(log, newest, codec)
    stored = replace(stored, installing=None)
    hard_state_file.store(fs, directory, stored)
    return stored


def adapt_log(log: wal.Log, meta: SnapshotMeta, codec: EntryFrameCodec) -> None:
    """Keep of the log what follows the installed snapshot `meta`: nothing, unless the log has the snapshot's last entry (paper figure 13, 6-7).

    ::

        log  [61 ..... 131], snapshot 100, same term at 100:   segments before 101 go
        log  [61 .. 90] or another term at 100:                everything goes, the next entry is 101
        log  [101 ..]                                          that was done already
    """
    if log.first_sequence == meta.index + 1:
        return
    if log.first_sequence <= meta.index <= log.last_sequence:
        at = codec.from_wal(log.read_frames(meta.index, meta.index, 0))
        if at.terms[0][1] == meta.term:
            log.truncate_before(meta.index + 1)
            return
    log.reset(meta.index + 1)


def check_ends(path: str, first: Index, last: Index, newest: SnapshotMeta | None, snapshots: SnapshotStore | None) -> None:
    """Raise `CommittedEntriesLost` when snapshot and log leave a gap, or the log ends inside what the snapshot stands for."""
    damaged = "".join(f"; {error}" for error in snapshots.damaged) if snapshots is not None else ""
    if newest is None:
        if first != 1:
            raise CommittedEntriesLost(f"{path}: the log begins at index {first}, and no snapshot covers what was before{damaged}")
        return
    if first > newest.index + 1:
        raise CommittedEntriesLost(f"{path}: the log begins at index {first}, but the newest snapshot ends at {newest.index}{damaged}")
    if last < newest.index:
        raise CommittedEntriesLost(f"{path}: the log ends at index {last}, before the snapshot's index {newest.index}")


def read_log(log: wal.Log, codec: EntryFrameCodec) -> tuple[tuple[tuple[Index, Term], ...], tuple[tuple[Index, Membership], ...]]:
    """Runs of equal term, and the memberships, of the whole log, in one pass with flat memory. Raises `WalDamaged` for an entry that is not in its place."""
    terms: list[tuple[Index, Term]] = []
    memberships: list[tuple[Index, Membership]] = []
    for info in log.segments():
        index, offset = info.first_sequence, HEADER_BYTES
        while index < info.next_sequence:
            found = log.read_frames(index, info.next_sequence - 1, _READ_BYTES)
            try:
                frames = codec.from_wal(found)
                _check_ascent(terms, frames)
                memberships += _memberships(frames)
            except MalformedMessage as error:
                raise WalDamaged(info.path, offset, index, f"in the block that begins there: {error}") from None
            terms += frames.terms[1:] if terms and terms[-1][1] == frames.terms[0][1] else frames.terms
            index += frames.count
            offset += len(found.buffer)
    return tuple(terms), tuple(memberships)


def _check_ascent(terms: list[tuple[Index, Term]], frames: EntryFrames) -> None:
    index, term = frames.terms[0]
    if terms and term < terms[-1][1]:
        raise MalformedMessage(f"entry {index} has term {term}, the one before it term {terms[-1][1]}")


def _memberships(frames: EntryFrames) -> list[tuple[Index, Membership]]:
    kind = int(EntryKind.MEMBERSHIP)
    if kind not in frames.kinds:
        return []
    return [(frames.first_index + at, decode_membership(frames.payloads[at])) for at, found in enumerate(frames.kinds) if found == kind]


def _check_terms(directory: str, stored: StoredHardState, newest: SnapshotMeta | None, terms: tuple[tuple[Index, Term], ...]) -> None:
    """The hard state is never older than what it made possible, and the snapshot's last entry is the log's."""
    last_term = max(terms[-1][1] if terms else 0, newest.term if newest is not None else 0)
    if last_term > stored.hard_state.term:
        path = join(directory, hard_state_file.FILE_NAME)
        raise HardStateDamaged(f"{path}: term is {stored.hard_state.term}, older than the log and snapshots, which reach term {last_term}")
    if newest is None or not terms or newest.index < terms[0][0]:
        return
    at = next(term for first, term in reversed(terms) if first <= newest.index)
    if at != newest.term:
        raise CommittedEntriesLost(
            f"{directory}: entry {newest.index} of the log has term {at}, the snapshot's last entry has term {newest.term}"
        )
