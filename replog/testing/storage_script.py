"""Scripts that drive a storage through all it does, and the judge of what may be found on its disk afterwards.

A `Script` says by `mark` before each step to which state it leads, and behind it that it is done; `observe` asserts that what is found is the state
before the step, the one after it, or a way between, and that nothing acknowledged is missing. Used by the crash enumerator, by the tests of a
failing and a full disk, and for any storage of the same directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from replog.filesystem import FileSystem
from replog.storage.disk import DiskStorage
from replog.storage.interface import Storage, Write
from replog.testing.enumerator import Mark
from replog.testing.storage_suite import CLUSTER, NODE, VOTERS, BodyWriter, frames_of, payload_of, read_all, send
from replog.types import HardState, Index, SnapshotMeta, Term

DIRECTORY: Final = "data"
INCARNATION: Final = 77


@dataclass(frozen=True, slots=True)
class State:
    """What a storage stands for: hard state, the term of each entry that ever was in the log, its end, and the newest snapshot."""

    hard_state: HardState = HardState()  # noqa: RUF009 - a frozen value
    terms: dict[Index, Term] = field(default_factory=dict)
    snapshot: tuple[Index, Term] | None = None

    @property
    def last(self) -> Index:
        return max(self.terms, default=self.snapshot[0] if self.snapshot else 0)

    def with_entries(self, first: Index, count: int, term: Term) -> State:
        kept = {index: old for index, old in self.terms.items() if index < first}
        return replace(self, terms={**kept, **dict.fromkeys(range(first, first + count), term)})


def open_storage(files: FileSystem) -> DiskStorage:
    """The storage of all scripts; deterministic."""
    return DiskStorage.open(DIRECTORY, CLUSTER, NODE, files, draw_incarnation=lambda: INCARNATION, prepare_segments=False)


class Script:
    """Drives a storage, and says before each step to which state it leads."""

    def __init__(self, files: FileSystem, mark: Mark, state: State | None = None) -> None:
        self.files, self.mark, self.state = files, mark, state or State()
        self.storage = self.open()
        self.mark(("done", self.state))

    def open(self) -> DiskStorage:
        return open_storage(self.files)

    def step(self, state: State, action: Callable[[], object]) -> None:
        self.mark(("begin", state))
        action()
        self.state = state
        self.mark(("done", state))

    def write(self, state: State, write: Write) -> None:
        self.step(state, lambda: self.storage.persist(write))

    def elect(self, term: Term, vote: str | None = "n1") -> None:
        hard_state = HardState(term=term, vote=vote)
        self.write(replace(self.state, hard_state=hard_state), Write(hard_state=hard_state))

    def append(self, count: int, term: Term, *, batches: int = 1) -> None:
        first = self.state.last + 1
        state = self.state.with_entries(first, count * batches, term)
        frames = tuple(frames_of(first + count * number, count, term) for number in range(batches))
        self.write(state, Write(frames=frames))

    def conflict(self, first: Index, count: int, term: Term) -> None:
        hard_state = HardState(term=term)
        state = replace(self.state.with_entries(first, count, term), hard_state=hard_state)
        self.write(state, Write(hard_state=hard_state, discard_from=first, frames=(frames_of(first, count, term),)))

    def snapshot(self, index: Index, term: Term) -> None:
        meta = SnapshotMeta(index=index, term=term, membership=VOTERS)
        self.step(replace(self.state, snapshot=(index, term)), lambda: self.storage.write_snapshot(meta, BodyWriter(body_of(index))))

    def compact(self, upto: Index) -> None:
        self.step(self.state, lambda: self.storage.compact(upto))

    def install(self, index: Index, term: Term, hard_state: HardState | None = None) -> None:
        body = body_of(index)
        meta = SnapshotMeta(index=index, term=term, membership=VOTERS, size_bytes=len(body))
        self.step(self.state, lambda: send(self.storage, meta, body, chunk_bytes=400))
        keeps = self.state.terms.get(index) == term
        state = replace(
            self.state,
            hard_state=hard_state or self.state.hard_state,
            snapshot=(index, term),
            terms=self.state.terms if keeps else {},
        )
        self.write(state, Write(hard_state=hard_state, install=meta))

    def reopen(self) -> None:
        def again() -> None:
            self.storage.close()
            self.storage = self.open()

        self.step(self.state, again)


def body_of(index: Index) -> bytes:
    return b"state at %d " % index * 80


def states(marks: Sequence[object]) -> tuple[State, State]:
    """The last acknowledged state, and the one that was being reached (the same, between two steps)."""
    before, after = State(), State()
    for mark in marks:
        assert isinstance(mark, tuple)
        after = mark[1]
        if mark[0] == "done":
            before = after
    return before, after


def observe(storage: Storage, before: State, after: State) -> Index:
    """Assert that the storage shows `before`, `after`, or a way between; returns its first index."""
    found = storage.recovered
    assert found.hard_state in (before.hard_state, after.hard_state), found.hard_state
    snapshot = (found.snapshot.index, found.snapshot.term) if found.snapshot is not None else None
    assert snapshot in (before.snapshot, after.snapshot), snapshot
    if found.snapshot is not None:
        with storage.open_snapshot(found.snapshot) as body:
            assert body.read() == body_of(found.snapshot.index)
    entries = read_all(storage)
    for index, term, payload in entries:
        assert payload == payload_of(index, term)
    shown = {index: term for index, term, _ in entries}
    assert any(all(state.terms.get(index) == term for index, term in shown.items()) for state in (before, after)), shown
    covered = max(found.last_index, snapshot[0] if snapshot else 0)
    promised = 0
    while promised < before.last and (before.terms.get(promised + 1) == after.terms.get(promised + 1)):
        promised += 1
    if snapshot == after.snapshot and snapshot is not None:
        promised = max(promised, snapshot[0])
    assert covered >= promised, f"covers {covered}, promised {promised}"
    assert found.first_index <= (snapshot[0] if snapshot else 0) + 1
    return found.first_index


def elections_and_appends(files: FileSystem, mark: Mark) -> None:
    script = Script(files, mark)
    script.elect(1)
    script.append(3, 1)
    script.append(20, 1, batches=2)
    script.elect(2, "n2")
    script.append(40, 2)
    script.reopen()
    script.append(5, 2)


def conflicts(files: FileSystem, mark: Mark) -> None:
    script = Script(files, mark)
    script.elect(1)
    script.append(60, 1)
    script.append(60, 1)
    script.reopen()
    script.conflict(118, 2, 2)
    script.conflict(31, 50, 3)
    script.conflict(1, 4, 4)


def snapshots_and_compaction(files: FileSystem, mark: Mark) -> None:
    script = Script(files, mark)
    script.elect(1)
    script.append(120, 1)
    script.snapshot(70, 1)
    script.compact(60)
    script.append(80, 1)
    script.snapshot(150, 1)
    script.compact(150)
    script.snapshot(200, 1)
    script.compact(200)
    script.append(2, 1)


def installation_over_a_log_that_is_behind(files: FileSystem, mark: Mark) -> None:
    script = Script(files, mark)
    script.elect(1)
    script.append(90, 1)
    script.snapshot(20, 1)
    script.reopen()
    script.install(300, 2, HardState(term=2))
    script.append(50, 2)
    script.append(50, 2)
    script.install(900, 3, HardState(term=3))
    script.append(3, 3)


def installation_over_a_log_that_conflicts(files: FileSystem, mark: Mark) -> None:
    script = Script(files, mark)
    script.elect(1)
    script.append(150, 1)
    script.reopen()
    script.install(100, 2, HardState(term=2))
    script.append(5, 2)


def installation_into_a_log_that_goes_on(files: FileSystem, mark: Mark) -> None:
    script = Script(files, mark)
    script.elect(1)
    script.append(100, 1)
    script.append(100, 1)
    script.install(150, 1)
    script.append(5, 1)


SCRIPTS: Final = (
    elections_and_appends,
    conflicts,
    snapshots_and_compaction,
    installation_over_a_log_that_is_behind,
    installation_over_a_log_that_conflicts,
    installation_into_a_log_that_goes_on,
)
