"""A disk that loses what was not synced, tears what was being written, fills up, fails and rots, on command.

It implements `replog.filesystem.FileSystem` under exactly the assumptions written there. Of each file it keeps two contents: what the operating
system shows (`_Inode.content`) and what the platter holds (`_Inode.durable`), and between them the pending operations in order; of names likewise::

    pwrite ──> content ──────────────── reads
       └─────> pending ── sync ──> durable
                  └── power cut: any subset of the pending 512-byte sectors, truncations and names becomes durable, the rest is gone

A sync that fails makes some of the pending operations durable and forgets all of them: what it lost still shows until the next power cut, and a
later sync that succeeds does not bring it back (the behaviour of Linux since 4.13, known as fsyncgate). Whatever is drawn, is drawn from the `random`
given: the same seed, the same damage.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import Final

from replog.filesystem import SECTOR_BYTES, Bytes, File, Lock, LockHeld
from replog.testing.memory_files import directory_of, normal

Paths = list[str]
LOCK_PID: Final = 4711
"""The process that `LockHeld` names."""


class PowerCut(BaseException):
    """The machine lost power inside a call to the disk. Not an `Exception`: production code must not see it."""


class _Inode:
    """Contents of a file apart from its names. `pending` has (offset, data) for a write, (size, None) for a new size."""

    __slots__ = ("content", "durable", "pending")

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = bytearray(content)
        self.pending: list[tuple[int, bytes | None]] = []

    def settle(self) -> None:
        """All that is pending reaches the platter."""
        for offset, data in self.pending:
            _put(self.durable, offset, data)
        self.pending.clear()

    def lose(self, random: Random, keep: float) -> int:
        """Each pending sector or change of size reaches the platter with probability `keep`; returns how many did not."""
        lost = 0
        for offset, data in self.pending:
            if data is None:
                if random.random() < keep:
                    _put(self.durable, offset, None)
                else:
                    lost += 1
                continue
            start = 0
            while start < len(data):
                end = min(len(data), SECTOR_BYTES - (offset + start) % SECTOR_BYTES + start)
                if random.random() < keep:
                    _put(self.durable, offset + start, data[start:end])
                else:
                    lost += 1
                start = end
        self.pending.clear()
        return lost


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write `data` at `offset` (a hole before it becomes zeros), or with None make `offset` the size."""
    size = len(content)
    if data is None:
        if offset < size:
            del content[offset:]
        else:
            content.extend(bytes(offset - size))
        return
    if offset > size:
        content.extend(bytes(offset - size))
    content[offset : offset + len(data)] = data


class VirtualFile:
    """An open file of a `VirtualDisk`; dead after a power cut."""

    __slots__ = ("_boot", "_closed", "_disk", "_inode", "_path", "_writable")

    def __init__(self, disk: VirtualDisk, path: str, inode: _Inode, *, writable: bool) -> None:
        self._disk, self._path, self._inode, self._writable = disk, path, inode, writable
        self._boot = disk.boots
        self._closed = False

    @property
    def path(self) -> str:
        return self._path

    def pread(self, length: int, offset: int, /) -> bytes:
        self._check()
        return bytes(self._inode.content[offset : offset + length])

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        self._check(writing=True)
        disk, inode = self._disk, self._inode
        disk.step("write", self._path)
        written = len(data)
        growth = offset + written - len(inode.content)
        if growth > 0 and disk.room_bytes is not None:
            if growth > disk.room_bytes:
                written -= growth - max(0, disk.room_bytes)
                if written <= 0:
                    raise OSError(errno.ENOSPC, "no space left on the virtual disk", self._path)
                growth = offset + written - len(inode.content)
            disk.room_bytes -= max(0, growth)
        copied = bytes(data[:written])
        _put(inode.content, offset, copied)
        inode.pending.append((offset, copied))
        disk.bytes_written += written
        return written

    def sync(self) -> None:
        self._check()
        disk = self._disk
        disk.step("sync", self._path)
        disk.syncs += 1
        if disk.fail_syncs > 0:
            disk.fail_syncs -= 1
            disk.sync_errors += 1
            self._inode.lose(disk.random, 0.5)
            raise OSError(errno.EIO, "the virtual disk failed this sync", self._path)
        self._inode.settle()

    def truncate(self, size: int) -> None:
        self._check(writing=True)
        self._disk.step("truncate", self._path)
        self._resize(size)

    def allocate(self, size: int) -> None:
        self._check(writing=True)
        disk = self._disk
        disk.step("allocate", self._path)
        growth = size - len(self._inode.content)
        if growth <= 0:
            return
        if disk.room_bytes is not None and growth > disk.room_bytes:
            raise OSError(errno.ENOSPC, "no space left on the virtual disk", self._path)
        self._resize(size)

    def drop_cache(self) -> None:
        """Show what is on the platter and what is still to be written, and no longer what a failed sync lost."""
        self._check()
        inode = self._inode
        inode.content = bytearray(inode.durable)
        for offset, data in inode.pending:
            _put(inode.content, offset, data)

    def _resize(self, size: int) -> None:
        if self._disk.room_bytes is not None:
            self._disk.room_bytes -= size - len(self._inode.content)
        _put(self._inode.content, size, None)
        self._inode.pending.append((size, None))

    def size(self) -> int:
        self._check()
        return len(self._inode.content)

    def close(self) -> None:
        self._closed = True

    def _check(self, *, writing: bool = False) -> None:
        if self._boot != self._disk.boots:
            raise PowerCut
        if self._closed:
            raise OSError(errno.EBADF, "the file is closed", self._path)
        if writing and not self._writable:
            raise OSError(errno.EBADF, "the file is open for reading only", self._path)


