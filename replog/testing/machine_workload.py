"""Any state machine in the simulator: its commands come from clients, and every answer is held against one machine that applies the log alone.

A command travels with a number in front (so that applying it twice is seen, S13), an answer to a query with the index of the state that gave it. Whatever the nodes
apply is noted by index. When the run is over, a new machine applies all of it in the order of the log, and everything that any client was told must be what this one says.
With the log indexes in real-time order (`replog.testing.index_check`) this is linearizability (S16) without a search, for any state machine.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, BinaryIO
from zlib import crc32

from replog.errors import StorageError
from replog.statemachine import CommandError, SnapshotWriter, StateMachine
from replog.testing.determinism import describe
from replog.testing.history import Operation
from replog.testing.kv_workload import Step, snapshot_body
from replog.testing.ledger import PropertyBroken
from replog.testing.models import Model
from replog.types import Entry, Index, Term

_NUMBER = struct.Struct("<Q")
_READ_SHARE = 0.25

Draw = Callable[[Random], bytes]


class NumberedMachine(StateMachine):
    """Takes the numbers off the commands before `inner` sees them, and stamps its answers. An exception out of `inner` where none may come is a broken property."""

    def __init__(self, inner: StateMachine, workload: CommandsWorkload) -> None:
        self.inner = inner
        self.applied_index: Index = 0
        """The last index at which a command was applied, or which was restored."""
        self._workload = workload

    def apply(self, entry: Entry) -> bytes:
        result = self.apply_batch(entry.index, entry.term, [entry.payload])[0]
        assert isinstance(result, bytes)
        return result

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:
        commands = [payload[_NUMBER.size :] for payload in payloads]
        for index, command in enumerate(commands, first_index):
            self._workload.log.setdefault(index, (term, command))
        self.applied_index = first_index + len(payloads) - 1
        try:
            return self.inner.apply_batch(first_index, term, commands)
        except Exception as error:
            raise _broken("apply_batch", error) from error

    def query(self, request: bytes) -> bytes:
        try:
            answer = self.inner.query(request)
        except Exception as error:  # noqa: BLE001 - a query that is refused is answered so
            answer = b"refused: " + type(error).__name__.encode()
        return _NUMBER.pack(self.applied_index) + answer

    def snapshot(self) -> SnapshotWriter:
        return _NumberedSnapshot(self.applied_index, self.inner.snapshot())

    def restore(self, source: BinaryIO) -> None:
        (index,) = _NUMBER.unpack(source.read(_NUMBER.size))
        try:
            self.inner.restore(source)
        except Exception as error:
            raise _broken("restore", error) from error
        self.applied_index = index
        self._workload.restored += 1

    def state_digest(self) -> bytes:
        return self.inner.state_digest()


class _NumberedSnapshot:
    def __init__(self, applied_index: Index, inner: SnapshotWriter) -> None:
        self._applied_index, self._inner = applied_index, inner

    def write(self, sink: BinaryIO) -> None:
        sink.write(_NUMBER.pack(self._applied_index))
        try:
            self._inner.write(sink)
        except StorageError:
            raise  # of the simulated disk
        except Exception as error:
            raise _broken("the snapshot's write", error) from error


def _broken(where: str, error: Exception) -> PropertyBroken:
    return PropertyBroken("machine", f"{where} raised {type(error).__name__}: {error}")


class CommandsWorkload:
    """Implements `replog.testing.kv_workload.Workload`. `judge` is called when the run is over."""

    model: Model | None = None

    def __init__(self, make: Callable[[], StateMachine], draw: Draw, queries: Sequence[bytes], *, compare_snapshots: bool) -> None:
        self._make, self._draw, self._queries = make, draw, queries
        self._compare_snapshots = compare_snapshots
        self._has_digest = bool(make().state_digest())
        self.log: dict[Index, tuple[Term, bytes]] = {}
        """Every command that any node applied."""
        self.restored = 0
        """States that nodes took from snapshots, after a restart or from another node."""

    def machine(self) -> StateMachine:
        return NumberedMachine(self._make(), self)

    def draw(self, random: Random, number: int) -> Step:
        if self._queries and random.random() < _READ_SHARE:
            query = self._queries[int(random.random() * len(self._queries))]
            return Step(key="", kind="get", args=(query,), query=query)
        command = self._draw(random)
        return Step(key="", kind="command", args=(command,), payload=_NUMBER.pack(number) + command)

    def number(self, payload: bytes) -> int | None:
        number: int = _NUMBER.unpack_from(payload)[0]
        return number

    def result(self, step: Step, answer: bytes | CommandError) -> Any:
        """Of a query: (index of the state, answer)."""
        if step.kind == "get" and isinstance(answer, bytes):
            return _NUMBER.unpack_from(answer)[0], answer[_NUMBER.size :]
        return answer

    def digest(self, machine: StateMachine) -> int | None:
        assert isinstance(machine, NumberedMachine)
        if self._has_digest:
            return crc32(machine.state_digest())
        return crc32(snapshot_body(machine.inner)) if self._compare_snapshots else None

    def comparable(self, machine: StateMachine) -> bytes:
        assert isinstance(machine, NumberedMachine)
        return snapshot_body(machine.inner) if self._compare_snapshots else machine.state_digest()

    def judge(self, history: Sequence[Operation]) -> str:
        """What a client was told that a single machine would not have said; empty: nothing."""
        writes = {operation.index: operation for operation in history if operation.kind == "command" and operation.outcome == "ok"}
        reads: dict[Index, list[Operation]] = {}
        for operation in history:
            if operation.kind == "get" and operation.outcome == "ok":
                reads.setdefault(operation.result[0], []).append(operation)
        machine = NumberedMachine(self._make(), CommandsWorkload(self._make, self._draw, (), compare_snapshots=False))
        for index in [0, *sorted(self.log)]:
            if index:
                term, command = self.log[index]
                (result,) = machine.apply_batch(index, term, [_NUMBER.pack(0) + command])
                told = writes.get(index)
                if told is not None and _key(told.result) != _key(result):
                    return (
                        f"client {told.client} was told {_text(told.result)} for command {describe(command)} at index {index};"
                        f" a machine that applies the same log alone says {_text(result)}"
                    )
            for operation in reads.get(index, ()):
                answer = machine.query(operation.args[0])[_NUMBER.size :]
                if operation.result[1] != answer:
                    return (
                        f"client {operation.client} was told {describe(operation.result[1])} for query {describe(operation.args[0])} at index {index};"
                        f" a machine that applies the same log alone says {describe(answer)}"
                    )
        return ""


def _key(result: object) -> object:
    return (result.kind, result.message) if isinstance(result, CommandError) else result


def _text(result: object) -> str:
    return describe(result) if isinstance(result, (bytes, CommandError)) else repr(result)
