"""What `replog.wal` promises over a crash, as workloads and an oracle for `replog.testing.enumerator`.

A workload says before each call what it is about to do, and after it what it was promised. Folding these marks up to a crash gives the
bounds of what may be found afterwards::

    first sequence      first_low  <= found <= first_high       (low != high while a truncation in front is under way)
    next sequence       next_low   <= found <= next_high        (acknowledged <= recovered <= written)
    data of entry s     entries[s], byte for byte

A reset under way has two bounds, the old log's and the empty one's, and either must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from replog import wal
from replog.errors import WalDamaged, WalMissing
from replog.filesystem import FileSystem
from replog.testing.enumerator import Image, Mark
from replog.wal import Log, SyncPolicy, WalOptions

DIRECTORY: Final = "log"
_PROBE: Final = b"appended behind what was recovered; "


@dataclass(frozen=True, slots=True)
class Creating:
    """The log is being made; it may be missing until `Promised` comes."""

    first_sequence: int


@dataclass(frozen=True, slots=True)
class Appending:
    """These entries are about to be appended."""

    first_sequence: int
    datas: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TruncatingBehind:
    """The entries behind `sequence` are about to be discarded."""

    sequence: int


@dataclass(frozen=True, slots=True)
class TruncatingBefore:
    """Whole segments before `sequence` are about to be removed."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Resetting:
    """Everything is about to be discarded."""

    next_sequence: int


@dataclass(frozen=True, slots=True)
class Promised:
    """The call returned: the log begins at `first_sequence` and is durable up to before `durable_sequence`, and goes up to before `next_sequence`."""

    first_sequence: int
    durable_sequence: int
    next_sequence: int


LogMark = Creating | Appending | TruncatingBehind | TruncatingBefore | Resetting | Promised


@dataclass(slots=True)
class Bounds:
    """What a log may be found to be."""

    first_low: int
    first_high: int
    next_low: int
    next_high: int
    entries: dict[int, bytes] = field(default_factory=dict)
    may_be_missing: bool = False

    def allows(self, first: int, following: int) -> bool:
        return self.first_low <= first <= self.first_high and self.next_low <= following <= self.next_high


def bounds_of(marks: Sequence[object]) -> list[Bounds]:
    """Fold the marks before a crash into what may be found; one of the results must hold."""
    now = Bounds(0, 0, 0, 0, may_be_missing=True)
    other: Bounds | None = None
    for mark in marks:
        assert isinstance(mark, LogMark)
        match mark:
            case Creating(first):
                now = Bounds(first, first, first, first, may_be_missing=True)
            case Appending(first, datas):
                now.entries.update(enumerate(datas, first))
                now.next_high = first + len(datas)
            case TruncatingBehind(sequence):
                now.next_low = min(now.next_low, sequence + 1)
            case TruncatingBefore(sequence):
                now.first_high = max(now.first_high, sequence)
            case Resetting(sequence):
                other = Bounds(sequence, sequence, sequence, sequence)
            case Promised(first, durable, following):
                if other is not None and other.allows(first, following):
                    now = other  # else a crash came before it was done, and this is what the next open found
                other = None
                assert now.first_low <= first <= now.first_high, f"the log says that it begins at {first}; {now}"
                assert now.next_low <= durable <= following <= now.next_high, f"the log says {mark}; {now}"
                now = replace(now, first_low=first, first_high=first, next_low=durable, next_high=following, may_be_missing=False)
            case _:
                assert_never(mark)
    return [now] if other is None else [now, other]


