"""A filesystem that fails on command, around any other one: the n-th call of a kind fails, or a write is short, or the room ends.

A program is run once without a fault to count its calls (`FaultyFileSystem.calls`), and then once for each of them with that call failing.
What must hold each time: the error has a name, nothing is acknowledged behind it, and what was acknowledged before is there after a reopen.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final

from replog.filesystem import Bytes, File, FileSystem, Lock

CALL_KINDS: Final = (
    "create",
    "open",
    "pread",
    "pwrite",
    "sync",
    "truncate",
    "allocate",
    "rename",
    "remove",
    "sync_dir",
    "list",
    "make_dirs",
    "lock",
)
"""The calls that can fail. `size` and `exists` do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One call that fails."""

    kind: str
    """One of `CALL_KINDS`."""
    number: int
    """Which call of that kind, from 0."""
    error: int = errno.EIO
    """The errno."""
    short_bytes: int | None = None
    """pwrite: so many bytes are written and their number is returned, and the *next* write fails. None: nothing is written, the call raises."""
    happens: bool = False
    """Whether the call is carried out before it raises (a sync, rename or remove of which nobody knows whether it reached the disk)."""
    sticky: bool = False
    """Whether all later calls of that kind fail too."""


class FaultyFileSystem:
    """`inner`, with a fault in it, or with room for only so many bytes more."""

    def __init__(self, inner: FileSystem, fault: Fault | None = None, *, room_bytes: int | None = None) -> None:
        if fault is not None and fault.kind not in CALL_KINDS:
            raise ValueError(f"unknown call {fault.kind!r}; one of {', '.join(CALL_KINDS)}")
        self.inner = inner
        self.fault = fault
        self.calls = dict.fromkeys(CALL_KINDS, 0)
        """How often each was called."""
        self.failed = False
        """Whether the fault was met."""
        self.room_bytes = room_bytes
        """What is left; None: no end."""

    def create(self, path: str) -> File:
        self._call("create", path)
        return FaultyFile(self, self.inner.create(path))

    def open(self, path: str, *, writable: bool = False) -> File:
        self._call("open", path)
        return FaultyFile(self, self.inner.open(path, writable=writable))

    def list(self, directory: str) -> list[str]:
        self._call("list", directory)
        return self.inner.list(directory)

    def exists(self, path: str) -> bool:
        return self.inner.exists(path)

    def size(self, path: str) -> int:
        return self.inner.size(path)

    def make_dirs(self, path: str) -> None:
        self._call("make_dirs", path)
        self.inner.make_dirs(path)

    def sync_dir(self, path: str) -> None:
        late = self._call("sync_dir", path)
        self.inner.sync_dir(path)
        if late:
            raise late

    def rename(self, source: str, target: str) -> None:
        late = self._call("rename", source)
        freed = self.inner.size(target) if self.inner.exists(target) else 0
        self.inner.rename(source, target)
        self.take(-freed, target)
        if late:
            raise late

    def remove(self, path: str) -> None:
        late = self._call("remove", path)
        freed = self.inner.size(path)
        self.inner.remove(path)
        self.take(-freed, path)
        if late:
            raise late

    def exposure(self, directory: str) -> str:
        return self.inner.exposure(directory)

    def lock(self, path: str) -> Lock:
        self._call("lock", path)
        return self.inner.lock(path)

    def take(self, count: int, path: str) -> None:
        """Use so many bytes of the room. Raises OSError(ENOSPC) when there are fewer, and takes none."""
        if self.room_bytes is None:
            return
        if count > self.room_bytes:
            self.failed = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        self.room_bytes -= count

    def fails(self, kind: str) -> Fault | None:
        """Count the call; the fault, if this is the one."""
        number = self.calls[kind]
        self.calls[kind] = number + 1
        fault = self.fault
        if fault is None or fault.kind != kind or number < fault.number or (number > fault.number and not fault.sticky):
            return None
        self.failed = True
        return fault

    def _call(self, kind: str, path: str) -> OSError | None:
        """Raises the fault of this call; returns it where the call is to be carried out first."""
        fault = self.fails(kind)
        if fault is None:
            return None
        error = OSError(fault.error, os.strerror(fault.error), path)
        if fault.happens:
            return error
        raise error


class FaultyFile:
    """An open file of a `FaultyFileSystem`."""

    __slots__ = ("_error_next", "_files", "_inner")

    def __init__(self, files: FaultyFileSystem, inner: File) -> None:
        self._files = files
        self._inner = inner
        self._error_next: Fault | None = None

    @property
    def path(self) -> str:
        return self._inner.path

    def pread(self, length: int, offset: int, /) -> bytes:
        self._call("pread")
        return self._inner.pread(length, offset)

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        fault = self._error_next or self._files.fails("pwrite")
        self._error_next = None
        if (
            fault is not None
            and fault.short_bytes is not None
            and fault.short_bytes < len(data)
            and fault.number + 1 == self._files.calls["pwrite"]
        ):
            self._error_next = fault
            self._files.calls["pwrite"] += 1
            return self._write(memoryview(data)[: fault.short_bytes], offset) if fault.short_bytes else 0
        if fault is not None:
            raise OSError(fault.error, os.strerror(fault.error), self.path)
        return self._write(data, offset)

    def sync(self) -> None:
        late = self._call("sync")
        self._inner.sync()
        if late:
            raise late

    def truncate(self, size: int) -> None:
        self._call("truncate")
        self._files.take(size - self._inner.size() if size < self._inner.size() else 0, self.path)
        self._inner.truncate(size)

    def allocate(self, size: int) -> None:
        self._call("allocate")
        self._files.take(max(0, size - self._inner.size()), self.path)
        self._inner.allocate(size)

    def drop_cache(self) -> None:
        self._inner.drop_cache()

    def size(self) -> int:
        return self._inner.size()

    def close(self) -> None:
        self._inner.close()

    def _write(self, data: Bytes, offset: int) -> int:
        """What there is room for; ENOSPC when that is nothing."""
        size, room = self._inner.size(), self._files.room_bytes
        growth = max(0, offset + len(data) - size)
        if room is not None and growth > room:
            # Like a disk: as much as there is room for, and the error only when the rest is asked for.
            count = len(data) - (growth - room)
            if count <= 0 or room == 0:
                self._files.take(growth, self.path)
            self._files.failed = True
            self._files.take(room, self.path)
            return self._inner.pwrite(memoryview(data)[:count], offset)
        self._files.take(growth, self.path)
        return self._inner.pwrite(data, offset)

    def _call(self, kind: str) -> OSError | None:
        fault = self._files.fails(kind)
        if fault is None:
            return None
        error = OSError(fault.error, os.strerror(fault.error), self.path)
        if fault.happens:
            return error
        raise error
