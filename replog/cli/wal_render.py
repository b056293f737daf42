"""Tables for people: what the commands of `replog wal` found, as wide as the terminal and no wider than 80 columns where it can be."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from replog.cli.output import console, format_size
from replog.cli.wal_entries import Batch
from replog.cli.wal_repair import CUT, Plan
from replog.cli.wal_report import CLEAN, DAMAGED, NOT_READ, LogReport, SegmentReport
from replog.cli.wal_rewrite import Rewritten

_STYLES = {CLEAN: "green", DAMAGED: "bold red", NOT_READ: "dim", "torn": "yellow"}
_SEVERITY_STYLES = {"damage": "bold red", "torn": "yellow", "unfinished": "yellow", "note": "dim"}
_PREVIEW_BYTES: Final = 24


def number(value: int | None) -> str:
    """A number with its thousands apart; a dash for what is not known."""
    return "-" if value is None else f"{value:,}"


def print_report(report: LogReport) -> None:
    """`describe` and `verify`: settings, segments, findings, and one line that says it all."""
    out = console()
    settings = sorted({f"{s.length_encoding} / {s.checksum}" for s in report.segments if s.length_encoding})
    out.print(Text(report.directory, style="bold"), soft_wrap=True)
    last = None if report.next_sequence is None else report.next_sequence - 1
    span = "none" if report.entries == 0 else f"{report.first_sequence} to {'?' if last is None else last}"
    used = format_size(report.used_bytes) if report.used_bytes is not None else "?"
    out.print(f"  encoding / checksum  {', '.join(settings) or '?'}")
    out.print(f"  entries              {number(report.entries)} ({span}), the next one is {number(report.next_sequence).replace(',', '')}")
    out.print(
        f"  size                 {used} used of {format_size(report.size_bytes)} in {len(report.segments)} segment{_s(len(report.segments))}"
    )
    out.print(_segment_table(report.segments))
    for finding in report.findings:
        at = (
            ""
            if finding.severity == "note"
            else f" offset {finding.offset}, sequence {'?' if finding.sequence is None else finding.sequence}"
        )
        error = f" [{finding.error}]" if finding.error else ""
        line = Text.assemble((finding.severity, _SEVERITY_STYLES[finding.severity]), f" {finding.segment}{at}: {finding.detail}{error}")
        out.print(line, soft_wrap=True)
    out.print(_verdict(report), soft_wrap=True)


def _segment_table(segments: Iterable[SegmentReport]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("segment", no_wrap=True)
    for name in ("first", "last", "entries", "used", "file"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for segment in segments:
        last = None if segment.next_sequence is None else segment.next_sequence - 1
        empty = segment.entries == 0
        table.add_row(
            segment.segment,
            str(segment.first_sequence),
            "-" if last is None or empty else str(last),
            number(segment.entries),
            "-" if segment.used_bytes is None else format_size(segment.used_bytes),
            format_size(segment.size_bytes),
            Text(segment.state, style=_STYLES.get(segment.state, "")),
        )
    return table


def _verdict(report: LogReport) -> Text:
    if report.is_well and report.verified:
        return Text(f"all is well: {number(report.entries)} entries read and verified", style="green")
    if report.is_well:
        return Text("only headers and the last segment were read; `replog wal verify` reads everything", style="dim")
    worst = [finding.severity for finding in report.findings]
    if "damage" in worst:
        return Text(f"damaged: open refuses this log; `replog wal repair {report.directory}` shows what could be kept", style="bold red")
    return Text("left by a crash: the next open clears it away; nothing that was synced is missing", style="yellow")


def print_batches(batches: Iterable[Batch], *, with_data: bool) -> None:
    """`dump`: a line an entry, printed as they come."""
    write = sys.stdout.write
    write(f"{'sequence':>12}  {'segment':<24}  {'offset':>12}  {'length':>9}{'  data' if with_data else ''}\n")
    for batch in batches:
        lines = []
        for sequence, (offset, data) in enumerate(zip(batch.offsets, batch.datas, strict=True), batch.first_sequence):
            preview = f"  {_preview(data)}" if with_data else ""
            lines.append(f"{sequence:>12}  {batch.segment}  {offset:>12}  {len(data):>9}{preview}\n")
        write("".join(lines))
    sys.stdout.flush()


def _preview(data: bytes) -> str:
    """The beginning of the data, printable characters as they are and the others as dots."""
    shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data[:_PREVIEW_BYTES])
    return shown + ("..." if len(data) > _PREVIEW_BYTES else "")


def print_plan(plan: Plan) -> None:
    """`repair`: what would be done, or was."""
    out = console()
    if not plan.steps:
        out.print(Text(f"{plan.directory}: nothing to repair", style="green"), soft_wrap=True)
        return
    lost = sum(step.entries for step in plan.steps)
    out.print(Text(f"{plan.directory}: {'repaired' if plan.done else 'to repair'}", style="bold"), soft_wrap=True)
    for step in plan.steps:
        what = f"cut at offset {step.offset}" if step.action == CUT else step.action
        kept = f", kept as {step.kept_as}" if step.kept_as else ""
        readable = f", {number(step.entries)} readable entries" if step.entries else ""
        out.print(Text(f"  {step.segment}: {what} ({format_size(step.bytes)}{readable}){kept}"), soft_wrap=True)
        out.print(Text(f"    because: {step.reason}", style="dim"), soft_wrap=True)
    ends = "is empty" if plan.next_sequence == plan.first_sequence else f"ends with sequence {plan.next_sequence - 1}"
    gone = (
        f"; {number(lost)} readable entr{'y' if lost == 1 else 'ies'} behind the damage {'are' if plan.done else 'would be'} out of it"
        if lost
        else ""
    )
    out.print(
        f"the log {'' if plan.done else 'would then '}{ends if plan.done else ends.replace('is', 'be', 1) if ends == 'is empty' else ends.replace('ends', 'end', 1)}{gone}",
        soft_wrap=True,
    )
    if not plan.done:
        out.print(Text("nothing was changed; say --yes to do it", style="yellow"))


def print_rewritten(result: Rewritten) -> None:
    """`rewrite`: what was written."""
    out = console()
    out.print(Text(result.target, style="bold"), soft_wrap=True)
    span = "none" if not result.entries else f"{result.first_sequence} to {result.next_sequence - 1}"
    out.print(f"  entries   {number(result.entries)} ({span}), the same in both, compared one by one")
    out.print(f"  segments  {result.segments_before} before, {result.segments_after} now")
    out.print(f"  size      {format_size(result.size_bytes_before)} before, {format_size(result.size_bytes_after)} now")


def _s(count: int) -> str:
    return "" if count == 1 else "s"
