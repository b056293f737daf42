"""`replog snapshot list | verify | export | import` and `replog recover` on directories of stopped nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replog.codec import encode_membership
from replog.config import ClusterConfig, NodeConfig
from replog.statemachine import BytesSnapshot
from replog.storage.disk import DiskStorage
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Write
from replog.types import EntryKind, HardState, Member, Membership, SnapshotMeta

Replog = Callable[..., Any]
MEMBERSHIP = Membership(voters=("n1", "n2", "n3"), members={f"n{number}": Member(address=f"h{number}:1") for number in (1, 2, 3)})
BODIES = {20: b"state at 20", 30: b"the state at 30" * 1000}


pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> ClusterConfig:
    """Not the default formats: the commands find out."""
    return ClusterConfig(cluster_id="orders", length_encoding="uvarint", checksum_type="crc64")


@pytest.fixture
def directory(tmp_path: Path, cluster: ClusterConfig) -> str:
    """The data directory of n1: 40 entries, snapshots at 20 and 30, stopped."""
    path = str(tmp_path / "n1")
    storage = DiskStorage.open(path, cluster, NodeConfig(node_id="n1", data_dir=path))
    codec = EntryFrameCodec.of(cluster)
    frames = [codec.encode(1, 2, EntryKind.MEMBERSHIP, [encode_membership(MEMBERSHIP)])]
    frames.append(codec.encode(2, 2, EntryKind.COMMAND, [b"%d" % number for number in range(39)]))
    storage.persist(Write(hard_state=HardState(term=2), frames=frames))
    for index, body in BODIES.items():
        storage.write_snapshot(SnapshotMeta(index=index, term=2, membership=MEMBERSHIP), BytesSnapshot(body))
    storage.close()
    return path


def contents(directory: str) -> dict[str, bytes]:
    """Every file but the lock."""
    return {str(path): path.read_bytes() for path in sorted(Path(directory).rglob("*")) if path.is_file() and path.name != "lock"}


def test_snapshots_are_listed_oldest_first(directory: str, replog: Replog) -> None:
    before = contents(directory)
    listed = replog("snapshot", "list", directory)
    rows = [json.loads(line) for line in replog("snapshot", "list", directory, "--json").out.splitlines()]

    assert listed.code == 0
    assert [line.split()[:2] for line in listed.out.splitlines()] == [["index", "term"], ["20", "2"], ["30", "2"]]
    assert [(row["index"], row["size_bytes"], row["verified"]) for row in rows] == [(20, 11, False), (30, 15_000, False)]
    assert contents(directory) == before, "looking changes nothing"


def test_a_damaged_snapshot_is_found_by_reading_it(directory: str, replog: Replog) -> None:
    assert replog("snapshot", "verify", directory).code == 0
    newest = max((Path(directory) / "snapshots").glob("*.snap"))
    data = bytearray(newest.read_bytes())
    data[-100] ^= 1
    newest.write_bytes(data)

    assert replog("snapshot", "list", directory).code == 0, "the header is whole"
    found = replog("snapshot", "verify", directory)
    row = json.loads(replog("snapshot", "verify", directory, "--json").out.splitlines()[-1])

    assert found.code == 1
    assert "checksum of the body" in found.out.replace("\n", " ")
    assert "checksum" in row["damage"]
    assert newest.read_bytes() == bytes(data)


def test_a_snapshot_travels_in_a_file(directory: str, replog: Replog, cluster: ClusterConfig, tmp_path: Path) -> None:
    file = tmp_path / "carried.snap"
    done = replog("snapshot", "export", directory, file)
    assert (done.code, done.out.startswith("exported the snapshot of index 30")) == (0, True)

    other = str(tmp_path / "n4")
    imported = replog("snapshot", "import", other, file, "--node-id", "n4", "--cluster-id", "orders", "--json")

    assert imported.code == 0
    assert json.loads(imported.out)["index"] == 30
    storage = DiskStorage.open(other, cluster, NodeConfig(node_id="n4", data_dir=other))
    try:
        meta = storage.newest_snapshot()
        assert meta is not None
        assert (meta.index, meta.membership.voters, storage.last_index) == (30, ("n1", "n2", "n3"), 30)
        with storage.open_snapshot(meta) as body:
            assert body.read() == BODIES[30]
    finally:
        storage.close()


def test_one_of_several_is_exported_by_its_index(directory: str, replog: Replog, tmp_path: Path) -> None:
    assert "index 20" in replog("snapshot", "export", directory, tmp_path / "old", "--index", "20").out
    refused = replog("snapshot", "export", directory, tmp_path / "none", "--index", "25")
    assert (refused.code, "--index: found 25, allowed: one of 20, 30" in refused.err) == (2, True)
    taken = replog("snapshot", "export", directory, tmp_path / "old")
    assert (taken.code, "a name that is not taken" in taken.err) == (2, True)


def test_an_import_that_would_go_back_is_refused(directory: str, replog: Replog, tmp_path: Path) -> None:
    replog("snapshot", "export", directory, tmp_path / "old", "--index", "20")
    before = contents(directory)

    refused = replog("snapshot", "import", directory, tmp_path / "old")

    assert refused.code == 2
    assert "newer than what is in" in refused.err
    assert {name: data for name, data in contents(directory).items() if name.endswith(".snap")} == {
        name: data for name, data in before.items() if name.endswith(".snap")
    }


def test_an_import_checks_file_and_owner(directory: str, replog: Replog, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"no snapshot" * 100)

    assert replog("snapshot", "import", directory, tmp_path / "absent").code == 2
    assert "SnapshotDamaged" in replog("snapshot", "import", directory, rubbish).err
    assert "--node-id: found 'n2', allowed: n1" in replog("snapshot", "import", directory, rubbish, "--node-id", "n2").err
    new = replog("snapshot", "import", tmp_path / "n9", rubbish)
    assert (new.code, "for a new one --node-id and --cluster-id" in new.err) == (2, True)
    assert not (tmp_path / "n9").exists()


@pytest.mark.parametrize(
    "command", [("snapshot", "list"), ("snapshot", "verify"), ("snapshot", "export"), ("snapshot", "import"), ("recover",)]
)
def test_a_running_nodes_directory_is_refused_by_its_process(
    directory: str, replog: Replog, cluster: ClusterConfig, tmp_path: Path, command: tuple[str, ...]
) -> None:
    extra: tuple[object, ...] = ()
    if command[-1] == "import":
        replog("snapshot", "export", directory, tmp_path / "file")
    if command[-1] in ("import", "export"):
        extra = (tmp_path / ("file" if command[-1] == "import" else "new"),)
    storage = DiskStorage.open(directory, cluster, NodeConfig(node_id="n1", data_dir=directory))
    try:
        refused = replog(*command, directory, *extra)
    finally:
        storage.close()

    assert refused.code == 2
    assert "locked by process" in refused.err


def test_a_recovery_is_a_dry_run_until_it_is_told_to_be_one_no_more(directory: str, replog: Replog, cluster: ClusterConfig) -> None:
    before = contents(directory)
    plan = replog("recover", directory)
    planned = json.loads(replog("recover", directory, "--json").out)

    assert plan.code == 0
    assert "entries 31 to 40 become committed, acknowledged or not" in plan.out
    assert "may be lost: every entry behind index 40" in plan.out
    assert "fenced for good: n2, n3" in plan.out
    assert plan.out.endswith("nothing was changed; --yes does it\n")
    assert (planned["executed"], planned["uncertain"], planned["epoch"]) == (False, [31, 40], 1)
    assert contents(directory) == before

    done = replog("recover", directory, "--address", "new:7", "--yes")

    assert done.code == 0
    assert "done: start n1 again" in done.out
    storage = DiskStorage.open(directory, cluster, NodeConfig(node_id="n1", data_dir=directory))
    try:
        index, membership = storage.recovered.memberships[-1]
        assert (index, membership.voters, membership.epoch, membership.members["n1"].address) == (41, ("n1",), 1, "new:7")
    finally:
        storage.close()


def test_a_wrong_address_is_refused_before_anything_is_changed(directory: str, replog: Replog) -> None:
    before = contents(directory)

    refused = replog("recover", directory, "--address", "nowhere", "--yes")

    assert refused.code == 2
    assert contents(directory) == before


def test_an_empty_directory_is_no_data_directory(replog: Replog, tmp_path: Path) -> None:
    for command in (("snapshot", "list"), ("snapshot", "verify"), ("recover",)):
        assert replog(*command, tmp_path).code == 2
    assert list(tmp_path.iterdir()) == []
