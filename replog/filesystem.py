"""The whole disk boundary: what replog asks of a filesystem, and how the operating system gives it.

Nothing above this module touches `os`. The protocols are small on purpose, so that a filesystem in memory which loses, tears and
fails on command (`replog.testing`) can stand in for the disk, and the code that is tested is the code that ships.

What is assumed of a disk, and nothing more:

* A **write** reaches the operating system when `pwrite` returns, and the platter at the latest when `sync` has returned. In between a
  power cut may leave any subset of the 512-byte sectors that were written, in any order, and any file size between the old and the new one.
* **Names** (create, rename, remove) are durable once `sync_dir` of their directory has returned; before that each of them may or may
  not have happened, in any order. A `rename` is atomic.
* **truncate** and **allocate** are durable after `sync`; before that each has either happened or not.
* A `sync` that failed says nothing about what is on the disk, and a later one that succeeds says nothing about what the failed one lost.

Paths are `str` with ``/`` between their parts. Errors are `OSError`, passed through; the layers above give them names (`DiskFull` for
ENOSPC, `WalFailed` for the rest).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

Bytes = bytes | bytearray | memoryview
"""What can be written without a copy."""

SECTOR_BYTES: Final = 512
"""The unit in which a disk loses what was not synced."""


class LockHeld(OSError):
    """Another open file description holds the lock. `pid` is its process, None where the system does not tell."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.pid = pid
        super().__init__(errno.EWOULDBLOCK, "locked by another process", path)


class Lock(Protocol):
    """A lock that is held until `release`, or until the process ends, however it ends."""

    def release(self) -> None: ...


class File(Protocol):
    """An open file. Reads and writes name their offset (in the order of `os.pread` and `os.pwrite`): there is no position to fall behind.

    Any thread may call any method; writes that overlap, and `close` beside anything else, are the caller's to keep apart.
    """

    @property
    def path(self) -> str: ...

    def pread(self, length: int, offset: int, /) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        ...

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        """Write `data` at `offset`, growing the file as needed; a hole before it reads as zeros.

        Returns the number of bytes written; fewer than asked means that the device took no more (or that a signal came between): the caller
        asks again for the rest, and learns the reason from the error.
        """
        ...

    def sync(self) -> None:
        """Data sync: when it returns, all that was written before, and the size that is needed to read it, survives a power cut."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes, or extend it with a hole. What is cut and extended again reads as zeros."""
        ...

    def allocate(self, size: int) -> None:
        """Give the file real blocks up to `size` bytes and at least that size; bytes that were not there read as zeros. Never shrinks it.

        Raises OSError(ENOSPC) when there is no room.
        """
        ...

    def drop_cache(self) -> None:
        """Let the next read come from the disk, as far as the system remembers what it does not have to write (a hint; it may ignore it).

        After a sync that failed, Linux goes on showing what was written, but counts it as clean and never writes it.
        """
        ...

    def size(self) -> int: ...

    def close(self) -> None:
        """Give the file back; does not sync. Closing again does nothing."""
        ...


class FileSystem(Protocol):
    """A directory tree. Every method may raise OSError."""

    def create(self, path: str) -> File:
        """A new, empty file, open for reading and writing. Raises FileExistsError when the name is taken."""
        ...

    def open(self, path: str, *, writable: bool = False) -> File:
        """An existing file. Raises FileNotFoundError."""
        ...

    def list(self, directory: str) -> list[str]:
        """The names (not paths) of everything in `directory`, sorted. Raises FileNotFoundError, NotADirectoryError."""
        ...

    def exists(self, path: str) -> bool: ...

    def size(self, path: str) -> int: ...

    def make_dirs(self, path: str) -> None:
        """Create the directory and those above it that are missing, and make their names durable. Does nothing where it exists."""
        ...

    def sync_dir(self, path: str) -> None:
        """Make the names in this directory durable."""
        ...

    def exposure(self, directory: str) -> str:
        """Whose the directory is, and what it is open to, in words, where another user could write in it; empty where none could (but root)."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give the file another name, atomically; a file that had it is gone. Open files stay usable."""
        ...

    def remove(self, path: str) -> None: ...

    def lock(self, path: str) -> Lock:
        """Take the exclusive lock of a directory, or of a file (made where it is missing; the holder's pid is written into it).

        Raises LockHeld at once when it is taken, also by this process.
        """
        ...


