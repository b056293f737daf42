"""What is found in a log's directory, what it means, and what is done about it: the decision table of recovery.

Three steps that never mix. `inspect` reads everything and changes nothing. `RECOVERY_TABLE` (in `replog.wal.table`) says, for each thing that can be found and each place it
can be found in, what it means: nothing, a trace of a crash to be cleared away, or damage. `apply` does the clearing, and is reached only
when no finding is damage and nothing that the caller vouched for would be cut. So a log that is refused is a log that was not touched.

Only the last segment may end in an interrupted write, because a segment is cut and synced before the next one gets its name. What such a write
can leave is told apart from damage in `replog.wal.tail`.

After a cut the bytes behind it are zeroed (the file is cut and given its blocks again), and synced, before anything else is written.
Otherwise a later entry of the same size as the lost one would end exactly where a lost one began, and bring it back to life.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from replog.errors import WalDamaged, WalEntriesLost, WalMissing
from replog.filesystem import File, FileSystem, join
from replog.wal.format import FRAME_OVERHEAD_BYTES_MAX, HEADER_BYTES, Codec, HeaderFault, Stop
from replog.wal.options import WalOptions
from replog.wal.segment import (
    Segment,
    SegmentScan,
    is_temporary_name,
    is_zero,
    last_nonzero_end,
    parse_reset_name,
    parse_segment_name,
    scan_segment,
    segment_name,
)
from replog.wal.table import HEADER_FAULTS, RECOVERY_TABLE, ROWS, TAILS, Action, Found, Place, Row
from replog.wal.tail import Tail, judge_tail

__all__ = [
    "RECOVERY_TABLE",
    "Action",
    "Finding",
    "Found",
    "Inspection",
    "Place",
    "Recovery",
    "Row",
    "apply",
    "check",
    "classify_tail",
    "cut_and_zero",
    "finish_reset",
    "inspect",
]

_TAIL_READ_BYTES_MAX: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found, and its row."""

    row: Row
    path: str
    offset: int
    sequence: int | None
    """The first sequence number that cannot be read there; None: not known."""
    detail: str
    bytes_behind: int = 0
    """From `offset` to the last byte that is not zero."""

    def error(self) -> WalDamaged:
        """The exception of a finding that is refused."""
        assert self.row.error is not None
        return self.row.error(self.path, self.offset, self.sequence, f"{self.row.meaning}: {self.detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All that is in a log's directory, read and verified; nothing was changed."""

    directory: str
    segments: tuple[Segment, ...]
    """Those with a usable header, ascending; each up to its last good entry."""
    scans: tuple[SegmentScan, ...]
    """Of every file with a segment's name, ascending."""
    findings: tuple[Finding, ...]

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings for which the log is refused, in the order of the log."""
        return tuple(finding for finding in self.findings if finding.row.action is Action.REFUSE)

    @property
    def cut(self) -> Finding | None:
        """The torn write at the end, if there is one."""
        return next((finding for finding in self.findings if finding.row.action is Action.CUT), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was done when the log was opened."""

    cut_at: int | None = None
    """Sequence number of the first entry that was cut off (so the log ended before it); None when nothing was cut."""
    cut_segment: str | None = None
    cut_offset: int | None = None
    bytes_cut: int = 0
    removed: tuple[str, ...] = ()
    """Paths of files that a crash had left unfinished."""
    reset_finished: bool = False
    reason: str = ""
    """Why it was cut, for people."""
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    @property
    def is_clean(self) -> bool:
        """Whether nothing had to be done."""
        return self.cut_at is None and not self.removed and not self.reset_finished


def inspect(fs: FileSystem, directory: str, options: WalOptions, on_bytes: Callable[[int], None] | None = None) -> Inspection:
    """Read and verify the whole log. Changes nothing and needs no lock; beside a live writer the last segment may look torn.

    Raises WalMissing when there is no log, OSError. All damage is in the findings, also when there is more than one.
    """
    names = _list(fs, directory)
    resets = [name for name in names if parse_reset_name(name) is not None]
    temporary = [name for name in names if is_temporary_name(name)]
    firsts = sorted(first for name in names if (first := parse_segment_name(name)) is not None)
    if not firsts and not resets:
        raise WalMissing(directory)
    findings = [_in_directory(Found.TEMPORARY, join(directory, name)) for name in temporary]
    findings += [_in_directory(Found.RESET, join(directory, name)) for name in resets]
    scans: list[SegmentScan] = []
    segments: list[Segment] = []
    if not resets:  # what a reset replaces is not looked at
        for first in firsts:
            path = join(directory, segment_name(first))
            file = fs.open(path)
            try:
                scan = scan_segment(file, path, first, options.entry_bytes_max, on_bytes)
                scans.append(scan)
            finally:
                file.close()
        findings += _judge(fs, directory, firsts, scans, segments)
    return Inspection(directory=directory, segments=tuple(segments), scans=tuple(scans), findings=tuple(findings))


def _list(fs: FileSystem, directory: str) -> Sequence[str]:
    try:
        return fs.list(directory)
    except FileNotFoundError:
        raise WalMissing(directory) from None


def _in_directory(found: Found, path: str) -> Finding:
    return Finding(row=ROWS[found, Place.DIRECTORY], path=path, offset=0, sequence=None, detail=found.value)


def _judge(fs: FileSystem, directory: str, firsts: list[int], scans: list[SegmentScan], segments: list[Segment]) -> list[Finding]:
    """The findings of all segments, and those with a usable header into `segments`."""
    findings: list[Finding] = []
    last = len(firsts) - 1
    # A last segment without a header is none: the one before it is the last, though it was sealed.
    unborn = last > 0 and scans[last].fault is HeaderFault.MISSING
    previous: Segment | None = None
    for at, (first, scan) in enumerate(zip(firsts, scans, strict=True)):
        path = join(directory, segment_name(first))
        if previous is not None and not (at == last and unborn) and previous.next_sequence < first and _ended(findings, previous):
            detail = f"the one before it, {previous.path}, ends at sequence {previous.next_sequence - 1}"
            findings.append(_finding(Found.GAP, Place.BETWEEN, path, 0, previous.next_sequence, detail))
        if previous is not None and previous.next_sequence > first:
            detail = f"the one before it, {previous.path}, goes on to sequence {previous.next_sequence - 1}"
            findings.append(_finding(Found.OVERLAP, Place.BETWEEN, path, 0, first, detail))
        place = Place.ONLY if last == 0 else Place.LAST if at == last else Place.SEALED
        if scan.segment is None or scan.header is None:
            assert scan.fault is not None
            findings.append(_finding(HEADER_FAULTS[scan.fault], place, path, 0, first, scan.fault_text))
            previous = None
            continue
        if scan.header.first_sequence != first:
            detail = f"the header says first sequence {scan.header.first_sequence}, the name {first}"
            findings.append(_finding(Found.NAME_MISMATCH, place, path, 8, first, detail))
        segments.append(scan.segment)
        next_first = firsts[at + 1] if at < last else None
        file = fs.open(path)
        try:
            findings.append(_judge_end(file, path, scan, next_first, may_be_last=at == last or (unborn and at == last - 1)))
        finally:
            file.close()
        previous = scan.segment
    return findings


def _ended(findings: list[Finding], segment: Segment) -> bool:
    """Whether the reading of this segment came to a proper end; if not, the entries behind it are not missing, but unreadable."""
    return findings[-1].path != segment.path or findings[-1].row.action is not Action.REFUSE


def _finding(found: Found, place: Place, path: str, offset: int, sequence: int | None, detail: str, bytes_behind: int = 0) -> Finding:
    return Finding(row=ROWS[found, place], path=path, offset=offset, sequence=sequence, detail=detail, bytes_behind=bytes_behind)


def _judge_end(file: File, path: str, scan: SegmentScan, next_first: int | None, *, may_be_last: bool) -> Finding:
    """What stands behind the last good entry of a segment."""
    segment = scan.segment
    assert segment is not None
    offset = segment.end_offset
    tail, behind = classify_tail(file, segment.codec, scan.scan.stop, offset, scan.size_bytes)
    found = TAILS[tail]
    place = Place.LAST if may_be_last else Place.SEALED
    if next_first is not None:
        is_complete = segment.next_sequence == next_first
        if not may_be_last and is_complete and found not in (Found.CLEAN_END, Found.ZEROS):
            found = Found.TRAILING_BYTES
        # The sealed segment in front of one that was never born: zeros may follow its entries, but no write can have been interrupted in it.
        if may_be_last and ROWS[found, place].action is not Action.OPEN:
            place = Place.SEALED
    return _finding(found, place, path, offset, segment.next_sequence, tail.value, behind)


def classify_tail(file: File, codec: Codec, stop: Stop, offset: int, size: int) -> tuple[Tail, int]:
    """What stands behind the last good entry, which ends at `offset` of a file of `size` bytes; and how many bytes it has to its last one that is
    not zero. `stop` is why the scan ended there."""
    if offset >= size:
        return Tail.END, 0
    if is_zero(file, offset, size):
        return Tail.ZEROS, 0
    behind = last_nonzero_end(file, offset, size) - offset
    frame_bytes = 0
    if stop is Stop.CHECKSUM:
        head = file.pread(FRAME_OVERHEAD_BYTES_MAX, offset)
        decoded = codec.decode_length(head, 0, len(head))
        assert decoded is not None
        frame_bytes = decoded[0] + decoded[1] + codec.check_bytes
    want = max(frame_bytes, min(behind, _TAIL_READ_BYTES_MAX))
    return judge_tail(codec, stop, file.pread(want, offset), offset, frame_bytes), behind


def check(inspection: Inspection, vouched_sequence: int | None) -> None:
    """Raise the first damage; or WalEntriesLost when, after the cuts, the log would end before `vouched_sequence` (the sequence behind the last
    entry that is known to be durable)."""
    if inspection.damage:
        raise inspection.damage[0].error()
    if vouched_sequence is None:
        return
    if not inspection.segments:
        reset = next(finding for finding in inspection.findings if finding.row.action is Action.FINISH)
        found, path, offset = parse_reset_name(reset.path.rpartition("/")[2]) or 0, reset.path, 0
    else:
        last = inspection.segments[-1]
        found, path, offset = last.next_sequence, last.path, last.end_offset
    if found < vouched_sequence:
        reason = f"the log ends before sequence {found}, but everything before {vouched_sequence} was durable"
        raise WalEntriesLost(path, offset, found, reason)


def apply(fs: FileSystem, inspection: Inspection, options: WalOptions) -> Recovery:
    """Clear away what a crash has left; the directory must be locked, and `check` must have passed. Durable on return.

    Every step may be interrupted and is then found, and done, again.
    """
    assert not inspection.damage
    directory = inspection.directory
    removed = [finding.path for finding in inspection.findings if finding.row.action is Action.REMOVE]
    for path in removed:
        fs.remove(path)
    if removed:
        fs.sync_dir(directory)
    resets = [finding for finding in inspection.findings if finding.row.action is Action.FINISH]
    if resets:
        finish_reset(fs, directory)
    cut = inspection.cut
    if cut is None:
        return Recovery(removed=tuple(removed), reset_finished=bool(resets), findings=inspection.findings)
    file = fs.open(cut.path, writable=True)
    try:
        cut_and_zero(file, cut.offset, options.preallocation)
    finally:
        file.close()
    return Recovery(
        cut_at=cut.sequence,
        cut_segment=cut.path,
        cut_offset=cut.offset,
        bytes_cut=cut.bytes_behind,
        removed=tuple(removed),
        reason=cut.detail,
        findings=inspection.findings,
    )


def cut_and_zero(file: File, offset: int, preallocation: int) -> None:
    """Cut a segment's file at `offset` and give it back as many zeroed blocks as it had, up to the preallocation; synced on return.

    On a full disk it stays short: the blocks are a comfort, the zeros behind `offset` are not, and beyond its end a file reads as zeros too.
    """
    assert offset >= HEADER_BYTES
    size = file.size()
    file.truncate(offset)
    file.sync()
    keep = min(size, max(offset, preallocation))
    if keep > offset:
        try:
            file.allocate(keep)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        file.sync()


def finish_reset(fs: FileSystem, directory: str) -> int:
    """Replace everything by the empty log that the reset file holds; returns its first sequence number. Does it again where it was interrupted."""
    names = fs.list(directory)
    reset = max(name for name in names if parse_reset_name(name) is not None)
    first = parse_reset_name(reset)
    assert first is not None
    for name in names:
        if parse_segment_name(name) is not None or (parse_reset_name(name) is not None and name != reset):
            fs.remove(join(directory, name))
    fs.sync_dir(directory)
    fs.rename(join(directory, reset), join(directory, segment_name(first)))
    fs.sync_dir(directory)
    return first
