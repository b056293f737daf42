"""The virtual disk is as bad as the protocol allows, and no worse."""

from __future__ import annotations

import errno
from random import Random

import pytest

from replog.filesystem import FileSystem, LockHeld
from replog.testing.disk import PowerCut, VirtualDisk


def new_disk(seed: int = 1) -> VirtualDisk:
    disk = VirtualDisk(Random(seed))
    disk.make_dirs("d")
    return disk


def content(disk: VirtualDisk, path: str) -> bytes:
    return disk.open(path).pread(1 << 20, 0)


def test_it_is_a_filesystem() -> None:
    disk: FileSystem = new_disk()

    file = disk.create("d/a")
    file.pwrite(b"hello", 3)

    assert disk.list("d") == ["a"]
    assert file.pread(100, 0) == b"\0\0\0hello"
    assert disk.size("d/a") == 8
    file.truncate(4)
    file.allocate(6)
    assert file.pread(100, 0) == b"\0\0\0h\0\0"
    disk.rename("d/a", "d/b")
    assert disk.list("d") == ["b"]
    disk.remove("d/b")
    assert not disk.exists("d/b")


def test_what_was_synced_with_its_name_survives() -> None:
    disk = new_disk()
    file = disk.create("d/a")
    file.pwrite(b"x" * 2000, 0)
    file.sync()
    disk.sync_dir("d")

    disk.power_cut(0.0)

    assert content(disk, "d/a") == b"x" * 2000


def test_without_a_sync_of_the_directory_the_name_may_go() -> None:
    disk = new_disk()
    file = disk.create("d/a")
    file.pwrite(b"x", 0)
    file.sync()

    disk.power_cut(0.0)

    assert disk.list("d") == []
    assert disk.names_lost == 1


def test_any_subset_of_the_pending_sectors_may_survive() -> None:
    seen = set()
    for seed in range(60):
        disk = new_disk(seed)
        file = disk.create("d/a")
        file.allocate(3 * 512)
        file.sync()
        disk.sync_dir("d")
        file.pwrite(b"".join(bytes([n]) * 512 for n in (1, 2, 3)), 0)
        disk.power_cut(0.5)
        data = content(disk, "d/a")
        seen.add(tuple(data[n * 512] for n in range(3)))

    assert seen == {(a, b, c) for a in (0, 1) for b in (0, 2) for c in (0, 3)}


def test_a_rename_happens_whole_or_not_at_all() -> None:
    outcomes = set()
    for seed in range(40):
        disk = new_disk(seed)
        for name, data in (("old", b"old"), ("new.tmp", b"new")):
            file = disk.create(f"d/{name}")
            file.pwrite(data, 0)
            file.sync()
        disk.sync_dir("d")
        disk.rename("d/new.tmp", "d/old")
        disk.power_cut(0.5)
        outcomes.add(tuple((name, content(disk, f"d/{name}")) for name in disk.list("d")))

    assert outcomes == {(("new.tmp", b"new"), ("old", b"old")), (("old", b"new"),)}


def test_a_failed_sync_loses_for_good_what_a_later_one_cannot_bring_back() -> None:
    lost = 0
    for seed in range(20):
        disk = new_disk(seed)
        file = disk.create("d/a")
        disk.sync_dir("d")
        file.pwrite(b"x" * 512, 0)
        disk.fail_syncs = 1
        with pytest.raises(OSError, match="failed this sync"):
            file.sync()
        assert file.pread(1, 0) == b"x"
        file.sync()
        disk.power_cut(1.0)
        lost += content(disk, "d/a")[:1] != b"x"

    assert 0 < lost < 20


def test_a_full_disk_takes_what_fits_and_then_says_so() -> None:
    disk = new_disk()
    file = disk.create("d/a")
    disk.room_bytes = 10

    assert file.pwrite(b"x" * 16, 0) == 10
    with pytest.raises(OSError, match="no space") as raised:
        file.pwrite(b"y", 10)
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="no space"):
        file.allocate(100)
    with pytest.raises(OSError, match="no space"):
        disk.create("d/b")
    assert file.pwrite(b"z" * 10, 0) == 10
    disk.remove("d/a")
    assert disk.room_bytes == 10


def test_the_fuse_cuts_the_power_inside_an_operation_and_kills_open_files() -> None:
    disk = new_disk()
    file = disk.create("d/a")
    disk.fuse = 1
    file.pwrite(b"a", 0)
    with pytest.raises(PowerCut):
        file.pwrite(b"b", 1)
    disk.power_cut(0.0)

    with pytest.raises(PowerCut):
        file.pread(1, 0)


def test_a_lock_is_exclusive_and_ends_with_the_power() -> None:
    disk = new_disk()
    lock = disk.lock("d/lock")
    with pytest.raises(LockHeld):
        disk.lock("d/lock")
    disk.power_cut(0.0)

    second = disk.lock("d/lock")
    lock.release()
    with pytest.raises(LockHeld):
        disk.lock("d/lock")
    second.release()
    disk.lock("d/lock")


def test_the_same_seed_gives_the_same_damage() -> None:
    def damaged() -> dict[str, bytes]:
        disk = new_disk(7)
        file = disk.create("d/a")
        disk.sync_dir("d")
        for number in range(20):
            file.pwrite(bytes([number]) * 700, number * 700)
        disk.power_cut()
        return disk.files()

    assert damaged() == damaged()


def test_rot_flips_what_is_stored() -> None:
    disk = new_disk()
    file = disk.create("d/a")
    file.pwrite(b"\0\0", 0)
    file.sync()
    disk.sync_dir("d")

    disk.rot("d/a", 1, 0x10)
    disk.power_cut(0.0)

    assert content(disk, "d/a") == b"\0\x10"
