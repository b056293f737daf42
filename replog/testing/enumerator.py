"""Crash a program at every point of its disk operations, in every way a disk may take it, and see that it comes back.

::

    def run(files: FileSystem, mark: Mark) -> None: ...         # the program; says by `mark` what it begins and what it acknowledges
    def check(image: Image, marks: Sequence[object]) -> bool:   # opens what is left; raises AssertionError when a promise is broken
        ...

    print(enumerate_crashes(run, check))

The program runs once over a filesystem that records (`replog.testing.recording`). Then, for every prefix of the record, directories are built:

* everything reached the disk; nothing that is pending did; only contents did; only names did;
* each pending operation left out alone; each pending operation alone;
* each pending write split (sectors of 512 bytes, blocks of 4,096, thirds), each piece missing, zeros, or garbage; and the write cut off before and
  behind each sector;
* on request, random subsets of pending operations and of the sectors of pending writes.

Images that are equal, with equal marks, are checked once. Those that a disk as `replog.filesystem` assumes it cannot leave (garbage, zeros over what
was not zero, pieces that are no sectors) are marked `possible = False`: there a program may also refuse by name; in a possible one it must open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from replog.errors import ReplogError
from replog.filesystem import FileSystem
from replog.testing.memory_files import Inode, MemoryFileSystem
from replog.testing.recording import (
    ContentOperation,
    DiskState,
    Marked,
    NameOperation,
    Operation,
    RecordingFileSystem,
    Tear,
    Written,
    pending_operations,
    pieces_of,
    sectors_of,
    thirds_of,
)

Mark = Callable[[object], None]
Run = Callable[[FileSystem, Mark], None]

BLOCK_BYTES: Final = 4096
"""The unit in which an operating system's cache is written back."""
_DESCRIPTION_CHARS_MAX: Final = 140


@dataclass(frozen=True, slots=True)
class Image:
    """A directory as a crash may leave it."""

    at: int
    """The crash came behind so many operations of the record."""
    label: str
    """What is special about it, for people."""
    files: dict[str, bytes]
    possible: bool
    """Whether a disk under the assumptions of `replog.filesystem` can leave it."""
    directories: frozenset[str] = frozenset()

    def open(self) -> MemoryFileSystem:
        """A filesystem with this directory in it; each call makes another one."""
        return MemoryFileSystem(self.files, self.directories)


Check = Callable[[Image, Sequence[object]], bool]
"""Opens an image. Gets the marks before the crash. True: it opened and every promise holds. False: refused with a named error, which is only
right in an image that is not possible. Raises AssertionError for a broken promise."""


class CrashFault(AssertionError):
    """A crash that breaks a promise. The message has the image, the marks, and the operations before it."""

    def __init__(self, image: Image, record: Sequence[Operation], reason: str) -> None:
        self.image = image
        lines = [f"crash behind operation {image.at}, {image.label}: {reason}"]
        start = max(0, image.at - 30)
        lines += [f"  {position:4d}  {describe(operation)}" for position, operation in enumerate(record[start : image.at], start)]
        super().__init__("\n".join(lines))


@dataclass(slots=True)
class Coverage:
    """What a run has met; a run that met nothing is no evidence."""

    operations: int = 0
    images: int = 0
    """Built, equal ones included."""
    checked: int = 0
    opened: int = 0
    refused: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    """Operations of the record by kind."""

    def add(self, other: Coverage) -> None:
        """Count the other one's too."""
        self.operations += other.operations
        self.images += other.images
        self.checked += other.checked
        self.opened += other.opened
        self.refused += other.refused
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count


class Variant(NamedTuple):
    """How one image of a prefix is built: which pending operations are left out, and how writes are torn."""

    at: int
    label: str
    left_out: frozenset[int] = frozenset()
    tears: dict[int, Tear] = {}  # noqa: RUF012  # never changed
    possible: bool = True
    zeros: tuple[int, int, int] | None = None
    """(position, start, stop) of a piece of zeros: possible only where zeros (or nothing) were before."""


