"""`replog wal repair` and `rewrite`: they change what they say, and never destroy the only copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replog import wal
from replog.cli.wal_repair import plan_repair, repair, settings_of
from replog.filesystem import FileSystem
from replog.testing.enumerator import Image, Mark, enumerate_crashes
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import WalOptions, recovery
from tests.unit.cli.conftest import Replog, flip, make_log, read, segments


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def damage(directory: Path, kind: str) -> int:
    """Damage the log; returns how many entries are in front of it."""
    files = segments(directory)
    sequences = [sequence for sequence, _ in read(directory)]
    counts = [sum(sequence < int(path.stem) for sequence in sequences) for path in files]
    match kind:
        case "entry":
            flip(files[1], 40)
        case "header":
            flip(files[1], 1)
        case "first header":
            flip(files[0], 0)
            return 0
        case "missing":
            files[1].unlink()
        case "renamed":
            files[1].rename(directory / f"{int(files[1].stem) + 1:020d}.wal")
        case "overlap":
            (directory / f"{int(files[1].stem) - 1:020d}.wal").write_bytes(
                files[1].read_bytes()[:8] + (int(files[1].stem) - 1).to_bytes(8, "little") + files[1].read_bytes()[16:]
            )
        case "short":
            files[1].write_bytes(files[1].read_bytes()[:-1])
            return counts[2] - 1
        case "trailing":
            files[1].write_bytes(files[1].read_bytes() + b"rubbish")
            return 20
        case "torn":
            files[-1].write_bytes(files[-1].read_bytes()[:-1])
            return 19
        case _:
            raise AssertionError(kind)
    return counts[1]


KINDS = ["entry", "header", "first header", "missing", "renamed", "overlap", "short", "trailing", "torn"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_changes_nothing_and_a_repair_keeps_every_byte(replog: Replog, log_directory: Path, kind: str) -> None:
    whole = read(log_directory)
    kept = damage(log_directory, kind)
    before = contents(log_directory)

    dry = replog("wal", "repair", log_directory)
    assert dry.code == 1
    assert "nothing was changed" in dry.out
    assert contents(log_directory) == before

    done = replog("wal", "repair", log_directory, "--yes", "--json")
    assert (done.code, json.loads(done.out)["repaired"]) == (0, True)
    after = contents(log_directory)

    for name, content in before.items():
        assert after.get(name) == content or after.get(f"{name}.broken") == content, f"{name} is gone"
    assert read(log_directory) == whole[:kept]
    assert replog("wal", "verify", log_directory).code == 0
    assert "nothing to repair" in replog("wal", "repair", log_directory, "--yes").out
    with wal.open(str(log_directory)) as log:
        assert log.append(b"it goes on") == kept


def test_a_second_repair_keeps_what_the_first_has_kept(replog: Replog, log_directory: Path) -> None:
    last = segments(log_directory)[-1]
    for _ in range(2):
        last.write_bytes(last.read_bytes()[:-1])
        assert replog("wal", "repair", log_directory, "--yes").code == 0

    assert sorted(path.name for path in log_directory.glob("*.broken*")) == [f"{last.name}.broken", f"{last.name}.broken.2"]


def test_a_log_that_is_open_is_not_repaired_and_not_rewritten(replog: Replog, log_directory: Path, tmp_path: Path) -> None:
    with wal.open(str(log_directory)):
        told = replog("wal", "repair", log_directory)
        rewritten = replog("wal", "rewrite", log_directory, tmp_path / "new")

    assert (told.code, rewritten.code) == (2, 2)
    assert "locked by process" in told.err
    assert not (tmp_path / "new").exists()


def test_a_whole_log_needs_no_repair(replog: Replog, log_directory: Path) -> None:
    before = contents(log_directory)

    assert replog("wal", "repair", log_directory, "--yes").code == 0
    assert contents(log_directory) == before


@pytest.mark.slow
def test_a_crash_during_a_repair_leaves_every_byte_in_some_file(tmp_path: Path) -> None:
    for kind in ("entry", "header", "trailing"):
        make_log(tmp_path / kind)
        damage(tmp_path / kind, kind)
        before = {f"log/{name}": content for name, content in contents(tmp_path / kind).items()}

        def run(files: FileSystem, mark: Mark) -> None:
            inspection = recovery.inspect(files, "log", WalOptions())
            repair(files, plan_repair(files, inspection), settings_of(inspection, WalOptions()))

        def check(image: Image, marks: object, before: dict[str, bytes] = before) -> bool:
            files = image.open()
            for name, content in before.items():
                found = [files.files().get(name), files.files().get(f"{name}.broken"), files.files().get(f"{name}.broken.2")]
                if image.possible:
                    assert content in found, f"{name} is gone"
            if not image.possible:
                return True
            run(files, lambda value: None)
            wal.open("log", fs=files).close()
            return True

        assert enumerate_crashes(run, check, base=MemoryFileSystem(before)).checked > 2


@pytest.mark.parametrize("encoding", ["uint16", "uint32", "uint64", "uvarint"])
@pytest.mark.parametrize("checksum", ["crc32", "crc64"])
def test_rewrite_keeps_entries_and_sequence_numbers(replog: Replog, tmp_path: Path, encoding: str, checksum: str) -> None:
    make_log(tmp_path / "log", 40, first=1000, preallocate=2000)
    before = contents(tmp_path / "log")

    told = replog("wal", "rewrite", tmp_path / "log", tmp_path / "new", "-e", encoding, "-c", checksum, "-s", "64KiB", "--json")

    assert told.code == 0, told.err
    assert json.loads(told.out)["segments_after"] == 1
    assert read(tmp_path / "new") == read(tmp_path / "log")
    described = json.loads(replog("wal", "describe", tmp_path / "new", "--json").out)
    assert [(item["length_encoding"], item["checksum"]) for item in described["segments"]] == [(encoding, checksum)]
    assert contents(tmp_path / "log") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "new"]


def test_rewrite_without_options_keeps_the_settings_and_an_empty_log_stays_empty(replog: Replog, tmp_path: Path) -> None:
    replog("wal", "init", tmp_path / "log", "-e", "uint64", "-c", "crc64", "--first-sequence", 5)

    assert replog("wal", "rewrite", tmp_path / "log", tmp_path / "new").code == 0

    told = json.loads(replog("wal", "describe", tmp_path / "new", "--json").out)
    assert (told["first_sequence"], told["entries"]) == (5, 0)
    assert (told["segments"][0]["length_encoding"], told["segments"][0]["checksum"]) == ("uint64", "crc64")


def test_rewrite_refuses_a_target_that_is_taken_or_the_source_itself(replog: Replog, log_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    before = contents(log_directory)

    for target in (tmp_path / "taken", tmp_path / "file", log_directory, log_directory / "inside", tmp_path):
        told = replog("wal", "rewrite", log_directory, target)
        assert told.code == 2
        assert told.err.count("\n") == 1

    assert replog("wal", "rewrite", log_directory, tmp_path / "empty").code == 0
    assert contents(log_directory) == before
    assert (tmp_path / "taken" / "file").read_text() == (tmp_path / "file").read_text() == "mine"


def test_rewrite_refuses_entries_that_the_encoding_cannot_say_and_leaves_nothing_behind(replog: Replog, tmp_path: Path) -> None:
    wal.create(str(tmp_path / "log"))
    with wal.open(str(tmp_path / "log")) as log:
        log.append(bytes(70_000))

    told = replog("wal", "rewrite", tmp_path / "log", tmp_path / "new", "-e", "uint16")

    assert told.code == 2
    assert "70000 bytes" in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("kind", KINDS)
def test_rewrite_refuses_a_log_that_is_not_whole(replog: Replog, log_directory: Path, tmp_path: Path, kind: str) -> None:
    damage(log_directory, kind)

    assert replog("wal", "rewrite", log_directory, tmp_path / "new").code in (1, 2)
    assert not (tmp_path / "new").exists()
