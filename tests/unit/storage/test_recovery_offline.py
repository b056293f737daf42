"""Recovery of a cluster that lost its quorum: planned in words, executed to the letter, safe to interrupt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from replog.codec import encode_membership
from replog.errors import CommittedEntriesLost, ConfigError, DirectoryLocked, HardStateDamaged, ReplogError, UnknownNode, WalDamaged
from replog.filesystem import FileSystem
from replog.storage.disk import DiskStorage
from replog.storage.interface import Write
from replog.storage.recovery_offline import execute_lost_quorum_recovery, plan_lost_quorum_recovery
from replog.testing.enumerator import Image, Mark, enumerate_crashes
from replog.testing.memory_files import MemoryFileSystem
from replog.testing.storage_script import open_storage
from replog.testing.storage_suite import CLUSTER, CODEC, NODE, VOTERS, BodyWriter, append, expected, read_all
from replog.types import EntryKind, HardState, Member, Membership, SnapshotMeta


def survivor(*, snapshot: bool = True, membership: bool = True) -> MemoryFileSystem:
    """The directory of a stopped node: membership at 1, entries to 150, snapshot at 100."""
    files = MemoryFileSystem(directories=["data"])
    storage = open_storage(files)
    storage.persist(Write(hard_state=HardState(term=4, vote="n2")))
    kind = EntryKind.MEMBERSHIP if membership else EntryKind.NO_OP
    storage.persist(Write(frames=(CODEC.encode(1, 1, kind, [encode_membership(VOTERS) if membership else b""]),)))
    append(storage, 2, 149)
    if snapshot:
        storage.write_snapshot(SnapshotMeta(index=100, term=1, membership=VOTERS), BodyWriter(b"state"))
    storage.close()
    return files


def test_the_plan_names_what_is_certain_kept_and_lost_and_changes_nothing() -> None:
    files = survivor()
    before = files.files()

    plan = plan_lost_quorum_recovery("data", fs=files)

    assert files.files() == before
    assert (plan.cluster_id, plan.node_id, plan.address, plan.epoch, plan.term) == ("suite", "n1", "h1:1", 1, 5)
    assert (plan.committed_at_least, plan.uncertain, plan.last_index, plan.last_term) == (100, (101, 150), 150, 1)
    assert plan.lost_nodes == ("n2",)
    words = plan.describe()
    assert "entries 101 to 150 become committed" in words
    assert "behind index 150" in words
    assert "n2" in words
    assert json.loads(json.dumps(plan.as_dict()))["uncertain"] == [101, 150]


def test_the_node_becomes_a_cluster_of_its_own_in_a_new_epoch() -> None:
    files = survivor()
    plan = plan_lost_quorum_recovery("data", address="new:1", fs=files)

    done = execute_lost_quorum_recovery(plan, fs=files)

    storage = open_storage(files)
    found = storage.recovered
    alone = Membership(voters=("n1",), members={"n1": Member(address="new:1", incarnation=77)}, epoch=1)
    assert done.membership == alone
    assert (done.index, done.term) == (151, 5)
    assert found.hard_state == HardState(term=5, vote="n1")
    assert found.memberships == ((1, VOTERS), (151, alone))
    assert found.last_index == 151
    assert read_all(storage)[1:150] == expected(2, 150)
    assert storage.hard_state.epoch == 1
    storage.close()
    assert plan_lost_quorum_recovery("data", fs=files).epoch == 2


def test_without_a_known_membership_the_address_is_asked_for() -> None:
    files = survivor(snapshot=False, membership=False)

    with pytest.raises(UnknownNode):
        plan_lost_quorum_recovery("data", fs=files)
    plan = plan_lost_quorum_recovery("data", address="h:1", fs=files)
    assert (plan.committed_at_least, plan.uncertain, plan.lost_nodes) == (0, (1, 150), ())
    with pytest.raises(ConfigError, match="address"):
        plan_lost_quorum_recovery("data", address="nonsense", fs=files)


def test_the_membership_of_a_snapshot_counts_when_the_log_has_none() -> None:
    assert plan_lost_quorum_recovery("data", fs=survivor(membership=False)).former == VOTERS


def test_a_node_that_is_no_member_is_refused() -> None:
    files = survivor()
    storage = open_storage(files)
    others = Membership(voters=("n2",), members={"n2": Member(address="h2:1")})
    storage.persist(Write(frames=(CODEC.encode(151, 4, EntryKind.MEMBERSHIP, [encode_membership(others)]),)))
    storage.close()

    with pytest.raises(UnknownNode, match="n2"):
        plan_lost_quorum_recovery("data", fs=files)


def test_a_running_node_is_refused() -> None:
    files = survivor()
    storage = open_storage(files)

    with pytest.raises(DirectoryLocked):
        plan_lost_quorum_recovery("data", fs=files)
    storage.close()


def test_a_directory_that_went_on_since_the_plan_is_refused() -> None:
    files = survivor()
    plan = plan_lost_quorum_recovery("data", fs=files)
    storage = open_storage(files)
    append(storage, 151, 1, 4)
    storage.close()

    with pytest.raises(CommittedEntriesLost, match="plan again"):
        execute_lost_quorum_recovery(plan, fs=files)


def test_damage_is_refused_here_too() -> None:
    files = survivor()
    contents = files.files()
    last = [path for path in contents if path.endswith(".wal")][-1]
    flipped = bytearray(contents[last])
    flipped[200] ^= 1

    with pytest.raises(WalDamaged):
        plan_lost_quorum_recovery("data", fs=MemoryFileSystem({**contents, last: bytes(flipped)}))
    with pytest.raises(CommittedEntriesLost):
        plan_lost_quorum_recovery("data", fs=MemoryFileSystem({path: content for path, content in contents.items() if path != last}))
    with pytest.raises(HardStateDamaged):
        plan_lost_quorum_recovery("data", fs=MemoryFileSystem({**contents, "data/hard_state": b"x"}))


def test_another_encoding_is_kept() -> None:
    cluster = replace(CLUSTER, length_encoding="uvarint", checksum_type="crc64")
    files = MemoryFileSystem(directories=["data"])
    DiskStorage.open("data", cluster, NODE, files, prepare_segments=False).close()

    execute_lost_quorum_recovery(plan_lost_quorum_recovery("data", address="h:1", fs=files), fs=files)

    storage = DiskStorage.open("data", cluster, NODE, files, prepare_segments=False)
    assert storage.recovered.memberships[0][1].voters == ("n1",)


@pytest.mark.slow
def test_a_crash_inside_the_recovery_leaves_a_directory_to_plan_again() -> None:
    def run(files: FileSystem, mark: Mark) -> None:
        execute_lost_quorum_recovery(plan_lost_quorum_recovery("data", fs=files), fs=files)
        mark("done")

    def check(image: Image, marks: Sequence[object]) -> bool:
        files = image.open()
        try:
            plan = plan_lost_quorum_recovery("data", fs=files)
            if marks or plan.former != VOTERS:
                assert plan.former.voters == ("n1",)
                assert plan.former.epoch == 1
            else:
                assert plan.epoch == 1
                assert plan.last_index == 150
            execute_lost_quorum_recovery(plan, fs=files)
        except ReplogError:
            return False
        return open_storage(files).recovered.memberships[-1][1].voters == ("n1",)

    coverage = enumerate_crashes(run, check, base=survivor(), random_per_prefix=4, seed=1)

    assert coverage.opened > 20
