"""The smallest state machine: counts its commands, whatever they say. The benchmark's `--app counter` measures the log with it, not the application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from replog.errors import SnapshotDamaged
from replog.statemachine import CommandError, StateMachine
from replog.types import Entry, Index, Term


class CommandCounter(StateMachine):
    """The result of a command, the answer to a query and the body of a snapshot are the count: u64, little-endian."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, entry: Entry) -> bytes:  # noqa: ARG002 - any command counts as one
        self.count += 1
        return self.count.to_bytes(8, "little")

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:  # noqa: ARG002
        start = self.count + 1
        self.count += len(payloads)
        return [count.to_bytes(8, "little") for count in range(start, self.count + 1)]

    def query(self, request: bytes) -> bytes:  # noqa: ARG002 - there is one question
        return self.count.to_bytes(8, "little")

    def snapshot(self) -> CounterSnapshot:
        return CounterSnapshot(self.count)

    def restore(self, source: BinaryIO) -> None:
        body = source.read()
        if len(body) != 8:
            raise SnapshotDamaged(f"counter snapshot of {len(body)} bytes; it has 8")
        self.count = int.from_bytes(body, "little")


class CounterSnapshot:
    """The count at one index."""

    def __init__(self, count: int) -> None:
        self._count = count

    def write(self, sink: BinaryIO) -> None:
        sink.write(self._count.to_bytes(8, "little"))
