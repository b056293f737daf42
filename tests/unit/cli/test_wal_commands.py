"""`replog wal init`, `describe`, `dump`, `verify`: what they print and how they end."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import yaml

from replog import wal
from replog.cli.main import run
from tests.unit.cli.conftest import Replog, flip, make_log, read, segments

VECTORS = Path(__file__).parents[4] / "shared" / "wal-vectors"


def test_init_makes_a_log_that_opens_with_the_settings_asked_for(replog: Replog, tmp_path: Path) -> None:
    target = tmp_path / "new" / "log"

    made = replog("wal", "init", target, "-e", "uvarint", "-c", "crc64", "--preallocate", "8KiB", "--first-sequence", 42)

    assert (made.code, made.err) == (0, "")
    assert segments(target)[0].stat().st_size == 8192
    with wal.open(str(target)) as log:
        assert log.append(b"x") == 42
        assert (log.codec.length_encoding.label, log.codec.checksum_type.label) == ("uvarint", "crc64")
    again = replog("wal", "init", target)
    assert again.code == 2
    assert again.err.startswith("replog: ")
    assert again.err.count("\n") == 1


def test_describe_tells_segments_settings_ranges_and_sizes(replog: Replog, log_directory: Path) -> None:
    told = json.loads(replog("wal", "describe", log_directory, "--json").out)

    assert told["ok"]
    assert (told["first_sequence"], told["next_sequence"], told["entries"]) == (0, 20, 20)
    assert [item["segment"] for item in told["segments"]] == [path.name for path in segments(log_directory)]
    assert told["size_bytes"] == sum(path.stat().st_size for path in segments(log_directory))
    assert {(item["length_encoding"], item["checksum"]) for item in told["segments"]} == {("uint32", "crc32")}
    assert yaml.safe_load(replog("wal", "describe", log_directory, "--yaml").out) == told


@pytest.mark.parametrize("command", ["describe", "verify"])
@pytest.mark.parametrize("columns", ["80", "120"])
def test_tables_fit_the_terminal_and_cut_nothing_off(
    replog: Replog, log_directory: Path, command: str, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    flip(segments(log_directory)[-1], 20)

    told = replog("wal", command, log_directory)

    lines = told.out.splitlines()
    rows = [line for line in lines if line.strip().startswith("0000")]
    assert len(rows) == len(segments(log_directory))
    assert all(len(line) <= int(columns) for line in rows)
    assert "…" not in told.out
    assert all(path.name in told.out for path in segments(log_directory))


def test_dump_prints_one_object_a_line_for_every_entry(replog: Replog, tmp_path: Path) -> None:
    datas = make_log(tmp_path / "log", 30, first=7, preallocate=4096)

    lines = [json.loads(line) for line in replog("wal", "dump", tmp_path / "log", "--json", "--data").out.splitlines()]

    assert [line["sequence"] for line in lines] == list(range(7, 37))
    assert [base64.b64decode(line["data_base64"]) for line in lines] == datas
    assert [line["length"] for line in lines] == [len(data) for data in datas]
    for line in lines:
        content = (tmp_path / "log" / line["segment"]).read_bytes()
        start = line["offset"] + 4
        assert content[start : start + line["length"]] == base64.b64decode(line["data_base64"])
    plain = replog("wal", "dump", tmp_path / "log", "--json").out.splitlines()
    assert [list(json.loads(line)) for line in plain] == [["sequence", "segment", "offset", "length"]] * 30
    assert yaml.safe_load(replog("wal", "dump", tmp_path / "log", "--yaml").out) == [json.loads(line) for line in plain]


def test_dump_prints_only_the_sequence_numbers_asked_for(replog: Replog, log_directory: Path) -> None:
    def dumped(*options: object) -> list[int]:
        told = replog("wal", "dump", log_directory, "--json", *options)
        assert told.code == 0
        return [json.loads(line)["sequence"] for line in told.out.splitlines()]

    assert dumped("--from", 5, "--to", 9) == [5, 6, 7, 8, 9]
    assert dumped("--from", 18) == [18, 19]
    assert dumped("--to", 0) == [0]
    assert dumped("--from", 20) == []
    assert replog("wal", "dump", log_directory, "--yaml", "--from", 20).out == "[]\n"
    table = replog("wal", "dump", log_directory, "--data").out.splitlines()
    assert len(table) == 21
    assert "<2.0><2.0>" in table[3]


def test_verify_says_that_all_is_well(replog: Replog, log_directory: Path) -> None:
    told = replog("wal", "verify", log_directory)

    assert told.code == 0
    assert "all is well: 20 entries" in told.out


def test_verify_and_dump_name_the_damage_and_its_place(replog: Replog, log_directory: Path) -> None:
    damaged = segments(log_directory)[1]
    before = damaged.read_bytes()
    flip(damaged, 30)

    verified = replog("wal", "verify", log_directory, "--json")
    dumped = replog("wal", "dump", log_directory, "--json")

    told = json.loads(verified.out)
    assert (verified.code, told["ok"], dumped.code) == (1, False, 1)
    assert [finding["severity"] for finding in told["findings"]] == ["damage"]
    finding = told["findings"][0]
    assert (finding["segment"], finding["error"]) == (damaged.name, "WalEntryDamaged")
    assert len(dumped.out.splitlines()) == finding["sequence"] == told["next_sequence"]
    assert damaged.name in dumped.err
    assert dumped.err.count("\n") == 1
    assert len(before) == damaged.stat().st_size
    assert "damaged: open refuses this log" in replog("wal", "verify", log_directory).out


@pytest.mark.parametrize("command", ["verify", "describe", "dump"])
def test_a_torn_end_is_told_and_is_not_all_well(replog: Replog, log_directory: Path, command: str) -> None:
    last = segments(log_directory)[-1]
    last.write_bytes(last.read_bytes()[:-3])

    told = replog("wal", command, log_directory)

    assert told.code == 1
    assert "torn" in told.out + told.err
    assert wal.open(str(log_directory)).recovery.cut_at == 19


def test_a_missing_segment_is_a_gap(replog: Replog, log_directory: Path) -> None:
    segments(log_directory)[1].unlink()

    told = json.loads(replog("wal", "verify", log_directory, "--json").out)

    assert [finding["error"] for finding in told["findings"]] == ["WalSegmentGap"]


def test_a_log_that_is_open_can_be_looked_at(replog: Replog, tmp_path: Path) -> None:
    make_log(tmp_path / "log")
    with wal.open(str(tmp_path / "log")) as log:
        log.append(b"live")

        assert replog("wal", "verify", tmp_path / "log").code == 0
        assert json.loads(replog("wal", "describe", tmp_path / "log", "--json").out)["entries"] == 21


@pytest.mark.parametrize(
    "arguments",
    [
        ("wal", "verify", "nothing-here"),
        ("wal", "dump"),
        ("wal", "nonsense"),
        ("nonsense",),
        ("wal", "dump", ".", "--from", "x"),
        ("wal", "dump", ".", "--from", "-1"),
        ("wal", "dump", ".", "--json", "--yaml"),
        ("wal", "init", "x", "--preallocate", "12 parsecs"),
        ("wal", "init", "x", "-e", "uint8"),
        ("wal", "init", "x", "--first-sequence", 2**64 - 1),
        ("wal", "rewrite", "nothing-here", "x"),
        ("wal", "repair", "nothing-here"),
        ("wal", "bench", "--rounds", "0"),
        ("wal", "verify", ".", "--entry-limit", "-5"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_exit_code_2(
    replog: Replog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    monkeypatch.chdir(tmp_path)

    told = replog(*arguments)

    assert told.code == 2
    assert told.out == ""
    assert told.err.startswith("replog: ")
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_one_line_says_what_to_install(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("typer", "rich", "rich.box"):
        monkeypatch.setitem(sys.modules, module, None)

    assert run(["wal", "verify", "x"]) == 2
    assert "pip install 'replog[cli]'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_completes_words_in_a_shell_and_stops_quietly_when_nobody_reads(log_directory: Path) -> None:
    program = [sys.executable, "-c", "from replog.cli.main import main; main()"]
    environment = {"_REPLOG_COMPLETE": "complete_bash", "COMP_WORDS": "replog wal d", "COMP_CWORD": "2", "PATH": "/usr/bin:/bin"}

    completed = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    piped = subprocess.run(
        ["/bin/sh", "-c", '"$@" | head -n 1', "-", *program, "wal", "dump", str(log_directory)], capture_output=True, text=True, check=False
    )

    assert completed.stdout.split() == ["describe", "dump"]
    assert piped.stdout.split()[0] == "sequence"
    assert piped.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors of the Go library lie beside the repository")
def test_every_vector_of_the_other_library_dumps_as_its_list_says(replog: Replog) -> None:
    for listing in sorted(VECTORS.glob("*.json")):
        vector = json.loads(listing.read_text())
        told = replog("wal", "dump", listing.with_suffix(""), "--json", "--data")
        lines = [json.loads(line) for line in told.out.splitlines()]

        assert told.code == 0
        assert [(line["sequence"], line["length"], zlib.crc32(base64.b64decode(line["data_base64"]))) for line in lines] == [
            (entry["seq"], entry["len"], entry["crc32"]) for entry in vector["entries"]
        ]
        assert replog("wal", "verify", listing.with_suffix("")).code == 0
        assert len(read(listing.with_suffix(""))) == len(lines)
