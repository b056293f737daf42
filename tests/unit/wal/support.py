"""What the tests of the log share: segments as bytes, and filesystems that count, order and hold back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event

from replog import wal
from replog.filesystem import Bytes, File, FileSystem, Lock, OsFileSystem
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, Codec, LengthEncoding, WalOptions, codec_of
from replog.wal.format import Header, encode_header
from replog.wal.segment import segment_name

LIMIT = 1 << 20
SMALL = WalOptions(segment_bytes_max=1024, preallocate_bytes=0, entry_bytes_max=LIMIT, prepare_next=False)
VECTORS = Path(__file__).resolve().parents[4] / "shared" / "wal-vectors"


def codec(encoding: LengthEncoding = LengthEncoding.UINT32, checksum: ChecksumType = ChecksumType.CRC32, limit: int = LIMIT) -> Codec:
    return codec_of(encoding, checksum, limit)


def segment(first: int, datas: Sequence[bytes], behind: bytes = b"", of: Codec | None = None, said_first: int | None = None) -> bytes:
    """A segment's bytes: header, good entries, and whatever stands behind them."""
    of = of or codec()
    header = Header(of.length_encoding, of.checksum_type, first if said_first is None else said_first)
    return encode_header(header) + of.encode_frames(datas)[0] + behind


def path(first: int) -> str:
    return f"log/{segment_name(first)}"


def flipped(content: bytes, offset: int, mask: int = 0x01) -> bytes:
    """`content` with some bits of one byte changed."""
    return content[:offset] + bytes([content[offset] ^ mask]) + content[offset + 1 :]


def new_log(fs: FileSystem, options: WalOptions = SMALL, sync: wal.SyncPolicy | None = None) -> wal.Log:
    """A new, empty log in ``log``, open."""
    wal.create("log", options, fs=fs)
    return wal.open("log", options, sync=sync or wal.NoSync(), fs=fs)


def all_of(log: wal.Log) -> list[bytes]:
    """Every entry, by bulk reads."""
    datas: list[bytes] = []
    while log.first_sequence + len(datas) < log.next_sequence:
        datas += log.read_range(log.first_sequence + len(datas), log.last_sequence, 4096)
    return datas


def reopened(fs: FileSystem, options: WalOptions = SMALL) -> list[bytes]:
    """What the log in ``log`` holds when it is opened again."""
    with wal.open("log", options, sync=wal.NoSync(), fs=fs) as log:
        return all_of(log)


class WatchedFile:
    """A file that tells its filesystem what is done to it."""

    def __init__(self, fs: WatchedFileSystem, file: File) -> None:
        self._fs = fs
        self._file = file
        self._name = file.path

    @property
    def path(self) -> str:
        return self._file.path

    def pread(self, length: int, offset: int, /) -> bytes:
        data = self._file.pread(length, offset)
        self._fs.preads.append((self._name, offset, len(data)))
        return data

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        self._fs.calls.append(("pwrite", self._fs.now_called(self._name)))
        self._fs.dirty.add(self._name)
        if self._fs.take_at_most is not None:
            data = memoryview(data)[: self._fs.take_at_most]
        return self._file.pwrite(data, offset)

    def sync(self) -> None:
        self._fs.calls.append(("sync", self._fs.now_called(self._name)))
        was_dirty = self._name in self._fs.dirty
        self._fs.dirty.discard(self._name)
        self._fs.syncing.set()
        assert self._fs.may_sync.wait(10)
        self._file.sync()
        if was_dirty:
            self._fs.syncs_of_data += 1

    def truncate(self, size: int) -> None:
        self._fs.calls.append(("truncate", self._fs.now_called(self._name)))
        self._fs.dirty.add(self._name)
        self._file.truncate(size)

    def allocate(self, size: int) -> None:
        self._file.allocate(size)

    def drop_cache(self) -> None:
        self._fs.calls.append(("drop_cache", self._fs.now_called(self._name)))
        self._file.drop_cache()

    def size(self) -> int:
        return self._file.size()

    def close(self) -> None:
        self._file.close()


class WatchedFileSystem:
    """Around another one: the calls in their order, which files have unsynced bytes, and a gate that a sync waits at."""

    def __init__(self, inner: FileSystem | None = None) -> None:
        self.inner: FileSystem = inner if inner is not None else MemoryFileSystem()
        self.calls: list[tuple[str, str]] = []
        """(call, path), the path by the file's present name."""
        self.preads: list[tuple[str, int, int]] = []
        """(path, offset, bytes that came)."""
        self.dirty: set[str] = set()
        """Files with bytes that no sync covers, by the name they were opened with."""
        self.syncs_of_data = 0
        self.take_at_most: int | None = None
        """The most bytes that one pwrite takes."""
        self.syncing = Event()
        """Set when a sync begins."""
        self.may_sync = Event()
        """A sync waits for it."""
        self.may_sync.set()
        self._renamed: dict[str, str] = {}

    def now_called(self, name: str) -> str:
        return self._renamed.get(name, name)

    def create(self, path: str) -> File:
        self.calls.append(("create", path))
        self._renamed.pop(path, None)
        return WatchedFile(self, self.inner.create(path))

    def open(self, path: str, *, writable: bool = False) -> File:
        return WatchedFile(self, self.inner.open(path, writable=writable))

    def list(self, directory: str) -> list[str]:
        return self.inner.list(directory)

    def exists(self, path: str) -> bool:
        return self.inner.exists(path)

    def size(self, path: str) -> int:
        return self.inner.size(path)

    def make_dirs(self, path: str) -> None:
        self.inner.make_dirs(path)

    def sync_dir(self, path: str) -> None:
        self.calls.append(("sync_dir", path))
        self.inner.sync_dir(path)

    def rename(self, source: str, target: str) -> None:
        self.calls.append(("rename", target))
        self._renamed[source] = target
        self.inner.rename(source, target)

    def remove(self, path: str) -> None:
        self.calls.append(("remove", path))
        self.inner.remove(path)

    def exposure(self, directory: str) -> str:
        return self.inner.exposure(directory)

    def lock(self, path: str) -> Lock:
        return self.inner.lock(path)


OS = OsFileSystem()
