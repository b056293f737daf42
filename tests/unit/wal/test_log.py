"""Appending, reading, truncating: what the log is for."""

from __future__ import annotations

import random
from pathlib import Path
from threading import Thread

import pytest

from replog import wal
from replog.errors import ConfigError, WalClosed, WalEntryTooLarge, WalExists, WalFailed, WalMissing, WalSequenceUnknown
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, LengthEncoding, WalOptions
from tests.unit.wal.support import SMALL, WatchedFileSystem, all_of, codec, new_log, path, reopened, segment

MIXED = [random.Random(5).randbytes(size) for size in (0, 1, 300, 2, 2, 2, 900, 0, 0, 40, 1500, 7) * 8]


def test_appends_return_sequence_numbers_without_a_gap_whatever_way_they_come() -> None:
    log = new_log(MemoryFileSystem(), WalOptions(segment_bytes_max=1024, first_sequence=100, prepare_next=False))

    assert log.append(b"a") == 100
    assert log.append_many([b"b", b"c"]) == 101
    assert log.append_frames(*log.codec.encode_frames([b"d"])) == 103
    assert log.append_many([]) == 104
    assert log.append_frames(b"", ()) == 104
    assert log.append(bytearray(b"e")) == 104
    assert log.append(memoryview(b"f")) == 105
    assert log.append_many([memoryview(b"g"), bytearray(b"h")]) == 106
    assert (log.first_sequence, log.last_sequence, log.next_sequence) == (100, 107, 108)
    assert all_of(log) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]


