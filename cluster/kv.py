"""The replicated key-value store: a state machine without I/O.

A key's revision is the log index of the command that wrote it. Equal logs give equal maps; only the order inside the dict may differ between nodes, and
nothing that a client sees depends on it. Snapshots are taken by freezing the map (`cluster.store`), so a large state neither stops the node nor is held
twice. The body of a snapshot, little-endian::

    | "RKV1" | reserved u32 = 0 | applied index u64 | count u64 |           24 bytes
    | key length u16 | value length u32 | revision u64 | key | value |      `count` times, in no particular order

There is no checksum here: the snapshot file has one around the body.

The digest of the state, which the nodes compare now and then (`replog.node.divergence`), is kept up to date put by put, so asking for it costs nothing however large
the state is: the sum of the marks of all items. A mark is the CRC-32 of the put that would write the item, begun at its revision in place of 0, so that it depends on
key, value and revision; it is kept with the value, so a put need not look at what it replaces. A sum does not depend on the order in the dict. (CRCs are linear: two
puts that changed places leave the sum as it was once in some ten thousand cases. Heavier arithmetic costs more than all the rest: 0.1 us a put.)

Of a key is kept what answers a get: its revision and value, in one piece (`cluster.commands`). A put makes it with one more copy of the value, and a get makes nothing.

So the digest shows what was applied wrongly, not yet memory that went bad afterwards: that shows when a snapshot is written, which compares each item with its mark.
Such a snapshot is given up, and the digest is off from then on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from cluster.commands import (
    GET,
    HEAD_BYTES,
    ITEM_HEAD_BYTES,
    KEY_BYTES_MAX,
    PUT,
    CompareAndSet,
    Delete,
    Expectation,
    Get,
    InvalidCommand,
    Item,
    Page,
    Put,
    Scan,
    decode_command,
    decode_item,
    decode_query,
    encode_cas_result,
    encode_found,
    encode_item,
    encode_page,
    encode_put_head,
    encode_revision,
)
from cluster.store import FrozenView, VersionedMap
from replog.errors import SnapshotDamaged
from replog.statemachine import CommandError, StateMachine
from replog.types import Entry, Index, Term
from replog.wal.checksum import crc32

_MAGIC: Final = b"RKV1"
_HEADER = struct.Struct("<4sIQQ")
_WRITE_BYTES: Final = 64 * 1024
"""Snapshot bytes built before each write. Small: between two writes the thread keeps the interpreter from the node's loop (about 0.2 ms)."""
_READ_BYTES: Final = 1024 * 1024
_DIGEST_MODULUS: Final = 2**64
_MASK: Final = 2**32 - 1
_ABSENT: Final = encode_revision(0)
_NOTHING: Final = (_ABSENT, 0)
_REVISION_BYTES: Final = len(_ABSENT)
_COPY_BYTES_MAX: Final = 4096
"""A value up to this is cut out of its payload before it is joined to the revision: cheaper than the detour by which a larger one is copied only once."""


