"""What every command shares: the three forms of output, sizes in words, progress on a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Final

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

WIDTH_WITHOUT_TERMINAL: Final = 120
_PROGRESS_BYTES_MIN: Final = 32 << 20
_SIZE: Final = re.compile(r"([0-9]+)\s*(|b|k|kb|kib|m|mb|mib|g|gb|gib|t|tb|tib)", re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}

Json = Mapping[str, object]


class Form(Enum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


JSON_OPTION: Final = typer.Option(False, "--json", help="One JSON object a line, for programs.")
YAML_OPTION: Final = typer.Option(False, "--yaml", help="YAML, for programs.")


def form_of(as_json: bool, as_yaml: bool) -> Form:
    """The form that the two options ask for."""
    if as_json and as_yaml:
        raise typer.BadParameter("--json and --yaml exclude each other")
    return Form.JSON if as_json else Form.YAML if as_yaml else Form.TABLE


def emit(form: Form, objects: Iterable[Json]) -> None:
    """Print objects for programs: one JSON object a line, or the items of one YAML list."""
    write = sys.stdout.write
    if form is Form.JSON:
        encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        for item in objects:
            write(encode(item) + "\n")
    else:
        empty = True
        for item in objects:
            write(yaml.safe_dump([dict(item)], sort_keys=False, allow_unicode=True))
            empty = False
        if empty:
            write("[]\n")
    sys.stdout.flush()


def console(*, stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or wide enough for a file."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in made._environ:
        made.width = WIDTH_WITHOUT_TERMINAL
    return made


def parse_size(text: str) -> int:
    """Bytes from ``4096``, ``64KiB``, ``64k``, ``1GiB``; all units are powers of 1,024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size; write it as 4096, 64KiB, 16MiB or 1GiB")
    return int(match[1]) << _UNITS[match[2].lower().removesuffix("b").removesuffix("i")]


def format_size(count: int) -> str:
    """Bytes for people: three digits and a unit of 1,024."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


@contextmanager
def progress(what: str, bytes_total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr for work over so many bytes; gives what to call with each batch of bytes. None where nobody would see or need it."""
    if bytes_total < _PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=bytes_total)

        def advance(count: int) -> None:
            bar.advance(task, count)

        yield advance


def emit_one(form: Form, item: Json) -> None:
    """Print one object for programs: one line of JSON, or one YAML mapping."""
    if form is Form.JSON:
        emit(form, (item,))
    else:
        sys.stdout.write(yaml.safe_dump(dict(item), sort_keys=False, allow_unicode=True))
        sys.stdout.flush()
