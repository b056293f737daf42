"""A state machine under observation: what it applied, with what result, and what its state then was, is told to the properties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO
from zlib import crc32

from replog.statemachine import CommandError, StateMachine
from replog.testing.kv_workload import Workload
from replog.types import Entry, Index, SnapshotWriter, Term

OnState = Callable[[Index, int], None]
OnCommand = Callable[[Index, int], None]


class WatchedMachine(StateMachine):
    """Passes every call on to the machine of the workload. After each command it tells the digest of the state, or of the result where there is none."""

    def __init__(self, workload: Workload, on_state: OnState, on_command: OnCommand) -> None:
        self.inner = workload.machine()
        self._workload, self._on_state, self._on_command = workload, on_state, on_command

    def apply(self, entry: Entry) -> bytes:
        result = self.apply_batch(entry.index, entry.term, [entry.payload])[0]
        assert isinstance(result, bytes)
        return result

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:
        inner, workload, results = self.inner, self._workload, list[bytes | CommandError]()
        for index, payload in enumerate(payloads, first_index):
            answered = inner.apply_batch(index, term, [payload])
            results += answered
            number = workload.number(payload)
            if number is not None:
                self._on_command(index, number)
            digest = workload.digest(inner)
            if digest is None:
                result = answered[0]
                digest = crc32(result if isinstance(result, bytes) else result.kind.encode())
            self._on_state(index, digest)
        return results

    def query(self, request: bytes) -> bytes:
        return self.inner.query(request)

    def snapshot(self) -> SnapshotWriter:
        return self.inner.snapshot()

    def restore(self, source: BinaryIO) -> None:
        self.inner.restore(source)

    def snapshot_bytes(self) -> bytes:
        """What equal states must have equal: the workload says."""
        return self._workload.comparable(self.inner)