class KeyValueStore(StateMachine):
    """Put, get, delete, compare-and-set and scan by prefix; commands and queries as in `cluster.commands`."""

    def __init__(self) -> None:
        self._map = VersionedMap()
        self.applied_index: Index = 0
        """Index of the last command applied, 0 before the first."""
        self._sum = 0
        """Of the marks of all items; invariant after each call."""
        self._damage = Damage()

    def __len__(self) -> int:
        return len(self._map)

    # -- commands -----------------------------------------------------------------------------------------------------

    def apply(self, entry: Entry) -> bytes:
        """Result as in `cluster.commands`; raises `InvalidCommand` and changes nothing when the payload is no command."""
        self._map.fold(1)
        self.applied_index = entry.index
        return self._apply(entry.index, entry.payload)

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:  # noqa: ARG002
        """As `apply` one after another, with a put decoded in place: this loop is the hot path of every node."""
        self._map.fold(len(payloads))
        writable, find = self._map.writable, self._map.reader()
        results: list[bytes | CommandError] = []
        append = results.append
        checksum, mask = crc32, _MASK
        added: list[int] = []
        removed: list[int] = []
        add, take = added.append, removed.append
        for index, payload in enumerate(payloads, first_index):
            size = len(payload)
            if size > HEAD_BYTES and payload[0] == PUT:
                key_bytes = payload[1] | payload[2] << 8
                key_end = HEAD_BYTES + key_bytes
                if 0 < key_bytes <= KEY_BYTES_MAX and key_end <= size:
                    key = payload[HEAD_BYTES:key_end]
                    mark = checksum(payload, index & mask)
                    add(mark)
                    found = find(key)
                    if found is not None:
                        take(found[1])
                    revision = index.to_bytes(8, "little")
                    value = payload[key_end:] if size <= _COPY_BYTES_MAX else memoryview(payload)[key_end:]
                    writable[key] = (revision + value, mark)
                    append(revision)
                    continue
            try:
                append(self._apply(index, payload))
            except InvalidCommand as error:
                append(CommandError(type(error).__name__, str(error)))
        self._sum += sum(added) - sum(removed)
        self.applied_index = first_index + len(payloads) - 1
        return results

    def _apply(self, index: Index, payload: bytes) -> bytes:
        match decode_command(payload):
            case Put(key, value):
                self._put(index, key, value)
                return encode_revision(index)
            case Delete(key):
                answer, mark = self._map.remove(key) or _NOTHING
                self._sum -= mark
                return answer[:_REVISION_BYTES]
            case CompareAndSet() as command:
                return self._compare_and_set(index, command)

    def _compare_and_set(self, index: Index, command: CompareAndSet) -> bytes:
        found = self._map.get(command.key)
        revision = _revision_in(found[0]) if found else 0
        match command.expectation:
            case Expectation.ABSENT:
                holds = found is None
            case Expectation.REVISION:
                holds = found is not None and revision == command.revision
            case Expectation.VALUE:
                holds = found is not None and found[0][_REVISION_BYTES:] == command.expected
        if holds:
            self._put(index, command.key, command.value)
            return encode_cas_result(swapped=True, revision=index)
        return encode_cas_result(swapped=False, revision=revision)

    def _put(self, index: Index, key: bytes, value: bytes) -> None:
        mark = _mark(index, key, value)
        self._sum += mark - (self._map.get(key) or _NOTHING)[1]
        self._map.writable[key] = (encode_found(index, value), mark)

    def state_digest(self) -> bytes:
        """Eight bytes; what they are made of is told above."""
        return ((self._sum + self._damage.found) % _DIGEST_MODULUS).to_bytes(8, "little")

    # -- queries ------------------------------------------------------------------------------------------------------

    def query(self, request: bytes) -> bytes:
        """Answer to a get or scan as in `cluster.commands`; raises `InvalidCommand`."""
        match decode_query(request):
            case Get(key):
                found = self._map.get(key)
                return found[0] if found else _ABSENT
            case Scan() as scan:
                return encode_page(self._scan(scan))

    def query_batch(self, requests: Sequence[bytes]) -> list[bytes | Exception]:
        """As `query` one after another, with a get decoded in place: this loop is the hot path of reads."""
        find, longest = self._map.reader(), KEY_BYTES_MAX + 1
        answers: list[bytes | Exception] = []
        append = answers.append
        for request in requests:
            if 1 < len(request) <= longest and request[0] == GET:
                found = find(request[1:])
                append(found[0] if found else _ABSENT)
                continue
            try:
                append(self.query(request))
            except InvalidCommand as error:
                append(error)
        return answers

    def _scan(self, scan: Scan) -> Page:
        items: list[Item] = []
        room_bytes = scan.bytes_max
        for key, (answer, _) in self._map.scan(scan.prefix, scan.after):
            room_bytes -= ITEM_HEAD_BYTES + len(key) + len(answer) - _REVISION_BYTES
            if items and (room_bytes < 0 or len(items) == scan.limit):
                return Page(self.applied_index, True, items)
            items.append(Item(key, _revision_in(answer), answer[_REVISION_BYTES:]))
        return Page(self.applied_index, False, items)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> StoreSnapshot:
        """Constant time, however large the state is."""
        return StoreSnapshot(self._map.freeze(), self.applied_index, self._damage)

    def restore(self, source: BinaryIO) -> None:
        """Replace the state; raises `SnapshotDamaged`, and keeps the old state, when the body is not one that `snapshot` wrote."""
        header = source.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise SnapshotDamaged(f"key-value snapshot of {len(header)} bytes; its header alone has {_HEADER.size}")
        magic, reserved, applied_index, count = _HEADER.unpack(header)
        if magic != _MAGIC or reserved:
            raise SnapshotDamaged(f"key-value snapshot begins with {magic!r} and {reserved}; allowed: {_MAGIC!r} and 0")
        restored, total = VersionedMap(), 0
        writable = restored.writable
        for item in _read_items(source, count):
            mark = _mark(item.revision, item.key, item.value)
            total += mark
            writable[item.key] = (encode_found(item.revision, item.value), mark)
        if len(restored) != count:
            raise SnapshotDamaged(f"key-value snapshot of {count} items has only {len(restored)} different keys")
        self._map = restored
        self._sum, self._damage = total, Damage()
        self.applied_index = applied_index


