"""`replog snapshot list | verify | export | import` and `replog recover`: work on the data directory of a node that is stopped.

Each takes the directory's lock, so a running node is refused by its process id. Looking changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from replog import wal
from replog.cli.main import EXIT_DAMAGE
from replog.cli.output import JSON_OPTION, Form, Json, console, emit, emit_one, format_size
from replog.config import ClusterConfig, NodeConfig
from replog.errors import ConfigError, DirectoryLocked, MalformedMessage, SnapshotDamaged
from replog.filesystem import OS_FILE_SYSTEM, LockHeld, join
from replog.snapshot import SnapshotStore, verify_file
from replog.snapshot.files import read_header
from replog.snapshot.format import DAMAGED_SUFFIX, SnapshotHeader, parse_snapshot_name
from replog.storage import hard_state as hard_state_file
from replog.storage.disk import LOCK_NAME, DiskStorage
from replog.storage.frames import DATA_BYTES_MAX
from replog.storage.opening import SNAPSHOT_DIRECTORY, WAL_DIRECTORY
from replog.storage.recovery_offline import execute_lost_quorum_recovery, plan_lost_quorum_recovery
from replog.types import SnapshotMeta

_FS: Final = OS_FILE_SYSTEM
_KEEP_ALL: Final = 100

Directory = Annotated[str, typer.Argument(metavar="DIR", help="Data directory of a stopped node.", show_default=False)]
IndexOption = Annotated[
    int | None, typer.Option("--index", min=1, help="Which one, by its index; left out: the newest.", show_default=False)
]


def register(root: typer.Typer, snapshot: typer.Typer) -> None:
    """Add `recover` to the command line and the offline commands to `snapshot`."""
    snapshot.command(name="list")(list_snapshots)
    snapshot.command(name="verify")(verify)
    snapshot.command(name="export")(export)
    snapshot.command(name="import")(import_)
    root.command()(recover)


@contextmanager
def _stopped(directory: str) -> Iterator[str]:
    """Holds the lock of an existing data directory; gives the directory of its snapshots. Raises `ConfigError`, `DirectoryLocked`."""
    if not hard_state_file.exists(_FS, directory):
        raise ConfigError("DIR", directory, "the data directory of a node (it has a file hard_state)")
    try:
        lock = _FS.lock(join(directory, LOCK_NAME))
    except LockHeld as held:
        raise DirectoryLocked(directory, held.pid) from None
    try:
        yield join(directory, SNAPSHOT_DIRECTORY)
    finally:
        lock.release()


# -- snapshots ---------------------------------------------------------------------------------------------------------------


def list_snapshots(directory: Directory, as_json: bool = JSON_OPTION) -> None:
    """The snapshots in a data directory, by their headers."""
    _look(directory, as_json, whole=False)


def verify(directory: Directory, as_json: bool = JSON_OPTION) -> None:
    """Read every snapshot to its end and check it. Exit code 1 when one is damaged."""
    _look(directory, as_json, whole=True)


def _look(directory: str, as_json: bool, *, whole: bool) -> None:
    rows: list[Json] = []
    with _stopped(directory) as snapshots:
        names = sorted(_FS.list(snapshots)) if _FS.exists(snapshots) else []
        names = [name for name in names if parse_snapshot_name(name.removesuffix(DAMAGED_SUFFIX)) is not None]
        rows += [_inspect(join(snapshots, name), name, whole=whole) for name in names]
    if as_json:
        emit(Form.JSON, rows)
    elif not rows:
        print(f"{directory}: no snapshots")
    else:
        _print_rows(rows, whole=whole)
    if any(row["damage"] for row in rows):
        raise typer.Exit(EXIT_DAMAGE)


def _inspect(path: str, name: str, *, whole: bool) -> Json:
    if name.endswith(DAMAGED_SUFFIX):
        return {"file": name, "damage": "put aside by a node that found it damaged"}
    try:
        header = verify_file(_FS, path) if whole else _header(path)
    except SnapshotDamaged as error:
        return {"file": name, "damage": str(error)}
    meta = header.meta
    return {
        "file": name,
        "index": meta.index,
        "term": meta.term,
        "size_bytes": meta.size_bytes,
        "checksum": header.body_checksum,
        "membership": asdict(meta.membership),
        "verified": whole,
        "damage": "",
    }


def _header(path: str) -> SnapshotHeader:
    file = _FS.open(path)
    try:
        return read_header(file)
    finally:
        file.close()


def _print_rows(rows: list[Json], *, whole: bool) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("index", "term", "size", "voters"):
        table.add_column(name, justify="left" if name == "voters" else "right", no_wrap=name != "voters")
    table.add_column("verified" if whole else "header", no_wrap=True)
    damaged = [row for row in rows if row["damage"]]
    for row in rows:
        if not row["damage"]:
            membership = row["membership"]
            assert isinstance(membership, dict)
            assert isinstance(row["size_bytes"], int)
            table.add_row(f"{row['index']:,}", f"{row['term']:,}", format_size(row["size_bytes"]), " ".join(membership["voters"]), "ok")
    if len(damaged) < len(rows):
        console().print(table)
    for row in damaged:
        console().print(f"! {row['file']}: {row['damage']}", style="red", markup=False)


def export(
    directory: Directory,
    file: Annotated[str, typer.Argument(metavar="FILE", help="New file.", show_default=False)],
    index: IndexOption = None,
    as_json: bool = JSON_OPTION,
) -> None:
    """Copy a snapshot, verified, into a file."""
    if os.path.lexists(file):
        raise ConfigError("FILE", file, "a name that is not taken")
    with _stopped(directory) as snapshots:
        store = SnapshotStore.open(_FS, snapshots, _KEEP_ALL)
        try:
            meta = _chosen(store, directory, index)
            store.export(meta, file)
        finally:
            store.close()
    _tell(as_json, meta, f"exported the snapshot of index {meta.index} to {file}, {format_size(meta.size_bytes)}")


def _chosen(store: SnapshotStore, directory: str, index: int | None) -> SnapshotMeta:
    metas = store.all()
    if not metas:
        raise ConfigError("DIR", directory, "a data directory with a snapshot in it")
    if index is None:
        return metas[-1]
    for meta in metas:
        if meta.index == index:
            return meta
    raise ConfigError("--index", index, "one of " + ", ".join(str(meta.index) for meta in metas))


def import_(
    directory: Directory,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `replog snapshot export` wrote.", show_default=False)],
    node_id: Annotated[str, typer.Option("--node-id", help="For a new directory: the node it is for.", show_default=False)] = "",
    cluster_id: Annotated[str, typer.Option("--cluster-id", help="For a new directory: the cluster's name.", show_default=False)] = "",
    as_json: bool = JSON_OPTION,
) -> None:
    """Make an exported snapshot a directory's state. It is as if the leader had sent it: a new node then needs only the log behind it."""
    if not Path(file).is_file():
        raise ConfigError("FILE", file, "a file that can be read")
    cluster, node = _identity(directory, node_id, cluster_id)
    storage = DiskStorage.open(directory, cluster, node, _FS, prepare_segments=False)
    try:
        meta = storage.import_snapshot(file)
    except MalformedMessage as error:
        raise ConfigError("FILE", file, f"a snapshot that is newer than what is in {directory} ({error})") from None
    finally:
        storage.close()
    _tell(as_json, meta, f"{directory}: the state is now the snapshot of index {meta.index}, {format_size(meta.size_bytes)}")


