"""A filesystem in memory: `replog.filesystem` without a disk, for tests that open thousands of directories.

It keeps what a disk keeps, names apart from contents: a name points to an inode, an open file holds its inode, and so a rename or a remove
leaves open files usable. It loses nothing; `replog.testing.recording` records what is done to it, and builds from that record what a disk that
does lose may hold.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from threading import Lock as Mutex
from typing import Final

from replog.filesystem import Bytes, File, Lock, LockHeld


class Inode:
    """The contents of a file, whatever it is called."""

    __slots__ = ("content", "number")

    def __init__(self, number: int, content: bytes = b"") -> None:
        self.number = number
        self.content = bytearray(content)

    def write(self, data: Bytes, offset: int) -> None:
        """Put `data` at `offset`; a hole before it becomes zeros."""
        content = self.content
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        """Cut to `size` bytes, or extend with zeros."""
        content = self.content
        if size < len(content):
            del content[size:]
        else:
            content.extend(bytes(size - len(content)))


class MemoryFile:
    """An open file of a `MemoryFileSystem`."""

    __slots__ = ("_closed", "_path", "_writable", "inode")

    def __init__(self, path: str, inode: Inode, *, writable: bool) -> None:
        self._path = path
        self.inode = inode
        self._writable = writable
        self._closed = False

    @property
    def path(self) -> str:
        return self._path

    def pread(self, length: int, offset: int, /) -> bytes:
        self._check()
        return bytes(self.inode.content[offset : offset + length])

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        self._check(writing=True)
        self.inode.write(data, offset)
        return len(data)

    def sync(self) -> None:
        self._check()

    def truncate(self, size: int) -> None:
        self._check(writing=True)
        self.inode.resize(size)

    def allocate(self, size: int) -> None:
        self._check(writing=True)
        if size > len(self.inode.content):
            self.inode.resize(size)

    def drop_cache(self) -> None:
        self._check()

    def size(self) -> int:
        self._check()
        return len(self.inode.content)

    def close(self) -> None:
        self._closed = True

    def _check(self, *, writing: bool = False) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the file is closed", self._path)
        if writing and not self._writable:
            raise OSError(errno.EBADF, "the file is open for reading only", self._path)


class MemoryLock:
    """A lock of a `MemoryFileSystem`."""

    __slots__ = ("_held", "_path")

    def __init__(self, held: set[str], path: str) -> None:
        self._held = held
        self._path = path

    def release(self) -> None:
        self._held.discard(self._path)


MEMORY_PID: Final = 4711
"""The process that `LockHeld` names."""


class MemoryFileSystem:
    """Directories and files in memory, under the contract of `replog.filesystem.FileSystem`. Safe to use from several threads."""

    def __init__(self, files: Mapping[str, bytes] | None = None, directories: Iterable[str] = ()) -> None:
        """With `files` (content by path) in it; their directories, those above them and `directories` exist."""
        self.mutex = Mutex()
        self.inodes: dict[str, Inode] = {}
        self.directories: set[str] = {""}
        self.locks: set[str] = set()
        self._next_number = 0
        for directory in directories:
            self._add_directories(normal(directory))
        for path, content in (files or {}).items():
            self._add_directories(directory_of(normal(path)))
            self.inodes[normal(path)] = self._new_inode(content)

    def files(self) -> dict[str, bytes]:
        """A copy of every file's content by path, in the order of the paths."""
        with self.mutex:
            return {path: bytes(inode.content) for path, inode in sorted(self.inodes.items())}

    def create(self, path: str) -> File:
        with self.mutex:
            name = normal(path)
            self._check_directory(directory_of(name))
            if name in self.inodes or name in self.directories:
                raise FileExistsError(errno.EEXIST, "the name is taken", path)
            inode = self.inodes[name] = self._new_inode(b"")
            return MemoryFile(path, inode, writable=True)

    def open(self, path: str, *, writable: bool = False) -> File:
        with self.mutex:
            return MemoryFile(path, self._inode(path), writable=writable)

    def list(self, directory: str) -> list[str]:
        with self.mutex:
            name = normal(directory)
            self._check_directory(name)
            return sorted(
                path[len(name) :].lstrip("/") for path in (*self.inodes, *self.directories) if path != name and directory_of(path) == name
            )

    def exists(self, path: str) -> bool:
        with self.mutex:
            return normal(path) in self.inodes or normal(path) in self.directories

    def size(self, path: str) -> int:
        with self.mutex:
            return len(self._inode(path).content)

    def make_dirs(self, path: str) -> None:
        with self.mutex:
            self._add_directories(normal(path))

    def sync_dir(self, path: str) -> None:
        with self.mutex:
            self._check_directory(normal(path))

    def rename(self, source: str, target: str) -> None:
        with self.mutex:
            inode = self._inode(source)
            self._check_directory(directory_of(normal(target)))
            del self.inodes[normal(source)]
            self.inodes[normal(target)] = inode

    def remove(self, path: str) -> None:
        with self.mutex:
            self._inode(path)
            del self.inodes[normal(path)]

    def exposure(self, directory: str) -> str:  # noqa: ARG002 - memory has one user
        return ""

    def lock(self, path: str) -> Lock:
        with self.mutex:
            name = normal(path)
            if name in self.locks:
                raise LockHeld(path, MEMORY_PID)
            if name not in self.directories and name not in self.inodes:
                self._check_directory(directory_of(name))
                self.inodes[name] = self._new_inode(b"")
            self.locks.add(name)
            return MemoryLock(self.locks, name)

    def _new_inode(self, content: bytes) -> Inode:
        self._next_number += 1
        return Inode(self._next_number, content)

    def _inode(self, path: str) -> Inode:
        inode = self.inodes.get(normal(path))
        if inode is None:
            if normal(path) in self.directories:
                raise IsADirectoryError(errno.EISDIR, "a directory", path)
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return inode

    def _check_directory(self, name: str) -> None:
        if name in self.inodes:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", name)
        if name not in self.directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", name)

    def _add_directories(self, name: str) -> None:
        while name not in self.directories:
            if name in self.inodes:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", name)
            self.directories.add(name)
            name = directory_of(name)


def normal(path: str) -> str:
    """One spelling for each path: no slash at its ends, none twice."""
    return "/".join(part for part in path.split("/") if part not in {"", "."})


def directory_of(name: str) -> str:
    """The directory that a path in its one spelling is in; the root is the empty string."""
    return name.rpartition("/")[0]
