"""The witnesses of a chaos run: clients that read and write together, and write down what they asked, when, and what they were told.

Two kinds of keys. *Shared* keys are what linearizability is about: a handful of them, every client at each. After so many operations a handful is closed
(a *chapter*), the next one begins, and the closed one goes to the checker, so that a run may be as long as it likes. *Own* keys are written once each, so that
what every node holds in the end can be compared with what was acknowledged, one write at a time.

Outcomes are those of `replog.testing.history`: a write that raised `OutcomeUnknown` may have been done; any other error of the client says that it was not. A read
that failed said nothing. After an unknown outcome the client goes on under another name: its operation never ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from cluster.commands import CompareAndSet, Expectation
from cluster.kv_client import KeyValueClient
from cluster.writers import Record
from replog.client.client import ReplogClient
from replog.errors import OutcomeUnknown, ReplogError, TryElsewhere, TryLater
from replog.testing.history import NEVER, Operation, Outcome, dump

CHAPTER_KEYS: Final = 4
CHAPTER_OPERATIONS: Final = 800
"""Operations until a handful of keys is closed: some 200 a key, which the checker's search finishes in well under a second."""
OPERATION_SECONDS_MAX: Final = 3.0
_CLIENT_LIFE_OPERATIONS: Final = 150
"""After so many operations a client connects anew, to another node."""
_REFUSED_PAUSE_SECONDS: Final = 0.05
_OWN: Final = b"own/"


@dataclass(slots=True)
class Chapter:
    """One handful of keys and all that was asked of them."""

    number: int
    operations: list[Operation] = field(default_factory=list)
    begun: int = 0
    running: int = 0
    seen: dict[str, str | None] = field(default_factory=dict)
    """What some client saw last, as a guess for a compare-and-set."""

    def keys(self) -> list[str]:
        return [f"shared/{self.number:05d}/{key}" for key in range(CHAPTER_KEYS)]


@dataclass(slots=True)
class Kept:
    """What must be left of a shared key in the end."""

    index: int = 0
    """Log index of the newest acknowledged write."""
    start: float = 0.0
    """When that one was asked for."""
    deleted: float = -1.0
    """The latest time at which a delete may have been done; -1: nobody deleted the key."""


