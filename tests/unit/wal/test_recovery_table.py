"""Every row of the recovery table: a directory that shows it, and what is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replog import wal
from replog.errors import WalDamaged, WalEntriesLost
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, LengthEncoding
from replog.wal.recovery import RECOVERY_TABLE, Action, Found, Place, Row
from tests.unit.wal.support import SMALL, all_of, codec, flipped, path, reopened, segment

Files = dict[str, bytes]

A, B, C = b"a" * 100, b"b" * 700, b"c" * 50
FRAME_B = codec().encode_frame(B)
ZEROS = bytes(2048)
U16 = codec(LengthEncoding.UINT16)


def last(behind: bytes, *datas: bytes) -> Files:
    """A sealed segment, and a last one with this behind its good entries."""
    return {path(0): segment(0, [A, C]), path(2): segment(2, datas or (A,), behind)}


def sealed(behind: bytes, count: int = 1) -> Files:
    """A segment with this behind its good entry, and a last one whose name says that it had `count` entries."""
    return {path(0): segment(0, [A], behind), path(count): segment(count, [C])}


def lost_sector(at: int) -> bytes:
    """The frame of B behind the one of A in the second segment, without the sector `at` of the file."""
    start = len(segment(2, [A]))
    whole = bytearray(bytes(start) + FRAME_B + bytes(200))
    whole[512 * at : 512 * at + 512] = bytes(512)
    return bytes(whole[start:])


def header_with(offset: int, value: int) -> bytes:
    content = bytearray(segment(2, [A]))
    content[offset] = value
    return bytes(content)


def only(content: bytes) -> Files:
    return {path(2): content}


def before_last(content: bytes) -> Files:
    return {path(2): content, path(3): segment(3, [C])}


def as_last(content: bytes) -> Files:
    return {path(0): segment(0, [A, C]), path(2): content}


def anywhere(found: Found, content: bytes) -> dict[tuple[Found, Place], Files]:
    return {(found, Place.LAST): as_last(content), (found, Place.SEALED): before_last(content), (found, Place.ONLY): only(content)}


HUGE = b"\xff\xff\xff\x7f" + b"data"
SHOWN: dict[tuple[Found, Place], Files] = {
    (Found.CLEAN_END, Place.LAST): last(b""),
    (Found.ZEROS, Place.LAST): last(ZEROS),
    (Found.MISSING_SECTOR, Place.LAST): last(lost_sector(1)),
    (Found.FILE_ENDS, Place.LAST): last(FRAME_B[:-1]),
    (Found.PREFIX, Place.LAST): last(FRAME_B[:500] + ZEROS),
    (Found.BAD_ENTRY, Place.LAST): last(flipped(FRAME_B, 400) + ZEROS),
    (Found.BAD_LENGTH, Place.LAST): last(HUGE + ZEROS),
    (Found.LENGTH_CHANGED, Place.LAST): last(flipped(FRAME_B, 1, 0x04) + ZEROS),
    (Found.HEADER_MISSING, Place.LAST): as_last(bytes(4096)),
    (Found.CLEAN_END, Place.SEALED): last(b""),
    (Found.ZEROS, Place.SEALED): sealed(bytes(7)),
    (Found.TRAILING_BYTES, Place.SEALED): sealed(b"something"),
    (Found.FILE_ENDS, Place.SEALED): sealed(FRAME_B[:-1], 2),
    (Found.MISSING_SECTOR, Place.SEALED): sealed(lost_sector(1), 2),
    (Found.PREFIX, Place.SEALED): sealed(FRAME_B[:500] + bytes(len(FRAME_B) - 500), 2),
    (Found.BAD_ENTRY, Place.SEALED): sealed(flipped(FRAME_B, 400), 2),
    (Found.BAD_LENGTH, Place.SEALED): sealed(HUGE, 2),
    (Found.LENGTH_CHANGED, Place.SEALED): sealed(flipped(FRAME_B, 1, 0x04), 2),
    (Found.HEADER_MISSING, Place.SEALED): before_last(b"WAL"),
    (Found.HEADER_MISSING, Place.ONLY): only(bytes(100)),
    (Found.GAP, Place.BETWEEN): {path(0): segment(0, [A]), path(2): segment(2, [C])},
    (Found.OVERLAP, Place.BETWEEN): {path(0): segment(0, [A, B, C]), path(2): segment(2, [C])},
    **anywhere(Found.NAME_MISMATCH, segment(2, [A], said_first=7)),
    **anywhere(Found.MAGIC_UNKNOWN, header_with(0, 0x77)),
    **anywhere(Found.VERSION_UNKNOWN, header_with(4, 2)),
    **anywhere(Found.ENCODING_UNKNOWN, header_with(6, 5)),
    **anywhere(Found.CHECKSUM_UNKNOWN, header_with(7, 0)),
    (Found.TEMPORARY, Place.DIRECTORY): {path(0): segment(0, [A]), path(1) + ".tmp": b"WAL\0 half", "log/prepared.wal.tmp": ZEROS},
    (Found.RESET, Place.DIRECTORY): {path(0): b"anything", path(9): b"old", path(5) + ".reset": segment(5, [])},
}


def test_every_row_is_shown_here_and_there_is_one_row_for_each() -> None:
    assert set(SHOWN) == {(row.found, row.place) for row in RECOVERY_TABLE}
    assert len(SHOWN) == len(RECOVERY_TABLE)


@pytest.mark.parametrize("row", RECOVERY_TABLE, ids=lambda row: f"{row.place.value}: {row.found.value}")
def test_a_row_of_the_table_is_done(row: Row) -> None:
    files = SHOWN[row.found, row.place]
    system = MemoryFileSystem(files)

    inspection = wal.inspect(system, "log", SMALL)

    assert system.files() == files
    assert row in [finding.row for finding in inspection.findings]
    CHECKS[row.action](system, files, row)


def check_opened(system: MemoryFileSystem, files: Files, row: Row) -> None:
    with wal.open("log", SMALL, sync=wal.NoSync(), fs=system) as log:
        assert log.recovery.is_clean
        assert all_of(log) == [A, C, A]
        assert system.files() == files


def check_cut(system: MemoryFileSystem, files: Files, row: Row) -> None:
    with wal.open("log", SMALL, sync=wal.NoSync(), fs=system) as log:
        recovery = log.recovery
        assert all_of(log) == [A, C, A]
        assert log.append(B) == 3
    assert (recovery.cut_at, recovery.cut_segment, recovery.cut_offset) == (3, path(2), len(segment(2, [A])))
    assert recovery.bytes_cut == len(files[path(2)].rstrip(b"\0")) - len(segment(2, [A]))
    assert recovery.reason == row.found.value or recovery.reason
    assert system.files()[path(2)] == segment(2, [A, B])
    assert reopened(system) == [A, C, A, B]


def check_refused(system: MemoryFileSystem, files: Files, row: Row) -> None:
    assert row.error is not None
    assert row.error is not WalDamaged
    with pytest.raises(row.error) as caught:
        wal.open("log", SMALL, fs=system)
    assert type(caught.value) is row.error
    assert caught.value.segment in files
    assert caught.value.sequence is not None
    assert row.meaning in str(caught.value)
    assert caught.value.segment in str(caught.value)
    assert system.files() == files


def check_removed(system: MemoryFileSystem, files: Files, row: Row) -> None:
    with wal.open("log", SMALL, sync=wal.NoSync(), fs=system) as log:
        removed = log.recovery.removed
        kept = all_of(log)
        assert log.append(b"goes on") == len(kept)
    assert kept == ([A] if row.found is Found.TEMPORARY else [A, C])
    assert removed
    assert not set(removed) & set(system.files())
    assert reopened(system) == [*kept, b"goes on"]


def check_finished(system: MemoryFileSystem, files: Files, row: Row) -> None:
    with wal.open("log", SMALL, sync=wal.NoSync(), fs=system) as log:
        assert log.recovery.reset_finished
        assert (log.first_sequence, log.next_sequence) == (5, 5)
        assert log.append(A) == 5
    assert system.files() == {path(5): segment(5, [A])}


CHECKS: dict[Action, Callable[[MemoryFileSystem, Files, Row], None]] = {
    Action.OPEN: check_opened,
    Action.CUT: check_cut,
    Action.REFUSE: check_refused,
    Action.REMOVE: check_removed,
    Action.FINISH: check_finished,
}


def test_a_cut_zeroes_up_to_the_end_of_the_preallocation_and_no_further() -> None:
    system = MemoryFileSystem(last(FRAME_B[:500] + ZEROS))
    size = len(system.files()[path(2)])

    with wal.open("log", wal.WalOptions(prepare_next=False), fs=system) as log:
        end = log.segments()[-1].end_offset

    content = system.files()[path(2)]
    assert len(content) == size
    assert not any(content[end:])


def test_what_is_refused_is_refused_for_the_first_damage_and_all_of_it_is_found() -> None:
    system = MemoryFileSystem(
        {path(0): segment(0, [A], flipped(FRAME_B, 400)), path(2): segment(2, [A], b"x"), path(3): segment(3, [C], flipped(FRAME_B, 5))}
    )

    inspection = wal.inspect(system, "log", SMALL)

    assert [(finding.path, finding.sequence) for finding in inspection.damage] == [(path(0), 1), (path(2), 3), (path(3), 4)]


def test_a_segment_behind_an_unreadable_one_is_not_called_a_gap() -> None:
    system = MemoryFileSystem({path(0): segment(0, [A], flipped(FRAME_B, 400) + codec().encode_frame(C)), path(3): segment(3, [C])})

    assert [finding.row.found for finding in wal.inspect(system, "log", SMALL).damage] == [Found.BAD_ENTRY]


def test_segments_of_one_log_may_have_different_settings() -> None:
    system = MemoryFileSystem(
        {path(0): segment(0, [A, B], of=U16), path(2): segment(2, [C], of=codec(LengthEncoding.UVARINT, ChecksumType.CRC64))}
    )

    with wal.open("log", SMALL, sync=wal.NoSync(), fs=system) as log:
        assert all_of(log) == [A, B, C]
        assert (log.codec.length_encoding, log.codec.checksum_type) == (LengthEncoding.UVARINT, ChecksumType.CRC64)


def test_a_log_that_ends_before_what_was_vouched_for_is_refused_untouched() -> None:
    files = last(FRAME_B[:500] + ZEROS)
    system = MemoryFileSystem(files)

    with pytest.raises(WalEntriesLost) as caught:
        wal.open("log", SMALL, vouched_sequence=4, fs=system)

    assert (caught.value.segment, caught.value.sequence) == (path(2), 3)
    assert system.files() == files
    wal.open("log", SMALL, vouched_sequence=3, fs=system).close()


def test_a_limit_that_was_lowered_refuses_what_is_longer_and_cuts_nothing() -> None:
    files = last(ZEROS, A, B, C)
    system = MemoryFileSystem(files)

    with pytest.raises(WalDamaged, match="over the limit"):
        wal.open("log", wal.WalOptions(entry_bytes_max=699, prepare_next=False), fs=system)

    assert system.files() == files


def test_a_last_segment_that_was_never_born_does_not_make_a_torn_entry_before_it_acceptable() -> None:
    files = {path(0): segment(0, [A], FRAME_B[:-1]), path(2): bytes(64)}
    system = MemoryFileSystem(files)

    with pytest.raises(WalDamaged):
        wal.open("log", SMALL, fs=system)

    assert system.files() == files