def describe(operation: Operation) -> str:
    """One operation as a line."""
    if isinstance(operation, Written):
        return f"Written(path={operation.path!r}, inode={operation.inode}, offset={operation.offset}, {len(operation.data)} bytes)"
    text = repr(operation)
    return text if len(text) <= _DESCRIPTION_CHARS_MAX else text[: _DESCRIPTION_CHARS_MAX - 3] + "..."


def record_run(run: Run, base: MemoryFileSystem | None = None) -> RecordingFileSystem:
    """Run the program once over a recording filesystem (which has the files of `base` at the start)."""
    recording = RecordingFileSystem(base.files() if base else {}, sorted(base.directories) if base else ())
    run(recording, recording.mark)
    return recording


def enumerate_crashes(
    run: Run,
    check: Check,
    *,
    base: MemoryFileSystem | None = None,
    images_max: int | None = None,
    random_per_prefix: int = 0,
    seed: int = 0,
) -> Coverage:
    """Check every image of every prefix of `run`; at most `images_max` distinct ones, spread evenly over the record by `seed`.

    Raises CrashFault for the first that breaks a promise.
    """
    recording = record_run(run, base)
    return check_record(recording, check, images_max=images_max, random_per_prefix=random_per_prefix, seed=seed)


def check_record(
    recording: RecordingFileSystem,
    check: Check,
    *,
    images_max: int | None = None,
    random_per_prefix: int = 0,
    seed: int = 0,
    first: int = 0,
) -> Coverage:
    """As `enumerate_crashes`, of a run that was recorded already, for the prefixes of at least `first` operations."""
    record = tuple(recording.record)
    coverage = Coverage(operations=len(record))
    for operation in record:
        kind = type(operation).__name__
        coverage.kinds[kind] = coverage.kinds.get(kind, 0) + 1
    chance = Random(seed)
    images: list[Image] = []
    for image in crash_images(recording, random_per_prefix=random_per_prefix, chance=chance, first=first, coverage=coverage):
        if images_max is None:
            _check_image(image, record, check, coverage)
        else:
            images.append(image)
    if images_max is not None:
        for image in images if len(images) <= images_max else chance.sample(images, images_max):
            _check_image(image, record, check, coverage)
    return coverage


def crash_images(
    recording: RecordingFileSystem,
    *,
    random_per_prefix: int = 0,
    chance: Random | None = None,
    first: int = 0,
    coverage: Coverage | None = None,
) -> Iterator[Image]:
    """The distinct images of a record, prefix by prefix."""
    record = tuple(recording.record)
    directories = frozenset(recording.directories)
    seen: dict[tuple[int, bytes], bool] = {}
    settled, settled_at, marks = DiskState(recording.base), 0, 0
    for at in range(len(record) + 1):
        if at and isinstance(record[at - 1], Marked):
            marks += 1
        if at < first:
            continue
        pending = pending_operations(record, at)
        horizon = pending[0] if pending else at
        # Everything before the first pending operation is on the disk in every image of this prefix. (A later prefix never has an earlier horizon.)
        for operation in record[settled_at:horizon]:
            settled.apply(operation)
        settled_at = max(settled_at, horizon)
        for variant in _variants(record, at, pending, random_per_prefix, chance):
            image = _build(settled, settled_at, record, variant, directories)
            if coverage is not None:
                coverage.images += 1
            key = (marks, _digest(image))
            if image.possible > seen.get(key, -1):
                seen[key] = image.possible
                yield image


def _check_image(image: Image, record: Sequence[Operation], check: Check, coverage: Coverage) -> None:
    marks = [operation.value for operation in record[: image.at] if isinstance(operation, Marked)]
    coverage.checked += 1
    try:
        opened = check(image, marks)
    except AssertionError as error:
        raise CrashFault(image, record, str(error)) from error
    except (ReplogError, OSError) as error:
        raise CrashFault(image, record, f"{type(error).__name__}: {error}") from error
    if opened:
        coverage.opened += 1
    elif image.possible:
        raise CrashFault(image, record, "refused, but a disk may leave this")
    else:
        coverage.refused += 1


def _digest(image: Image) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for path, content in image.files.items():
        digest.update(f"{len(path)}:{path}:{len(content)}:".encode())
        digest.update(content)
    return digest.digest()