@pytest.mark.parametrize("encoding", LengthEncoding)
@pytest.mark.parametrize("checksum", ChecksumType)
def test_what_was_appended_is_read_singly_in_bulk_and_after_a_reopen(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    system = MemoryFileSystem()
    options = WalOptions(
        length_encoding=encoding, checksum_type=checksum, segment_bytes_max=2048, preallocate_bytes=4096, prepare_next=False
    )
    log = new_log(system, options)
    for data in MIXED[:20]:
        log.append(data)
    log.append_many(MIXED[20:])

    assert [log.read(sequence) for sequence in range(len(MIXED))] == MIXED
    assert all_of(log) == MIXED
    log.close()
    assert reopened(system, SMALL) == MIXED
    assert list(wal.Reader("log", fs=system)) == list(enumerate(MIXED))


def test_bulk_reads_end_at_the_last_entry_asked_for_at_the_bytes_and_at_a_segment() -> None:
    log = new_log(MemoryFileSystem(), WalOptions(segment_bytes_max=1024, prepare_next=False))
    log.append_many([b"x" * 92] * 30)

    assert len(log.read_range(0, 3, 10_000)) == 4
    assert len(log.read_range(0, 29, 250)) == 2
    assert len(log.read_range(0, 29, 0)) == 1
    assert len(log.read_range(0, 29, 10_000)) == log.segments()[0].next_sequence == 11
    frames = log.read_frames(12, 14, 10_000)
    assert (frames.first_sequence, frames.next_sequence, list(frames.ends)) == (12, 15, [100, 200, 300])
    assert frames.buffer == log.codec.encode_frames([b"x" * 92] * 3)[0]


def test_reading_what_is_not_there_names_what_is() -> None:
    log = new_log(MemoryFileSystem())
    with pytest.raises(WalSequenceUnknown, match="empty, its next is 0"):
        log.read(0)
    log.append_many([b"a", b"b"])

    with pytest.raises(WalSequenceUnknown, match="holds 0 to 1"):
        log.read(2)
    with pytest.raises(WalSequenceUnknown):
        log.read_range(5, 9, 100)


def test_an_entry_too_large_is_refused_alone_and_nothing_of_its_batch_is_written() -> None:
    system = MemoryFileSystem()
    log = new_log(system, WalOptions(length_encoding=LengthEncoding.UINT16, prepare_next=False))

    with pytest.raises(WalEntryTooLarge):
        log.append(bytes(65536))
    with pytest.raises(WalEntryTooLarge):
        log.append_many([b"small", bytes(65536)])

    assert log.next_sequence == 0
    assert log.append(bytes(65535)) == 0
    assert reopened_after(log, system) == [bytes(65535)]


def reopened_after(log: wal.Log, system: MemoryFileSystem) -> list[bytes]:
    log.close()
    return reopened(system)


def test_a_segment_rolls_over_before_the_append_that_finds_it_at_its_limit() -> None:
    rolled: list[tuple[int, int]] = []
    system = MemoryFileSystem()
    wal.create("log", SMALL, fs=system)
    log = wal.open("log", SMALL, sync=wal.NoSync(), on_rollover=lambda *pair: rolled.append(pair), fs=system)

    log.append(bytes(1024 - 16 - 8))  # exactly at the limit
    assert rolled == []
    log.append(b"next")
    log.append_many([bytes(500)] * 5)

    assert rolled == [(0, 1), (1, 4), (4, 6)]
    assert [(info.path, info.first_sequence, info.next_sequence) for info in log.segments()] == [
        (path(0), 0, 1),
        (path(1), 1, 4),
        (path(4), 4, 6),
        (path(6), 6, 7),
    ]
    assert log.size_bytes == sum(info.end_offset for info in log.segments()) == 1024 + (16 + 12 + 2 * 508) + (16 + 2 * 508) + (16 + 508)


def test_the_rollover_callback_may_use_the_log() -> None:
    seen: list[int] = []
    system = MemoryFileSystem()
    wal.create("log", SMALL, fs=system)

    def on_rollover(_previous: int, following: int) -> None:
        seen.append(following)
        log.append(b"from the callback")
        log.truncate_before(following)

    log = wal.open("log", SMALL, sync=wal.GroupedSync(), on_rollover=on_rollover, fs=system)
    for _ in range(12):
        log.append(b"entry" * 30)

    assert len(seen) >= 1
    assert log.first_sequence == seen[-1]


def test_other_settings_at_open_count_from_the_next_segment_on() -> None:
    system = MemoryFileSystem({path(0): segment(0, [b"old"], of=codec(LengthEncoding.UINT16))})
    options = WalOptions(
        length_encoding=LengthEncoding.UVARINT,
        checksum_type=ChecksumType.CRC64,
        segment_bytes_max=256,
        preallocate_bytes=0,
        prepare_next=False,
    )

    with wal.open("log", options, sync=wal.NoSync(), fs=system) as log:
        log.append(b"still old")
        log.append_many([b"x" * 100] * 4)
        assert [info.codec.length_encoding for info in log.segments()] == [LengthEncoding.UINT16, LengthEncoding.UVARINT]
    assert reopened(system) == [b"old", b"still old", *[b"x" * 100] * 4]


def test_framed_batches_begin_a_segment_of_their_own_settings() -> None:
    system = MemoryFileSystem({path(0): segment(0, [], of=codec(LengthEncoding.UINT16))})
    options = WalOptions(length_encoding=LengthEncoding.UINT32, preallocate_bytes=0, prepare_next=False)

    with wal.open("log", options, sync=wal.NoSync(), fs=system) as log:
        log.append_frames(*log.codec.encode_frames([b"framed"]))
        assert [info.codec.length_encoding for info in log.segments()] == [LengthEncoding.UINT32]
        assert log.read(0) == b"framed"
    assert reopened(system) == [b"framed"]


@pytest.mark.parametrize("cut", [*range(-1, 96, 5), 94, 95])
def test_truncating_behind_keeps_exactly_what_is_in_front(cut: int) -> None:
    system = MemoryFileSystem()
    log = new_log(system, WalOptions(segment_bytes_max=2048, preallocate_bytes=4096, prepare_next=False))
    log.append_many(MIXED)

    log.truncate_behind(cut)

    kept = MIXED[: cut + 1]
    assert log.next_sequence == len(kept)
    assert log.durable_sequence == len(kept) or cut == 95  # nothing to discard, nothing done
    assert all_of(log) == kept
    log.append_many([b"new" * 50, b"newer"])
    assert all_of(log) == [*kept, b"new" * 50, b"newer"]
    assert log.size_bytes == sum(info.end_offset for info in log.segments())
    assert reopened_after(log, system) == [*kept, b"new" * 50, b"newer"]


def test_truncating_behind_what_is_not_there_is_refused() -> None:
    log = new_log(MemoryFileSystem())
    log.append_many([b"a", b"b"])

    for sequence in (-2, 2):
        with pytest.raises(WalSequenceUnknown):
            log.truncate_behind(sequence)
    log.truncate_behind(1)

    assert log.next_sequence == 2


def test_truncating_before_removes_whole_segments_and_never_the_last() -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    log.append_many([b"x" * 100] * 40)
    first = [info.first_sequence for info in log.segments()]
    assert len(first) > 3

    log.truncate_before(first[1])
    assert log.first_sequence == first[1]
    log.truncate_before(first[2] - 1)
    assert log.first_sequence == first[1]
    log.truncate_before(1000)
    assert log.first_sequence == first[-1]

    with pytest.raises(WalSequenceUnknown):
        log.read(first[-1] - 1)
    assert all_of(log) == [b"x" * 100] * (40 - first[-1])
    assert log.size_bytes == log.segments()[0].end_offset
    assert reopened_after(log, system) == [b"x" * 100] * (40 - first[-1])


def test_segments_are_removed_one_by_one_and_durably_from_the_end_that_leaves_no_gap() -> None:
    system = WatchedFileSystem()
    log = new_log(system)
    log.append_many([b"x" * 100] * 40)
    first = [info.first_sequence for info in log.segments()]

    system.calls.clear()
    log.truncate_before(first[2])
    assert system.calls == [("remove", path(first[0])), ("sync_dir", "log"), ("remove", path(first[1])), ("sync_dir", "log")]

    system.calls.clear()
    log.truncate_behind(first[2] + 1)
    removes = [call for call in system.calls if call[0] == "remove"]
    assert removes == [("remove", path(sequence)) for sequence in reversed(first[3:])]
    assert [call for call in system.calls if call[0] in {"remove", "sync_dir"}] == [
        call for remove in removes for call in (remove, ("sync_dir", "log"))
    ]
    assert system.calls[-1] == ("sync", path(first[2]))


@pytest.mark.parametrize("target", [0, 3, 40, 1000])
def test_a_reset_begins_an_empty_log_anywhere(target: int) -> None:
    system = MemoryFileSystem()
    log = new_log(system)
    log.append_many([b"x" * 100] * 40)

    log.reset(target)

    assert (log.first_sequence, log.next_sequence, log.durable_sequence, log.segment_count) == (target, target, target, 1)
    assert log.append(b"new") == target
    log.close()
    assert list(system.files()) == [path(target)]
    assert list(wal.Reader("log", fs=system)) == [(target, b"new")]


def test_entries_written_by_many_threads_are_all_there_once() -> None:
    system = MemoryFileSystem()
    log = new_log(system, WalOptions(segment_bytes_max=4096, prepare_next=True))
    numbers: list[list[tuple[int, bytes]]] = [[] for _ in range(6)]

    def work(writer: int) -> None:
        for at in range(300):
            data = b"%d-%d" % (writer, at)
            if at % 3:
                numbers[writer].append((log.append(data), data))
            else:
                numbers[writer].append((log.append_many([data, b"second"]), data))

    threads = [Thread(target=work, args=(writer,), daemon=True) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    datas = all_of(log)
    assert len(datas) == 6 * 400
    for mine in numbers:
        assert [sequence for sequence, _ in mine] == sorted(sequence for sequence, _ in mine)
        assert all(datas[sequence] == data for sequence, data in mine)
    assert reopened_after(log, system) == datas


def test_create_and_open_say_what_is_there() -> None:
    system = MemoryFileSystem()

    assert not wal.exists("log", fs=system)
    with pytest.raises(WalMissing):
        wal.open("log", fs=system)
    wal.create("log", SMALL, fs=system)
    assert wal.exists("log", fs=system)
    with pytest.raises(WalExists):
        wal.create("log", SMALL, fs=system)
    assert system.files() == {path(0): segment(0, [])}


def test_what_opening_has_read_ahead_is_dropped_before_the_first_append() -> None:
    """It is in large pages of the system's memory, and a small write into one of them is slow."""
    fs = WatchedFileSystem()
    wal.create("log", SMALL, fs=fs)

    with wal.open("log", SMALL, fs=fs) as log:
        assert [call for call, name in fs.calls if name == path(0)][-2:] == ["sync", "drop_cache"]
        log.append(b"x")


def test_a_directory_that_is_a_file_or_cannot_be_made_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    for directory in (str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        with pytest.raises(WalFailed):
            wal.create(directory)
        with pytest.raises((WalFailed, WalMissing)):
            wal.open(directory)


def test_a_closed_log_refuses_everything_and_closing_again_is_nothing() -> None:
    log = new_log(MemoryFileSystem())
    log.append(b"a")
    log.close()
    log.close()

    for call in (
        lambda: log.append(b"b"),
        lambda: log.append_many([b"b"]),
        lambda: log.append_frames(b"", ()),
        log.sync,
        lambda: log.read(0),
        lambda: log.truncate_behind(-1),
        lambda: log.truncate_before(1),
        lambda: log.reset(5),
    ):
        with pytest.raises(WalClosed):
            call()


def test_a_clean_close_makes_everything_durable_and_leaves_only_segments(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    options = WalOptions(segment_bytes_max=1 << 16)
    wal.create(str(directory), options)
    log = wal.open(str(directory), options, sync=wal.NoSync())
    log.append_many([bytes(1000)] * 50)  # the next segment is being prepared
    assert log.durable_sequence == 0

    log.close()

    assert log.durable_sequence == 50
    assert [name.name for name in directory.iterdir()] == ["00000000000000000000.wal"]


@pytest.mark.parametrize(
    "wrong",
    [{"segment_bytes_max": 0}, {"preallocate_bytes": -1}, {"entry_bytes_max": -1}, {"first_sequence": 2**64}, {"segment_bytes_max": 1.5}],
)
def test_a_wrong_option_is_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        WalOptions(**wrong)  # type: ignore[arg-type]


def test_reads_beside_appends_and_rollovers_see_whole_entries() -> None:
    log = new_log(MemoryFileSystem(), WalOptions(segment_bytes_max=2048, prepare_next=False))
    wrong: list[object] = []

    def read() -> None:
        at = 0
        while at < 4000:
            if at < log.next_sequence:
                datas = log.read_range(at, at + 50, 4096)
                wrong.extend(data for number, data in enumerate(datas, at) if data != b"%d" % number * 5)
                at += len(datas)

    reader = Thread(target=read, daemon=True)
    reader.start()
    for number in range(4000):
        log.append(b"%d" % number * 5)
    reader.join(30)

    assert not reader.is_alive()
    assert not wrong
