"""The one snapshot that is arriving from another node, on disk from its first chunk: ``<index>-<term>.part``.

The part has the layout of a finished snapshot (`replog.snapshot.format`), so that installing it is a rename::

    | header | body 0 .... synced .... received |                 .... size

It is synced every few megabytes: the sync at the end is short, and after a crash everything up to the last such mark is there, whatever the crash
was. The next life reads that much once, for the running checksum, and asks for the rest.
"""

from __future__ import annotations

from replog.errors import MalformedMessage, SnapshotDamaged
from replog.filesystem import File, FileSystem, join
from replog.snapshot.chunks import Arrival, check_chunk
from replog.snapshot.files import SYNC_BYTES, checksum_of, storage_error, write_all
from replog.snapshot.format import HEADER_BYTES_MAX, SnapshotHeader, decode_header, encode_header, parse_part_name, part_name
from replog.types import SnapshotMeta


class Arrivals:
    """Stores the chunks of an incoming snapshot; at most one at a time. One caller at a time."""

    def __init__(self, fs: FileSystem, directory: str, *, sync_bytes: int = SYNC_BYTES) -> None:
        self._fs = fs
        self._directory = directory
        self._sync_bytes = sync_bytes
        self._arrival: Arrival | None = None
        self._file: File | None = None
        self._body_offset = 0

    @property
    def current(self) -> Arrival | None:
        """What is arriving, or has arrived and is not installed."""
        return self._arrival

    @property
    def path(self) -> str:
        """Of the part; only while there is one."""
        assert self._arrival is not None
        return join(self._directory, part_name(self._arrival.meta.index, self._arrival.meta.term))

    def resume(self, names: list[str], newest: SnapshotMeta | None) -> None:
        """Take up the newest usable part among `names`, and remove the others. Raises OSError."""
        parts = sorted((found, name) for name in names if (found := parse_part_name(name)) is not None)
        for (index, _), name in reversed(parts):
            path = join(self._directory, name)
            wanted = self._arrival is None and (newest is None or index > newest.index)
            if not (wanted and self._take_up(path)):
                self._fs.remove(path)

    def _take_up(self, path: str) -> bool:
        file = self._fs.open(path, writable=True)
        try:
            header = decode_header(file.pread(min(file.size(), HEADER_BYTES_MAX), 0), path)
            arrival = self._measure(file, header)
        except SnapshotDamaged:
            file.close()
            return False
        if join(self._directory, part_name(header.meta.index, header.meta.term)) != path:
            file.close()
            return False
        self._arrival, self._file, self._body_offset = arrival, file, header.body_offset
        return True

    def _measure(self, file: File, header: SnapshotHeader) -> Arrival:
        """How much of a part of a former life can be relied on: all of it if it is whole, else up to the last mark that was synced."""
        arrival = Arrival(header.meta, header.body_checksum)
        held = min(max(0, file.size() - header.body_offset), header.meta.size_bytes)
        if held == header.meta.size_bytes and checksum_of(file, header.body_offset, held) == header.body_checksum:
            file.sync()
            arrival.received_bytes, arrival.checksum = held, header.body_checksum
            arrival.complete()
            return arrival
        held = min(held, max(0, header.meta.size_bytes - 1)) // self._sync_bytes * self._sync_bytes
        arrival.received_bytes, arrival.checksum = held, checksum_of(file, header.body_offset, held)
        return arrival

    def receive(
        self,
        meta: SnapshotMeta,
        offset: int,
        data: bytes,
        *,
        checksum: int,
        body_checksum: int,
        done: bool,
        newest: SnapshotMeta | None,
    ) -> tuple[int, bool]:
        """As `Storage.receive_chunk`; `newest` is the newest snapshot that is here."""
        check_chunk(meta, offset, data, checksum=checksum, body_checksum=body_checksum, done=done, newest=newest)
        doing = f"{self._directory}: receiving snapshot {meta.index}-{meta.term}"
        try:
            if self._arrival is None or not self._arrival.is_same(meta, body_checksum):
                if offset:
                    return 0, False
                self.discard()
                self._begin(meta, body_checksum)
            return self._store(offset, data)
        except OSError as error:
            raise storage_error(error, doing) from error

    def _begin(self, meta: SnapshotMeta, body_checksum: int) -> None:
        header = encode_header(meta, body_checksum)
        if len(header) > HEADER_BYTES_MAX:
            raise MalformedMessage(
                f"snapshot {meta.index}-{meta.term}: its header has {len(header)} bytes; the limit is {HEADER_BYTES_MAX}"
            )
        path = join(self._directory, part_name(meta.index, meta.term))
        if self._fs.exists(path):
            self._fs.remove(path)
        file = self._fs.create(path)
        try:
            write_all(file, header, 0)
        except OSError:
            file.close()
            self._fs.remove(path)
            raise
        self._arrival, self._file, self._body_offset = Arrival(meta, body_checksum), file, len(header)

    def _store(self, offset: int, data: bytes) -> tuple[int, bool]:
        arrival, file = self._arrival, self._file
        assert arrival is not None
        if arrival.is_complete or offset != arrival.received_bytes:
            return arrival.received_bytes, arrival.is_complete
        assert file is not None
        write_all(file, data, self._body_offset + offset)
        marks_before = arrival.received_bytes // self._sync_bytes
        arrival.add(data)
        is_last = arrival.received_bytes == arrival.meta.size_bytes
        if is_last or arrival.received_bytes // self._sync_bytes > marks_before:
            try:
                file.sync()
            except OSError:
                self.discard()  # what a failed sync has lost is not known
                raise
        if is_last:
            try:
                arrival.complete()
            except MalformedMessage:
                self.discard()
                raise
        return arrival.received_bytes, arrival.is_complete

    def take(self) -> SnapshotHeader:
        """The complete arrival, whose file at `path` is closed now and is the caller's to rename. Forgotten by `forget`."""
        arrival = self._arrival
        assert arrival is not None
        assert arrival.is_complete
        self._close()
        return SnapshotHeader(arrival.meta, arrival.body_checksum, self._body_offset)

    def forget(self) -> None:
        """The part has become a snapshot."""
        self._close()
        self._arrival = None

    def discard(self) -> None:
        """Give up what is arriving. Raises OSError."""
        if self._arrival is None:
            return
        path = self.path
        self.forget()
        if self._fs.exists(path):
            self._fs.remove(path)

    def close(self) -> None:
        """The part stays, for the next life."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
