"""The enumerator itself: what it takes from a record, and that it catches programs that promise too much."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from replog.filesystem import FileSystem
from replog.testing.enumerator import CrashFault, Image, Mark, crash_images, enumerate_crashes, record_run
from replog.testing.recording import Created, Written, pending_operations, pieces_of, sectors_of, thirds_of

DATA = bytes(range(1, 256)) * 5


def save(files: FileSystem, mark: Mark, *, sync: bool = True, sync_dir: bool = True, rename: bool = True) -> None:
    """Replace a file's content, atomically if everything is done."""
    files.make_dirs("d")
    name = "d/new" if rename else "d/file"
    file = files.create(name)
    file.pwrite(DATA, 0)
    if sync:
        file.sync()
    file.close()
    if rename:
        files.rename("d/new", "d/file")
    if sync_dir:
        files.sync_dir("d")
    mark("saved")


def holds_whole_file(image: Image, marks: Sequence[object]) -> bool:
    files = image.open()
    if not files.exists("d/file"):
        assert "saved" not in marks, "the file is missing"
        return True
    assert files.open("d/file").pread(10_000, 0) == DATA, "the file is not whole"
    return True


def test_a_program_that_syncs_everything_in_order_passes() -> None:
    coverage = enumerate_crashes(save, holds_whole_file)

    assert coverage.opened == coverage.checked > 10
    assert coverage.kinds == {"Created": 1, "Written": 1, "Synced": 1, "Renamed": 1, "DirectorySynced": 1, "Marked": 1}


@pytest.mark.parametrize("mistake", ["sync", "sync_dir", "rename"])
def test_a_program_that_leaves_out_a_step_is_caught(mistake: str) -> None:
    def run(files: FileSystem, mark: Mark) -> None:
        save(files, mark, sync=mistake != "sync", sync_dir=mistake != "sync_dir", rename=mistake != "rename")

    with pytest.raises(CrashFault, match="the file is"):
        enumerate_crashes(run, holds_whole_file)


def test_what_no_sync_orders_is_pending_and_what_one_orders_is_not() -> None:
    def run(files: FileSystem, mark: Mark) -> None:
        files.make_dirs("d")
        one, two = files.create("d/one"), files.create("d/two")  # 0, 1
        files.sync_dir("d")  # 2
        one.pwrite(b"1", 0)  # 3
        two.pwrite(b"2", 0)  # 4
        one.sync()  # 5
        files.rename("d/one", "d/three")  # 6

    record = record_run(run).record

    assert pending_operations(record, 2) == [0, 1]
    assert pending_operations(record, 5) == [3, 4]
    assert pending_operations(record, 7) == [4, 6]


def test_every_pending_operation_is_left_out_in_some_image() -> None:
    def run(files: FileSystem, mark: Mark) -> None:
        files.make_dirs("d")
        for name in ("a", "b", "c"):
            files.create(f"d/{name}").pwrite(b"x", 0)

    found = {frozenset(image.files) for image in crash_images(record_run(run))}

    assert {frozenset({"d/a", "d/c"}), frozenset({"d/a", "d/b", "d/c"}), frozenset({"d/b"}), frozenset()} <= found


def test_a_rename_that_reached_the_disk_brings_the_file_whose_create_did_not() -> None:
    def run(files: FileSystem, mark: Mark) -> None:
        files.make_dirs("d")
        files.create("d/a").pwrite(b"x", 0)
        files.rename("d/a", "d/b")

    found = [image.files for image in crash_images(record_run(run))]

    assert {"d/b": b"x"} in found
    assert {"d/a": b"x"} in found
    assert {"d/b": b""} in found


def test_a_pending_write_is_split_at_the_sectors_of_the_file_and_not_of_the_write() -> None:
    write = Written("a", 1, 500, bytes(1100))

    assert sectors_of(write) == [(0, 12), (12, 524), (524, 1036), (1036, 1100)]
    assert pieces_of(write, 4096) == [(0, 1100)]
    assert thirds_of(write) == [(0, 366), (366, 733), (733, 1100)]


def test_a_write_over_zeros_may_leave_any_sector_missing_and_never_garbage() -> None:
    def run(files: FileSystem, mark: Mark) -> None:
        files.make_dirs("d")
        file = files.create("d/a")
        files.sync_dir("d")
        file.pwrite(DATA[:1024], 0)

    images = list(crash_images(record_run(run)))
    possible = {image.files["d/a"] for image in images if image.possible and "d/a" in image.files}

    assert possible == {b"", DATA[:512], bytes(512) + DATA[512:1024], DATA[:1024], DATA[:512] + bytes(512), bytes(1024)}
    assert any(b"\xa7\x5c\x01\xee" in image.files["d/a"] and not image.possible for image in images if "d/a" in image.files)


def test_zeros_over_what_was_not_zero_are_no_possible_image() -> None:
    def run(files: FileSystem, mark: Mark) -> None:
        files.make_dirs("d")
        file = files.create("d/a")
        file.pwrite(b"o" * 1024, 0)
        file.sync()
        files.sync_dir("d")
        file.pwrite(b"n" * 1024, 0)

    recording = record_run(run)
    images = list(crash_images(recording, first=len(recording.record)))

    assert all(0 not in image.files["d/a"] for image in images if image.possible)
    assert any(0 in image.files["d/a"] for image in images if not image.possible)


def test_an_allowed_number_of_images_is_kept_and_the_same_seed_checks_the_same_ones() -> None:
    seen: list[list[str]] = []
    for seed in (1, 1, 2):
        labels: list[str] = []

        def check(image: Image, marks: Sequence[object], labels: list[str] = labels) -> bool:
            labels.append(f"{image.at} {image.label}")
            return True

        assert enumerate_crashes(save, check, images_max=9, seed=seed).checked == 9
        seen.append(labels)

    assert seen[0] == seen[1] != seen[2]


def test_a_refusal_is_wrong_in_an_image_that_a_disk_may_leave_and_right_in_one_that_it_may_not() -> None:
    def check(image: Image, marks: Sequence[object]) -> bool:
        return image.possible

    assert enumerate_crashes(save, check).refused > 0
    with pytest.raises(CrashFault, match="refused, but a disk may leave this"):
        enumerate_crashes(save, lambda image, marks: False)


def test_a_crash_fault_tells_the_operations_before_it() -> None:
    def check(image: Image, marks: Sequence[object]) -> bool:
        assert not marks, "no mark was expected"
        return True

    with pytest.raises(CrashFault) as caught:
        enumerate_crashes(save, check)

    assert "no mark was expected" in str(caught.value)
    assert "Renamed(source='d/new', target='d/file'" in str(caught.value)
    assert isinstance(record_run(save).record[0], Created)
