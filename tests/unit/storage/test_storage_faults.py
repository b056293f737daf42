"""What must be survived or refused by name (the rows of a node's storage): damage, loss, another's files, a failing and a full disk."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from replog import wal
from replog.errors import (
    CommittedEntriesLost,
    DirectoryExposed,
    DirectoryLocked,
    DiskFull,
    HardStateDamaged,
    ReplogError,
    StorageError,
    StorageFailed,
    WalDamaged,
)
from replog.filesystem import FileSystem
from replog.storage import hard_state
from replog.storage.disk import DiskStorage
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Write
from replog.storage.opening import wal_options
from replog.testing.enumerator import Mark
from replog.testing.faulty_files import CALL_KINDS, Fault, FaultyFileSystem
from replog.testing.memory_files import MemoryFileSystem
from replog.testing.storage_script import SCRIPTS, Script, body_of, observe, open_storage, states
from replog.testing.storage_suite import (
    CLUSTER,
    CODEC,
    NODE,
    VOTERS,
    BodyWriter,
    append,
    expected,
    frames_of,
    payload_of,
    read_all,
    refused,
)
from replog.types import EntryKind, HardState, SnapshotMeta


def nothing(_: object) -> None:
    pass


def used(*, snapshots: tuple[int, ...] = (), entries: int = 300, compact: int = 0, cleanly: bool = True) -> MemoryFileSystem:
    """A directory after a life: entries in several segments, snapshots, compaction."""
    files = MemoryFileSystem(directories=["data"])
    script = Script(files, nothing)
    script.elect(1)
    for _ in range(entries // 10):
        script.append(10, 1)
    for index in snapshots:
        script.snapshot(index, 1)
    if compact:
        script.compact(compact)
    if cleanly:
        script.storage.close()
    return MemoryFileSystem(files.files(), files.directories)


def segments(files: MemoryFileSystem) -> list[str]:
    return [path for path in files.files() if path.endswith(".wal")]


def changed(files: MemoryFileSystem, path: str, content: bytes | None) -> MemoryFileSystem:
    """The same directory with one file replaced or (None) removed."""
    contents = files.files()
    if content is None:
        del contents[path]
    else:
        contents[path] = content
    return MemoryFileSystem(contents, files.directories)


def refused_unchanged(kind: type[ReplogError], files: MemoryFileSystem) -> str:
    """Opening raises `kind` and changes nothing; returns the message."""
    before = files.files()
    error = refused(kind, open_storage, files)
    after = files.files()
    assert {path: content for path, content in after.items() if path != "data/lock"} == {
        path: content for path, content in before.items() if path != "data/lock"
    }
    assert not files.locks
    return str(error)


# -- hard state -------------------------------------------------------------------------------------------------------


def test_a_torn_hard_state_is_refused_at_every_byte() -> None:
    files = used()
    good = files.files()["data/hard_state"]

    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 0x10
        refused_unchanged(HardStateDamaged, changed(files, "data/hard_state", bytes(flipped)))
        refused_unchanged(HardStateDamaged, changed(files, "data/hard_state", good[:position]))


def test_a_missing_hard_state_beside_a_used_log_or_snapshots_is_refused() -> None:
    message = refused_unchanged(HardStateDamaged, changed(used(), "data/hard_state", None))
    assert "missing" in message

    files = used(snapshots=(100,))
    for path in segments(files):
        files = changed(files, path, None)
    assert "snapshots" in refused_unchanged(HardStateDamaged, changed(files, "data/hard_state", None))


def test_a_hard_state_older_than_the_log_is_refused() -> None:
    files = MemoryFileSystem(directories=["data"])
    script = Script(files, nothing)
    script.elect(1)
    old = files.files()["data/hard_state"]
    script.elect(5)
    script.append(10, 5)
    script.storage.close()
    files = MemoryFileSystem(files.files(), files.directories)

    assert "term is 1" in refused_unchanged(HardStateDamaged, changed(files, "data/hard_state", old))


def test_an_interrupted_creation_is_done_again() -> None:
    files = MemoryFileSystem(directories=["data"])
    open_storage(files).close()
    files = changed(MemoryFileSystem(files.files(), files.directories), "data/hard_state", None)

    storage = open_storage(files)

    assert (storage.first_index, storage.last_index) == (1, 0)


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_missing_segment_is_refused_wherever_it_was() -> None:
    files = used()
    paths = segments(files)
    assert len(paths) >= 4

    for path in paths:
        refused_unchanged(StorageError, changed(files, path, None))
    refused_unchanged(CommittedEntriesLost, changed(files, paths[-1], None))
    refused_unchanged(CommittedEntriesLost, changed(files, paths[0], None))


def test_the_last_segment_is_missed_after_a_crash_too() -> None:
    files = used(cleanly=False)

    message = refused_unchanged(CommittedEntriesLost, changed(files, segments(files)[-1], None))

    assert "hard_state" in message


def test_a_whole_missing_log_is_refused() -> None:
    files = used()
    for path in segments(files):
        files = changed(files, path, None)

    assert "no log" in refused_unchanged(CommittedEntriesLost, files)


def test_a_log_that_ends_before_what_a_clean_close_vouched_for_is_refused() -> None:
    files = used()
    last = segments(files)[-1]
    content = files.files()[last]

    for length in (len(content) - 1, len(content) - 70, 16, 5, 0):
        refused_unchanged(StorageError, changed(files, last, content[:length]))


def test_a_log_without_the_entries_that_no_snapshot_covers_is_refused() -> None:
    files = used(snapshots=(200,), compact=200)
    snapshot = "data/snapshots/00000000000000000200-1.snap"

    assert "no snapshot" in refused_unchanged(CommittedEntriesLost, changed(files, snapshot, None))


def test_a_gap_between_snapshot_and_log_is_refused() -> None:
    files = used(snapshots=(200,), compact=200)
    older = used(snapshots=(50,)).files()["data/snapshots/00000000000000000050-1.snap"]
    contents = {path: content for path, content in files.files().items() if not path.endswith(".snap")}
    contents["data/snapshots/00000000000000000050-1.snap"] = older

    assert "newest snapshot ends at 50" in refused_unchanged(CommittedEntriesLost, MemoryFileSystem(contents, files.directories))


def test_a_term_that_descends_from_one_segment_to_the_next_is_damage() -> None:
    files = used(entries=0)
    stored = hard_state.load(files, "data")
    hard_state.store(files, "data", replace(stored, hard_state=HardState(term=2)))
    options = wal_options(CLUSTER, NODE, prepare_next=False)
    with wal.open("data/wal", options, fs=files) as log:
        while log.segment_count < 2:
            entry = frames_of(log.next_sequence, 1, 2)
            log.append_frames(entry.buffer, entry.ends)
        log.truncate_behind(log.segments()[-1].first_sequence - 1)
        entry = frames_of(log.next_sequence, 1, 1)
        log.append_frames(entry.buffer, entry.ends)
        assert log.segments()[-1].first_sequence == log.last_sequence

    with pytest.raises(WalDamaged, match="has term 1, the one before it term 2"):
        open_storage(files)


def test_a_log_that_ends_before_the_snapshot_is_refused() -> None:
    files = used(snapshots=(290,), cleanly=False)
    paths = segments(files)
    for path in paths[2:]:
        files = changed(files, path, None)

    assert "before the snapshot" in refused_unchanged(CommittedEntriesLost, files)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (CODEC.encode(12, 1, EntryKind.COMMAND, [b"x"]), "entry 12 where entry 11 belongs"),
        (CODEC.encode(11, 0, EntryKind.COMMAND, [b"x"]), "term 0"),
        (CODEC.encode(11, 1, EntryKind.MEMBERSHIP, [b"no json"]), "membership"),
    ],
)
def test_a_well_framed_entry_that_does_not_belong_is_damage(entry: object, reason: str) -> None:
    files = used(entries=10)
    path = segments(files)[-1]
    assert isinstance(entry, type(frames_of(1, 1)))

    with pytest.raises(WalDamaged, match=reason) as caught:
        open_storage(changed(files, path, files.files()[path] + entry.buffer))
    assert caught.value.segment == path


def test_a_snapshot_and_a_log_that_contradict_each_other_are_refused() -> None:
    files = used(snapshots=(100,))
    other = MemoryFileSystem(directories=["data"])
    script = Script(other, nothing)
    script.elect(2)
    script.append(100, 2)
    script.snapshot(100, 2)
    contents = {**files.files(), "data/snapshots/00000000000000000100-2.snap": other.files()["data/snapshots/00000000000000000100-2.snap"]}
    stored = hard_state.load(files, "data")
    merged = MemoryFileSystem(contents, files.directories)
    hard_state.store(merged, "data", replace(stored, hard_state=HardState(term=2)))

    assert "has term" in refused_unchanged(CommittedEntriesLost, merged)


# -- promises ---------------------------------------------------------------------------------------------------------


def torn(files: MemoryFileSystem, *, hole: tuple[int, int] | None, keep: int | None = None) -> MemoryFileSystem:
    """The last segment with zeros in it, or cut."""
    path = segments(files)[-1]
    content = bytearray(files.files()[path])
    if hole is not None:
        content[hole[0] : hole[1]] = bytes(hole[1] - hole[0])
    return changed(files, path, bytes(content[:keep]))


def test_entries_behind_a_lost_sector_may_have_been_promised() -> None:
    files = used(entries=60, cleanly=False)
    last_in_segment = open_storage(MemoryFileSystem(files.files(), files.directories)).last_index
    files = torn(files, hole=(1024, 1536))

    storage = open_storage(files)

    found = storage.recovered
    assert found.last_index < last_in_segment
    assert found.maybe_promised == last_in_segment
    # It stays until the log is there again, over any number of lives.
    storage.close()
    storage = open_storage(files)
    assert storage.recovered.maybe_promised == last_in_segment
    append(storage, storage.last_index + 1, last_in_segment - storage.last_index - 1)
    assert storage.hard_state.maybe_promised == last_in_segment
    append(storage, last_in_segment, 1)
    storage.close()
    assert open_storage(files).recovered.maybe_promised == 0


def test_a_prefix_of_a_write_promises_nothing() -> None:
    files = used(entries=60, cleanly=False)
    path = segments(files)[-1]
    size = len(files.files()[path])

    for cut in (size - 1, size - 30, size - 200):
        storage = open_storage(torn(files, hole=None, keep=cut))
        assert storage.recovered.maybe_promised == 0
        assert storage.recovered.last_index < 60
    storage = open_storage(torn(files, hole=(size - 150, size)))
    assert storage.recovered.maybe_promised == 0


# -- snapshots --------------------------------------------------------------------------------------------------------

NEWEST = "data/snapshots/00000000000000000200-1.snap"


def damages(content: bytes) -> list[bytes]:
    """One in each region of the file."""
    found = [content[: len(content) // 2], content + b"x", b"", content[:20], bytes(len(content))]
    for position in (0, 4, 6, 8, 16, 24, 32, 36, 45, 60, len(content) - 1, len(content) // 2):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        found.append(bytes(damaged))
    return found


def test_a_damaged_snapshot_is_put_aside_and_the_one_before_it_is_used() -> None:
    files = used(snapshots=(100, 200), compact=200)

    for damaged in damages(files.files()[NEWEST]):
        place = changed(files, NEWEST, damaged)
        storage = open_storage(place)

        found = storage.recovered
        assert found.snapshot is not None
        assert found.snapshot.index == 100
        assert found.first_index <= 101
        assert NEWEST in str(storage.damaged_snapshots[0])
        with storage.open_snapshot(found.snapshot) as body:
            assert body.read() == body_of(100)
        assert place.files()[NEWEST + ".damaged"] == damaged
        assert NEWEST not in place.files()
        storage.close()
        assert open_storage(place).damaged_snapshots == ()


def test_a_damaged_only_snapshot_of_a_compacted_log_is_refused() -> None:
    files = used(snapshots=(200,), compact=200)

    for damaged in damages(files.files()[NEWEST]):
        with pytest.raises(CommittedEntriesLost, match=r"no snapshot covers.*snap"):
            open_storage(changed(files, NEWEST, damaged))


def test_a_damaged_only_snapshot_of_a_whole_log_is_replayed_over() -> None:
    files = used(snapshots=(200,))

    storage = open_storage(changed(files, NEWEST, b"rubbish"))

    assert storage.recovered.snapshot is None
    assert read_all(storage) == expected(1, 300)


# -- a failing and a full disk ----------------------------------------------------------------------------------------


def run_into(
    run: Callable[[FileSystem, Mark], None], files: MemoryFileSystem, faulty: FaultyFileSystem
) -> tuple[list[object], ReplogError | None]:
    """Run the script; (marks before the failure, the named error)."""
    marks: list[object] = []
    try:
        run(faulty, marks.append)
    except ReplogError as error:
        return marks, error
    return marks, None


def faults(kind: str, number: int) -> list[Fault]:
    found = [Fault(kind=kind, number=number, error=error) for error in (errno.EIO, errno.ENOSPC)]
    if kind in {"sync", "rename", "remove", "sync_dir"}:
        found.append(Fault(kind=kind, number=number, happens=True))
    if kind == "pwrite":
        found += [Fault(kind=kind, number=number, error=errno.ENOSPC, short_bytes=short) for short in (0, 1, 30, 600)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("run", SCRIPTS, ids=[run.__name__ for run in SCRIPTS])
def test_every_call_that_fails_is_named_and_loses_nothing_acknowledged(run: Callable[[FileSystem, Mark], None]) -> None:
    counted = FaultyFileSystem(MemoryFileSystem(directories=["data"]))
    run(counted, nothing)
    failed = 0

    for kind in CALL_KINDS:
        for number in range(counted.calls[kind]):
            for fault in faults(kind, number):
                files = MemoryFileSystem(directories=["data"])
                faulty = FaultyFileSystem(files, fault)
                marks, raised = run_into(run, files, faulty)
                if raised is None:
                    continue  # a call that may fail: removing what is no longer needed, giving back blocks
                failed += 1
                assert isinstance(raised, StorageError), raised
                if fault.error == errno.ENOSPC and kind in {"create", "pwrite", "allocate", "rename", "sync"}:
                    assert isinstance(raised, DiskFull), (kind, number, raised)
                observe(open_storage(MemoryFileSystem(files.files(), files.directories)), *states(marks))
    assert failed > 60


@pytest.mark.slow
@pytest.mark.parametrize("run", SCRIPTS, ids=[run.__name__ for run in SCRIPTS])
def test_a_disk_that_fills_up_anywhere_loses_nothing_and_goes_on_with_room(run: Callable[[FileSystem, Mark], None]) -> None:
    room, full = 0, 0
    while True:
        files = MemoryFileSystem(directories=["data"])
        faulty = FaultyFileSystem(files, room_bytes=room)
        marks, raised = run_into(run, files, faulty)
        if raised is None:
            break
        assert isinstance(raised, DiskFull), raised
        full += 1
        storage = open_storage(MemoryFileSystem(files.files(), files.directories))
        observe(storage, *states(marks))
        term = storage.recovered.hard_state.term + 1
        storage.persist(Write(hard_state=HardState(term=term), frames=(frames_of(storage.last_index + 1, 2, term),)))
        room += 211
    assert full > 20


@pytest.mark.parametrize("kind", ["sync", "pwrite"])
def test_a_failed_write_or_sync_is_final_and_what_was_there_stays_readable(kind: str) -> None:
    files = MemoryFileSystem(directories=["data"])
    faulty = FaultyFileSystem(files)
    storage = open_storage(faulty)
    storage.persist(Write(hard_state=HardState(term=1), frames=(frames_of(1, 5),)))
    faulty.fault = Fault(kind=kind, number=faulty.calls[kind])

    with pytest.raises(StorageFailed):
        storage.persist(Write(frames=(frames_of(6, 5),)))

    faulty.fault = None
    for write in (Write(), Write(hard_state=HardState(term=2)), Write(frames=(frames_of(6, 5),))):
        with pytest.raises(StorageFailed):
            storage.persist(write)
    assert storage.read_frames(1, 5, 10**6).payloads == [payload_of(index) for index in range(1, 6)]
    storage.close()
    reopened = open_storage(files)
    assert reopened.recovered.hard_state == HardState(term=1)
    assert read_all(reopened)[:5] == expected(1, 5)


def test_a_full_disk_under_a_snapshot_does_not_stop_the_log() -> None:
    files = MemoryFileSystem(directories=["data"])
    faulty = FaultyFileSystem(files)
    storage = open_storage(faulty)
    storage.persist(Write(hard_state=HardState(term=1), frames=(frames_of(1, 5),)))
    faulty.room_bytes = 5000

    with pytest.raises(DiskFull):
        storage.write_snapshot(SnapshotMeta(index=5, term=1, membership=VOTERS), BodyWriter(bytes(10_000)))

    assert [path for path in files.files() if "snapshots" in path] == []
    storage.persist(Write(frames=(frames_of(6, 5),)))
    assert storage.write_snapshot(SnapshotMeta(index=5, term=1, membership=VOTERS), BodyWriter(b"small")).size_bytes == 5


def test_a_state_machine_that_fails_to_write_its_state_leaves_no_file() -> None:
    class Failing:
        def write(self, sink: object) -> None:
            raise ZeroDivisionError

    files = MemoryFileSystem(directories=["data"])
    storage = open_storage(files)
    storage.persist(Write(hard_state=HardState(term=1), frames=(frames_of(1, 5),)))

    with pytest.raises(ZeroDivisionError):
        storage.write_snapshot(SnapshotMeta(index=5, term=1, membership=VOTERS), Failing())

    assert [path for path in files.files() if "snapshots" in path] == []
    assert storage.newest_snapshot() is None


# -- the directory ----------------------------------------------------------------------------------------------------


def test_a_path_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageFailed, match="file"):
            DiskStorage.open(str(path), CLUSTER, NODE)


def test_a_directory_that_is_open_is_refused_with_its_pid(tmp_path: Path) -> None:
    storage = DiskStorage.open(str(tmp_path), CLUSTER, NODE)

    with pytest.raises(DirectoryLocked, match="locked by process"):
        DiskStorage.open(str(tmp_path), CLUSTER, NODE)
    storage.close()


def test_a_directory_that_every_user_may_write_in_is_refused_untouched(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(DirectoryExposed, match=r"every user may write in it \(mode 0777\).*chmod"):
        DiskStorage.open(str(tmp_path), CLUSTER, NODE)
    assert list(tmp_path.iterdir()) == []


def test_another_users_directory_is_refused_untouched() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with TemporaryDirectory() as directory:  # pytest's own are closed to others
        Path(directory).chmod(0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(DirectoryExposed, match="belongs to user 0, and this process runs as user 65534"):
                DiskStorage.open(directory, CLUSTER, NODE)
        finally:
            os.seteuid(0)
        assert list(Path(directory).iterdir()) == []


def test_a_directory_that_is_made_is_for_its_user_alone_to_write_in(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        DiskStorage.open(str(tmp_path / "above" / "data"), CLUSTER, NODE).close()
    finally:
        os.umask(mask)

    assert stat.S_IMODE((tmp_path / "above" / "data").stat().st_mode) == 0o755


def test_one_persist_is_one_write_and_one_sync() -> None:
    faulty = FaultyFileSystem(MemoryFileSystem(directories=["data"]))
    storage = open_storage(faulty)
    storage.persist(Write(hard_state=HardState(term=1), frames=(frames_of(1, 3),)))
    before = dict(faulty.calls)

    storage.persist(Write(frames=(frames_of(4, 3), frames_of(7, 3), frames_of(10, 3))))

    made = {kind: count - before.get(kind, 0) for kind, count in faulty.calls.items() if count != before.get(kind, 0)}
    assert made == {"pwrite": 1, "sync": 1}


def test_a_log_of_another_encoding_is_read_and_goes_on_in_the_new_one() -> None:
    files = used()
    cluster = replace(CLUSTER, length_encoding="uvarint", checksum_type="crc64")
    codec = EntryFrameCodec.of(cluster)

    for _ in range(2):
        storage = DiskStorage.open("data", cluster, NODE, files, prepare_segments=False)
        first = storage.last_index + 1
        storage.persist(Write(frames=(frames_of(first, 5, codec=codec),)))
        for index in (1, 299, first):
            frames = storage.read_frames(index, index, 0)
            assert codec.decode(frames.buffer, index).payloads == [payload_of(index)]
        storage.close()