class MarkedLog:
    """A log whose every call is marked, before and after."""

    def __init__(self, log: Log, mark: Mark) -> None:
        self.log = log
        self._mark = mark
        self.promise()

    def promise(self) -> None:
        """Mark what the log says of itself now."""
        log = self.log
        self._mark(Promised(log.first_sequence, log.durable_sequence, log.next_sequence))

    def append(self, *datas: bytes) -> None:
        """Append one entry, or several as one batch."""
        first = self.log.next_sequence
        self._mark(Appending(first, datas))
        given = self.log.append(datas[0]) if len(datas) == 1 else self.log.append_many(datas)
        assert given == first, f"the entry got {given}, the log said {first}"
        self.promise()

    def sync(self) -> None:
        """Sync explicitly (for the policy that never does)."""
        self.log.sync()
        assert self.log.durable_sequence == self.log.next_sequence, "something written is not durable after sync"
        self.promise()

    def truncate_behind(self, sequence: int) -> None:
        self._mark(TruncatingBehind(sequence))
        self.log.truncate_behind(sequence)
        assert self.log.next_sequence == sequence + 1, f"cut behind {sequence}, but the next is {self.log.next_sequence}"
        self.promise()

    def truncate_before(self, sequence: int) -> None:
        self._mark(TruncatingBefore(sequence))
        self.log.truncate_before(sequence)
        self.promise()

    def reset(self, sequence: int) -> None:
        self._mark(Resetting(sequence))
        self.log.reset(sequence)
        self.promise()