def _identity(directory: str, node_id: str, cluster_id: str) -> tuple[ClusterConfig, NodeConfig]:
    """Whose directory it is, as its files say, or the options for a new one."""
    if not hard_state_file.exists(_FS, directory):
        if not node_id or not cluster_id:
            raise ConfigError("DIR", directory, "the data directory of a node; for a new one --node-id and --cluster-id")
        return ClusterConfig(cluster_id=cluster_id), NodeConfig(node_id=node_id, data_dir=directory)
    stored = hard_state_file.load(_FS, directory)
    for name, given, found in (("--node-id", node_id, stored.node_id), ("--cluster-id", cluster_id, stored.cluster_id)):
        if given and given != found:
            raise ConfigError(name, given, f"{found}, whose directory {directory} is")
    segments = wal.inspect(_FS, join(directory, WAL_DIRECTORY), wal.WalOptions(entry_bytes_max=DATA_BYTES_MAX)).segments
    cluster = ClusterConfig(cluster_id=stored.cluster_id)
    if segments:
        codec = segments[-1].codec
        cluster = replace(cluster, length_encoding=codec.length_encoding.label, checksum_type=codec.checksum_type.label)
    return cluster, NodeConfig(node_id=stored.node_id, data_dir=directory, snapshots_retained=_KEEP_ALL)


def _tell(as_json: bool, meta: SnapshotMeta, message: str) -> None:
    if as_json:
        emit_one(Form.JSON, {"done": message, "index": meta.index, "term": meta.term, "size_bytes": meta.size_bytes})
    else:
        print(message)


# -- lost quorum -------------------------------------------------------------------------------------------------------------


def recover(
    directory: Directory,
    address: Annotated[
        str, typer.Option("--address", help="host:port at which this node will be reached; left out: as it was.", show_default=False)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this nothing is changed.")] = False,
    as_json: bool = JSON_OPTION,
) -> None:
    """Lost quorum: make a survivor a cluster of one. When a majority is gone for good. Says what may be lost; does it only with --yes.

    Stop every node first. Of several survivors take the one whose plan has the highest last_term, then the highest last_index.
    """
    if not hard_state_file.exists(_FS, directory):
        raise ConfigError("DIR", directory, "the data directory of a node (it has a file hard_state)")
    plan = plan_lost_quorum_recovery(directory, address=address or None)
    if not as_json:
        print(plan.describe())
    if not yes:
        if as_json:
            emit_one(Form.JSON, {**plan.as_dict(), "executed": False})
        else:
            print("nothing was changed; --yes does it")
        return
    done = execute_lost_quorum_recovery(plan)
    if as_json:
        emit_one(Form.JSON, {**plan.as_dict(), "executed": True, "membership_index": done.index})
    else:
        print(f"done: start {plan.node_id} again, wipe the others' directories, and add them as learners (replog member add-learner)")
