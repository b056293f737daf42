"""The conformance suite of storages: what every implementation of `replog.storage.interface.Storage` must do.

Subclass `StorageSuite`, say how a storage is opened, and let pytest collect the class::

    class TestMyStorage(StorageSuite):
        def place(self) -> StoragePlace:
            return MyPlace()            # open(cluster, node) -> Storage, any number of lives one after another

Each test gets a fresh place. `small` makes rollover, compaction and windows happen within a few entries.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Final, Protocol

from replog.codec import encode_membership
from replog.config import ClusterConfig, NodeConfig
from replog.errors import DirectoryLocked, IdentityMismatch, MalformedMessage, ReplogError, SnapshotDamaged, StorageError
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Storage, Write
from replog.types import EntryFrames, EntryKind, HardState, Index, Member, Membership, SnapshotMeta, Term

CLUSTER: Final = ClusterConfig(cluster_id="suite")
NODE: Final = NodeConfig(node_id="n1", data_dir="/data", segment_bytes_max=4096, preallocate=False, snapshots_retained=2)
VOTERS: Final = Membership(voters=("n1", "n2"), members={"n1": Member(address="h1:1", incarnation=7), "n2": Member(address="h2:1")})
CODEC: Final = EntryFrameCodec.of(CLUSTER)


class StoragePlace(Protocol):
    """Where a storage lives; what is durable stays there between two lives."""

    def open(self, cluster: ClusterConfig, node: NodeConfig) -> Storage:
        """Begin a life."""
        ...

    def abandon(self, storage: Storage) -> None:
        """End a life as a killed process does: nothing is closed, but the lock is free."""
        ...


class BodyWriter:
    """A `SnapshotWriter` of given bytes, written in pieces."""

    def __init__(self, body: bytes, piece_bytes: int = 1000) -> None:
        self.body, self.piece_bytes = body, piece_bytes

    def write(self, sink: BinaryIO) -> None:
        sink.writelines(self.body[start : start + self.piece_bytes] for start in range(0, len(self.body), self.piece_bytes))


def payload_of(index: Index, term: Term = 1, length: int = 40) -> bytes:
    """The payload that the suite gives to the entry (index, term)."""
    return (b"entry %d of term %d " % (index, term)).ljust(length, b".")


def frames_of(
    first: Index, count: int, term: Term = 1, *, kind: EntryKind = EntryKind.COMMAND, codec: EntryFrameCodec = CODEC
) -> EntryFrames:
    """`count` entries of one term."""
    return codec.encode(first, term, kind, [payload_of(index, term) for index in range(first, first + count)])


def append(storage: Storage, first: Index, count: int, term: Term = 1, *, batch: int = 10) -> None:
    """Entries `first` and on, written in batches."""
    for start in range(first, first + count, batch):
        storage.persist(Write(frames=(frames_of(start, min(batch, first + count - start), term),)))


def read_all(storage: Storage, bytes_max: int = 1000) -> list[tuple[Index, Term, bytes]]:
    """Every entry as (index, term, payload)."""
    found: list[tuple[Index, Term, bytes]] = []
    first = storage.first_index
    while first <= storage.last_index:
        frames = storage.read_frames(first, storage.last_index, bytes_max)
        assert frames.first_index == first
        assert frames.count >= 1
        assert CODEC.decode(frames.buffer, first).payloads == frames.payloads
        found += [(first + position, term_of(frames, first + position), payload) for position, payload in enumerate(frames.payloads)]
        first = frames.last_index + 1
    return found


def term_of(frames: EntryFrames, index: Index) -> Term:
    """Term of one entry in a batch."""
    return next(term for start, term in reversed(frames.terms) if start <= index)


def expected(first: Index, last: Index, term: Term = 1) -> list[tuple[Index, Term, bytes]]:
    """What `read_all` finds of entries that `append` wrote."""
    return [(index, term, payload_of(index, term)) for index in range(first, last + 1)]


def send(
    storage: Storage, meta: SnapshotMeta, body: bytes, *, chunk_bytes: int = 64, start: int = 0, stop: int | None = None
) -> tuple[int, bool]:
    """Give a snapshot's chunks from `start` on (up to `stop`) to the receiver; returns its last answer."""
    answer = (start, False)
    offset = start
    while True:
        data = body[offset : offset + chunk_bytes]
        end = offset + len(data)
        answer = storage.receive_chunk(meta, offset, data, checksum=zlib.crc32(data), body_checksum=zlib.crc32(body), done=end == len(body))
        offset = end
        if end >= (len(body) if stop is None else stop):
            return answer