class Damage:
    """What the thread that writes a snapshot has found, for the store that the snapshot is of: `found` is 0 while each item agrees with its mark."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found = 0


class StoreSnapshot:
    """The store at one index, written in another thread while the store goes on."""

    def __init__(self, view: FrozenView, applied_index: Index, damage: Damage) -> None:
        self._view = view
        self._applied_index = applied_index
        self._damage = damage

    def write(self, sink: BinaryIO) -> None:
        """Raises `SnapshotDamaged` when an item in memory is not the one that was put there."""
        try:
            base = self._view.base
            sink.write(_HEADER.pack(_MAGIC, 0, self._applied_index, len(base)))
            pieces: list[bytes] = []
            size_bytes = 0
            for key, (answer, mark) in base.items():
                revision, value = _revision_in(answer), answer[_REVISION_BYTES:]
                expected = _mark(revision, key, value)
                if mark != expected:
                    self._damage.found = expected - mark
                    raise SnapshotDamaged(
                        f"the item of key {key[:64]!r} at revision {revision} has changed in memory since it was put there"
                    )
                piece = encode_item(Item(key, revision, value))
                pieces.append(piece)
                size_bytes += len(piece)
                if size_bytes >= _WRITE_BYTES:
                    sink.write(b"".join(pieces))
                    pieces.clear()
                    size_bytes = 0
            sink.write(b"".join(pieces))
        finally:
            self._view.release()


def _revision_in(answer: bytes) -> int:
    return int.from_bytes(answer[:_REVISION_BYTES], "little")


def _mark(revision: int, key: bytes, value: bytes) -> int:
    """What an item adds to the digest."""
    mark: int = crc32(value, crc32(encode_put_head(key), revision & _MASK))
    return mark


def _read_items(source: BinaryIO, count: int) -> Iterator[Item]:
    """The `count` items that follow the header, to the end of `source`; holds one block and the item cut by its end."""
    buffer, at = b"", 0
    for number in range(count):
        while True:
            try:
                item, at = decode_item(buffer, at)
                break
            except InvalidCommand:
                block = source.read(max(_READ_BYTES, len(buffer) - at))  # doubling, so that a large value is not copied for each block
                if not block:
                    raise SnapshotDamaged(f"key-value snapshot ends in item {number + 1} of {count}") from None
                buffer, at = buffer[at:] + block, 0
        yield item
    if at != len(buffer) or source.read(1):
        raise SnapshotDamaged(f"key-value snapshot goes on behind its {count} items")
