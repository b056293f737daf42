"""Reading beside a writer, without its lock."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest

from replog import wal
from replog.errors import WalClosed, WalDiscarded, WalEntryDamaged, WalHeaderDamaged, WalMissing, WalSegmentGap, WalSequenceUnknown
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import LengthEncoding, WalOptions
from tests.unit.wal.support import WatchedFileSystem, codec, flipped, new_log, path, segment

ENTRIES = [b"%d" % number * 20 for number in range(200)]


def drain(reader: wal.Reader) -> list[tuple[int, bytes]]:
    """What there is now."""
    found: list[tuple[int, bytes]] = []
    while (frames := reader.read_batch()) is not None:
        found += enumerate(frames.datas(), frames.first_sequence)
    return found


@pytest.mark.parametrize("start", [None, 0, 1, 17, 199, 200])
def test_a_reader_starts_at_any_sequence_number(start: int | None) -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    log.append_many(ENTRIES)

    assert list(wal.Reader("log", start, fs=system)) == list(enumerate(ENTRIES))[start or 0 :]


def test_a_sequence_number_that_is_not_there_is_named() -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    log.append_many(ENTRIES)
    log.truncate_before(100)

    with pytest.raises(WalSequenceUnknown):
        wal.Reader("log", 201, fs=system)
    with pytest.raises(WalSequenceUnknown):
        wal.Reader("log", log.first_sequence - 1, fs=system)
    with pytest.raises(WalMissing):
        wal.Reader("nowhere", fs=system)


def test_a_reader_goes_back_and_forth() -> None:
    system = WatchedFileSystem()
    log = new_log(system, WalOptions(segment_bytes_max=1 << 20, preallocate_bytes=0, prepare_next=False))
    log.append_many([b"%05d" % number * 20 for number in range(5000)])
    reader = wal.Reader("log", fs=system)
    drain(reader)

    for sequence in (4000, 10, 4999, 0):
        system.preads.clear()
        reader.seek(sequence)
        assert reader.next_sequence == sequence
        frames = reader.read_batch()
        assert frames is not None
        assert frames.datas()[0] == b"%05d" % sequence * 20


@pytest.mark.parametrize("preallocate", [0, 4096])
def test_a_reader_follows_a_writer_entry_by_entry_over_rollovers(preallocate: int) -> None:
    system = MemoryFileSystem()
    log = new_log(system, WalOptions(segment_bytes_max=1024, preallocate_bytes=preallocate, prepare_next=False))
    reader = wal.Reader("log", fs=system)

    for number, data in enumerate(ENTRIES):
        assert reader.read_batch() is None
        log.append(data)
        assert drain(reader) == [(number, data)]


def test_a_reader_that_comes_late_to_a_rollover_misses_nothing() -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    reader = wal.Reader("log", fs=system)
    found = []

    for at in range(0, 200, 40):
        log.append_many(ENTRIES[at : at + 40])
        found += drain(reader)

    assert found == list(enumerate(ENTRIES))


def test_following_waits_for_more_until_it_is_closed() -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    reader = wal.Reader("log", follow=True, poll_seconds=0.001, fs=system)
    found: list[tuple[int, bytes]] = []

    def follow() -> None:
        found.extend(take(reader, 200))

    thread = Thread(target=follow, daemon=True)
    thread.start()
    for data in ENTRIES:
        log.append(data)
    thread.join(10)

    assert found == list(enumerate(ENTRIES))
    ender = Thread(target=reader.close, daemon=True)
    ender.start()
    ender.join(10)
    with pytest.raises(WalClosed):
        reader.read_batch()


def take(reader: wal.Reader, count: int) -> Iterator[tuple[int, bytes]]:
    for number, item in enumerate(reader, 1):
        yield item
        if number == count:
            return


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_an_entry_that_is_being_written_is_no_entry_yet_and_one_later(cut: int) -> None:
    whole = segment(0, [b"good"])
    frame = codec().encode_frame(b"being written" * 4)
    for behind in (b"", bytes(500)):
        system = MemoryFileSystem({path(0): whole + frame[:cut] + behind})
        reader = wal.Reader("log", fs=system)
        assert drain(reader) == [(0, b"good")]
        assert reader.read_batch() is None

        system.inodes[path(0)].write(frame, len(whole))

        assert drain(reader) == [(1, b"being written" * 4)]


def test_damage_is_damage_and_not_the_end() -> None:
    content = segment(0, [b"entry"] * 10)
    frame = codec().frame_size(5)

    with pytest.raises(WalEntryDamaged) as caught:
        list(wal.Reader("log", fs=MemoryFileSystem({path(0): flipped(content, 16 + 4 * frame + 6)})))
    assert (caught.value.offset, caught.value.sequence) == (16 + 4 * frame, 4)
    with pytest.raises(WalSegmentGap):
        list(wal.Reader("log", fs=MemoryFileSystem({path(0): content, path(12): segment(12, [])})))
    with pytest.raises(WalHeaderDamaged):
        wal.Reader("log", fs=MemoryFileSystem({path(0): flipped(content, 0)}))


def test_entries_that_were_read_and_then_cut_off_are_missed() -> None:
    system = MemoryFileSystem()
    log = new_log(system, WalOptions(preallocate_bytes=0, prepare_next=False))
    log.append_many([b"one", b"two", b"three"])
    reader = wal.Reader("log", fs=system)
    assert len(drain(reader)) == 3

    log.truncate_behind(1)
    log.append_many([b"other", b"and one more"])

    with pytest.raises(WalDiscarded):
        drain(reader)
    reader.seek(2)
    assert drain(reader) == [(2, b"other"), (3, b"and one more")]


def test_a_segment_that_was_read_and_then_cut_off_is_missed() -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    log.append_many(ENTRIES)
    reader = wal.Reader("log", fs=system)
    drain(reader)

    log.truncate_behind(3)

    with pytest.raises(WalDiscarded):
        drain(reader)


def test_a_reader_that_compaction_has_overtaken_says_what_is_left() -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    log.append_many(ENTRIES)
    reader = wal.Reader("log", fs=system)
    first = reader.read_batch()
    assert first is not None

    log.truncate_before(150)

    with pytest.raises(WalSequenceUnknown) as caught:
        drain(reader)
    assert caught.value.first == log.first_sequence


def test_a_reader_needs_no_lock_and_changes_nothing() -> None:
    files = {path(0): segment(0, [b"a"], b"\x05\0\0\0torn"), path(1) + ".tmp": b"left over"}
    system = MemoryFileSystem(files)
    held = system.lock("log")

    assert list(wal.Reader("log", fs=system)) == [(0, b"a")]

    held.release()
    assert system.files() == files


def test_a_reader_of_an_empty_segment_that_is_begun_again_with_other_settings_follows() -> None:
    system = MemoryFileSystem({path(0): segment(0, [], of=codec(LengthEncoding.UINT16))})
    reader = wal.Reader("log", fs=system)
    waiting = wal.Reader("log", fs=system)
    assert waiting.read_batch() is None

    with wal.open("log", WalOptions(length_encoding=LengthEncoding.UINT64, preallocate_bytes=0), sync=wal.NoSync(), fs=system) as log:
        log.append_frames(*log.codec.encode_frames([b"a", b"b"]))

    assert drain(reader) == drain(waiting) == [(0, b"a"), (1, b"b")]


def test_looking_for_more_does_not_read_a_whole_preallocated_segment() -> None:
    system = WatchedFileSystem()
    options = WalOptions(preallocate_bytes=8 << 20, prepare_next=False)
    with new_log(system, options) as log:
        log.append(b"x")
        reader = wal.Reader("log", fs=system)
        assert drain(reader) == [(0, b"x")]
        system.preads.clear()

        assert drain(reader) == []

        assert sum(count for _, _, count in system.preads) < 1 << 17
        log.append(b"y")
        assert drain(reader) == [(1, b"y")]
