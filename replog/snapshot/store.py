"""The snapshots in one directory: written, verified, kept, given away and taken in.

A snapshot is written beside its name and gets it when it is whole: ``.snap.tmp``, sync, rename, directory sync. So a file with a snapshot's name
is complete, and one that does not verify has rotted. Such a one is put aside (``.damaged``), never used and never removed; the one before it is the
way back, which is why more than one is kept.

Writing a snapshot may take long and runs in its own thread beside everything else; the list of snapshots has a lock, which is never held while a file
is read or written. Removing a file that somebody reads does not disturb the reader: an open file outlives its name.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import BinaryIO, Final, cast

from replog.errors import SnapshotDamaged
from replog.filesystem import File, FileSystem, join
from replog.snapshot.arrivals import Arrivals
from replog.snapshot.files import BUFFER_BYTES, SYNC_BYTES, BodySink, read_header, reader, storage_error, verify, write_all
from replog.snapshot.format import (
    DAMAGED_SUFFIX,
    SnapshotHeader,
    encode_header,
    header_bytes,
    is_temporary_name,
    parse_snapshot_name,
    snapshot_name,
)
from replog.types import Index, SnapshotMeta, SnapshotWriter, Term

_IMPORT_CHUNK_BYTES: Final = 1 << 20


class SnapshotStore:
    """The snapshots of one node. Made by `open`. Errors: SnapshotDamaged, DiskFull, StorageFailed; none of them ends the store."""

    def __init__(self, fs: FileSystem, directory: str, retained: int, arrivals: Arrivals) -> None:
        """Use `open`."""
        assert retained >= 1
        self.directory: Final = directory
        self.damaged: list[SnapshotDamaged] = []
        """Why files were put aside, in the order in which they were found."""
        self._fs = fs
        self._retained = retained
        self._arrivals = arrivals
        self._lock = Lock()
        self._headers: dict[tuple[Index, Term], SnapshotHeader] = {}
        """By (index, term), ascending."""
        self._verified: set[tuple[Index, Term]] = set()

    @classmethod
    def open(cls, fs: FileSystem, directory: str, retained: int, *, sync_bytes: int = SYNC_BYTES) -> SnapshotStore:
        """Clear away what a crash has left unfinished and find the newest snapshot that verifies. The caller holds the node's lock."""
        store = cls(fs, directory, retained, Arrivals(fs, directory, sync_bytes=sync_bytes))
        try:
            fs.make_dirs(directory)
            names = fs.list(directory)
            for name in names:
                if is_temporary_name(name):
                    fs.remove(join(directory, name))
            store._load(names)
            store._arrivals.resume(names, store.newest())
            fs.sync_dir(directory)  # a snapshot that was renamed into place just before the process died counts from here on
        except OSError as error:
            raise storage_error(error, f"{directory}: opening the snapshots") from error
        return store

    def _load(self, names: list[str]) -> None:
        """Read all headers, and the bodies from the newest on until one is good."""
        found_newest = False
        for key in sorted((key for name in names if (key := parse_snapshot_name(name)) is not None), reverse=True):
            header = self._inspect(key, read_header if found_newest else verify)
            if header is None:
                continue
            self._headers[key] = header
            if not found_newest:
                found_newest = True
                self._verified.add(key)
        self._headers = dict(sorted(self._headers.items()))
        self._retain()

    def _inspect(self, key: tuple[Index, Term], check: Callable[[File], SnapshotHeader]) -> SnapshotHeader | None:
        """The header of a snapshot that passes `check`; one that does not is put aside."""
        path = self._path(key)
        file = self._fs.open(path)
        try:
            header = check(file)
            _check_name(header.meta, path, key)
        except SnapshotDamaged as error:
            self.damaged.append(error)
            self._fs.rename(path, path + DAMAGED_SUFFIX)
            self._fs.sync_dir(self.directory)
            return None
        finally:
            file.close()
        return header

    def _path(self, key: tuple[Index, Term]) -> str:
        return join(self.directory, snapshot_name(*key))

    # -- what is here ------------------------------------------------------------------------------------------------

    def all(self) -> tuple[SnapshotMeta, ...]:
        """Every snapshot, oldest first; of the older ones only the header has been verified."""
        with self._lock:
            return tuple(header.meta for header in self._headers.values())

    def newest(self) -> SnapshotMeta | None:
        with self._lock:
            return next(reversed(self._headers.values())).meta if self._headers else None

    def _header(self, meta: SnapshotMeta) -> SnapshotHeader:
        with self._lock:
            header = self._headers.get((meta.index, meta.term))
        if header is None:
            raise SnapshotDamaged(f"{self._path((meta.index, meta.term))}: not here")
        return header

    def checksum(self, meta: SnapshotMeta) -> int:
        """CRC-32 of the body, from the header."""
        return self._header(meta).body_checksum

    def open_body(self, meta: SnapshotMeta) -> BinaryIO:
        """The body, verified once in each life of the store, at its start. The reader closes it."""
        key = (meta.index, meta.term)
        header = self._header(meta)
        path = self._path(key)
        try:
            file = self._fs.open(path)
        except FileNotFoundError:
            raise SnapshotDamaged(f"{path}: not here") from None
        except OSError as error:
            raise storage_error(error, f"{path}: opening the snapshot") from error
        try:
            if key not in self._verified:
                verify(file)
                self._verified.add(key)
        except OSError as error:
            file.close()
            raise storage_error(error, f"{path}: verifying the snapshot") from error
        except SnapshotDamaged as error:
            file.close()
            self.damaged.append(error)
            raise
        return reader(file, header)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, meta: SnapshotMeta, writer: SnapshotWriter) -> SnapshotMeta:
        """Write a snapshot, keep the newest ones; returns `meta` with the size. An error of `writer` comes through; nothing is left of the file then."""
        key = (meta.index, meta.term)
        path = self._path(key)
        temporary = path + ".tmp"
        try:
            if self._fs.exists(temporary):
                self._fs.remove(temporary)
            file = self._fs.create(temporary)
            try:
                header = self._fill(file, meta, writer)
            except BaseException:
                file.close()
                with suppress(OSError):  # removed at the next open too
                    self._fs.remove(temporary)
                raise
            file.close()
            self._publish(temporary, header)
        except OSError as error:
            raise storage_error(error, f"{path}: writing the snapshot") from error
        return header.meta

    def _fill(self, file: File, meta: SnapshotMeta, writer: SnapshotWriter) -> SnapshotHeader:
        """The body behind the room for the header, then the header, then the sync."""
        offset = header_bytes(meta)
        write_all(file, bytes(offset), 0)
        sink = BodySink(file, offset)
        with io.BufferedWriter(sink, BUFFER_BYTES) as buffered:
            writer.write(cast("BinaryIO", buffered))
        written = replace(meta, size_bytes=sink.size_bytes)
        head = encode_header(written, sink.checksum)
        assert len(head) == offset
        write_all(file, head, 0)
        file.sync()
        return SnapshotHeader(written, sink.checksum, offset)

    def _publish(self, path: str, header: SnapshotHeader) -> None:
        """Give a whole, synced file its name, and let the oldest go."""
        key = (header.meta.index, header.meta.term)
        self._fs.rename(path, self._path(key))
        self._fs.sync_dir(self.directory)
        with self._lock:
            self._headers[key] = header
            self._headers = dict(sorted(self._headers.items()))
            self._verified.add(key)
        self._retain()

    def _retain(self) -> None:
        """Remove all but the newest snapshots. One that cannot be removed now is tried again after the next."""
        with self._lock:
            surplus = list(self._headers)[: -self._retained]
        for key in surplus:
            with suppress(OSError):
                if self._fs.exists(self._path(key)):
                    self._fs.remove(self._path(key))
                with self._lock:
                    self._headers.pop(key, None)
                    self._verified.discard(key)

    # -- from elsewhere ----------------------------------------------------------------------------------------------

    def receive(self, meta: SnapshotMeta, offset: int, data: bytes, *, checksum: int, body_checksum: int, done: bool) -> tuple[int, bool]:
        """A chunk from another node; see `Storage.receive_chunk`."""
        return self._arrivals.receive(meta, offset, data, checksum=checksum, body_checksum=body_checksum, done=done, newest=self.newest())

    def install(self, meta: SnapshotMeta) -> SnapshotMeta:
        """The snapshot that has arrived becomes the newest one; durable on return."""
        header = self._arrivals.take()
        assert (header.meta.index, header.meta.term) == (meta.index, meta.term)
        try:
            self._publish(self._arrivals.path, header)
        except OSError as error:
            raise storage_error(error, f"{self._path((meta.index, meta.term))}: installing the snapshot") from error
        self._arrivals.forget()
        return header.meta

    def import_file(self, path: str) -> SnapshotMeta:
        """Take in a file that `export` has written, as if it had arrived from another node; it still has to be installed.

        Raises SnapshotDamaged, MalformedMessage when it is not newer than what is here.
        """
        try:
            file = self._fs.open(path)
        except OSError as error:
            raise storage_error(error, f"{path}: opening the snapshot") from error
        try:
            header = verify(file)
            meta, offset, complete = header.meta, 0, False
            while not complete:
                length = min(_IMPORT_CHUNK_BYTES, meta.size_bytes - offset)
                data = file.pread(length, header.body_offset + offset)
                offset, complete = self.receive(
                    meta,
                    offset,
                    data,
                    checksum=zlib.crc32(data),
                    body_checksum=header.body_checksum,
                    done=offset + length == meta.size_bytes,
                )
        except OSError as error:
            raise storage_error(error, f"{path}: importing the snapshot") from error
        finally:
            file.close()
        return meta

    def export(self, meta: SnapshotMeta, path: str) -> None:
        """Write a verified copy of the snapshot to `path`, which must not exist; durable on return."""
        temporary = path + ".tmp"
        try:
            if self._fs.exists(path):
                raise FileExistsError(f"the file exists: {path}")
            with self.open_body(meta) as body:
                target = self._fs.create(temporary)
                try:
                    head = encode_header(self._header(meta).meta, self.checksum(meta))
                    write_all(target, head, 0)
                    offset = len(head)
                    while data := body.read(BUFFER_BYTES):
                        write_all(target, data, offset)
                        offset += len(data)
                    target.sync()
                finally:
                    target.close()
            self._fs.rename(temporary, path)
            self._fs.sync_dir(path.rpartition("/")[0] or ".")
        except OSError as error:
            raise storage_error(error, f"{path}: exporting the snapshot") from error

    def close(self) -> None:
        """Nothing is lost by not closing; an arriving snapshot is resumed in the next life."""
        self._arrivals.close()


def _check_name(meta: SnapshotMeta, path: str, key: tuple[Index, Term]) -> None:
    if (meta.index, meta.term) != key:
        raise SnapshotDamaged(f"{path}: the header says {meta.index}-{meta.term}")


def verify_file(fs: FileSystem, path: str) -> SnapshotHeader:
    """Read and check a snapshot file anywhere. Raises SnapshotDamaged, StorageFailed when it cannot be read."""
    try:
        file = fs.open(path)
        try:
            return verify(file)
        finally:
            file.close()
    except OSError as error:
        raise storage_error(error, f"{path}: verifying the snapshot") from error
