"""What `replog.StateMachine` asks of whoever implements it, checked on commands of theirs, in one process.

One machine applies the commands one after another; what it showed is the yardstick: its results, its digest and its snapshot after each command. Then others are
held against it, each of which takes another way to the same state: through a snapshot at each cut, in batches, over a state that was there before.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import BinaryIO, Final

from replog.statemachine import CommandError, SnapshotWriter, StateMachine
from replog.testing.determinism import Made, cuts, describe, new
from replog.testing.kv_workload import snapshot_body
from replog.types import Entry, EntryKind

CUTS_MAX: Final = 200
"""Snapshots that are taken and restored; with more commands they are spread over them."""
_BEHIND_CUT_MAX: Final = 300
"""Commands that a restored machine applies."""
_PARTITIONS: Final = 4
_BATCH_MAX: Final = 40
RUBBISH: Final = (b"", b"\x00", b"\xff\xfe\xfd", b"no such command " * 8)
"""Commands that nobody meant: any client may propose them, and they must be refused or applied like any other."""

Result = bytes | CommandError


class StateMachineFault(AssertionError):
    """The state machine breaks a rule of `replog.StateMachine`; the message says which, at which command, and with what values. Correct it."""

    def __init__(self, rule: str, text: str) -> None:
        self.rule = rule
        """determinism, snapshot, batch, error, query, results or cluster."""
        super().__init__(f"{rule}: {text}")


@dataclass(slots=True)
class Yardstick:
    """What one machine showed. Lists by the number of commands applied, from 0."""

    results: list[Result]
    """One for each command."""
    digests: list[bytes]
    """One more than commands."""
    cuts: dict[int, bytes]
    """Body of the snapshot at each cut."""
    answers: dict[int, list[Result]]
    """To the queries, at each cut."""

    @property
    def raising(self) -> list[int]:
        """Positions of the commands that raised."""
        return [position for position, result in enumerate(self.results) if isinstance(result, CommandError)]


class Checks:
    """The rules, for one kind of machine and one list of commands. Each method raises `StateMachineFault`."""

    def __init__(self, make: Made, commands: Sequence[bytes], queries: Sequence[bytes], *, compare_snapshots: bool) -> None:
        self._make = make
        self._commands = commands
        self._queries = queries
        self._compare_snapshots = compare_snapshots
        self.cuts = cuts(len(commands), CUTS_MAX)
        self.yardstick = self._measure()

    # -- the yardstick -----------------------------------------------------------------------------------------------------

    def _measure(self) -> Yardstick:
        """Apply one by one; the snapshot of a cut is taken there, written there, and written again in the end: it must be frozen."""
        machine = new(self._make)
        seen = Yardstick([], [_digest(machine)], {}, {})
        frozen: dict[int, SnapshotWriter] = {}
        for applied in range(len(self._commands) + 1):
            if applied in self.cuts:
                seen.cuts[applied] = self._written(machine, applied)
                frozen[applied] = machine.snapshot()
                seen.answers[applied] = self._ask(machine)
                if self._compare_snapshots and snapshot_body(machine) != seen.cuts[applied]:
                    raise StateMachineFault(
                        "query", f"a query after {applied} commands changed the state: {self._first_query()} or another"
                    )
                if _digest(machine) != seen.digests[applied]:
                    raise StateMachineFault("query", f"a snapshot or a query after {applied} commands changed the state's digest")
            if applied == len(self._commands):
                break
            seen.results.append(_apply(machine, applied, self._commands[applied]))
            seen.digests.append(_digest(machine))
        for applied, writer in frozen.items():
            sink = io.BytesIO()
            writer.write(sink)
            if sink.getvalue() != seen.cuts[applied]:
                raise StateMachineFault(
                    "snapshot",
                    f"the snapshot taken after {applied} commands changed when later commands were applied. It is written in another thread while the"
                    " state machine goes on: copy what it needs in snapshot()",
                )
        return seen

    def _written(self, machine: StateMachine, applied: int) -> bytes:
        try:
            return snapshot_body(machine)
        except Exception as error:
            raise StateMachineFault("snapshot", f"after {applied} commands no snapshot can be written: {_told(error)}") from error

    def _first_query(self) -> str:
        return describe(self._queries[0]) if self._queries else "none was asked"

    def _ask(self, machine: StateMachine) -> list[Result]:
        answers = [_attempt(lambda query=query: machine.query(query)) for query in self._queries]  # type: ignore[misc]  # the default binds the loop's value
        if type(machine).query_batch is not StateMachine.query_batch:
            self._ask_together(machine, answers)
        return answers

    def _ask_together(self, machine: StateMachine, answers: Sequence[Result]) -> None:
        """`query_batch` answers as `query` does."""
        try:
            together = machine.query_batch(self._queries)
        except Exception as error:
            raise StateMachineFault(
                "query", f"query_batch raised: {_told(error)}. An exception must become the answer to its query"
            ) from error
        if len(together) != len(self._queries):
            raise StateMachineFault("query", f"query_batch returned {len(together)} answers for {len(self._queries)} queries")
        for query, alone, answer in zip(self._queries, answers, together, strict=True):
            found = CommandError(type(answer).__name__, str(answer)) if isinstance(answer, Exception) else answer
            if not same(found, alone):
                raise StateMachineFault("query", f"{describe(query)} is answered {_any(found)} in query_batch, and {describe(alone)} alone")

    # -- results -------------------------------------------------------------------------------------------------------------

    def check_errors(self) -> None:
        """A command that raises leaves the state as it was."""
        seen = self.yardstick
        machine = new(self._make)
        for position, command in enumerate(self._commands):
            raises = isinstance(seen.results[position], CommandError)
            before = snapshot_body(machine) if raises and self._compare_snapshots else b""
            _apply(machine, position, command)
            if not raises:
                continue
            result = describe(seen.results[position])
            if seen.digests[position] != seen.digests[position + 1]:
                raise StateMachineFault(
                    "error",
                    f"command {position + 1}, {describe(command)}, raised {result} and changed the state's digest: raise before anything is changed",
                )
            if self._compare_snapshots and snapshot_body(machine) != before:
                raise StateMachineFault(
                    "error",
                    f"command {position + 1}, {describe(command)}, raised {result} and changed the state: raise before anything is changed",
                )

    def check_batches(self, chance: Random) -> None:
        """`apply_batch` does what `apply` does, however the commands are cut into batches."""
        for _ in range(_PARTITIONS):
            machine, position = new(self._make), 0
            while position < len(self._commands):
                size = min(chance.randint(1, _BATCH_MAX), len(self._commands) - position)
                batch = self._commands[position : position + size]
                where = f"the batch of commands {position + 1} to {position + size}"
                try:
                    results = machine.apply_batch(position + 1, 1, batch)
                except Exception as error:
                    raise StateMachineFault(
                        "batch", f"apply_batch raised on {where}: {_told(error)}. An exception must become the result of its command"
                    ) from error
                if len(results) != size:
                    raise StateMachineFault("batch", f"apply_batch returned {len(results)} results for {where}")
                for number, (one, result) in enumerate(zip(batch, results, strict=True), position):
                    if not same(result, self.yardstick.results[number]):
                        raise StateMachineFault(
                            "batch",
                            f"command {number + 1}, {describe(one)}, has the result {_any(result)} in {where},"
                            f" and {describe(self.yardstick.results[number])} alone",
                        )
                position += size
                self._hold(machine, position, "batch", f"applied in batches up to command {position}")

    # -- snapshots -------------------------------------------------------------------------------------------------------------

    def check_snapshots(self) -> None:
        """From each cut: a restored state is the replayed one, goes on as it does, and nothing is left of what was there before."""
        used = new(self._make)
        for position, command in enumerate(self._commands[: _BEHIND_CUT_MAX // 2]):
            _apply(used, position, command)
        for applied in self.cuts:
            for machine, what in ((new(self._make), "a new machine"), (used, "a machine that held another state")):
                self._restore(machine, applied, what)
                where = f"the snapshot after {applied} commands, restored in {what}"
                self._hold(machine, applied, "snapshot", where)
                behind = min(applied + _BEHIND_CUT_MAX, len(self._commands))
                for position in range(applied, behind):
                    result = _apply(machine, position, self._commands[position])
                    if not same(result, self.yardstick.results[position]):
                        raise StateMachineFault(
                            "snapshot",
                            f"{where}: command {position + 1}, {describe(self._commands[position])}, then has the result {describe(result)},"
                            f" and {describe(self.yardstick.results[position])} without the snapshot",
                        )
                self._hold(machine, behind, "snapshot", f"{where}, then commands {applied + 1} to {behind}")

    def _restore(self, machine: StateMachine, applied: int, what: str) -> None:
        source: BinaryIO = io.BytesIO(self.yardstick.cuts[applied])
        try:
            machine.restore(source)
        except Exception as error:
            raise StateMachineFault(
                "snapshot", f"the snapshot after {applied} commands cannot be restored in {what}: {_told(error)}"
            ) from error

    def _hold(self, machine: StateMachine, applied: int, rule: str, where: str) -> None:
        """The machine has the state that the yardstick had after `applied` commands, as far as it can be seen."""
        seen = self.yardstick
        digest = _digest(machine)
        if digest != seen.digests[applied]:
            raise StateMachineFault(
                rule,
                f"{where}: the digest is {describe(digest)}; after applying {applied} commands it was {describe(seen.digests[applied])}",
            )
        if applied not in seen.cuts:
            return
        for query, answer, expected in zip(self._queries, self._ask(machine), seen.answers[applied], strict=True):
            if not same(answer, expected):
                raise StateMachineFault(
                    rule,
                    f"{where}: query {describe(query)} is answered {describe(answer)}; after applying {applied} commands, {describe(expected)}",
                )
        if self._compare_snapshots:
            body = snapshot_body(machine)
            if body != seen.cuts[applied]:
                raise StateMachineFault(
                    rule,
                    f"{where}: its own snapshot is {describe(body)}; after applying {applied} commands it was {describe(seen.cuts[applied])}."
                    " (If equal states may have different snapshots, give the machine a state_digest and pass compare_snapshots=False.)",
                )


def _apply(machine: StateMachine, position: int, command: bytes) -> Result:
    """As a node does where `apply_batch` is not overridden."""
    try:
        result = machine.apply(Entry(position + 1, 1, EntryKind.COMMAND, command))
    except Exception as error:  # noqa: BLE001 - whatever a command raises is its result
        return CommandError(type(error).__name__, str(error))
    if not isinstance(result, bytes):
        raise StateMachineFault(
            "results", f"command {position + 1}, {describe(command)}, returned a {type(result).__name__}, {result!r}; apply returns bytes"
        )
    return result


def _digest(machine: StateMachine) -> bytes:
    digest = machine.state_digest()
    if not isinstance(digest, bytes):
        raise StateMachineFault("results", f"state_digest returned a {type(digest).__name__}, {digest!r}; it returns bytes")
    return digest


def _attempt(call: Callable[[], bytes]) -> Result:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - a query that is refused is answered so
        return CommandError(type(error).__name__, str(error))


def same(one: object, other: object) -> bool:
    """Whether two results are equal."""
    if isinstance(one, CommandError) and isinstance(other, CommandError):
        return (one.kind, one.message) == (other.kind, other.message)
    return type(one) is type(other) and one == other


def _any(result: object) -> str:
    return describe(result) if isinstance(result, (bytes, CommandError)) else f"{result!r}, which is neither bytes nor a CommandError,"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
