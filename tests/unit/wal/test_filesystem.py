"""What the disk boundary promises, of the operating system's and of the one in memory alike."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from replog.filesystem import FileSystem, LockHeld, OsFileSystem, join, raw_pwrite
from replog.testing.memory_files import MemoryFileSystem


@pytest.fixture(params=["os", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, str]:
    """A filesystem and a directory in it that is not there yet."""
    return (OsFileSystem(), str(tmp_path / "a" / "b")) if request.param == "os" else (MemoryFileSystem(), "a/b")


def test_a_file_is_written_read_cut_and_extended_by_offsets(disk: tuple[FileSystem, str]) -> None:
    fs, directory = disk
    fs.make_dirs(directory)
    fs.make_dirs(directory)
    file = fs.create(join(directory, "file"))

    assert file.pwrite(b"abc", 2) == 3
    assert file.pread(100, 0) == b"\0\0abc"
    assert file.pread(2, 3) == b"bc"
    assert file.pread(2, 99) == b""
    file.truncate(3)
    file.allocate(6)
    assert (file.size(), file.pread(100, 0)) == (6, b"\0\0a\0\0\0")
    file.allocate(2)
    assert file.size() == 6
    write, handle = raw_pwrite(file)
    assert write(handle, memoryview(b"xy"), 0) == 2
    file.sync()
    file.close()
    file.close()

    with pytest.raises(OSError):  # noqa: PT011 - any of them
        file.pread(1, 0)
    with pytest.raises(OSError):  # noqa: PT011
        file.pwrite(b"x", 0)
    assert fs.open(join(directory, "file")).pread(100, 0) == b"xya\0\0\0"
    assert fs.size(join(directory, "file")) == 6


def test_names_are_made_listed_renamed_and_removed(disk: tuple[FileSystem, str]) -> None:
    fs, directory = disk
    with pytest.raises(FileNotFoundError):
        fs.list(directory)
    fs.make_dirs(directory)
    for name in ("b", "a"):
        fs.create(join(directory, name)).pwrite(name.encode(), 0)

    with pytest.raises(FileExistsError):
        fs.create(join(directory, "a"))
    with pytest.raises(FileNotFoundError):
        fs.open(join(directory, "c"))
    assert fs.list(directory) == ["a", "b"]
    kept = fs.open(join(directory, "b"))
    fs.rename(join(directory, "a"), join(directory, "b"))
    fs.sync_dir(directory)
    assert (fs.list(directory), fs.open(join(directory, "b")).pread(9, 0), kept.pread(9, 0)) == (["b"], b"a", b"b")
    fs.remove(join(directory, "b"))
    assert not fs.exists(join(directory, "b"))
    assert fs.exists(directory)


@pytest.mark.parametrize("of", ["directory", "file"])
def test_a_lock_is_held_once_and_names_its_holder(of: str, disk: tuple[FileSystem, str]) -> None:
    fs, directory = disk
    fs.make_dirs(directory)
    path = directory if of == "directory" else join(directory, "lock")
    first = fs.lock(path)

    with pytest.raises(LockHeld) as caught:
        fs.lock(path)

    if isinstance(fs, OsFileSystem):
        assert caught.value.pid == os.getpid()
    assert caught.value.errno == errno.EWOULDBLOCK
    first.release()
    first.release()
    fs.lock(path).release()


def test_a_file_that_is_open_for_reading_only_is_not_written(disk: tuple[FileSystem, str]) -> None:
    fs, directory = disk
    fs.make_dirs(directory)
    fs.create(join(directory, "file")).close()

    with pytest.raises(OSError):  # noqa: PT011
        fs.open(join(directory, "file")).pwrite(b"x", 0)


def test_a_directory_below_a_file_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(NotADirectoryError):
        OsFileSystem().make_dirs(str(tmp_path / "file" / "below"))


def test_paths_are_joined_with_one_stroke() -> None:
    assert [join("a", "b"), join("a/", "b"), join("/", "b"), join("", "b")] == ["a/b", "a/b", "/b", "b"]
