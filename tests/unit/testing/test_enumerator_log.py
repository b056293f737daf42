"""Every crash of the log: its workloads over all encodings and checksums, and crashes during the recovery from a crash."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from random import Random
from time import monotonic
from typing import cast

import pytest

from replog import wal
from replog.filesystem import FileSystem
from replog.testing.enumerator import Coverage, Image, Mark, crash_images, enumerate_crashes, record_run
from replog.testing.log_workloads import DIRECTORY, WORKS, LogWorkload, MarkedLog, append_over_two_rollovers, small_options
from replog.testing.memory_files import MemoryFileSystem
from replog.testing.recording import Marked
from replog.wal import ChecksumType, LengthEncoding

SETTINGS = list(product(LengthEncoding, ChecksumType))


def workload(
    name: str,
    encoding: LengthEncoding = LengthEncoding.UINT32,
    checksum: ChecksumType = ChecksumType.CRC32,
    *,
    sync: type[wal.NoSync | wal.ImmediateSync | wal.GroupedSync] = wal.NoSync,
    preallocate: bool = True,
    reopen: bool = False,
) -> LogWorkload:
    options = small_options(encoding, checksum, preallocate=preallocate)
    return LogWorkload(name, WORKS[name], options, sync, reopen)


def assert_met(coverage: Coverage, *kinds: str) -> None:
    assert coverage.opened > 50, coverage
    assert coverage.refused > 0, coverage
    assert all(coverage.kinds.get(kind) for kind in kinds), coverage


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
@pytest.mark.parametrize("name", WORKS)
def test_no_crash_takes_what_was_synced_or_brings_what_was_not_written(name: str, encoding: LengthEncoding, checksum: ChecksumType) -> None:
    case = workload(name, encoding, checksum)

    coverage = enumerate_crashes(case.run, case.check)

    assert_met(coverage, "Created", "Written", "Renamed", "DirectorySynced", "Synced", "Truncated")


@pytest.mark.slow
@pytest.mark.parametrize("sync", [wal.ImmediateSync, wal.GroupedSync])
@pytest.mark.parametrize("name", WORKS)
def test_no_crash_takes_what_an_append_that_waits_for_its_sync_acknowledged(
    name: str, sync: type[wal.ImmediateSync | wal.GroupedSync]
) -> None:
    case = workload(name, sync=sync)

    coverage = enumerate_crashes(case.run, case.check)

    assert_met(coverage, "Written", "Synced")


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_a_log_without_preallocation_survives_every_crash(name: str) -> None:
    case = workload(name, preallocate=False)

    coverage = enumerate_crashes(case.run, case.check)

    assert_met(coverage, "Written", "Synced")


@pytest.mark.slow
def test_a_log_that_is_closed_and_opened_again_survives_every_crash() -> None:
    case = workload("everything", reopen=True, sync=wal.ImmediateSync)

    coverage = enumerate_crashes(case.run, case.check, images_max=1500)

    assert_met(coverage, "Written", "Synced")


@pytest.mark.slow
def test_a_log_whose_next_segment_is_prepared_by_a_thread_survives_every_crash() -> None:
    options = small_options(LengthEncoding.UINT32, ChecksumType.CRC32, prepare=True)
    case = LogWorkload("append over two rollovers", append_over_two_rollovers, options, wal.NoSync)

    coverage = enumerate_crashes(case.run, case.check, images_max=1500)

    assert_met(coverage, "Written", "Renamed")


class Reopening:
    """A program that opens what a crash has left and appends to it; the promises are those of the run before."""

    def __init__(self, case: LogWorkload, image: Image, marks: Sequence[object]) -> None:
        self.case, self.image, self.before = case, image, list(marks)

    def run(self, files: FileSystem, mark: Mark) -> None:
        if not wal.exists(DIRECTORY, fs=files):
            return
        with self.case.opened(files, mark) as log:
            log.append(b"one more")
            log.append(bytes(600), b"and two more")
            log.sync()

    def check(self, image: Image, marks: Sequence[object]) -> bool:
        return self.case.check(image, [*self.before, *marks])


def crash_twice(case: LogWorkload, chance: Random, count: int, images_max: int | None) -> Coverage:
    """Crash, and crash again while what was left is opened; `count` first crashes drawn from all."""
    recording = record_run(case.run)
    images = [image for image in crash_images(recording, random_per_prefix=2, chance=chance) if image.possible]
    total = Coverage()
    for image in chance.sample(images, min(count, len(images))):
        marks = [operation.value for operation in recording.record[: image.at] if isinstance(operation, Marked)]
        again = Reopening(case, image, marks)
        total.add(enumerate_crashes(again.run, again.check, base=MemoryFileSystem(image.files, image.directories), images_max=images_max))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_a_crash_during_the_recovery_from_a_crash_loses_nothing(name: str) -> None:
    coverage = crash_twice(workload(name), Random(name), 25, 60)

    assert coverage.opened > 300, coverage
    assert coverage.kinds["Truncated"] > 3, coverage


def test_the_oracle_finds_an_acknowledged_entry_that_is_missing() -> None:
    def acknowledge_too_early(log: MarkedLog) -> None:
        log.append(b"first")
        log.sync()
        mark_durable(log)

    def mark_durable(log: MarkedLog) -> None:
        log.append(b"second")
        log._mark(log_promise(log))

    from replog.testing.log_workloads import Promised

    def log_promise(log: MarkedLog) -> Promised:
        return Promised(log.log.first_sequence, log.log.next_sequence, log.log.next_sequence)

    case = LogWorkload("too early", acknowledge_too_early, small_options(LengthEncoding.UINT32, ChecksumType.CRC32), wal.NoSync)

    with pytest.raises(AssertionError, match=r"found the entries from 0 to before 1; allowed: from 0\.\.0 to before 2\.\.2"):
        enumerate_crashes(case.run, case.check)


@pytest.mark.hunt
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_hunt_for_a_crash_that_breaks_a_promise() -> None:
    deadline = monotonic() + float(os.environ.get("REPLOG_HUNT_SECONDS", "5"))
    seed, total = int(os.environ.get("REPLOG_HUNT_SEED", "1")), Coverage()
    while monotonic() < deadline:
        chance = Random(seed)
        encoding, checksum = chance.choice(SETTINGS)
        sync = cast("type[wal.NoSync]", chance.choice([wal.NoSync, wal.ImmediateSync, wal.GroupedSync]))
        case = workload(
            chance.choice(sorted(WORKS)), encoding, checksum, sync=sync, preallocate=chance.random() < 0.7, reopen=chance.random() < 0.3
        )
        try:
            total.add(enumerate_crashes(case.run, case.check, random_per_prefix=4, seed=seed, images_max=600))
            total.add(crash_twice(case, chance, 5, 40))
        except AssertionError as error:
            raise AssertionError(f"REPLOG_HUNT_SEED={seed}, {case}: {error}") from error
        seed += 1
    assert_met(total, "Created", "Written", "Renamed", "DirectorySynced", "Synced")