def join(directory: str, name: str) -> str:
    """The path of `name` in `directory`."""
    return f"{directory.rstrip('/') or ''}/{name}" if directory else name


def raw_pwrite(file: File) -> tuple[Callable[[Any, Bytes, int], int], Any]:
    """``write, handle``, so that ``write(handle, data, offset)`` is ``file.pwrite(data, offset)``: for a file of the operating system
    the bare system call, where one Python frame less is 5 % of a small append. Not to be called once the file is closed."""
    if isinstance(file, OsFile):
        return os.pwrite, file.descriptor
    return type(file).pwrite, file


class OsFile:
    """A file of the operating system. `pread` and `pwrite` are the bare system calls, bound to the descriptor: one frame less on the hot path."""

    __slots__ = ("_fd", "_path", "pread", "pwrite")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self.pread: Callable[[int, int], bytes] = partial(os.pread, fd)
        self.pwrite: Callable[[Bytes, int], int] = partial(os.pwrite, fd)

    @property
    def path(self) -> str:
        return self._path

    @property
    def descriptor(self) -> int:
        """The open descriptor; -1 once closed."""
        return self._fd

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def allocate(self, size: int) -> None:
        if size > 0:
            os.posix_fallocate(self._fd, 0, size)

    def drop_cache(self) -> None:
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self.pread = partial(_closed_read, self._path)
        self.pwrite = partial(_closed_write, self._path)
        os.close(fd)


def _closed_read(path: str, length: int, offset: int) -> bytes:
    raise OSError(errno.EBADF, f"read of {length} bytes at {offset} from a closed file", path)


def _closed_write(path: str, data: Bytes, offset: int) -> int:
    raise OSError(errno.EBADF, f"write of {len(data)} bytes at {offset} to a closed file", path)


class OsLock:
    """A flock(2), held by a descriptor; the system drops it when the process ends."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class OsFileSystem:
    """The operating system's filesystem (Linux; other POSIX systems as far as they have flock, fdatasync and posix_fallocate)."""

    __slots__ = ()

    def create(self, path: str) -> OsFile:
        return OsFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), path)

    def open(self, path: str, *, writable: bool = False) -> OsFile:
        return OsFile(os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC), path)

    def list(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def make_dirs(self, path: str) -> None:
        missing: list[str] = []
        probe = os.path.abspath(path)
        while not os.path.exists(probe):
            missing.append(probe)
            probe = os.path.dirname(probe)
        if not os.path.isdir(probe):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", probe)
        for directory in reversed(missing):
            os.makedirs(directory, mode=0o755, exist_ok=True)
            self.sync_dir(os.path.dirname(directory))

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def exposure(self, directory: str) -> str:
        status, user = os.stat(directory), os.geteuid()
        if status.st_mode & stat.S_IWOTH:
            return f"every user may write in it (mode {stat.S_IMODE(status.st_mode):04o})"
        if user not in (0, status.st_uid):  # root may have been given another user's directory: a volume, say
            return f"it belongs to user {status.st_uid}, and this process runs as user {user}"
        return ""

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def lock(self, path: str) -> OsLock:
        is_directory = os.path.isdir(path)
        flags = os.O_RDONLY | os.O_DIRECTORY if is_directory else os.O_RDWR | os.O_CREAT
        fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                raise LockHeld(path, _holder(fd, is_directory)) from None
            finally:
                os.close(fd)
        except OSError:
            os.close(fd)
            raise
        if not is_directory:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return OsLock(fd)


def _holder(fd: int, is_directory: bool) -> int | None:
    """The process that holds the flock on this inode: from the lock file where there is one, else from the kernel's table."""
    if not is_directory:
        text = os.pread(fd, 32, 0).strip()
        if text.isdigit():
            return int(text)
    status = os.fstat(fd)
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        table = os.open("/proc/locks", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = b"".join(iter(lambda: os.read(table, 65536), b""))
    except OSError:
        return None
    finally:
        os.close(table)
    for line in text.decode("ascii", "replace").splitlines():
        fields = line.split()  # "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF"; a waiter's line has "->" behind its number
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == inode:
            return int(fields[4]) or None
    return None


OS_FILE_SYSTEM: Final[FileSystem] = OsFileSystem()
"""The one instance that is needed: it has no state."""
