"""Logs of the Go library: read exactly, and written again byte for byte."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from replog import wal
from replog.wal import ChecksumType, LengthEncoding, WalOptions
from tests.unit.wal.support import VECTORS

if not VECTORS.is_dir():
    pytest.skip(f"no logs of the Go library in {VECTORS}", allow_module_level=True)

NAMES = sorted(path.stem for path in VECTORS.glob("*.json"))


def described(name: str) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return description


def options_of(description: dict[str, Any]) -> WalOptions:
    return WalOptions(
        length_encoding=LengthEncoding[description["entry_length_encoding"].upper()],
        checksum_type=ChecksumType[description["entry_checksum_type"].upper()],
        segment_bytes_max=description["max_segment_bytes"],
        preallocate_bytes=description["preallocation_bytes"],
    )


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def check_entries(description: dict[str, Any], entries: list[tuple[int, bytes]]) -> None:
    assert [sequence for sequence, _ in entries] == [entry["seq"] for entry in description["entries"]]
    for (_, data), entry in zip(entries, description["entries"], strict=True):
        assert len(data) == entry["len"]
        assert zlib.crc32(data) == entry["crc32"]
        if "data_base64" in entry:
            assert data == base64.b64decode(entry["data_base64"])


def test_all_sixteen_are_here() -> None:
    assert len(NAMES) == 16


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_gives_every_entry_of_a_log_of_the_go_library(name: str) -> None:
    check_entries(described(name), list(wal.Reader(str(VECTORS / name))))


@pytest.mark.parametrize("name", NAMES)
def test_a_log_of_the_go_library_opens_clean_and_goes_on_as_that_library_would(name: str, tmp_path: Path) -> None:
    shutil.copytree(VECTORS / name, tmp_path / "log", copy_function=shutil.copyfile)
    (tmp_path / "log").chmod(0o755)
    description = described(name)
    before = files_of(tmp_path / "log")

    with wal.open(str(tmp_path / "log"), options_of(description)) as log:
        assert log.recovery.is_clean
        check_entries(description, [(sequence, log.read(sequence)) for sequence in range(log.first_sequence, log.next_sequence)])
        assert files_of(tmp_path / "log") == before
        log.append(b"one more")

    assert [data for _, data in wal.Reader(str(tmp_path / "log"))][-1] == b"one more"


@pytest.mark.parametrize("way", ["one at a time", "one batch", "framed", "batches of 7", "reopened in the middle"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_entries_written_with_the_same_settings_are_the_same_files(name: str, way: str, tmp_path: Path) -> None:
    description = described(name)
    options = options_of(description)
    datas = [data for _, data in wal.Reader(str(VECTORS / name))]
    directory = str(tmp_path / "log")
    wal.create(directory, options)

    with wal.open(directory, options, sync=wal.NoSync()) as log:
        if way == "one at a time":
            for data in datas:
                log.append(data)
        elif way == "one batch":
            log.append_many(datas)
        elif way == "framed":
            log.append_frames(*log.codec.encode_frames(datas))
        elif way == "batches of 7":
            for at in range(0, len(datas), 7):
                log.append_many(datas[at : at + 7])
        else:
            log.append_many(datas[:30])
    if way == "reopened in the middle":
        with wal.open(directory, options, sync=wal.NoSync()) as log:
            log.append_many(datas[30:])

    assert files_of(tmp_path / "log") == files_of(VECTORS / name)
