"""What `describe` and `verify` say about a log, as plain values: taken from the files, printed elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from replog.cli.output import Json
from replog.cli.wal_entries import segment_firsts
from replog.filesystem import FileSystem, join
from replog.wal import recovery
from replog.wal.format import HEADER_BYTES, Header, decode_header
from replog.wal.options import WalOptions
from replog.wal.recovery import Action, Finding, Found, Inspection
from replog.wal.segment import SegmentScan, is_zero, scan_segment, segment_name

CLEAN: Final = "clean"
TORN: Final = "torn"
DAMAGED: Final = "damaged"
NOT_READ: Final = "not read"

_SEVERITIES: Final = {Action.REFUSE: "damage", Action.CUT: "torn", Action.FINISH: "unfinished", Action.REMOVE: "unfinished"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReport:
    """One segment file."""

    segment: str
    first_sequence: int
    next_sequence: int | None
    """Behind its last good entry; None: not known."""
    entries: int | None
    size_bytes: int
    used_bytes: int | None
    """To the end of its last good entry, header included."""
    length_encoding: str | None
    checksum: str | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingReport:
    """One thing that is not as it should be."""

    severity: str
    """``damage`` (open refuses), ``torn`` (open cuts it), ``unfinished`` (open clears it away), ``note`` (nothing of the log)."""
    error: str | None
    """The class of the error that open raises."""
    segment: str
    offset: int
    sequence: int | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """A whole log."""

    directory: str
    first_sequence: int
    next_sequence: int | None
    """Behind the last good entry that follows the first one without a gap."""
    entries: int | None
    size_bytes: int
    used_bytes: int | None
    verified: bool
    """Whether every entry was read, or only what says where they are."""
    segments: tuple[SegmentReport, ...]
    findings: tuple[FindingReport, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing but notes was found."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_json(self) -> Json:
        """For programs."""
        return {"ok": self.is_well, **asdict(self)}


def describe(fs: FileSystem, directory: str, options: WalOptions) -> LogReport:
    """From the headers and the last segment alone: quick for a log of any size, and blind to damage in sealed segments. Raises WalMissing, OSError."""
    firsts = segment_firsts(fs, directory)
    scans: list[SegmentScan] = []
    for at, first in enumerate(firsts):
        path = join(directory, segment_name(first))
        file = fs.open(path)
        try:
            if at == len(firsts) - 1:
                scans.append(scan_segment(file, path, first, options.entry_bytes_max))
            else:
                scan = SegmentScan(file.size())
                decoded = decode_header(file.pread(HEADER_BYTES, 0))
                if isinstance(decoded, Header):
                    scan.header = decoded
                else:
                    scan.fault, scan.fault_text = decoded
                scans.append(scan)
        finally:
            file.close()
    segments = []
    findings: list[FindingReport] = []
    for at, (first, scan) in enumerate(zip(firsts, scans, strict=True)):
        following = firsts[at + 1] if at + 1 < len(firsts) else None
        name = segment_name(first)
        state = NOT_READ
        if scan.header is None or scan.header.first_sequence != first:
            state = DAMAGED
            detail = (
                scan.fault_text if scan.header is None else f"the header says first sequence {scan.header.first_sequence}, the name {first}"
            )
            findings.append(FindingReport(severity="damage", error=None, segment=name, offset=0, sequence=first, detail=detail))
        elif scan.segment is not None:
            following = scan.segment.next_sequence
            state = _end_state(fs, join(directory, name), scan)
            if state != CLEAN:
                detail = "bytes behind the last good entry are no entry; `replog wal verify` says what they are"
                offset = scan.segment.end_offset
                findings.append(FindingReport(severity=TORN, error=None, segment=name, offset=offset, sequence=following, detail=detail))
        used = scan.segment.end_offset if scan.segment is not None else scan.size_bytes if state == NOT_READ else None
        segments.append(_segment_report(name, first, following, scan, used, state))
    return _log_report(directory, segments, findings, verified=False)


def verify(fs: FileSystem, directory: str, options: WalOptions, on_bytes: Callable[[int], None] | None = None) -> LogReport:
    """Read everything and judge it as an open would. Changes nothing. Raises WalMissing, OSError."""
    return report_of(fs, recovery.inspect(fs, directory, options, on_bytes))


def report_of(fs: FileSystem, inspection: Inspection) -> LogReport:
    """What an inspection found, for people and programs."""
    firsts = segment_firsts(fs, inspection.directory) if inspection.scans else []
    findings = [_finding_report(finding) for finding in inspection.findings if finding.row.action is not Action.OPEN]
    worst: dict[str, str] = {}
    for finding in findings:
        state = DAMAGED if finding.severity == "damage" else TORN
        if worst.get(finding.segment) != DAMAGED:
            worst[finding.segment] = state
    segments = []
    for first, scan in zip(firsts, inspection.scans, strict=True):
        name = segment_name(first)
        following = scan.segment.next_sequence if scan.segment is not None else None
        used = scan.segment.end_offset if scan.segment is not None else None
        segments.append(_segment_report(name, first, following, scan, used, worst.get(name, CLEAN)))
    return _log_report(inspection.directory, segments, findings, verified=True)


def _end_state(fs: FileSystem, path: str, scan: SegmentScan) -> str:
    assert scan.segment is not None
    file = fs.open(path)
    try:
        return CLEAN if is_zero(file, scan.segment.end_offset, scan.size_bytes) else TORN
    finally:
        file.close()


def _segment_report(name: str, first: int, following: int | None, scan: SegmentScan, used: int | None, state: str) -> SegmentReport:
    header = scan.header
    return SegmentReport(
        segment=name,
        first_sequence=first,
        next_sequence=following,
        entries=None if following is None else following - first,
        size_bytes=scan.size_bytes,
        used_bytes=used,
        length_encoding=header.length_encoding.label if header else None,
        checksum=header.checksum_type.label if header else None,
        state=state,
    )


def _finding_report(finding: Finding) -> FindingReport:
    row = finding.row
    is_note = row.found is Found.TEMPORARY
    detail = finding.detail if finding.detail.startswith(row.meaning) else f"{row.meaning}: {finding.detail}"
    return FindingReport(
        severity="note" if is_note else _SEVERITIES[row.action],
        error=row.error.__name__ if row.error else None,
        segment=finding.path.rpartition("/")[2],
        offset=finding.offset,
        sequence=finding.sequence,
        detail=detail,
    )


def _log_report(directory: str, segments: list[SegmentReport], findings: list[FindingReport], *, verified: bool) -> LogReport:
    first = segments[0].first_sequence if segments else 0
    reached: int | None = first
    for segment in segments:
        if segment.first_sequence != reached:
            break
        reached = segment.next_sequence
        if segment.state == DAMAGED:
            break
    known = [segment for segment in segments if segment.used_bytes is not None]
    return LogReport(
        directory=directory,
        first_sequence=first,
        next_sequence=reached,
        entries=None if reached is None else reached - first,
        size_bytes=sum(segment.size_bytes for segment in segments),
        used_bytes=sum(segment.used_bytes or 0 for segment in known) if len(known) == len(segments) else None,
        verified=verified,
        segments=tuple(segments),
        findings=tuple(findings),
    )
