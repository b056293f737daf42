"""The simulator's own state machine and workload: a small key-value store whose every answer can be judged.

`Workload` is what a user implements to send another state machine through the simulator (`replog.testing.machine_workload` does, for any state machine): how to make one, which
operations clients draw, and a sequential model for the history.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, BinaryIO, Protocol
from zlib import crc32

from replog.statemachine import CommandError, StateMachine
from replog.testing.history import Operation
from replog.testing.models import Model, RegisterModel
from replog.types import Entry, Index, SnapshotWriter, Term

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation that a client is about to do."""

    key: str
    kind: str
    args: tuple[Any, ...] = ()
    payload: bytes | None = None
    """The command to propose; None for a read."""
    query: bytes = b""
    """For a read: what to ask `StateMachine.query` once the read is released."""


class Workload(Protocol):
    """What clients do to a state machine, and how to judge it."""

    model: Model | None
    """Judges the history by search; None: only by the indexes."""

    def machine(self) -> StateMachine:
        """A new, empty state machine."""
        ...

    def draw(self, random: Random, number: int) -> Step:
        """The next operation; `number` is never used twice."""
        ...

    def number(self, payload: bytes) -> int | None:
        """The number that `draw` put into a command (so that applying it twice is seen); None where there is none."""
        ...

    def result(self, step: Step, answer: bytes | CommandError) -> Any:
        """The answer as the history shows it."""
        ...

    def digest(self, machine: StateMachine) -> int | None:
        """A digest of the whole state, cheap enough for every command; None: none, states are then compared by their snapshots at the end."""
        ...

    def comparable(self, machine: StateMachine) -> bytes:
        """Bytes that are equal for equal states, and different for different ones: compared at the end."""
        ...


class KvMachine(StateMachine):
    """A key-value store that keeps a digest of its state as it goes.

    Commands are ``number kind key [value [expected]]``, parted by spaces; `kind` is put, cas, delete or poison (which raises).
    """

    __slots__ = ("digest", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.digest = 0
        """Sum over the keys of a hash of key and value, so one change costs one change."""

    def apply(self, entry: Entry) -> bytes:
        return self._do(entry.payload)

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:  # noqa: ARG002
        results: list[bytes | CommandError] = []
        for payload in payloads:
            try:
                results.append(self._do(payload))
            except ValueError as error:
                results.append(CommandError("ValueError", str(error)))
        return results

    def _do(self, payload: bytes) -> bytes:
        _, kind, key, *rest = payload.split(b" ")
        if kind == b"put":
            self._set(key, rest[0])
            return b""
        if kind == b"cas":
            if self.values.get(key) != rest[1]:
                return b"0"
            self._set(key, rest[0])
            return b"1"
        if kind == b"delete":
            old = self.values.pop(key, None)
            if old is None:
                return b"0"
            self.digest = self.digest - _pair_digest(key, old) & _MASK
            return b"1"
        raise ValueError("poison")

    def _set(self, key: bytes, value: bytes) -> None:
        old = self.values.get(key)
        digest = self.digest + _pair_digest(key, value)
        if old is not None:
            digest -= _pair_digest(key, old)
        self.digest = digest & _MASK
        self.values[key] = value

    def query(self, request: bytes) -> bytes:
        value = self.values.get(request)
        return b"" if value is None else value

    def snapshot(self) -> SnapshotWriter:
        return _Dump(dict(self.values))

    def restore(self, source: BinaryIO) -> None:
        pairs: dict[str, str] = json.loads(source.read())
        self.values = {key.encode(): value.encode() for key, value in pairs.items()}
        self.digest = sum(_pair_digest(key, value) for key, value in self.values.items()) & _MASK


class _Dump:
    def __init__(self, values: dict[bytes, bytes]) -> None:
        self._values = values

    def write(self, sink: BinaryIO) -> None:
        sink.write(json.dumps({key.decode(): value.decode() for key, value in sorted(self._values.items())}).encode())


def _pair_digest(key: bytes, value: bytes) -> int:
    return crc32(value, crc32(key)) * 0x9E3779B97F4A7C15 & _MASK


class KvModel(RegisterModel):
    """The register, and a command that must fail: an exception in `apply` is its result and changes nothing."""

    def step(self, state: Any, operation: Operation) -> tuple[bool, Hashable]:
        if operation.kind == "poison":
            return operation.outcome != "ok" or operation.result == "ValueError", state
        return super().step(state, operation)


@dataclass(slots=True, kw_only=True)
class KvWorkload:
    """Puts, gets, cas and deletes over a few keys; every value is written once, so that a read says which write it saw."""

    keys: int = 5
    read_share: float = 0.4
    padding_bytes: int = 0
    """Bytes that make commands longer, so that segments fill."""
    new_machine: Callable[[], StateMachine] = KvMachine
    model: Model | None = None

    def __post_init__(self) -> None:
        self.model = KvModel()

    def machine(self) -> StateMachine:
        return self.new_machine()

    def draw(self, random: Random, number: int) -> Step:
        key = f"k{int(random.random() * self.keys)}"
        drawn = random.random()
        if drawn < self.read_share:
            return Step(key=key, kind="get", query=key.encode())
        drawn = (drawn - self.read_share) / (1 - self.read_share)
        value = f"v{number}" + "." * int(random.random() * self.padding_bytes)
        if drawn < 0.6:
            return Step(key=key, kind="put", args=(value,), payload=f"{number} put {key} {value}".encode())
        if drawn < 0.85:
            expected = f"v{max(0, number - 1 - int(random.random() * 8))}"
            return Step(key=key, kind="cas", args=(expected, value), payload=f"{number} cas {key} {value} {expected}".encode())
        if drawn < 0.98:
            return Step(key=key, kind="delete", payload=f"{number} delete {key}".encode())
        return Step(key="poison", kind="poison", payload=f"{number} poison {key}".encode())

    def number(self, payload: bytes) -> int | None:
        return int(payload[: payload.index(b" ")])

    def result(self, step: Step, answer: bytes | CommandError) -> Any:
        if isinstance(answer, CommandError):
            return answer.kind
        if step.kind == "get":
            return answer.decode() or None
        return None if step.kind == "put" else answer == b"1"

    def digest(self, machine: StateMachine) -> int | None:
        return machine.digest if isinstance(machine, KvMachine) else None

    def comparable(self, machine: StateMachine) -> bytes:
        return snapshot_body(machine)


def snapshot_body(machine: StateMachine) -> bytes:
    """The body of a snapshot of the state as it is now."""
    sink = io.BytesIO()
    machine.snapshot().write(sink)
    return sink.getvalue()
