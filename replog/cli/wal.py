"""`replog wal`: make, look at, check, repair and rewrite a log on disk, and measure this machine with it.

Every command that only looks needs no lock and changes nothing; it works beside a live writer, whose last entries may then look torn. Exit codes:
0 all is well, 1 something is wrong with the log, 2 wrong usage or input.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import typer

from replog import wal
from replog.cli import wal_bench, wal_render, wal_repair, wal_report, wal_rewrite
from replog.cli.main import EXIT_DAMAGE
from replog.cli.output import JSON_OPTION, YAML_OPTION, Form, Json, emit, emit_one, form_of, parse_size, progress
from replog.cli.wal_entries import Batch, Walk, segment_firsts
from replog.filesystem import OS_FILE_SYSTEM, join
from replog.wal import recovery
from replog.wal.options import SEQUENCE_MAX, ChecksumType, LengthEncoding, WalOptions
from replog.wal.segment import segment_name

_FS: Final = OS_FILE_SYSTEM

app = typer.Typer(name="wal", help="The write-ahead log: make, check, repair, measure.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add `wal` to the command line."""
    root.add_typer(app)


class Encoding(StrEnum):
    """Names of the length encodings."""

    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    UVARINT = "uvarint"


class Checksum(StrEnum):
    """Names of the checksum types."""

    CRC32 = "crc32"
    CRC64 = "crc64"


DIRECTORY = typer.Argument(..., help="The log's directory.", show_default=False, file_okay=False)
LIMIT = typer.Option("64MiB", "--entry-limit", help="A longer length in a file counts as damage.")


@app.command()
def init(
    directory: Path = DIRECTORY,
    length_encoding: Encoding = typer.Option(Encoding.UINT32, "--length-encoding", "-e", help="How lengths are written."),
    checksum: Checksum = typer.Option(Checksum.CRC32, "--checksum", "-c", help="Which checksum stands behind each entry."),
    preallocate: str = typer.Option("64MiB", "--preallocate", help="Blocks given to the first segment at once; 0 for none."),
    first_sequence: int = typer.Option(0, "--first-sequence", min=0, max=SEQUENCE_MAX - 1, help="Sequence number of the first entry."),
    as_json: bool = JSON_OPTION,
    as_yaml: bool = YAML_OPTION,
) -> None:
    """Make an empty log (and its directory)."""
    form = form_of(as_json, as_yaml)
    options = WalOptions(
        length_encoding=LengthEncoding[length_encoding.name],
        checksum_type=ChecksumType[checksum.name],
        preallocate_bytes=parse_size(preallocate),
        first_sequence=first_sequence,
    )
    wal.create(str(directory), options)
    report = wal_report.describe(_FS, str(directory), options)
    if form is Form.TABLE:
        print(f"made an empty log in {directory}: {length_encoding.value}, {checksum.value}, first sequence {first_sequence}")
    else:
        emit_one(form, report.as_json())


@app.command(short_help="Segments, settings, ranges and sizes.")
def describe(directory: Path = DIRECTORY, limit: str = LIMIT, as_json: bool = JSON_OPTION, as_yaml: bool = YAML_OPTION) -> None:
    """Segments, settings, ranges and sizes, from the headers and the last segment."""
    form = form_of(as_json, as_yaml)
    _finish(form, wal_report.describe(_FS, str(directory), WalOptions(entry_bytes_max=parse_size(limit))))


@app.command()
def verify(directory: Path = DIRECTORY, limit: str = LIMIT, as_json: bool = JSON_OPTION, as_yaml: bool = YAML_OPTION) -> None:
    """Read everything; say what is wrong and where."""
    form = form_of(as_json, as_yaml)
    options = WalOptions(entry_bytes_max=parse_size(limit))
    with progress("verifying", _size(str(directory))) as on_bytes:
        report = wal_report.verify(_FS, str(directory), options, on_bytes)
    _finish(form, report)


@app.command()
def dump(
    directory: Path = DIRECTORY,
    data: bool = typer.Option(False, "--data", help="With the data: base64 for programs, its beginning for people."),
    first: int = typer.Option(0, "--from", min=0, help="First sequence number."),
    last: int | None = typer.Option(None, "--to", min=0, help="Last sequence number.", show_default=False),
    limit: str = LIMIT,
    as_json: bool = JSON_OPTION,
    as_yaml: bool = YAML_OPTION,
) -> None:
    """Every entry: sequence, segment, offset, length."""
    form = form_of(as_json, as_yaml)
    entry_limit = parse_size(limit)
    walk = Walk(_FS, str(directory), entry_limit)
    batches = walk.batches(first, last)
    if form is Form.TABLE:
        wal_render.print_batches(batches, with_data=data)
    else:
        emit(form, _entry_objects(batches, with_data=data))
    if not walk.is_whole:
        _explain(str(directory), walk.next_sequence, entry_limit)
        raise typer.Exit(EXIT_DAMAGE)