def _build(settled: DiskState, settled_at: int, record: Sequence[Operation], variant: Variant, directories: frozenset[str]) -> Image:
    state = settled.copy()
    possible = variant.possible
    for position in range(settled_at, variant.at):
        if position in variant.left_out:
            continue
        operation = record[position]
        if variant.zeros is not None and variant.zeros[0] == position and isinstance(operation, Written):
            _, start, stop = variant.zeros
            possible = possible and not any(state.inode(operation.inode).content[operation.offset + start : operation.offset + stop])
        state.apply(operation, variant.tears.get(position))
    return Image(variant.at, variant.label, state.files(), possible, directories)


def _variants(record: Sequence[Operation], at: int, pending: Sequence[int], random_count: int, chance: Random | None) -> Iterator[Variant]:
    yield Variant(at, "all reached the disk")
    if not pending:
        return
    everything = frozenset(pending)
    contents = frozenset(position for position in pending if isinstance(record[position], ContentOperation))
    names = frozenset(position for position in pending if isinstance(record[position], NameOperation))
    yield Variant(at, "nothing that is pending reached it", everything)
    if contents and names:
        yield Variant(at, "only pending names reached it", contents)
        yield Variant(at, "only pending contents reached it", names)
    for position in pending:
        what = f"operation {position} ({describe(record[position])})"
        yield Variant(at, f"without {what}", frozenset((position,)))
        yield Variant(at, f"of the pending only {what}", everything - {position})
    for position in pending:
        operation = record[position]
        if isinstance(operation, Written):
            yield from _splits(at, position, operation)
    if chance is not None:
        for number in range(random_count):
            yield _random_variant(record, at, pending, chance, number)


def _splits(at: int, position: int, write: Written) -> Iterator[Variant]:
    sectors = sectors_of(write)
    for start, stop in sectors:
        what = f"operation {position}"
        yield Variant(at, f"{what} only before its byte {start}", tears={position: _keeping([(0, start)])})
        yield Variant(at, f"{what} only from its byte {stop} on", tears={position: _keeping([(stop, len(write.data))])})
    for unit, pieces in (("sector", sectors), ("block", pieces_of(write, BLOCK_BYTES)), ("third", thirds_of(write))):
        possible = unit != "third"
        for start, stop in pieces:
            what = f"operation {position}, {unit} at its bytes {start} to {stop}"
            rest = [(0, start), (stop, len(write.data))]
            yield Variant(at, f"{what} missing", tears={position: _keeping(rest)}, possible=possible)
            yield Variant(
                at, f"{what} zero", tears={position: _filling(start, stop, b"\0")}, possible=possible, zeros=(position, start, stop)
            )
            yield Variant(at, f"{what} garbage", tears={position: _filling(start, stop, b"\xa7\x5c\x01\xee")}, possible=False)


def _random_variant(record: Sequence[Operation], at: int, pending: Sequence[int], chance: Random, number: int) -> Variant:
    left_out: set[int] = set()
    tears: dict[int, Tear] = {}
    for position in pending:
        operation = record[position]
        choice = chance.random()
        if choice < 0.3:
            left_out.add(position)
        elif isinstance(operation, Written) and choice < 0.7:
            tears[position] = _keeping([piece for piece in sectors_of(operation) if chance.random() < 0.5])
    return Variant(at, f"random subset {number}: without {sorted(left_out)}, torn {sorted(tears)}", frozenset(left_out), tears)


def _keeping(pieces: Sequence[tuple[int, int]]) -> Tear:
    """Only these pieces of a write reach the disk; what is between them reads as before, or as a hole."""

    def tear(inode: Inode, write: Written) -> None:
        for start, stop in pieces:
            if start < stop:
                inode.write(write.data[start:stop], write.offset + start)

    return tear


def _filling(start: int, stop: int, pattern: bytes) -> Tear:
    """A piece of a write reaches the disk as something else."""

    def tear(inode: Inode, write: Written) -> None:
        inode.write(write.data, write.offset)
        filler = (pattern * ((stop - start) // len(pattern) + 1))[: stop - start]
        inode.write(filler, write.offset + start)

    return tear
