"""A disk whose switches are turned from outside while the log on it is open."""

import time
from pathlib import Path

import pytest

from cluster.chaos_disk import SWITCHES_FILE, SwitchedFileSystem, switches_path, turn
from replog import wal
from replog.errors import DiskFull, WalFailed
from replog.filesystem import OsFileSystem
from replog.wal import WalOptions


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    path = tmp_path / "n1" / "data"
    path.mkdir(parents=True)
    return str(path)


def open_disk(data_dir: str) -> SwitchedFileSystem:
    return SwitchedFileSystem(OsFileSystem(), switches_path(data_dir))


def test_the_switches_lie_beside_the_data_directory_not_in_it(data_dir: str) -> None:
    assert switches_path(data_dir) == str(Path(data_dir).parent / SWITCHES_FILE)


def test_a_full_disk_lets_nothing_grow_and_has_room_again_when_it_is_turned_back(data_dir: str) -> None:
    disk = open_disk(data_dir)
    file = disk.create(data_dir + "/file")
    file.allocate(100)

    turn(data_dir, {"full": True})
    file.pwrite(b"x" * 100, 0)
    with pytest.raises(OSError, match="No space left"):
        file.pwrite(b"x", 100)
    with pytest.raises(OSError, match="No space left"):
        file.allocate(101)

    turn(data_dir, {})
    assert file.pwrite(b"x", 100) == 1
    file.close()


def append_until_refused(log: wal.Log) -> None:
    for _ in range(20):
        log.append(b"x" * 1000)


def test_a_log_on_it_is_full_by_name_and_goes_on_after_a_reopen(data_dir: str) -> None:
    disk, options = open_disk(data_dir), WalOptions(segment_bytes_max=4096)
    wal.create(data_dir, options, fs=disk)
    log = wal.open(data_dir, options, fs=disk)
    log.append(b"before")

    turn(data_dir, {"full": True})
    with pytest.raises(DiskFull):
        append_until_refused(log)
    log.close()
    turn(data_dir, {})

    with wal.open(data_dir, options, fs=disk) as again:
        assert again.append(b"after") == again.last_sequence


def test_a_failing_disk_ends_the_log_at_its_next_sync(data_dir: str) -> None:
    disk = open_disk(data_dir)
    wal.create(data_dir, fs=disk)
    log = wal.open(data_dir, fs=disk)
    log.append(b"before")

    turn(data_dir, {"failing": True})
    with pytest.raises(WalFailed):
        log.append(b"x")
    log.close()
    turn(data_dir, {})

    with wal.open(data_dir, fs=disk) as again:
        assert again.first_sequence == 0
        again.append(b"after")


def test_a_slow_disk_takes_the_time_it_was_told_for_each_sync(data_dir: str) -> None:
    disk = open_disk(data_dir)
    file = disk.create(data_dir + "/file")

    turn(data_dir, {"sync_seconds": 0.05})
    began = time.monotonic()
    file.sync()
    took = time.monotonic() - began
    turn(data_dir, {})
    began = time.monotonic()
    file.sync()

    assert took >= 0.05
    assert time.monotonic() - began < took
    file.close()
