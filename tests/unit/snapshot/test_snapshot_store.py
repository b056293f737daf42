"""Snapshot files: written whole, verified, retained, received in pieces, carried elsewhere."""

from __future__ import annotations

import errno
import tracemalloc
import zlib
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replog.errors import DiskFull, MalformedMessage, SnapshotDamaged, StorageFailed
from replog.filesystem import OS_FILE_SYSTEM
from replog.snapshot import SnapshotStore, verify_file
from replog.snapshot.format import (
    HEADER_BYTES_MAX,
    decode_header,
    encode_header,
    header_bytes,
    parse_part_name,
    parse_snapshot_name,
    part_name,
    snapshot_name,
)
from replog.testing.faulty_files import Fault, FaultyFileSystem
from replog.testing.memory_files import MemoryFileSystem
from replog.types import INDEX_MAX, TERM_MAX, Member, Membership, SnapshotMeta

VOTERS = Membership(voters=("n1", "n2"), members={"n1": Member(address="h1:1", incarnation=7), "n2": Member(address="h2:1")})
DIRECTORY = "data/snapshots"


class Body:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def write(self, sink: BinaryIO) -> None:
        sink.write(self.body)


def meta_of(index: int, size: int = 0, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index=index, term=term, membership=VOTERS, size_bytes=size)


def opened(files: MemoryFileSystem | None = None, retained: int = 2, sync_bytes: int = 256) -> tuple[MemoryFileSystem, SnapshotStore]:
    files = files or MemoryFileSystem()
    return files, SnapshotStore.open(files, DIRECTORY, retained, sync_bytes=sync_bytes)


def feed(store: SnapshotStore, meta: SnapshotMeta, body: bytes, start: int, stop: int, chunk: int = 64) -> tuple[int, bool]:
    """Chunks of ``body[start:stop]``."""
    answer = (start, False)
    for offset in range(start, stop, chunk):
        data = body[offset : min(offset + chunk, stop)]
        done = offset + len(data) == len(body)
        answer = store.receive(meta, offset, data, checksum=zlib.crc32(data), body_checksum=zlib.crc32(body), done=done)
    return answer


# -- bytes ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, INDEX_MAX), st.integers(0, TERM_MAX), st.integers(0, 2**63), st.integers(0, 2**32 - 1))
def test_a_header_says_what_was_put_in(index: int, term: int, size: int, checksum: int) -> None:
    meta = SnapshotMeta(index=index, term=term, membership=VOTERS, size_bytes=size)

    encoded = encode_header(meta, checksum)

    assert decode_header(encoded + b"body", "p") == (meta, checksum, len(encoded))
    assert len(encoded) == header_bytes(meta)
    assert parse_snapshot_name(snapshot_name(index, term)) == (index, term) == parse_part_name(part_name(index, term))


def test_every_flipped_bit_and_every_cut_of_a_header_is_refused() -> None:
    good = encode_header(meta_of(20, 1000), 12345)

    for position in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[position] ^= 1 << bit
            with pytest.raises(SnapshotDamaged, match="some/path"):
                decode_header(bytes(damaged) + bytes(500), "some/path")
        with pytest.raises(SnapshotDamaged):
            decode_header(good[:position], "some/path")


@given(st.binary(max_size=400))
def test_rubbish_is_no_header(data: bytes) -> None:
    with pytest.raises(SnapshotDamaged):
        decode_header(data, "p")


@pytest.mark.parametrize(
    "name",
    [
        "x.snap",
        "../00000000000000000020-1.snap",
        "00000000000000000020-1.snap.tmp",
        "00000000000000000020-1.snap.damaged",
        "00000000000000000000-1.snap",
        "99999999999999999999-1.snap",
        "00000000000000000020-99999999999999999999.snap",
        "0000000000000000002-1.snap",
        "00000000000000000020-1.snap\n",
    ],
)
def test_other_names_are_no_snapshots(name: str) -> None:
    assert parse_snapshot_name(name) is None


# -- the store --------------------------------------------------------------------------------------------------------


def test_left_over_files_are_cleared_away_and_foreign_ones_left_alone() -> None:
    names = ["00000000000000000020-1.snap.tmp", "00000000000000000020-1.part.tmp", "README", "x.snap"]
    files, store = opened(MemoryFileSystem({f"{DIRECTORY}/{name}": b"x" for name in names}))

    assert files.list(DIRECTORY) == ["README", "x.snap"]
    assert store.newest() is None


def test_a_snapshot_under_another_name_is_damage() -> None:
    files, store = opened()
    store.write(meta_of(20), Body(b"state"))
    files.rename(f"{DIRECTORY}/{snapshot_name(20, 1)}", f"{DIRECTORY}/{snapshot_name(30, 1)}")

    _, store = opened(files)

    assert store.newest() is None
    assert "20-1" in str(store.damaged[0])


