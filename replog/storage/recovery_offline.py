"""A cluster that has lost its quorum for good: make one member, whose directory is still there, a cluster of its own.

For an operator, with every node stopped, when a majority of the directories is gone. It is the one operation that may lose acknowledged entries, so
it is planned first, in words::

    committed for certain      maybe committed             maybe committed elsewhere
    [1 ............... 100]  [101 ................ 131]  [132 ............ ?]
       the newest snapshot      the rest of this log         only in the lost logs: gone
                                becomes committed

Of several surviving directories take the one whose plan reaches furthest (`last_term`, then `last_index`): it has most of what was acknowledged.

`execute` appends a membership of this node alone, with a higher cluster epoch, in a new term. The node then elects itself, and everybody else joins as a
new learner. The epoch fences the old members: whoever comes back from the dead with the former one is refused by the handshake, whatever its term.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from replog import wal
from replog.codec import decode_entry, decode_membership, encode_membership
from replog.config import ClusterConfig, NodeConfig, check_address
from replog.errors import CommittedEntriesLost, DirectoryLocked, MalformedMessage, SnapshotDamaged, UnknownNode, WalDamaged
from replog.filesystem import OS_FILE_SYSTEM, FileSystem, LockHeld, join
from replog.snapshot import verify_file
from replog.snapshot.files import storage_error
from replog.snapshot.format import parse_snapshot_name, snapshot_name
from replog.storage import hard_state as hard_state_file
from replog.storage.disk import LOCK_NAME, DiskStorage
from replog.storage.frames import DATA_BYTES_MAX, EntryFrameCodec
from replog.storage.hard_state import StoredHardState
from replog.storage.interface import Write
from replog.storage.opening import SNAPSHOT_DIRECTORY, WAL_DIRECTORY, check_ends
from replog.types import EntryKind, HardState, Index, Member, Membership, NodeId, SnapshotMeta, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class LostQuorumPlan:
    """What a recovery would do; nothing was changed."""

    directory: str
    cluster_id: str
    node_id: NodeId
    address: str
    """At which the others will reach this node."""
    former: Membership
    """The newest membership that this directory knows of."""
    epoch: int
    """The new one."""
    term: Term
    """The new one."""
    last_index: Index
    """The end of this log. It becomes committed up to here."""
    last_term: Term
    committed_at_least: Index
    """What is committed for certain: the newest snapshot's index. Entries behind it, up to `last_index`, may or may not have been acknowledged."""
    cut_bytes: int = 0
    """A torn write at the log's end, of so many bytes, will be cut."""
    maybe_promised: Index = 0
    """Above `last_index` if recovery once cut this log: entries up to there may have been acknowledged with this node's help."""

    @property
    def uncertain(self) -> tuple[Index, Index] | None:
        """The entries of this log that may not have been committed, and will be."""
        return (self.committed_at_least + 1, self.last_index) if self.last_index > self.committed_at_least else None

    @property
    def lost_nodes(self) -> tuple[NodeId, ...]:
        """The former members that are fenced for good."""
        return tuple(node for node in self.former.nodes if node != self.node_id)

    def describe(self) -> str:
        """The plan in words, for the operator to read before saying yes."""
        kept = (
            f"entries {self.uncertain[0]} to {self.uncertain[1]} become committed, acknowledged or not"
            if self.uncertain
            else "no entry is in doubt"
        )
        promised = f" (up to {self.maybe_promised} may have been acknowledged here)" if self.maybe_promised else ""
        lines = [
            f"{self.directory}: node {self.node_id} of cluster {self.cluster_id}, at {self.address}, becomes a cluster of its own, epoch {self.epoch}",
            f"its log ends at index {self.last_index} of term {self.last_term}; of several survivors take the highest term, then the highest index",
            f"committed for certain: up to index {self.committed_at_least}; {kept}",
            f"may be lost: every entry behind index {self.last_index}{promised} that the lost nodes have acknowledged",
            f"fenced for good: {', '.join(self.lost_nodes) or '(nobody)'}, once they meet this node; they rejoin as new learners with empty directories",
        ]
        if self.cut_bytes:
            lines.append(f"a torn write of {self.cut_bytes} bytes at the log's end is cut")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "uncertain": self.uncertain, "lost_nodes": self.lost_nodes}


@dataclass(frozen=True, slots=True, kw_only=True)
class LostQuorumRecovery:
    """The membership entry that a recovery has appended."""

    index: Index
    term: Term
    membership: Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    stored: StoredHardState
    newest: SnapshotMeta | None
    membership: Membership | None
    last_index: Index
    last_term: Term
    cut_bytes: int
    cluster: ClusterConfig


def plan_lost_quorum_recovery(directory: str, *, address: str | None = None, fs: FileSystem = OS_FILE_SYSTEM) -> LostQuorumPlan:
    """Read the directory of a stopped node and say what a recovery would do; changes nothing.

    `address`: where the node will be reached, if not where the membership says. Needed when the directory knows no membership yet.
    Raises DirectoryLocked while the node runs, UnknownNode when this node is no member, and what `DiskStorage.open` raises.
    """
    try:
        lock = fs.lock(join(directory, LOCK_NAME))
    except LockHeld as held:
        raise DirectoryLocked(directory, held.pid) from None
    except OSError as error:
        raise storage_error(error, f"{directory}: opening the data directory") from error
    try:
        return _plan(directory, _survey(fs, directory), address)
    except OSError as error:
        raise storage_error(error, f"{directory}: reading the data directory") from error
    finally:
        lock.release()