@app.command(short_help="Cut a damaged log; keep what is cut.")
def repair(
    directory: Path = DIRECTORY,
    yes: bool = typer.Option(False, "--yes", help="Do it. Without this, only say what would be done."),
    limit: str = LIMIT,
    as_json: bool = JSON_OPTION,
    as_yaml: bool = YAML_OPTION,
) -> None:
    """Cut a damaged log at the damage; what is cut is kept in `.broken` files."""
    form = form_of(as_json, as_yaml)
    name, options = str(directory), WalOptions(entry_bytes_max=parse_size(limit))
    segment_firsts_or_reset(name)
    lock = wal_repair.lock_directory(_FS, name)
    try:
        with progress("reading", _size(name)) as on_bytes:
            inspection = recovery.inspect(_FS, name, options, on_bytes)
        plan = wal_repair.plan_repair(_FS, inspection)
        if yes and plan.steps:
            wal_repair.repair(_FS, plan, wal_repair.settings_of(inspection, options))
            plan = replace(plan, done=True)
            assert not wal_repair.plan_repair(_FS, recovery.inspect(_FS, name, options)).steps, "the repaired log does not verify"
    finally:
        lock.release()
    if form is Form.TABLE:
        wal_render.print_plan(plan)
    else:
        emit_one(form, plan.as_json())
    if plan.steps and not plan.done:
        raise typer.Exit(EXIT_DAMAGE)


@app.command(short_help="Write a log again with other settings.")
def rewrite(
    source: Path = typer.Argument(..., help="The log to read; it is not changed.", show_default=False),
    target: Path = typer.Argument(..., help="The new log's directory; must not exist, or be empty.", show_default=False),
    length_encoding: Encoding | None = typer.Option(None, "--length-encoding", "-e", help="Default: the source's.", show_default=False),
    checksum: Checksum | None = typer.Option(None, "--checksum", "-c", help="Default: the source's.", show_default=False),
    segment_size: str = typer.Option("64MiB", "--segment-size", "-s", help="Segments end at the first entry that reaches it."),
    preallocate: str = typer.Option("0", "--preallocate", help="Blocks given to a segment at once."),
    limit: str = LIMIT,
    as_json: bool = JSON_OPTION,
    as_yaml: bool = YAML_OPTION,
) -> None:
    """Write a log again with other settings: same entries, same sequence numbers, never in place."""
    form = form_of(as_json, as_yaml)
    read_limit = parse_size(limit)
    firsts = segment_firsts(_FS, str(source))
    described = wal_report.describe(_FS, str(source), WalOptions(entry_bytes_max=read_limit)).segments[-1]
    options = WalOptions(
        length_encoding=LengthEncoding[(length_encoding.value if length_encoding else described.length_encoding or "uint32").upper()],
        checksum_type=ChecksumType[(checksum.value if checksum else described.checksum or "crc32").upper()],
        segment_bytes_max=parse_size(segment_size),
        preallocate_bytes=parse_size(preallocate),
        entry_bytes_max=read_limit,
        first_sequence=firsts[0],
        prepare_next=False,
    )
    with progress("rewriting", 2 * _size(str(source))) as on_bytes:
        result = wal_rewrite.rewrite(_FS, str(source), str(target), options, read_limit, on_bytes)
    if form is Form.TABLE:
        wal_render.print_rewritten(result)
    else:
        emit_one(form, result.as_json())


app.command(short_help="Measure the log beside bare writes and syncs.")(wal_bench.bench)


def _finish(form: Form, report: wal_report.LogReport) -> None:
    if form is Form.TABLE:
        wal_render.print_report(report)
    else:
        emit_one(form, report.as_json())
    if not report.is_well:
        raise typer.Exit(EXIT_DAMAGE)


def _entry_objects(batches: Iterator[Batch], *, with_data: bool) -> Iterator[Json]:
    for batch in batches:
        for sequence, (offset, data) in enumerate(zip(batch.offsets, batch.datas, strict=True), batch.first_sequence):
            item: dict[str, object] = {"sequence": sequence, "segment": batch.segment, "offset": offset, "length": len(data)}
            if with_data:
                item["data_base64"] = b64encode(data).decode("ascii")
            yield item


def _explain(directory: str, reached: int, entry_limit: int) -> None:
    """Say on stderr why a dump ended before the end of the log."""
    report = wal_report.verify(_FS, directory, WalOptions(entry_bytes_max=entry_limit))
    for finding in report.findings:
        if finding.severity != "note":
            where = f"{finding.segment}: offset {finding.offset}, sequence {finding.sequence}"
            print(f"replog: {finding.severity}: {where}: {finding.detail}", file=sys.stderr)
            return
    print(f"replog: {directory}: the log changed while it was read; entries up to {reached - 1} were dumped", file=sys.stderr)


def segment_firsts_or_reset(directory: str) -> None:
    """Raise WalMissing where there is no log; before a lock is taken, so that the message is about the log and not about the lock."""
    if not wal.exists(directory):
        segment_firsts(_FS, directory)


def _size(directory: str) -> int:
    return sum(_FS.size(join(directory, segment_name(first))) for first in segment_firsts(_FS, directory))
