"""A way to run command lines in this process, and logs to run them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from replog import wal
from replog.cli.main import run
from replog.testing.log_workloads import payload
from replog.wal import WalOptions


class Outcome(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str


Replog = Callable[..., Outcome]


@pytest.fixture
def replog(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Replog:
    """Runs `replog` with the arguments given."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


LENGTHS = [0, 5, 300, 90, 1, 700, 33]


def make_log(directory: Path, count: int = 20, first: int = 0, preallocate: int = 0) -> list[bytes]:
    """A log of several segments; its entries."""
    options = WalOptions(segment_bytes_max=1000, preallocate_bytes=preallocate, first_sequence=first, prepare_next=False)
    wal.create(str(directory), options)
    datas = [payload(first + at, LENGTHS[at % len(LENGTHS)]) for at in range(count)]
    with wal.open(str(directory), options, sync=wal.NoSync()) as log:
        for data in datas:
            log.append(data)
    return datas


@pytest.fixture
def log_directory(tmp_path: Path) -> Path:
    """A log of 20 entries in several segments, not preallocated."""
    make_log(tmp_path / "log")
    return tmp_path / "log"


def segments(directory: Path) -> list[Path]:
    """The segment files, oldest first."""
    return sorted(directory.glob("*.wal"))


def read(directory: Path) -> list[tuple[int, bytes]]:
    """All entries of a log."""
    with wal.Reader(str(directory)) as reader:
        return list(reader)


def flip(path: Path, offset: int) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x55
    path.write_bytes(content)
