"""`replog wal repair`: a damaged log becomes an openable one, and nothing is destroyed.

What cannot be read in order is taken out of the log: the segment with the damage is cut there, and the segments behind it are set aside, because
an entry behind a hole is no longer the entry that its number says. Each file that is changed is first kept, as it was, as ``<name>.wal.broken``::

    before   00.wal [good]   40.wal [good|BAD|good]   80.wal [good]
    after    00.wal [good]   40.wal [good]            40.wal.broken (as it was)   80.wal.broken

Order of the steps: keep a copy (synced, renamed, directory synced), set aside from the newest to the oldest, cut at last. A crash between any two
leaves a log with the same damage or less, and every byte in some file; repair is then run again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from replog.cli.output import Json
from replog.cli.wal_entries import segment_firsts
from replog.errors import WalLocked, WalTrailingBytes
from replog.filesystem import FileSystem, Lock, LockHeld, join
from replog.wal.format import HEADER_BYTES, Header
from replog.wal.options import ChecksumType, LengthEncoding, WalOptions
from replog.wal.recovery import Action, Finding, Inspection, Place, cut_and_zero
from replog.wal.segment import make_segment, segment_name, write_all

CUT: Final = "cut"
SET_ASIDE: Final = "set aside"
CREATE: Final = "create"
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of one file."""

    action: str
    """``cut`` at `offset`, ``set aside`` whole, or ``create`` an empty segment."""
    segment: str
    offset: int
    bytes: int
    """Taken out of the log."""
    entries: int
    """Readable entries taken out with them."""
    kept_as: str | None
    """The file that keeps what the segment was."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a repair would do, or has done."""

    directory: str
    steps: tuple[Step, ...]
    first_sequence: int
    next_sequence: int
    """The log ends before it once it is repaired."""
    done: bool = False

    def as_json(self) -> Json:
        """For programs."""
        values = asdict(self)
        return {"repaired": values.pop("done"), **values}


def lock_directory(fs: FileSystem, directory: str) -> Lock:
    """The log's lock. Raises WalLocked."""
    try:
        return fs.lock(directory)
    except LockHeld as held:
        raise WalLocked(directory, held.pid) from None


def plan_repair(fs: FileSystem, inspection: Inspection) -> Plan:
    """What has to be taken out so that the log opens; no step where it opens as it is. Changes nothing."""
    directory = inspection.directory
    if not inspection.scans:  # a reset that was not finished: open finishes it
        return Plan(directory=directory, steps=(), first_sequence=0, next_sequence=0)
    firsts = segment_firsts(fs, directory)
    by_path: dict[str, list[Finding]] = {}
    for finding in inspection.findings:
        if finding.row.place is not Place.DIRECTORY and finding.row.action is not Action.OPEN:
            by_path.setdefault(finding.path, []).append(finding)
    steps: list[Step] = []
    kept = len(firsts)
    reached = firsts[0]
    for at, (first, scan) in enumerate(zip(firsts, inspection.scans, strict=True)):
        path = join(directory, segment_name(first))
        found = by_path.get(path, [])
        whole = next((finding for finding in found if finding.offset < HEADER_BYTES), None)
        if whole is not None:
            steps += _set_aside(fs, inspection, firsts, at, whole.detail)
            kept = at
            break
        assert scan.segment is not None
        reached = scan.segment.next_sequence
        end = next(iter(found), None)
        if end is None:
            continue
        kept_as = free_name(fs, directory, segment_name(first))
        cut_bytes = scan.size_bytes - end.offset
        steps.append(
            Step(action=CUT, segment=segment_name(first), offset=end.offset, bytes=cut_bytes, entries=0, kept_as=kept_as, reason=end.detail)
        )
        trailing_only = end.row.error is WalTrailingBytes and at + 1 < len(firsts) and reached == firsts[at + 1]
        if not trailing_only:
            steps += _set_aside(fs, inspection, firsts, at + 1, f"it is behind the damage in {segment_name(first)}")
            kept = at + 1
            break
    if kept == 0:
        reached = firsts[0]
        reason = "no segment is left, and the log goes on at this sequence number"
        steps.append(Step(action=CREATE, segment=segment_name(reached), offset=0, bytes=0, entries=0, kept_as=None, reason=reason))
    return Plan(directory=directory, steps=tuple(steps), first_sequence=firsts[0], next_sequence=reached)


def repair(fs: FileSystem, plan: Plan, options: WalOptions) -> None:
    """Carry the plan out; the directory is locked. Durable on return. Raises OSError; what was begun can be done again."""
    directory = plan.directory
    cuts = [step for step in plan.steps if step.action == CUT]
    for step in cuts:
        assert step.kept_as is not None
        _copy(fs, directory, step.segment, step.kept_as)
    for step in reversed(plan.steps):
        if step.action == SET_ASIDE:
            assert step.kept_as is not None
            fs.rename(join(directory, step.segment), join(directory, step.kept_as))
            fs.sync_dir(directory)
    for step in cuts:
        file = fs.open(join(directory, step.segment), writable=True)
        try:
            cut_and_zero(file, step.offset, 0)
        finally:
            file.close()
    if any(step.action == CREATE for step in plan.steps):
        encoding, checksum = options.length_encoding or LengthEncoding.UINT32, options.checksum_type or ChecksumType.CRC32
        make_segment(fs, directory, Header(encoding, checksum, plan.next_sequence), 0).close()


def settings_of(inspection: Inspection, options: WalOptions) -> WalOptions:
    """Options with the settings of the newest readable segment where none are given."""
    headers = [scan.header for scan in inspection.scans if scan.header is not None]
    if not headers:
        return options
    return WalOptions(
        length_encoding=options.length_encoding or headers[-1].length_encoding,
        checksum_type=options.checksum_type or headers[-1].checksum_type,
        entry_bytes_max=options.entry_bytes_max,
    )


def free_name(fs: FileSystem, directory: str, name: str) -> str:
    """``<name>.broken``, or with a number where an earlier repair has kept one."""
    candidate, number = f"{name}.broken", 1
    while fs.exists(join(directory, candidate)):
        number += 1
        candidate = f"{name}.broken.{number}"
    return candidate


def _set_aside(fs: FileSystem, inspection: Inspection, firsts: list[int], start: int, reason: str) -> list[Step]:
    steps = []
    for at in range(start, len(firsts)):
        name = segment_name(firsts[at])
        scan = inspection.scans[at]
        entries = scan.segment.next_sequence - scan.segment.first_sequence if scan.segment is not None else 0
        why = reason if at == start else f"it is behind {segment_name(firsts[start])}"
        kept_as = free_name(fs, inspection.directory, name)
        steps.append(Step(action=SET_ASIDE, segment=name, offset=0, bytes=scan.size_bytes, entries=entries, kept_as=kept_as, reason=why))
    return steps


def _copy(fs: FileSystem, directory: str, source: str, target: str) -> None:
    """A durable copy under a new name, which appears only when it is whole."""
    temporary = join(directory, target + ".tmp")
    if fs.exists(temporary):
        fs.remove(temporary)
    origin = fs.open(join(directory, source))
    try:
        copy = fs.create(temporary)
        try:
            offset = 0
            while block := origin.pread(_COPY_BYTES, offset):
                write_all(copy, block, offset)
                offset += len(block)
            copy.sync()
        finally:
            copy.close()
    finally:
        origin.close()
    fs.rename(temporary, join(directory, target))
    fs.sync_dir(directory)
