"""A snapshot's body as the file object that a state machine reads or writes, over `replog.filesystem`.

Both have flat memory: what is written is buffered, counted and checksummed as it goes; what is read is read where it is wanted.
"""

from __future__ import annotations

import errno
import io
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from replog.errors import DiskFull, SnapshotDamaged, StorageError, StorageFailed
from replog.filesystem import File
from replog.snapshot.format import HEADER_BYTES_MAX, SnapshotHeader, decode_header

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

BUFFER_BYTES: Final = 1 << 20
SYNC_BYTES: Final = 8 << 20
"""After so many written bytes a sync follows, so that the one at the end is short."""


def storage_error(error: OSError, doing: str) -> StorageError:
    """The named error for what the disk said: DiskFull, or StorageFailed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DiskFull(f"{doing}: no space left") if full else StorageFailed(f"{doing}: {error}")


def write_all(file: File, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data`; a device that takes only a part is asked again, to learn why."""
    view = memoryview(data)
    stalled = False
    while view:
        written = file.pwrite(view, offset)
        if not written and stalled:
            raise OSError(errno.EIO, f"short write: 0 of {len(view)} bytes at offset {offset}", file.path)
        stalled = not written
        view, offset = view[written:], offset + written


class BodySink(io.RawIOBase):
    """Writes a body behind the room for its header. Not seekable; closing it does not close the file."""

    def __init__(self, file: File, offset: int) -> None:
        super().__init__()
        self._file = file
        self._offset = offset
        self._unsynced_bytes = 0
        self.size_bytes = 0
        self.checksum = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        write_all(self._file, view, self._offset + self.size_bytes)
        self.checksum = zlib.crc32(view, self.checksum)
        self.size_bytes += len(view)
        self._unsynced_bytes += len(view)
        if self._unsynced_bytes >= SYNC_BYTES:
            self._file.sync()
            self._unsynced_bytes = 0
        return len(view)


class BodySource(io.RawIOBase):
    """Reads a body; position 0 is its first byte. Closing it closes the file."""

    def __init__(self, file: File, offset: int, size_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._offset = offset
        self._size = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the body")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._file.pread(max(0, min(len(view), self._size - self._position)), self._offset + self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def reader(file: File, header: SnapshotHeader) -> BinaryIO:
    """The body of an open snapshot file, buffered, at its start."""
    source = BodySource(file, header.body_offset, header.meta.size_bytes)
    return cast("BinaryIO", io.BufferedReader(source, BUFFER_BYTES))


def read_header(file: File) -> SnapshotHeader:
    """The header of a snapshot file, and whether the file is as long as it says. Raises `SnapshotDamaged`, OSError."""
    header = decode_header(file.pread(min(file.size(), HEADER_BYTES_MAX), 0), file.path)
    found, expected = file.size(), header.body_offset + header.meta.size_bytes
    if found != expected:
        raise SnapshotDamaged(f"{file.path}: {found} bytes, but header and body are {expected}")
    return header


def checksum_of(file: File, offset: int, size_bytes: int, checksum: int = 0) -> int:
    """CRC-32 of a part of a file, a piece at a time."""
    end = offset + size_bytes
    while offset < end:
        data = file.pread(min(BUFFER_BYTES, end - offset), offset)
        if not data:
            raise SnapshotDamaged(f"{file.path}: ends at {offset}, expected {end}")
        checksum = zlib.crc32(data, checksum)
        offset += len(data)
    return checksum


def verify(file: File) -> SnapshotHeader:
    """Read and check all of a snapshot file. Raises `SnapshotDamaged`, OSError."""
    header = read_header(file)
    found = checksum_of(file, header.body_offset, header.meta.size_bytes)
    if found != header.body_checksum:
        raise SnapshotDamaged(f"{file.path}: checksum of the body is {found:#010x}, the header says {header.body_checksum:#010x}")
    return header