def test_an_older_snapshot_is_verified_when_it_is_opened() -> None:
    files, store = opened()
    older = store.write(meta_of(10), Body(b"older state"))
    store.write(meta_of(20), Body(b"newer state"))
    path = f"{DIRECTORY}/{snapshot_name(10, 1)}"
    file = files.open(path, writable=True)
    file.pwrite(b"X", file.size() - 1)

    _, store = opened(files)

    assert [meta.index for meta in store.all()] == [10, 20]
    with pytest.raises(SnapshotDamaged, match="checksum of the body"):
        store.open_body(older)
    assert "checksum of the body" in str(store.damaged[0])


def test_a_snapshot_at_an_index_that_has_one_replaces_it() -> None:
    files, store = opened()
    store.write(meta_of(10), Body(b"first"))
    second = store.write(meta_of(10), Body(b"second"))

    for store in (store, opened(files)[1]):  # noqa: B020 - the next life too
        assert store.all() == (second,)
        with store.open_body(second) as body:
            assert body.read() == b"second"


def test_a_snapshot_that_cannot_be_removed_is_tried_again() -> None:
    files = MemoryFileSystem()
    faulty = FaultyFileSystem(files, Fault(kind="remove", number=0))
    store = SnapshotStore.open(faulty, DIRECTORY, 1)
    store.write(meta_of(10), Body(b""))

    store.write(meta_of(20), Body(b""))
    assert [meta.index for meta in store.all()] == [10, 20]
    store.write(meta_of(30), Body(b""))
    assert files.list(DIRECTORY) == [snapshot_name(30, 1)]


def test_a_body_can_be_sought_like_any_file() -> None:
    _, store = opened()
    meta = store.write(meta_of(10), Body(bytes(range(100))))

    with store.open_body(meta) as body:
        assert body.seek(-3, 2) == 97
        assert body.read() == b"abc"
        assert body.read() == b""
        assert body.seek(10) == 10
        assert body.read(2) == b"\x0a\x0b"
        assert body.seek(1, 1) == 13
        assert body.tell() == 13
        assert body.seek(500) == 500
        assert body.read() == b""
        with pytest.raises(ValueError, match="before the body"):
            body.seek(-200, 2)


# -- arriving ---------------------------------------------------------------------------------------------------------


def test_a_transfer_goes_on_in_the_next_life_from_the_last_synced_mark() -> None:
    body = bytes(range(250)) * 8
    meta = meta_of(50, len(body))
    files, store = opened()
    assert feed(store, meta, body, 0, 960) == (960, False)
    store.close()

    _, store = opened(files)

    assert feed(store, meta, body, 960, 1024) == (768, False)
    assert feed(store, meta, body, 768, len(body)) == (len(body), True)
    assert store.install(meta) == meta == store.newest()
    assert files.list(DIRECTORY) == [snapshot_name(50, 1)]
    with store.open_body(meta) as source:
        assert source.read() == body


def test_a_complete_arrival_is_complete_in_the_next_life() -> None:
    body = bytes(1000)
    meta = meta_of(50, len(body))
    files, store = opened()
    feed(store, meta, body, 0, 1000)

    _, store = opened(files)

    assert feed(store, meta, body, 0, 64) == (1000, True)
    store.install(meta)
    assert verify_file(files, f"{DIRECTORY}/{snapshot_name(50, 1)}").meta == meta


def test_what_a_power_cut_took_from_a_part_is_asked_for_again() -> None:
    body = bytes(range(1, 251)) * 8
    meta = meta_of(50, len(body))
    files, store = opened()
    feed(store, meta, body, 0, len(body))
    part = f"{DIRECTORY}/{part_name(50, 1)}"
    content = bytearray(files.files()[part])
    content[-700:-200] = bytes(500)

    _, store = opened(MemoryFileSystem({part: bytes(content)}))

    assert feed(store, meta, body, 64, 65) == (1792, False)
    with pytest.raises(MalformedMessage, match="checksum of the body"):
        feed(store, meta, body, 1792, len(body))
    assert feed(store, meta, body, 0, len(body)) == (len(body), True)


@pytest.mark.parametrize("length", [0, 10, 60])
def test_a_part_without_its_header_begins_anew(length: int) -> None:
    body = bytes(1000)
    meta = meta_of(50, len(body))
    files, store = opened()
    feed(store, meta, body, 0, 640)
    part = f"{DIRECTORY}/{part_name(50, 1)}"
    files = MemoryFileSystem({part: files.files()[part][:length]})

    _, store = opened(files)

    assert files.list(DIRECTORY) == []
    assert feed(store, meta, body, 0, 1000) == (1000, True)


def test_a_part_that_a_newer_snapshot_has_overtaken_is_removed() -> None:
    files, store = opened()
    feed(store, meta_of(50, 1000), bytes(1000), 0, 640)
    store.write(meta_of(60), Body(b"own"))

    opened(files)

    assert files.list(DIRECTORY) == [snapshot_name(60, 1)]