def payload(sequence: int, length: int, generation: int = 0) -> bytes:
    """Data that differs for each sequence, generation (of what was cut and written again) and position; never a sector of zeros."""
    seed = f"<{sequence}.{generation}>".encode()
    return (seed * (length // len(seed) + 1))[:length]


@dataclass(frozen=True, slots=True)
class LogWorkload:
    """One way to use a log, over and over with other settings."""

    name: str
    work: Callable[[MarkedLog], None]
    options: WalOptions
    sync: Callable[[], SyncPolicy] = wal.ImmediateSync
    reopen: bool = False
    """Whether the log is closed, opened, and worked with once more."""

    def run(self, files: FileSystem, mark: Mark) -> None:
        """The program that is crashed."""
        mark(Creating(self.options.first_sequence))
        wal.create(DIRECTORY, self.options, fs=files)
        with self.opened(files, mark) as log:
            self.work(log)
        if self.reopen:
            with self.opened(files, mark) as log:
                self.work(log)

    @contextmanager
    def opened(self, files: FileSystem, mark: Mark) -> Iterator[MarkedLog]:
        """The log, open; closed behind it."""
        log = wal.open(DIRECTORY, self.options, sync=self.sync(), fs=files)
        try:
            yield MarkedLog(log, mark)
        finally:
            log.close()

    def check(self, image: Image, marks: Sequence[object]) -> bool:
        """The oracle: what is found is what was promised, can be appended to, and is the same at the second look."""
        bounds = bounds_of(marks)
        files = image.open()
        if not wal.exists(DIRECTORY, fs=files):
            assert bounds[0].may_be_missing, "the log is missing"
            return True
        try:
            log = wal.open(DIRECTORY, self.options, sync=wal.NoSync(), fs=files)
        except WalMissing:
            assert bounds[0].may_be_missing, "the log is missing"
            return True
        except WalDamaged:
            assert files.files() == image.files, "refused, and yet something was changed"
            return False
        try:
            found = _check_entries(log, bounds)
            first, following = log.first_sequence, log.next_sequence
            # As long as the entry that was lost here, if one was: what may still lie behind it then stands exactly where an entry would.
            lost = bounds[-1].entries.get(following, _PROBE)
            probe = (_PROBE * (len(lost) // len(_PROBE) + 1))[: len(lost)]
            assert log.append(probe) == following, "the appended entry has another sequence number"
            assert log.read(following) == probe, "the entry appended behind the recovered ones reads differently"
        finally:
            log.close()
        _check_second_look(files, self.options, first, [*found, probe])
        return True


def _check_entries(log: Log, bounds: Sequence[Bounds]) -> list[bytes]:
    first, following = log.first_sequence, log.next_sequence
    holding = [bound for bound in bounds if bound.allows(first, following)]
    assert holding, f"found the entries from {first} to before {following}; allowed: " + " or ".join(
        f"from {bound.first_low}..{bound.first_high} to before {bound.next_low}..{bound.next_high}" for bound in bounds
    )
    datas = read_all(log)
    for sequence, data in enumerate(datas, first):
        expected = holding[0].entries.get(sequence)
        assert data == expected, (
            f"entry {sequence} is {data[:40]!r} ({len(data)} bytes), was {expected[:40] if expected is not None else None!r}"
        )
    return datas


def read_all(log: Log) -> list[bytes]:
    """The data of every entry, in order."""
    datas: list[bytes] = []
    while (sequence := log.first_sequence + len(datas)) < log.next_sequence:
        datas += log.read_range(sequence, log.last_sequence, 1 << 20)
    assert len(datas) == log.next_sequence - log.first_sequence, "read more entries than there are"
    return datas


def _check_second_look(files: FileSystem, options: WalOptions, first: int, datas: Sequence[bytes]) -> None:
    found = list(wal.Reader(DIRECTORY, fs=files))
    assert [sequence for sequence, _ in found] == list(range(first, first + len(datas))), "a reader finds other sequence numbers"
    assert [data for _, data in found] == list(datas), "a reader finds other entries"
    log = wal.open(DIRECTORY, options, sync=wal.NoSync(), fs=files)
    try:
        assert (log.first_sequence, log.next_sequence) == (first, first + len(datas)), "a second open sees another log"
        assert read_all(log) == list(datas), "a second open reads other entries"
    finally:
        log.close()


# --- The workloads of FAULTS.md ---------------------------------------------------------------------------------------

SIZES: Final = (3, 0, 640, 1, 90, 700, 0, 33, 1300, 5)
"""Lengths of entries: none, less than a sector, over one boundary and over two, and longer than a segment."""


def append_over_two_rollovers(log: MarkedLog) -> None:
    """Singly and in batches, until two rollovers have come, and a batch behind them."""
    segments = log.log.segment_count + 2
    while True:
        sequence = log.log.next_sequence
        log.append(payload(sequence, SIZES[sequence % len(SIZES)]))
        log.append(*(payload(number, SIZES[number % len(SIZES)]) for number in (sequence + 1, sequence + 2)))
        if log.log.segment_count >= segments:
            break
    log.sync()


def truncate_behind(log: MarkedLog) -> None:
    """Cut inside the last segment, over several segments, and all, and append other entries of the same sizes each time."""
    append_over_two_rollovers(log)
    first, last = log.log.first_sequence, log.log.last_sequence
    for generation, keep in ((1, last - 1), (2, first), (3, first + 2), (4, first - 1)):
        log.truncate_behind(keep)
        for sequence in range(keep + 1, keep + 3):
            log.append(payload(sequence, SIZES[sequence % len(SIZES)], generation))
        log.append(*(payload(sequence, SIZES[sequence % len(SIZES)], generation) for sequence in range(keep + 3, keep + 5)))
    log.sync()


def truncate_before(log: MarkedLog) -> None:
    """Remove segments in front, one and then several, and append between."""
    append_over_two_rollovers(log)
    log.truncate_before(log.log.first_sequence + 5)
    log.append(payload(log.log.next_sequence, 600))
    log.truncate_before(log.log.last_sequence)
    log.append(payload(log.log.next_sequence, 20))
    log.truncate_before(log.log.next_sequence)
    log.sync()


def everything(log: MarkedLog) -> None:
    """Appends, both truncations, and a reset to a higher and a lower sequence number."""
    append_over_two_rollovers(log)
    log.truncate_behind(log.log.last_sequence - 2)
    log.append(payload(log.log.next_sequence, 700, 1), payload(log.log.next_sequence + 1, 10, 1))
    log.truncate_before(log.log.last_sequence - 2)
    log.append(payload(log.log.next_sequence, 40, 2))
    log.reset(log.log.next_sequence + 100)
    log.append(payload(log.log.next_sequence, 400, 3))
    log.append(payload(log.log.next_sequence, 900, 3), payload(log.log.next_sequence + 1, 0, 3))
    log.reset(3)
    log.append(payload(3, 30, 4))
    log.sync()


WORKS: Final[dict[str, Callable[[MarkedLog], None]]] = {
    "append over two rollovers": append_over_two_rollovers,
    "truncate behind": truncate_behind,
    "truncate before": truncate_before,
    "everything": everything,
}
"""The workloads by name."""


def small_options(
    encoding: wal.LengthEncoding, checksum: wal.ChecksumType, *, preallocate: bool = True, prepare: bool = False
) -> WalOptions:
    """Settings that make rare paths common: segments of 1,500 bytes."""
    return WalOptions(
        length_encoding=encoding,
        checksum_type=checksum,
        segment_bytes_max=1500,
        preallocate_bytes=2048 if preallocate else 0,
        entry_bytes_max=4096,
        prepare_next=prepare,
    )
