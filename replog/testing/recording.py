"""A record of everything that is done to a disk, and the directories that a crash may make of it.

`RecordingFileSystem` is a filesystem in memory that writes down every operation, and the marks of the program above it ("this is acknowledged
now"). A crash is a prefix of that record. What a disk may hold then is built from the promises of `replog.filesystem` alone: an operation is
*ordered* once a sync behind it has returned (`sync` of its file for contents, `sync_dir` of its directory for names); until then it is
*pending*, and any of the pending operations, or any sectors of a pending write, may be missing::

    create a | write a 0..100 | sync a | sync_dir . | mark 1 | write a 100..700 | rename b c ||  crash
    ordered    ordered                                         pending            pending

Names point to inodes, so that a rename which survives the create it depends on still brings the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from replog.filesystem import SECTOR_BYTES, Bytes, File, Lock
from replog.testing.memory_files import Inode, MemoryFile, MemoryFileSystem, directory_of, normal


@dataclass(frozen=True, slots=True)
class Created:
    """A new, empty file: a name for a new inode."""

    path: str
    inode: int


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes written to an inode. `path` is the name it was opened by, for people."""

    path: str
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file cut or extended to `size` bytes."""

    path: str
    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Allocated:
    """Blocks given to a file up to `size` bytes."""

    path: str
    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """The contents of an inode are durable from here on."""

    path: str
    inode: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """A name moved to another one; the inode that had it is gone."""

    source: str
    target: str
    inode: int


@dataclass(frozen=True, slots=True)
class Removed:
    """A name removed."""

    path: str


@dataclass(frozen=True, slots=True)
class DirectorySynced:
    """The names in a directory are durable from here on."""

    path: str


@dataclass(frozen=True, slots=True)
class Marked:
    """What the program said at this point: that something begins, or that it is acknowledged."""

    value: object


Operation = Created | Written | Truncated | Allocated | Synced | Renamed | Removed | DirectorySynced | Marked
ContentOperation = Written | Truncated | Allocated
NameOperation = Created | Renamed | Removed


class RecordingFileSystem(MemoryFileSystem):
    """A filesystem in memory that records. `record` grows with each call; what was there at the start is in `base`."""

    def __init__(self, files: Mapping[str, bytes] | None = None, directories: Sequence[str] = ()) -> None:
        super().__init__(files, directories)
        self.record: list[Operation] = []
        self.base: Final = {path: Inode(inode.number, bytes(inode.content)) for path, inode in self.inodes.items()}

    def mark(self, value: object) -> None:
        """Write down what the program says now."""
        self.record.append(Marked(value))

    def create(self, path: str) -> File:
        file = super().create(path)
        assert isinstance(file, MemoryFile)
        self.record.append(Created(normal(path), file.inode.number))
        return RecordingFile(path, file.inode, self.record)

    def open(self, path: str, *, writable: bool = False) -> File:
        file = super().open(path, writable=writable)
        assert isinstance(file, MemoryFile)
        return RecordingFile(path, file.inode, self.record) if writable else file

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self.record.append(Renamed(normal(source), normal(target), self.inodes[normal(target)].number))

    def remove(self, path: str) -> None:
        super().remove(path)
        self.record.append(Removed(normal(path)))

    def sync_dir(self, path: str) -> None:
        super().sync_dir(path)
        self.record.append(DirectorySynced(normal(path)))

    def lock(self, path: str) -> Lock:
        made = not self.exists(path)
        lock = super().lock(path)
        if made:
            self.record.append(Created(normal(path), self.inodes[normal(path)].number))
        return lock


class RecordingFile(MemoryFile):
    """A file whose changes are recorded (in the order in which they return; the list's append is atomic)."""

    __slots__ = ("_record",)

    def __init__(self, path: str, inode: Inode, record: list[Operation]) -> None:
        super().__init__(path, inode, writable=True)
        self._record = record

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        written = super().pwrite(data, offset)
        self._record.append(Written(self._path, self.inode.number, offset, bytes(data)))
        return written

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._record.append(Truncated(self._path, self.inode.number, size))

    def allocate(self, size: int) -> None:
        super().allocate(size)
        self._record.append(Allocated(self._path, self.inode.number, size))

    def sync(self) -> None:
        super().sync()
        self._record.append(Synced(self._path, self.inode.number))


def pending_operations(record: Sequence[Operation], at: int) -> list[int]:
    """The positions in ``record[:at]`` of the operations that no sync orders, ascending."""
    pending: list[int] = []
    synced_inodes: set[int] = set()
    synced_directories: set[str] = set()
    for position in range(at - 1, -1, -1):
        match record[position]:
            case Synced(inode=inode):
                synced_inodes.add(inode)
            case DirectorySynced(path=path):
                synced_directories.add(path)
            case Written(inode=inode) | Truncated(inode=inode) | Allocated(inode=inode):
                if inode not in synced_inodes:
                    pending.append(position)
            case Created(path=path) | Removed(path=path):
                if directory_of(path) not in synced_directories:
                    pending.append(position)
            case Renamed(source=source, target=target):
                if not {directory_of(source), directory_of(target)} <= synced_directories:
                    pending.append(position)
            case Marked():
                pass
    pending.reverse()
    return pending


Tear = Callable[[Inode, Written], None]
"""How a pending write reaches the disk: whole, or what a tear leaves of it."""


class DiskState:
    """Names and contents while a record is applied to them."""

    __slots__ = ("inodes", "names")

    def __init__(self, base: Mapping[str, Inode]) -> None:
        self.names: dict[str, int] = {path: inode.number for path, inode in base.items()}
        self.inodes: dict[int, Inode] = {inode.number: Inode(inode.number, bytes(inode.content)) for inode in base.values()}

    def copy(self) -> DiskState:
        other = DiskState({})
        other.names = dict(self.names)
        other.inodes = {number: Inode(number, bytes(inode.content)) for number, inode in self.inodes.items()}
        return other

    def apply(self, operation: Operation, tear: Tear | None = None) -> None:
        """Do one operation; `tear` does a write instead of it."""
        match operation:
            case Created(path=path, inode=inode):
                self.names[path] = inode
                self.inode(inode)
            case Written(inode=inode, offset=offset, data=data):
                if tear is None:
                    self.inode(inode).write(data, offset)
                else:
                    tear(self.inode(inode), operation)
            case Truncated(inode=inode, size=size):
                self.inode(inode).resize(size)
            case Allocated(inode=inode, size=size):
                if size > len(self.inode(inode).content):
                    self.inode(inode).resize(size)
            case Renamed(source=source, target=target, inode=inode):
                if self.names.get(source) == inode:
                    del self.names[source]
                self.names[target] = self.inode(inode).number
            case Removed(path=path):
                self.names.pop(path, None)
            case Synced() | DirectorySynced() | Marked():
                pass

    def inode(self, number: int) -> Inode:
        """The inode, which is empty where its create has not reached the disk (only names can be lost with it)."""
        return self.inodes.setdefault(number, Inode(number))

    def files(self) -> dict[str, bytes]:
        """Content by path, sorted."""
        return {path: bytes(self.inodes[number].content) for path, number in sorted(self.names.items())}


def pieces_of(write: Written, size: int) -> list[tuple[int, int]]:
    """The parts ``(start, stop)`` of a write's data that lie in different blocks of `size` bytes of the file."""
    pieces = []
    start = 0
    while start < len(write.data):
        stop = min(len(write.data), ((write.offset + start) // size + 1) * size - write.offset)
        pieces.append((start, stop))
        start = stop
    return pieces


def thirds_of(write: Written) -> list[tuple[int, int]]:
    """The three parts of a write, wherever its sectors are (what a disk does not do, but a filesystem in between may)."""
    length = len(write.data)
    cuts = sorted({0, length // 3, 2 * length // 3, length})
    return list(pairwise(cuts))


def sectors_of(write: Written) -> list[tuple[int, int]]:
    """The parts of a write that reach the disk independently of each other."""
    return pieces_of(write, SECTOR_BYTES)