def refused(kind: type[ReplogError], call: Callable[..., object], *arguments: Any, **named: Any) -> ReplogError:
    """Calls, and returns the error of this kind that it must raise."""
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


class StorageSuite(ABC):
    """One test a sentence. Every test makes its own place."""

    @abstractmethod
    def place(self) -> StoragePlace:
        """A fresh one."""

    def opened(self) -> tuple[StoragePlace, Storage]:
        """A fresh place and a life on it, in term 1: a node writes no entry of a term that its hard state does not know."""
        place = self.place()
        storage = place.open(CLUSTER, NODE)
        storage.persist(Write(hard_state=HardState(term=1)))
        return place, storage

    def again(self, place: StoragePlace, storage: Storage, *, cleanly: bool = True, node: NodeConfig = NODE) -> Storage:
        """The next life."""
        if cleanly:
            storage.close()
        else:
            place.abandon(storage)
        return place.open(CLUSTER, node)

    # -- lives -------------------------------------------------------------------------------------------------------

    def test_a_new_storage_is_empty_and_has_an_incarnation(self) -> None:
        storage = self.place().open(CLUSTER, NODE)

        found = storage.recovered
        assert (found.hard_state, found.snapshot, found.first_index, found.last_index) == (HardState(), None, 1, 0)
        assert (found.terms, found.memberships, found.maybe_promised) == ((), (), 0)
        assert found.incarnation > 0
        assert (storage.first_index, storage.last_index, storage.newest_snapshot()) == (1, 0, None)

    def test_the_incarnation_stays_with_the_disk(self) -> None:
        place, storage = self.opened()

        assert self.again(place, storage).recovered.incarnation == storage.recovered.incarnation

    def test_the_highest_epoch_that_was_met_is_remembered(self) -> None:
        place, storage = self.opened()
        assert storage.recovered.epoch == 0
        storage.persist(Write(epoch=3))
        storage.persist(Write(epoch=2))

        storage = self.again(place, storage, cleanly=False)

        assert storage.recovered.epoch == 3
        assert self.again(place, storage).recovered.epoch == 3

    def test_two_lives_at_once_are_refused(self) -> None:
        place, _ = self.opened()

        refused(DirectoryLocked, place.open, CLUSTER, NODE)

    def test_another_nodes_disk_is_refused(self) -> None:
        place, storage = self.opened()
        storage.close()

        error = refused(IdentityMismatch, place.open, CLUSTER, replace(NODE, node_id="n2"))
        assert "'n1'" in str(error)
        assert "'n2'" in str(error)
        error = refused(IdentityMismatch, place.open, replace(CLUSTER, cluster_id="other"), NODE)
        assert "'suite'" in str(error)
        place.open(CLUSTER, NODE).close()

    def test_closing_twice_does_nothing(self) -> None:
        place, storage = self.opened()
        storage.close()
        storage.close()

        place.open(CLUSTER, NODE).close()
        storage.close()
        refused(StorageError, storage.persist, Write(hard_state=HardState(term=1)))

    # -- persisting --------------------------------------------------------------------------------------------------

    def test_what_was_persisted_is_there_in_the_next_life(self) -> None:
        for cleanly in (True, False):
            place, storage = self.opened()
            storage.persist(Write(hard_state=HardState(term=3, vote="n2"), frames=(frames_of(1, 5, 1), frames_of(6, 2, 3))))

            storage = self.again(place, storage, cleanly=cleanly)

            found = storage.recovered
            assert found.hard_state == HardState(term=3, vote="n2")
            assert (found.first_index, found.last_index, found.terms) == (1, 7, ((1, 1), (6, 3)))
            assert found.log_bytes == storage.size_bytes > 0
            assert read_all(storage) == [*expected(1, 5, 1), *expected(6, 7, 3)]

    def test_a_vote_alone_is_durable(self) -> None:
        place, storage = self.opened()
        storage.persist(Write(hard_state=HardState(term=9, vote="n1")))
        storage.persist(Write(hard_state=HardState(term=10, vote=None)))

        assert self.again(place, storage, cleanly=False).recovered.hard_state == HardState(term=10, vote=None)

    def test_an_empty_write_changes_nothing(self) -> None:
        _, storage = self.opened()
        append(storage, 1, 3)

        storage.persist(Write())
        storage.persist(Write(frames=(CODEC.encode(4, 1, EntryKind.COMMAND, []),)))

        assert read_all(storage) == expected(1, 3)

    def test_entries_discarded_are_replaced(self) -> None:
        place, storage = self.opened()
        append(storage, 1, 300, 1)

        storage.persist(Write(hard_state=HardState(term=2), discard_from=101, frames=(frames_of(101, 4, 2),)))
        assert read_all(storage) == [*expected(1, 100), *expected(101, 104, 2)]

        storage = self.again(place, storage, cleanly=False)
        assert storage.recovered.terms == ((1, 1), (101, 2))
        storage.persist(Write(discard_from=1))
        assert (storage.first_index, storage.last_index) == (1, 0)
        storage.persist(Write(frames=(frames_of(1, 2, 2),)))
        assert read_all(self.again(place, storage)) == expected(1, 2, 2)

    def test_memberships_in_the_log_are_found(self) -> None:
        place, storage = self.opened()
        one, two = VOTERS, replace(VOTERS, epoch=4)
        storage.persist(
            Write(
                frames=(
                    frames_of(1, 3),
                    CODEC.encode(4, 1, EntryKind.MEMBERSHIP, [encode_membership(one)]),
                    frames_of(5, 400),
                    CODEC.encode(405, 1, EntryKind.MEMBERSHIP, [encode_membership(two)]),
                )
            )
        )

        assert self.again(place, storage).recovered.memberships == ((4, one), (405, two))

    # -- reading -----------------------------------------------------------------------------------------------------

    def test_reads_are_bounded_and_give_at_least_one(self) -> None:
        _, storage = self.opened()
        append(storage, 1, 200)
        frame = frames_of(1, 1).size_bytes

        assert storage.read_frames(50, 200, 0).count == 1
        assert storage.read_frames(50, 200, 3 * frame + frame // 2).count <= 3
        assert storage.read_frames(7, 7, 10**6).payloads == [payload_of(7)]
        assert storage.read_frames(200, 200, 10**6).payloads == [payload_of(200)]
        for bytes_max in (1, 100, 1000, 10**6):
            assert read_all(storage, bytes_max) == expected(1, 200)

    # -- compaction --------------------------------------------------------------------------------------------------

    def test_compaction_keeps_what_is_behind_it(self) -> None:
        place, storage = self.opened()
        append(storage, 1, 500)
        storage.write_snapshot(SnapshotMeta(index=400, term=1, membership=VOTERS), BodyWriter(b"state at 400"))

        first = storage.compact(390)

        assert first == storage.first_index
        assert 1 < first <= 391
        assert read_all(storage) == expected(first, 500)
        storage = self.again(place, storage, cleanly=False)
        assert (storage.recovered.first_index, storage.recovered.last_index) == (first, 500)
        assert storage.recovered.snapshot == storage.newest_snapshot()
        append(storage, 501, 10)
        assert read_all(storage) == expected(first, 510)

    def test_the_older_snapshot_stays_a_way_back(self) -> None:
        _, storage = self.opened()
        append(storage, 1, 500)
        for index in (200, 400):
            storage.write_snapshot(SnapshotMeta(index=index, term=1, membership=VOTERS), BodyWriter(b"state"))

        assert storage.compact(400) <= 201

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def test_a_snapshot_is_written_and_read_back(self) -> None:
        place, storage = self.opened()
        append(storage, 1, 10)
        body = bytes(range(256)) * 50

        meta = storage.write_snapshot(SnapshotMeta(index=10, term=1, membership=VOTERS), BodyWriter(body))

        assert meta == SnapshotMeta(index=10, term=1, membership=VOTERS, size_bytes=len(body)) == storage.newest_snapshot()
        assert storage.snapshot_checksum(meta) == zlib.crc32(body)
        storage = self.again(place, storage, cleanly=False)
        assert storage.recovered.snapshot == meta
        with storage.open_snapshot(meta) as source:
            assert source.read(7) == body[:7]
            source.seek(100)
            assert source.read() == body[100:]

    def test_an_empty_state_is_a_snapshot_too(self) -> None:
        _, storage = self.opened()
        append(storage, 1, 3)

        meta = storage.write_snapshot(SnapshotMeta(index=3, term=1, membership=VOTERS), BodyWriter(b""))

        assert meta.size_bytes == 0
        with storage.open_snapshot(meta) as source:
            assert source.read() == b""

    def test_the_newest_snapshots_are_retained_and_an_open_one_stays_readable(self) -> None:
        place, storage = self.opened()
        append(storage, 1, 40)
        metas = [storage.write_snapshot(SnapshotMeta(index=10, term=1, membership=VOTERS), BodyWriter(b"at 10"))]
        source = storage.open_snapshot(metas[0])
        metas += [
            storage.write_snapshot(SnapshotMeta(index=index, term=1, membership=VOTERS), BodyWriter(b"at %d" % index))
            for index in (20, 30, 40)
        ]

        assert source.read() == b"at 10"
        source.close()
        refused(SnapshotDamaged, storage.open_snapshot, metas[0])
        refused(SnapshotDamaged, storage.open_snapshot, metas[1])
        storage = self.again(place, storage)
        assert storage.newest_snapshot() == metas[3]
        for meta in metas[2:]:
            with storage.open_snapshot(meta) as kept:
                assert kept.read() == b"at %d" % meta.index

    # -- snapshots from another node ---------------------------------------------------------------------------------

    def test_a_received_snapshot_replaces_a_log_that_is_behind(self) -> None:
        body = bytes(range(256)) * 3
        meta = SnapshotMeta(index=900, term=4, membership=VOTERS, size_bytes=len(body))
        for entries in (0, 120):
            place, storage = self.opened()
            append(storage, 1, entries)

            assert send(storage, meta, body) == (len(body), True)
            storage.persist(Write(hard_state=HardState(term=4), install=meta))

            for _ in range(2):
                assert (storage.first_index, storage.last_index, storage.newest_snapshot()) == (901, 900, meta)
                with storage.open_snapshot(meta) as source:
                    assert source.read() == body
                storage = self.again(place, storage, cleanly=False)
            append(storage, 901, 20, 4)
            assert read_all(self.again(place, storage)) == expected(901, 920, 4)

    def test_a_received_snapshot_replaces_a_log_that_conflicts(self) -> None:
        place, storage = self.opened()
        append(storage, 1, 200, 1)
        meta = SnapshotMeta(index=150, term=2, membership=VOTERS, size_bytes=5)
        send(storage, meta, b"state")

        storage.persist(Write(hard_state=HardState(term=2), install=meta))

        storage = self.again(place, storage)
        assert (storage.first_index, storage.last_index) == (151, 150)

    def test_a_received_snapshot_keeps_the_log_behind_it(self) -> None:
        place, storage = self.opened()
        append(storage, 1, 200)
        meta = SnapshotMeta(index=150, term=1, membership=VOTERS, size_bytes=5)
        send(storage, meta, b"state")

        storage.persist(Write(install=meta))

        for _ in range(2):
            assert storage.first_index <= 151
            assert storage.last_index == 200
            assert read_all(storage)[-50:] == expected(151, 200)
            assert storage.newest_snapshot() == meta
            storage = self.again(place, storage)

    def test_a_broken_transfer_is_resumed_where_it_stopped(self) -> None:
        _, storage = self.opened()
        body = bytes(range(250)) * 4
        meta = SnapshotMeta(index=50, term=1, membership=VOTERS, size_bytes=len(body))

        assert send(storage, meta, body, stop=320) == (320, False)
        assert send(storage, meta, body, start=640, stop=700) == (320, False)
        assert send(storage, meta, body, start=0, stop=64) == (320, False)
        assert send(storage, meta, body, start=320) == (len(body), True)
        assert send(storage, meta, body, start=960) == (len(body), True)

    def test_another_snapshot_begins_anew(self) -> None:
        _, storage = self.opened()
        body = bytes(1000)
        old = SnapshotMeta(index=50, term=1, membership=VOTERS, size_bytes=len(body))
        new = replace(old, index=60)
        send(storage, old, body, stop=320)

        assert send(storage, new, body, start=320, stop=330) == (0, False)
        assert send(storage, old, body, start=320, stop=330) == (384, False)
        assert send(storage, new, body) == (len(body), True)
        storage.persist(Write(install=new))
        assert storage.newest_snapshot() == new

    def test_chunks_that_break_a_rule_are_refused_and_change_nothing(self) -> None:
        _, storage = self.opened()
        append(storage, 1, 20)
        storage.write_snapshot(SnapshotMeta(index=20, term=1, membership=VOTERS), BodyWriter(b"own"))
        body = bytes(range(200))
        meta = SnapshotMeta(index=50, term=1, membership=VOTERS, size_bytes=200)
        send(storage, meta, body, stop=128)
        checksum = zlib.crc32(body)

        def chunk(of: SnapshotMeta, offset: int, data: bytes, *, done: bool, wrong: int = 0) -> Callable[[], object]:
            return lambda: storage.receive_chunk(of, offset, data, checksum=zlib.crc32(data) ^ wrong, body_checksum=checksum, done=done)

        bad: Sequence[tuple[str, Callable[[], object]]] = (
            ("checksum", chunk(meta, 128, body[128:192], done=False, wrong=1)),
            ("empty", chunk(meta, 128, b"", done=False)),
            ("behind the body's end", chunk(meta, 128, bytes(73), done=True)),
            ("last one", chunk(meta, 128, body[128:192], done=True)),
            ("last one", chunk(meta, 128, body[128:200], done=False)),
            ("outside", chunk(meta, 201, b"", done=False)),
            ("outside", chunk(meta, -1, b"x", done=False)),
            ("not newer", chunk(replace(meta, index=20), 0, body[:64], done=False)),
            ("not newer", chunk(replace(meta, index=3), 0, body[:64], done=False)),
            ("out of range", chunk(replace(meta, index=0), 0, body[:64], done=False)),
            ("out of range", chunk(replace(meta, index=2**64), 0, body[:64], done=False)),
            ("out of range", chunk(replace(meta, size_bytes=-5), 0, b"", done=False)),
            ("out of range", chunk(replace(meta, size_bytes=2**64), 0, body[:64], done=False)),
            ("out of range", lambda: storage.receive_chunk(meta, 0, b"x", checksum=zlib.crc32(b"x"), body_checksum=2**32, done=False)),
        )
        for words, call in bad:
            assert words in str(refused(MalformedMessage, call)), words
        assert send(storage, meta, body, start=128) == (200, True)

    def test_a_body_that_does_not_match_its_checksum_is_refused_and_begins_anew(self) -> None:
        _, storage = self.opened()
        body, other = bytes(200), bytes(199) + b"x"
        meta = SnapshotMeta(index=50, term=1, membership=VOTERS, size_bytes=200)

        first = storage.receive_chunk(meta, 0, other, checksum=zlib.crc32(other), body_checksum=zlib.crc32(other), done=True)
        assert first == (200, True)
        assert send(storage, meta, body, stop=64) == (64, False)
        refused(
            MalformedMessage,
            storage.receive_chunk,
            meta,
            64,
            other[64:],
            checksum=zlib.crc32(other[64:]),
            body_checksum=zlib.crc32(body),
            done=True,
        )
        assert send(storage, meta, body) == (200, True)