def execute_lost_quorum_recovery(plan: LostQuorumPlan, *, fs: FileSystem = OS_FILE_SYSTEM) -> LostQuorumRecovery:
    """Do what `plan` says, if the directory is still as it was planned. Durable on return; interrupted, it is planned and executed again.

    Raises CommittedEntriesLost when the directory has changed since, and what `DiskStorage.open` and `persist` raise.
    """
    survey = _survey(fs, plan.directory)
    now = _plan(plan.directory, survey, plan.address)
    if now != plan:
        raise CommittedEntriesLost(
            f"{plan.directory}: changed since the recovery was planned (its log ends at {now.last_index}); plan again"
        )
    node = NodeConfig(node_id=plan.node_id, data_dir=plan.directory, snapshots_retained=100)
    storage = DiskStorage.open(plan.directory, survey.cluster, node, fs, prepare_segments=False)
    try:
        membership = recovered_membership(plan, storage.recovered.incarnation)
        index = storage.last_index + 1
        codec = EntryFrameCodec.of(survey.cluster)
        frames = codec.encode(index, plan.term, EntryKind.MEMBERSHIP, [encode_membership(membership)])
        storage.persist(Write(hard_state=HardState(term=plan.term, vote=plan.node_id), frames=(frames,)))
    finally:
        storage.close()
    return LostQuorumRecovery(index=index, term=plan.term, membership=membership)


def recovered_membership(plan: LostQuorumPlan, incarnation: int) -> Membership:
    """The node alone, in the new epoch."""
    member = Member(address=plan.address, incarnation=incarnation)
    return Membership(voters=(plan.node_id,), members={plan.node_id: member}, epoch=plan.epoch)


def _plan(directory: str, survey: _Survey, address: str | None) -> LostQuorumPlan:
    stored, former = survey.stored, survey.membership
    node_id = stored.node_id
    if former is None:
        if address is None:
            raise UnknownNode(node_id, ())
        former = Membership(voters=(node_id,), members={node_id: Member(address=address)})
    elif node_id not in former.members:
        raise UnknownNode(node_id, former.nodes)
    if address is not None:
        check_address("address", address)
    return LostQuorumPlan(
        directory=directory,
        cluster_id=stored.cluster_id,
        node_id=node_id,
        address=address or former.members[node_id].address,
        former=former,
        epoch=max(former.epoch, stored.epoch) + 1,
        term=max(stored.hard_state.term, survey.last_term) + 1,
        last_index=survey.last_index,
        last_term=survey.last_term,
        committed_at_least=survey.newest.index if survey.newest is not None else 0,
        cut_bytes=survey.cut_bytes,
        maybe_promised=stored.maybe_promised if stored.maybe_promised > survey.last_index else 0,
    )


def _survey(fs: FileSystem, directory: str) -> _Survey:
    """Read everything, change nothing."""
    stored = hard_state_file.load(fs, directory)
    newest = _newest_snapshot(fs, join(directory, SNAPSHOT_DIRECTORY))
    path = join(directory, WAL_DIRECTORY)
    inspection = wal.inspect(fs, path, wal.WalOptions(entry_bytes_max=DATA_BYTES_MAX))
    if inspection.damage:
        raise inspection.damage[0].error()
    if not inspection.segments:
        raise CommittedEntriesLost(f"{path}: a reset of the log was interrupted; start the node once, then plan again")
    first, last = inspection.segments[0].first_sequence, inspection.segments[-1].next_sequence - 1
    if stored.installing is not None:
        raise CommittedEntriesLost(
            f"{path}: the installation of snapshot {stored.installing[0]} was interrupted; start the node once, then plan again"
        )
    check_ends(path, first, last, newest, None)
    if max(last, newest.index if newest is not None else 0) < stored.vouched_index:
        raise CommittedEntriesLost(f"{path}: the log ends at index {last}, but {stored.vouched_index} was vouched for")
    membership = newest.membership if newest is not None else None
    last_term = newest.term if newest is not None else 0
    for sequence, data in wal.Reader(path, first, entry_bytes_max=DATA_BYTES_MAX, fs=fs):
        if sequence > last:
            break
        try:
            entry = decode_entry(data)
            if entry.kind is EntryKind.MEMBERSHIP:
                membership = decode_membership(entry.payload)
        except MalformedMessage as error:
            raise WalDamaged(path, 0, sequence, str(error)) from None
        last_term = max(last_term, entry.term)
    codec = inspection.segments[-1].codec
    cluster = ClusterConfig(
        cluster_id=stored.cluster_id, length_encoding=codec.length_encoding.label, checksum_type=codec.checksum_type.label
    )
    return _Survey(
        stored=stored,
        newest=newest,
        membership=membership,
        last_index=last,
        last_term=last_term,
        cut_bytes=inspection.cut.bytes_behind if inspection.cut is not None else 0,
        cluster=cluster,
    )


def _newest_snapshot(fs: FileSystem, directory: str) -> SnapshotMeta | None:
    keys = sorted(key for name in fs.list(directory) if (key := parse_snapshot_name(name)) is not None)
    for key in reversed(keys):
        try:
            return verify_file(fs, join(directory, snapshot_name(*key))).meta
        except SnapshotDamaged:
            continue
    return None