class _VirtualLock:
    __slots__ = ("_boot", "_disk", "_name")

    def __init__(self, disk: VirtualDisk, name: str) -> None:
        self._disk, self._name, self._boot = disk, name, disk.boots

    def release(self) -> None:
        if self._boot == self._disk.boots:
            self._disk.locks.discard(self._name)


class VirtualDisk:
    """One machine's disk. Faults are set by assigning to the public fields; they hold until set otherwise."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.boots = 0
        """Power cuts so far; files opened before the last one are dead."""
        self.locks: set[str] = set()
        self.room_bytes: int | None = None
        """Bytes until the disk is full; None: endless."""
        self.fail_syncs = 0
        """So many of the next syncs fail, each losing some of what was pending."""
        self.fail_writes = 0
        """So many of the next writes and creates fail with EIO, nothing of them done."""
        self.fuse: int | None = None
        """Operations until the power goes: 0 cuts at the next one."""
        self.on_step: Callable[[str, str], None] | None = None
        self.syncs = self.sync_errors = self.write_errors = self.bytes_written = 0
        self.sectors_lost = self.names_lost = self.bytes_rotten = 0
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._pending_names: list[tuple[str, str, str, _Inode]] = []
        """(directory, source or "", target or "", inode): a rename, a create (no source) or a remove (no target)."""
        self._directories: set[str] = {""}

    # -- the protocol of replog.filesystem --------------------------------------------------------------------------------

    def create(self, path: str) -> File:
        name = normal(path)
        self._check_directory(directory_of(name))
        if name in self._names or name in self._directories:
            raise FileExistsError(errno.EEXIST, "the name is taken", path)
        self.step("create", path)
        if self.room_bytes is not None and self.room_bytes <= 0:
            raise OSError(errno.ENOSPC, "no space left on the virtual disk", path)
        inode = self._names[name] = _Inode()
        self._pending_names.append((directory_of(name), "", name, inode))
        return VirtualFile(self, path, inode, writable=True)

    def open(self, path: str, *, writable: bool = False) -> File:
        return VirtualFile(self, path, self._inode(path), writable=writable)

    def list(self, directory: str) -> list[str]:
        name = normal(directory)
        self._check_directory(name)
        return sorted(
            path[len(name) :].lstrip("/") for path in (*self._names, *self._directories) if path != name and directory_of(path) == name
        )

    def exists(self, path: str) -> bool:
        return normal(path) in self._names or normal(path) in self._directories

    def size(self, path: str) -> int:
        return len(self._inode(path).content)

    def make_dirs(self, path: str) -> None:
        name = normal(path)
        while name not in self._directories:
            if name in self._names:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", name)
            self._directories.add(name)
            name = directory_of(name)

    def sync_dir(self, path: str) -> None:
        name = normal(path)
        self._check_directory(name)
        self.step("sync_dir", path)
        kept = []
        for change in self._pending_names:
            if change[0] == name:
                self._settle_name(change)
            else:
                kept.append(change)
        self._pending_names = kept

    def rename(self, source: str, target: str) -> None:
        old, new = normal(source), normal(target)
        inode = self._inode(source)
        self._check_directory(directory_of(new))
        self.step("rename", source)
        del self._names[old]
        self._free(self._names.get(new))
        self._names[new] = inode
        self._pending_names.append((directory_of(new), old, new, inode))

    def remove(self, path: str) -> None:
        name = normal(path)
        inode = self._inode(path)
        self.step("remove", path)
        del self._names[name]
        self._free(inode)
        self._pending_names.append((directory_of(name), name, "", inode))

    def exposure(self, directory: str) -> str:  # noqa: ARG002 - a virtual disk has one user
        return ""

    def lock(self, path: str) -> Lock:
        name = normal(path)
        if name in self.locks:
            raise LockHeld(path, LOCK_PID)
        if name not in self._directories and name not in self._names:
            self._check_directory(directory_of(name))
            self._names[name] = _Inode()
        self.locks.add(name)
        return _VirtualLock(self, name)

    # -- faults ---------------------------------------------------------------------------------------------------------

    def step(self, operation: str, path: str) -> None:
        """Every operation that changes the disk begins here: the power may go, the device may refuse."""
        if self.fuse is not None:
            if self.fuse <= 0:
                self.fuse = None
                raise PowerCut
            self.fuse -= 1
        if self.on_step is not None:
            self.on_step(operation, path)
        if self.fail_writes > 0 and operation in ("write", "create", "allocate"):
            self.fail_writes -= 1
            self.write_errors += 1
            raise OSError(errno.EIO, "the virtual disk failed this operation", path)

    def power_cut(self, keep: float | None = None) -> int:
        """Lose power. Each pending sector, size and name survives with probability `keep` (None: all, none or an even mix, as drawn). Returns how
        many pending things were lost."""
        if keep is None:
            keep = self.random.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        lost = 0
        for change in self._pending_names:
            if self.random.random() < keep:
                self._settle_name(change)
            else:
                self.names_lost += 1
                lost += 1
        self._pending_names.clear()
        inodes = {id(inode): inode for inode in (*self._names.values(), *self._durable_names.values())}
        for inode in inodes.values():
            if inode.pending:
                sectors = inode.lose(self.random, keep)
                self.sectors_lost += sectors
                lost += sectors
        self._names = dict(self._durable_names)
        for inode in self._names.values():
            if inode.content != inode.durable:
                inode.content = bytearray(inode.durable)
        self.boots += 1
        self.locks.clear()
        self.fuse = None
        self.fail_syncs = self.fail_writes = 0
        return lost

    def process_exit(self) -> None:
        """The process ends, the machine goes on: nothing is lost, its open files and locks are gone."""
        self.boots += 1
        self.locks.clear()
        self.fuse = None

    def rot(self, path: str, offset: int, flip: int) -> None:
        """Flip bits of one byte, on the platter and in what is shown."""
        inode = self._inode(path)
        for content in (inode.content, inode.durable):
            if offset < len(content):
                content[offset] ^= flip
        self.bytes_rotten += 1

    def wipe(self) -> None:
        """A new, empty disk in its place."""
        self.boots += 1
        self._names.clear()
        self._durable_names.clear()
        self._pending_names.clear()
        self._directories = {""}
        self.locks.clear()
        self.room_bytes = self.fuse = None
        self.fail_syncs = self.fail_writes = 0

    # -- looking at it ----------------------------------------------------------------------------------------------------

    def paths(self) -> Paths:
        """Every file that is shown, sorted."""
        return sorted(self._names)

    def files(self) -> dict[str, bytes]:
        """Content of every file as shown, by path."""
        return {path: bytes(self._names[path].content) for path in self.paths()}

    def pending(self, under: str = "") -> Paths:
        """Files under a directory with contents or names that a power cut may still lose."""
        prefix = normal(under)
        dirty = {path for path, inode in self._names.items() if inode.pending}
        dirty |= {source or target for _, source, target, _ in self._pending_names}
        return sorted(path for path in dirty if path.startswith(prefix))

    # -- inside -----------------------------------------------------------------------------------------------------------

    def _settle_name(self, change: tuple[str, str, str, _Inode]) -> None:
        _, source, target, inode = change
        if source:
            self._durable_names.pop(source, None)
        if target:
            self._durable_names[target] = inode

    def _free(self, inode: _Inode | None) -> None:
        if inode is not None and self.room_bytes is not None:
            self.room_bytes += len(inode.content)

    def _inode(self, path: str) -> _Inode:
        name = normal(path)
        inode = self._names.get(name)
        if inode is None:
            if name in self._directories:
                raise IsADirectoryError(errno.EISDIR, "a directory", path)
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return inode

    def _check_directory(self, name: str) -> None:
        if name in self._names:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", name)
        if name not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", name)
