"""`replog wal bench`: this machine's figures beside their targets and those of the Go library, in one table."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from replog.cli import wal_measure
from replog.cli.output import JSON_OPTION, YAML_OPTION, Form, Json, console, emit, form_of
from replog.cli.wal_measure import MIB, Bench, Values
from replog.wal import ChecksumType
from replog.wal.checksum import library_of

_MICRO: Final = "us"
_RATE: Final = "/s"
_SPEED: Final = "MB/s"
_BYTES: Final = "MiB"
_SCALE: Final = {_MICRO: 1e6, _RATE: 1.0, _SPEED: 1e-6, _BYTES: 1 / MIB}
_OPEN_MIB: Final = 256
_FULL_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what is measured, against what, what is asked for, and what the Go library needs on the machine of `WAL.md`."""

    name: str
    unit: str
    base: str | None = None
    """The bare measurement that the ratio is taken to."""
    ratio_max: float | None = None
    ratio_min: float | None = None
    value_min: float | None = None
    value_max: float | None = None
    go: str = ""


_WRITE: Final = "write 100 B"
_SYNC: Final = "write + data sync"
_WRITE_LONG: Final = "write 1 KiB"
_BLOCKS: Final = "write + sync, 1 MiB blocks"
ROWS: Final = (
    Row("write 100 B", _MICRO, go="1.0"),
    Row("write 1 KiB", _MICRO),
    Row("append 0 B", _MICRO, _WRITE, go="1.13"),
    Row("append 100 B", _MICRO, _WRITE, ratio_max=1.8, go="1.15"),
    Row("append 1 KiB", _MICRO, _WRITE_LONG, go="1.98"),
    Row("append_many 100 B", _MICRO, _WRITE, ratio_max=0.75),
    Row("append_many 1 KiB", _MICRO, _WRITE_LONG),
    Row("read 0 B", _MICRO, _WRITE, go="1.37"),
    Row("read 100 B", _MICRO, _WRITE, ratio_max=1.0, go="2.01"),
    Row("read batches 100 B", _MICRO, _WRITE),
    Row("read 1 KiB", _MICRO, _WRITE, go="2.32"),
    Row("read 16 KiB", _MICRO, _WRITE, go="5.5"),
    Row(_SYNC, _MICRO, go="120"),
    Row("append immediate", _MICRO, _SYNC, go="137"),
    Row("append grouped, lone", _MICRO, _SYNC, ratio_max=1.2, go="1,300"),
    Row("grouped, 16 awaited", _RATE, go="12,000"),
    Row("grouped, 128 awaited", _RATE, go="124,000"),
    Row("grouped, 1024 awaited", _RATE, value_min=200_000, go="331,000"),
    Row("grouped, 16 threads", _RATE, go="12,000"),
    Row("grouped, 128 threads", _RATE, go="124,000"),
    Row(_BLOCKS, _SPEED),
    Row("append_many 1 KiB, durable", _SPEED, _BLOCKS, ratio_min=0.6),
    Row("open and verify", _SPEED, value_min=500),
    Row("memory while reading", _BYTES, value_max=16),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row with its medians."""

    row: Row
    value: float
    """In the row's unit."""
    ratio: float | None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        row = self.row
        checks = [
            self.ratio is not None and self.ratio <= row.ratio_max if row.ratio_max is not None else None,
            self.ratio is not None and self.ratio >= row.ratio_min if row.ratio_min is not None else None,
            self.value >= row.value_min if row.value_min is not None else None,
            self.value <= row.value_max if row.value_max is not None else None,
        ]
        found = [check for check in checks if check is not None]
        return all(found) if found else None

    @property
    def target(self) -> str:
        """For people."""
        row = self.row
        if row.ratio_max is not None:
            return f"<= {row.ratio_max:g} x"
        if row.ratio_min is not None:
            return f">= {row.ratio_min:g} x"
        if row.value_min is not None:
            return f">= {row.value_min:,.0f}"
        return f"<= {row.value_max:,.0f}" if row.value_max is not None else ""

    def as_json(self) -> Json:
        """For programs."""
        return {
            "work": self.row.name,
            "value": round(self.value, 4),
            "unit": self.row.unit,
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "ratio_to": self.row.base,
            "target": self.target or None,
            "met": self.met,
            "go_library": self.row.go or None,
        }


def bench(
    directory: Path = typer.Option(
        Path(), "--directory", "-d", help="Where the disk to measure is mounted; a temporary directory in it is used."
    ),
    rounds: int = typer.Option(5, "--rounds", min=1, help="Everything is measured so often; the table has the medians."),
    size: int = typer.Option(_OPEN_MIB, "--open-mib", min=1, help="MiB of the log that is opened and verified."),
    full: bool = typer.Option(False, "--full", help=f"Open and verify {_FULL_MIB} MiB."),
    as_json: bool = JSON_OPTION,
    as_yaml: bool = YAML_OPTION,
) -> None:
    """Measure the log on this machine, beside bare writes and syncs of the same run."""
    form = form_of(as_json, as_yaml)
    open_mib = _FULL_MIB if full else size
    figures = measure(str(directory), rounds, open_mib * MIB)
    if form is Form.TABLE:
        print_figures(figures, rounds, str(directory.resolve()))
    else:
        emit(form, (figure.as_json() for figure in figures))


def measure(directory: str, rounds: int, open_bytes: int) -> list[Figure]:
    """All rows, each the median over the rounds (of the ratios too: each is taken within its round)."""
    works: tuple[Callable[[Bench], Values], ...] = (
        wal_measure.measure_writes,
        wal_measure.measure_reads,
        wal_measure.measure_syncs,
        wal_measure.measure_in_flight,
        wal_measure.measure_throughput,
    )
    found: list[Values] = []
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with (
        wal_measure.bench_place(directory, open_bytes) as place,
        Progress(*columns, console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("", total=rounds * len(works) + 1)
        for _ in range(rounds):
            values: Values = {}
            for work in works:
                bar.update(task, description=work.__name__.removeprefix("measure_"))
                values |= work(place)
                bar.advance(task)
            found.append(values)
        bar.update(task, description="open")
        opened = wal_measure.measure_open(place)
        bar.advance(task)
    for values in found:
        values |= opened
    return [_figure(row, found) for row in ROWS]


def _figure(row: Row, found: list[Values]) -> Figure:
    ratio = None if row.base is None else median(values[row.name] / values[row.base] for values in found)
    return Figure(row, median(values[row.name] for values in found) * _SCALE[row.unit], ratio)


def print_figures(figures: list[Figure], rounds: int, directory: str) -> None:
    """The table, and what it was measured with."""
    out = console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("work", no_wrap=True)
    for name in ("here", "ratio", "target", "", "Go"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for figure in figures:
        value = f"{figure.value:,.2f}" if figure.value < 100 else f"{figure.value:,.0f}"
        verdict = {True: Text("met", style="green"), False: Text("missed", style="bold red"), None: Text("")}[figure.met]
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} x"
        table.add_row(figure.row.name, f"{value} {figure.row.unit}", ratio, figure.target, verdict, figure.row.go)
    out.print(table)
    crc32, crc64 = library_of(ChecksumType.CRC32), library_of(ChecksumType.CRC64)
    lines = (
        "ratio  to the bare write of 100 B (of 1 KiB where that is appended), the bare",
        "       sync, or the bare blocks, of the same round",
        "Go     the library whose format this is, same units, on another machine (ext4,",
        "       data sync 120 us)",
        f"with   Python {platform.python_version()}, {wal_measure.loop_name()}, crc32 {crc32}, crc64 {crc64}",
        f"       median of {rounds} round{'' if rounds == 1 else 's'}; the disk of {directory}",
    )
    for line in lines:
        out.print(line, soft_wrap=True)