class Workload:
    """`clients` clients from `start` to `stop`. `on_chapter` gets the file of each chapter when it is complete."""

    def __init__(
        self,
        addresses: Callable[[], list[str]],
        cluster_id: str,
        *,
        clients: int,
        rate: float,
        chance: Random,
        directory: Path,
        on_chapter: Callable[[Path, list[Operation]], None],
    ) -> None:
        """`addresses`: of the members at the moment. `rate`: operations per second that each client asks for at most."""
        self.record = Record()
        self.kept: dict[str, Kept] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        """Operations by (kind, outcome)."""
        self.surprises: Counter[str] = Counter()
        """Errors that no client of a cluster with these faults should see."""
        self.pauses: list[tuple[float, float]] = []
        """(seconds without an answer to anybody, when they ended), those above half a second."""
        self.origin = time.monotonic()
        self._addresses = addresses
        self._cluster_id = cluster_id
        self._count = clients
        self._think_seconds = 1.0 / rate
        self._chances = [Random(chance.getrandbits(64)) for _ in range(clients)]
        self._directory = directory
        self._on_chapter = on_chapter
        self._chapter = Chapter(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._answered_at = time.monotonic()

    def start(self) -> None:
        self._answered_at = time.monotonic()
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(self._count)]

    async def stop(self) -> None:
        """Let what is under way come to its end, and close the last chapter."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        self._close_chapter()

    @property
    def answered(self) -> int:
        return sum(count for (_, outcome), count in self.counts.items() if outcome == "ok")

    def outcomes(self) -> dict[str, int]:
        return {name: sum(count for (_, outcome), count in self.counts.items() if outcome == name) for name in ("ok", "refused", "unknown")}

    async def wait_answered(self, more: int, seconds: float) -> float:
        """Until `more` further operations were answered; returns the seconds that took. Raises TimeoutError."""
        began, goal = time.monotonic(), self.answered + more
        async with asyncio.timeout(seconds):
            while self.answered < goal:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)
        return time.monotonic() - began

    # -- one client ------------------------------------------------------------------------------------------------------

    async def _work(self, number: int) -> None:
        chance = self._chances[number]
        names = lives = 0
        while not self._stopping.is_set():
            addresses = self._addresses()
            chance.shuffle(addresses)
            lives += 1
            async with (
                KeyValueClient(ReplogClient(addresses, cluster_id=self._cluster_id)) as writer,
                KeyValueClient(ReplogClient(addresses[:1], cluster_id=self._cluster_id, follow_leader=False)) as reader,
            ):
                for step in range(_CLIENT_LIFE_OPERATIONS):
                    if self._stopping.is_set() or set(addresses) != set(self._addresses()):
                        break  # members come and go; an application is told, or looks again
                    await asyncio.sleep(chance.uniform(0, 2 * self._think_seconds))
                    if chance.random() < 0.2:
                        outcome = await self._put_own(writer, b"%b%d/%06d.%03d" % (_OWN, number, lives, step))
                    else:
                        outcome = await self._operate(writer, reader, f"c{number}.{names}", chance)
                    if outcome == "unknown":
                        names += 1
                    if outcome != "ok":
                        await asyncio.sleep(_REFUSED_PAUSE_SECONDS)
                        if chance.random() < 0.3:
                            break  # as an application that loses patience: another connection, perhaps another node

    async def _put_own(self, writer: KeyValueClient, key: bytes) -> Outcome:
        value = b"value of " + key
        outcome, revision = await self._ask("put own", writer.put(key, value, timeout=OPERATION_SECONDS_MAX))
        if outcome == "ok":
            self.record.acknowledged[key] = (revision, value)
        elif outcome == "unknown":
            self.record.unknown[key] = value
        return outcome

    async def _operate(self, writer: KeyValueClient, reader: KeyValueClient, name: str, chance: Random) -> Outcome:
        """One operation on a shared key, written down."""
        if self._chapter.begun >= CHAPTER_OPERATIONS:
            self._close_chapter()
        chapter = self._chapter
        chapter.begun += 1
        chapter.running += 1
        key = chance.choice(chapter.keys())
        draw, value = chance.random(), f"{name}:{chapter.begun}"
        start = self._now()
        index: int | None = None
        args: tuple[Any, ...] = ()
        result: Any = None
        if draw < 0.45:
            kind = "get"
            outcome, item = await self._ask(kind, reader.get(key.encode(), timeout=OPERATION_SECONDS_MAX), read=True)
            result = item.value.decode() if item is not None else None
            if outcome == "ok":
                chapter.seen[key] = result
        elif draw < 0.7:
            kind, args = "put", (value,)
            outcome, index = await self._ask(kind, writer.put(key.encode(), value.encode(), timeout=OPERATION_SECONDS_MAX))
            if outcome == "ok":
                chapter.seen[key] = value
        elif draw < 0.92:
            kind, args = "cas", (chapter.seen.get(key), value)
            outcome, found = await self._ask(kind, writer.compare_and_set(_cas(key, *args), timeout=OPERATION_SECONDS_MAX))
            if found is not None:
                result, index = found.swapped, found.revision if found.swapped else None
                if result:
                    chapter.seen[key] = value
        else:
            kind = "delete"
            outcome, removed = await self._ask(kind, writer.delete(key.encode(), timeout=OPERATION_SECONDS_MAX))
            if outcome == "ok":
                result, chapter.seen[key] = removed != 0, None
        end = NEVER if outcome == "unknown" else self._now()
        operation = Operation(client=name, key=key, kind=kind, args=args, result=result, start=start, end=end, outcome=outcome, index=index)
        chapter.operations.append(operation)
        self._keep(operation)
        chapter.running -= 1
        if chapter is not self._chapter and not chapter.running:
            self._hand_over(chapter)
        return outcome

    async def _ask(self, kind: str, call: Any, *, read: bool = False) -> tuple[Outcome, Any]:
        """(outcome, answer; None unless ok)."""
        answer: Any = None
        outcome: Outcome
        try:
            answer = await call
            outcome = "ok"
        except OutcomeUnknown:
            outcome = "unknown"
        except (TryLater, TryElsewhere):
            outcome = "refused"
        except ReplogError as error:
            self.surprises[f"{kind}: {type(error).__name__}: {error}"] += 1
            outcome = "unknown"
        if read and outcome != "ok":
            outcome = "refused"
        self.counts[kind, outcome] += 1
        if outcome == "ok":
            self._heard()
        return outcome, answer

    def _heard(self) -> None:
        now = time.monotonic()
        if now - self._answered_at > 0.5:
            self.pauses.append((now - self._answered_at, now - self.origin))
        self._answered_at = now

    def _now(self) -> float:
        return time.monotonic() - self.origin

    def _keep(self, operation: Operation) -> None:
        kept = self.kept.setdefault(operation.key, Kept())
        if operation.index is not None and operation.index > kept.index:
            kept.index, kept.start = operation.index, operation.start
        if operation.kind == "delete" and operation.outcome != "refused":
            kept.deleted = max(kept.deleted, operation.end)

    # -- chapters --------------------------------------------------------------------------------------------------------

    def _close_chapter(self) -> None:
        chapter, self._chapter = self._chapter, Chapter(self._chapter.number + 1)
        if not chapter.running:
            self._hand_over(chapter)

    def _hand_over(self, chapter: Chapter) -> None:
        if not chapter.operations:
            return
        path = self._directory / f"chapter-{chapter.number:05d}.jsonl"
        path.write_text("".join(dump(chapter.operations)), encoding="utf-8")
        self._on_chapter(path, chapter.operations)


def _cas(key: str, expected: str | None, value: str) -> CompareAndSet:
    if expected is None:
        return CompareAndSet(key.encode(), value.encode(), Expectation.ABSENT)
    return CompareAndSet(key.encode(), value.encode(), Expectation.VALUE, expected=expected.encode())
