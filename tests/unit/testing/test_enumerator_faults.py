"""A disk that fails beside the log: every call of every kind once, and every size of the room that is left.

What must hold each time: the error has a name; nothing is acknowledged behind it; what was acknowledged is there after a reopen, also when the
power goes at that moment.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial

import pytest

from replog import wal
from replog.errors import DiskFull, StorageError, WalError
from replog.testing.enumerator import Image, Mark, check_record, record_run
from replog.testing.faulty_files import CALL_KINDS, Fault, FaultyFileSystem
from replog.testing.log_workloads import DIRECTORY, WORKS, Creating, LogWorkload, MarkedLog, small_options
from replog.testing.recording import Marked, RecordingFileSystem
from replog.wal import ChecksumType, LengthEncoding

OPTIONS = small_options(LengthEncoding.UINT32, ChecksumType.CRC32)
CHANGES = tuple(kind for kind in CALL_KINDS if kind != "make_dirs")


def count_calls(case: LogWorkload) -> dict[str, int]:
    files = FaultyFileSystem(RecordingFileSystem())
    case.run(files, lambda value: None)
    return files.calls


def run_with(files: FaultyFileSystem, case: LogWorkload, mark: Mark) -> None:
    """Run until the fault; whatever comes out has a name, and a log that has failed gives the same error to every later call."""
    try:
        mark(Creating(0))
        wal.create(DIRECTORY, case.options, fs=files)
        log = wal.open(DIRECTORY, case.options, sync=case.sync(), fs=files)
    except (WalError, StorageError):
        return
    failure = None
    try:
        case.work(MarkedLog(log, mark))
    except (WalError, StorageError) as error:
        failure = error
    if failure is not None:
        for later in (
            partial(log.append, b"x"),
            partial(log.append_many, [b"x", b"y"]),
            partial(log.truncate_behind, log.first_sequence - 1),
        ):
            with pytest.raises((WalError, StorageError)) as caught:
                later()
            assert caught.value is failure, "another error than the first one"
        readable = [log.read(sequence) for sequence in range(log.first_sequence, log.next_sequence)] if files.fault is None else []
        assert all(isinstance(data, bytes) for data in readable)
    try:
        log.close()
    except (WalError, StorageError):
        assert files.failed


def faults_of(kind: str, calls: int) -> Iterator[Fault]:
    for number in range(calls):
        yield Fault(kind=kind, number=number)
        if kind in ("sync", "sync_dir", "rename", "remove"):
            yield Fault(kind=kind, number=number, happens=True)
            yield Fault(kind=kind, number=number, sticky=True)
        if kind in ("create", "rename", "allocate", "pwrite"):
            yield Fault(kind=kind, number=number, error=errno.ENOSPC)
        if kind == "pwrite":
            for short in (0, 1, 9, 600):
                yield Fault(kind=kind, number=number, short_bytes=short)


def check_after(recording: RecordingFileSystem, case: LogWorkload) -> None:
    """Reopen what is there now, and what is there if the power goes now."""
    marks = [operation.value for operation in recording.record if isinstance(operation, Marked)]
    now = Image(len(recording.record), "as it is", recording.files(), True, frozenset(recording.directories))
    assert case.check(now, marks)
    check_record(recording, case.check, first=len(recording.record), images_max=12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("name", WORKS)
def test_a_call_that_fails_is_named_and_takes_nothing_that_was_acknowledged(name: str, kind: str) -> None:
    case = LogWorkload(name, WORKS[name], OPTIONS, wal.ImmediateSync)
    calls = count_calls(case)[kind]
    met = 0

    for fault in faults_of(kind, calls):
        recording = RecordingFileSystem()
        files = FaultyFileSystem(recording, fault)
        run_with(files, case, recording.mark)
        met += files.failed
        check_after(recording, case)

    assert met >= calls > 0 or kind in ("pread", "remove")


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_byte_takes_nothing_that_was_acknowledged() -> None:
    options = small_options(LengthEncoding.UINT32, ChecksumType.CRC32, preallocate=False)
    case = LogWorkload("append", WORKS["append over two rollovers"], options, wal.ImmediateSync)
    whole = sum(map(len, record_run(case.run).files().values()))
    assert whole > 3000

    for room in [*range(700), *range(700, whole, 13), whole]:
        recording = RecordingFileSystem()
        files = FaultyFileSystem(recording, room_bytes=room)
        run_with(files, case, recording.mark)
        marks = [operation.value for operation in recording.record if isinstance(operation, Marked)]
        image = Image(len(recording.record), f"room for {room} bytes", recording.files(), True, frozenset(recording.directories))

        assert files.failed is (room < whole)
        assert case.check(image, marks)


def test_a_full_disk_is_called_that_and_the_log_goes_on_after_a_reopen_when_there_is_room() -> None:
    options = small_options(LengthEncoding.UINT32, ChecksumType.CRC32, preallocate=False)
    files = FaultyFileSystem(RecordingFileSystem(), room_bytes=100)
    wal.create("log", options, fs=files)
    log = wal.open("log", options, sync=wal.ImmediateSync(), fs=files)
    log.append(b"acknowledged")

    with pytest.raises(DiskFull):
        log.append(bytes(200))
    assert log.read(0) == b"acknowledged"
    log.close()
    files.room_bytes = 1000
    with wal.open("log", options, sync=wal.ImmediateSync(), fs=files) as log:
        assert log.next_sequence == 1
        assert log.append(bytes(200)) == 1

    assert [data for _, data in wal.Reader("log", fs=files)] == [b"acknowledged", bytes(200)]


def test_a_create_that_fails_leaves_no_log_and_can_be_done_again() -> None:
    for kind in ("create", "allocate", "pwrite", "sync", "rename"):
        recording = RecordingFileSystem()
        with pytest.raises((WalError, StorageError)):
            wal.create("log", OPTIONS, fs=FaultyFileSystem(recording, Fault(kind=kind, number=0, error=errno.ENOSPC)))

        assert not wal.exists("log", fs=recording)
        wal.create("log", OPTIONS, fs=recording)
        with wal.open("log", OPTIONS, fs=recording) as log:
            assert log.append(b"x") == 0


def test_a_sync_that_failed_is_not_tried_again_and_nothing_behind_it_is_acknowledged() -> None:
    recording = RecordingFileSystem()
    wal.create("log", OPTIONS, fs=recording)
    files = FaultyFileSystem(recording, Fault(kind="sync", number=2))
    log = wal.open("log", OPTIONS, sync=wal.GroupedSync(), fs=files)
    log.append(b"durable")

    for _ in range(3):
        with pytest.raises(StorageError):
            log.append(b"not durable")
        with pytest.raises(StorageError):
            log.sync()

    assert log.durable_sequence == 1
    assert files.calls["sync"] == 3
    log.close()