def test_a_full_disk_under_a_transfer_goes_on_with_room() -> None:
    body = bytes(range(250)) * 8
    meta = meta_of(50, len(body))
    faulty = FaultyFileSystem(MemoryFileSystem(), room_bytes=1500)
    store = SnapshotStore.open(faulty, DIRECTORY, 2, sync_bytes=256)

    with pytest.raises(DiskFull):
        feed(store, meta, body, 0, len(body))

    faulty.room_bytes = None
    wanted, _ = feed(store, meta, body, 64, 65)
    assert wanted > 1000
    assert feed(store, meta, body, wanted, len(body)) == (len(body), True)


def test_a_failed_sync_under_a_transfer_begins_anew() -> None:
    body = bytes(1000)
    meta = meta_of(50, len(body))
    faulty = FaultyFileSystem(MemoryFileSystem())
    store = SnapshotStore.open(faulty, DIRECTORY, 2, sync_bytes=256)
    faulty.fault = Fault(kind="sync", number=faulty.calls["sync"] + 1)

    with pytest.raises(StorageFailed):
        feed(store, meta, body, 0, len(body))

    assert feed(store, meta, body, 512, 576) == (0, False)
    assert feed(store, meta, body, 0, len(body)) == (len(body), True)


def test_a_membership_that_fits_no_header_is_refused() -> None:
    members = {f"n{number}": Member(address="h" * 60 + ":1") for number in range(20_000)}
    meta = SnapshotMeta(index=5, term=1, membership=Membership(members=members), size_bytes=1)
    _, store = opened()

    with pytest.raises(MalformedMessage, match=str(HEADER_BYTES_MAX)):
        store.receive(meta, 0, b"x", checksum=zlib.crc32(b"x"), body_checksum=zlib.crc32(b"x"), done=True)


# -- elsewhere --------------------------------------------------------------------------------------------------------


def test_an_exported_snapshot_is_imported_elsewhere(tmp_path: Path) -> None:
    body = bytes(range(256)) * 5000
    here = SnapshotStore.open(OS_FILE_SYSTEM, str(tmp_path / "here"), 2)
    meta = here.write(meta_of(70, term=3), Body(body))
    exported = str(tmp_path / "out.snap")

    here.export(meta, exported)

    assert verify_file(OS_FILE_SYSTEM, exported).meta == meta
    with pytest.raises(StorageFailed, match="exists"):
        here.export(meta, exported)
    there = SnapshotStore.open(OS_FILE_SYSTEM, str(tmp_path / "there"), 2)
    assert there.import_file(exported) == meta
    there.install(meta)
    with there.open_body(meta) as source:
        assert source.read() == body
    with pytest.raises(MalformedMessage, match="not newer"):
        there.import_file(exported)


def test_a_damaged_file_is_neither_verified_nor_imported(tmp_path: Path) -> None:
    store = SnapshotStore.open(OS_FILE_SYSTEM, str(tmp_path / "here"), 2)
    meta = store.write(meta_of(70), Body(bytes(5000)))
    path = tmp_path / "here" / snapshot_name(meta.index, meta.term)
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    other = tmp_path / "other.snap"
    other.write_bytes(content)

    with pytest.raises(SnapshotDamaged, match=r"other\.snap: checksum of the body"):
        verify_file(OS_FILE_SYSTEM, str(other))
    with pytest.raises(SnapshotDamaged):
        store.import_file(str(other))
    with pytest.raises(StorageFailed, match=r"absent\.snap"):
        verify_file(OS_FILE_SYSTEM, str(tmp_path / "absent.snap"))


@pytest.mark.slow
def test_memory_stays_flat_over_a_large_state(tmp_path: Path) -> None:
    piece, pieces = bytes(range(256)) * 1024, 192

    class Large:
        def write(self, sink: BinaryIO) -> None:
            sink.writelines(piece for _ in range(pieces))

    store = SnapshotStore.open(OS_FILE_SYSTEM, str(tmp_path / "a"), 2)
    other = SnapshotStore.open(OS_FILE_SYSTEM, str(tmp_path / "b"), 2)
    tracemalloc.start()
    try:
        meta = store.write(meta_of(10), Large())
        with store.open_body(meta) as body:
            offset = 0
            while data := body.read(512 * 1024):
                offset, complete = other.receive(
                    meta,
                    offset,
                    data,
                    checksum=zlib.crc32(data),
                    body_checksum=store.checksum(meta),
                    done=offset + len(data) == meta.size_bytes,
                )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert complete
    assert meta.size_bytes == len(piece) * pieces
    assert other.install(meta) == meta
    assert peak < 8 << 20


def test_a_disk_that_cannot_be_read_is_no_damage() -> None:
    files, store = opened()
    store.write(meta_of(10), Body(b"state"))

    with pytest.raises(StorageFailed):
        SnapshotStore.open(FaultyFileSystem(files, Fault(kind="pread", number=0, error=errno.EIO)), DIRECTORY, 2)
    assert opened(files)[1].newest() is not None
