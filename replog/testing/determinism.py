"""Is a state machine deterministic? Its commands are applied in several processes that differ in all that must not matter, and what they show is compared.

The processes have different hash seeds, random numbers, time zones, and clocks that are days apart. What gives a state machine away most often is the order of a
set or of a dict made from one, `hash`, a clock, or a random number. (A difference proves a fault; equality proves nothing about commands that were not tried.)

This module is also the program that runs in each process: it imports the state machine by name, reads commands from standard input as JSON, and prints what it saw.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from replog.errors import CallerError
from replog.statemachine import CommandError, StateMachine
from replog.testing.kv_workload import snapshot_body

ZONES: Final = ("AAA-11", "BBB+8", "CCC-3:30", "DDD+1")
"""Time zones of the processes, and so their number: one for each. Two would agree on the order of a set of two elements half of the time."""
_CLOCK_STEP_SECONDS: Final = 100_000
_CLOCK_VARIABLE: Final = "REPLOG_TESTING_CLOCK_SECONDS"
_CLOCKS: Final = ("time", "monotonic", "perf_counter")
_TIMEOUT_SECONDS: Final = 300
_SHOWN_BYTES: Final = 80
_SNAPSHOTS_MAX: Final = 20

Made = Callable[[], StateMachine]
"""A class, or a function without arguments, that makes a new state machine."""


class NotAStateMachine(CallerError):
    """What was given makes no state machine, or not one that another process can import. Correct it as the message says."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two processes differ first. `command`: position of the command, from 0; None: behind the last one."""

    command: int | None
    text: str


# --- Naming a state machine so that another process finds it ----------------------------------------------------------


def name_of(make: Made) -> str:
    """``module:Class``, or ``file.py:Class`` of a program. Raises NotAStateMachine where another process could not find it by name."""
    if not isinstance(make, (type, FunctionType)) or "<" in make.__qualname__:
        raise NotAStateMachine(
            f"{getattr(make, '__qualname__', repr(make))} cannot be imported by another process: give a class or a function at the top level of a module,"
            " or its name as 'module:Class'"
        )
    if make.__module__ == "__main__":
        return f"{getattr(sys.modules['__main__'], '__file__', None) or '__main__'}:{make.__qualname__}"
    return f"{make.__module__}:{make.__qualname__}"


def named(name: str) -> Made:
    """The class or function of ``module:Class`` or ``path/to/file.py:Class``. Raises NotAStateMachine."""
    made = load(name)
    if not callable(made):
        raise NotAStateMachine(f"{name} is a {type(made).__name__}, not a class or function")
    make: Made = made
    return make


def load(name: str) -> Any:
    """The object of ``module:name`` or ``path/to/file.py:name``. Raises NotAStateMachine when it cannot be imported."""
    module_name, parted, attribute = name.rpartition(":")
    if not parted or not module_name or not attribute:
        raise NotAStateMachine(f"{name!r} is no name of the form module:Class or path/to/file.py:Class")
    try:
        found: Any = _load_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, OSError) as error:
        raise NotAStateMachine(f"{name} cannot be imported: {error}") from error
    return found


def _load_file(path: str) -> Any:
    module_name = Path(path).stem
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise NotAStateMachine(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(module_name, module)
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    return module


def new(make: Made) -> StateMachine:
    """A new machine. Raises NotAStateMachine when there comes none."""
    try:
        machine = make()
    except TypeError as error:
        raise NotAStateMachine(f"{getattr(make, '__qualname__', make)} cannot be made without arguments: {error}") from error
    if not isinstance(machine, StateMachine):
        raise NotAStateMachine(f"{getattr(make, '__qualname__', make)} makes a {type(machine).__name__}, not a replog.StateMachine")
    return machine


# --- What a machine shows ---------------------------------------------------------------------------------------------

Shown = tuple[str, str]
"""(what it is in full, as a hash; its beginning, for people)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a machine showed: after each command its result and its digest, a snapshot now and then (see `cuts`), in the end its answers."""

    results: list[Shown]
    digests: list[Shown]
    answers: list[Shown]
    snapshots: list[Shown]


def cuts(count: int, cuts_max: int) -> list[int]:
    """Numbers of commands after which to look at a snapshot: at most about `cuts_max`, evenly spread over `count`, both ends among them."""
    parts = min(count, cuts_max)
    return sorted({number * count // parts for number in range(parts + 1)}) if parts else [0]


def observe(machine: StateMachine, commands: Sequence[bytes], queries: Sequence[bytes] = ()) -> Observed:
    """Apply `commands` one by one."""
    results, digests, snapshots = [], [], []
    looked_at = set(cuts(len(commands), _SNAPSHOTS_MAX))
    for index, command in enumerate(commands, 1):
        results.append(_shown(_attempt(lambda index=index, command=command: machine.apply_batch(index, 1, [command])[0])))  # type: ignore[misc]  # the defaults bind the loop's values
        digests.append(_shown(_attempt(machine.state_digest)))
        if index in looked_at:
            snapshots.append(_shown(_attempt(lambda: snapshot_body(machine))))
    answers = [_shown(_attempt(lambda query=query: machine.query(query))) for query in queries]  # type: ignore[misc]  # as above
    return Observed(results=results, digests=digests, answers=answers, snapshots=snapshots)


def _attempt(call: Callable[[], bytes | CommandError]) -> bytes | CommandError:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - what raises here and not there is what is looked for
        return CommandError(type(error).__name__, str(error))


def _shown(value: bytes | CommandError) -> Shown:
    text = value if isinstance(value, bytes) else f"{value.kind}: {value.message}".encode()
    return hashlib.sha256(text).hexdigest(), describe(value)


def describe(value: bytes | CommandError | None) -> str:
    """A result for people, at most a line."""
    if isinstance(value, CommandError):
        return f"{value.kind}({value.message[:_SHOWN_BYTES]!r})"
    if isinstance(value, bytes) and len(value) > _SHOWN_BYTES:
        return f"{value[:_SHOWN_BYTES]!r}... ({len(value)} bytes)"
    return repr(value)


# --- Comparing processes ----------------------------------------------------------------------------------------------


def compare_processes(
    name: str, commands: Sequence[bytes], queries: Sequence[bytes] = (), *, compare_snapshots: bool = True
) -> Difference | None:
    """None when all processes show the same, else what differs first. Raises NotAStateMachine when a process cannot use `name`."""
    started = [_start(name, number) for number in range(len(ZONES))]
    given = json.dumps({"commands": [one.hex() for one in commands], "queries": [one.hex() for one in queries]}).encode()
    try:
        first, *others = [_finish(process, name, given) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    for number, other in enumerate(others, 2):
        difference = _compare(first, other, commands, queries, f"process 1 and process {number}", compare_snapshots)
        if difference is not None:
            return difference
    return None


def _compare(
    one: Observed, other: Observed, commands: Sequence[bytes], queries: Sequence[bytes], who: str, compare_snapshots: bool
) -> Difference | None:
    for position, command in enumerate(commands):
        for what, left, right in (
            ("result", one.results[position], other.results[position]),
            ("state_digest", one.digests[position], other.digests[position]),
        ):
            if left[0] != right[0]:
                return Difference(
                    position,
                    f"command {position + 1}, {describe(command)}, has another {what} in {who}: {left[1]} and {right[1]}",
                )
    for query, left, right in zip(queries, one.answers, other.answers, strict=True):
        if left[0] != right[0]:
            return Difference(None, f"query {describe(query)} has another answer in {who}: {left[1]} and {right[1]}")
    for applied, left, right in zip(cuts(len(commands), _SNAPSHOTS_MAX)[1:], one.snapshots, other.snapshots, strict=True):
        if compare_snapshots and left[0] != right[0]:
            return Difference(
                None, f"all results are equal, but after {applied} commands the snapshots of {who} differ: {left[1]} and {right[1]}"
            )
    return None


def _start(name: str, number: int) -> subprocess.Popen[bytes]:
    path = [os.path.abspath(entry or ".") for entry in sys.path]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(number + 1),
        "PYTHONPATH": os.pathsep.join(path),
        "TZ": ZONES[number],
        _CLOCK_VARIABLE: str(number * _CLOCK_STEP_SECONDS),
    }
    return subprocess.Popen(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", "replog.testing.determinism", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def _finish(process: subprocess.Popen[bytes], name: str, given: bytes) -> Observed:
    try:
        out, said = process.communicate(given, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotAStateMachine(f"{name}: the process that applies the commands did not end within {_TIMEOUT_SECONDS} s") from None
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise NotAStateMachine(
            f"{name}: the process that applies the commands failed: {lines[-1] if lines else f'exit code {process.returncode}'}"
        )
    shown = json.loads(out)
    return Observed(
        results=[(one[0], one[1]) for one in shown["results"]],
        digests=[(one[0], one[1]) for one in shown["digests"]],
        answers=[(one[0], one[1]) for one in shown["answers"]],
        snapshots=[(one[0], one[1]) for one in shown["snapshots"]],
    )


# --- In each process ----------------------------------------------------------------------------------------------------


def _shift_clocks(seconds: int) -> None:
    """Processes that start together read nearly the same time; a result in whole seconds or days would hide the clock it came from."""
    for clock in _CLOCKS:
        read: Callable[[], float] = getattr(time, clock)
        read_ns: Callable[[], int] = getattr(time, f"{clock}_ns")
        setattr(time, clock, lambda read=read: read() + seconds)
        setattr(time, f"{clock}_ns", lambda read_ns=read_ns: read_ns() + seconds * 10**9)


def _main(name: str) -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the state machine prints goes to the standard error
    given = json.load(sys.stdin)
    _shift_clocks(int(os.environ.get(_CLOCK_VARIABLE, "0")))
    machine = new(named(name))
    observed = observe(machine, *([bytes.fromhex(one) for one in given[what]] for what in ("commands", "queries")))
    shown = {what: getattr(observed, what) for what in ("results", "digests", "answers", "snapshots")}
    with answer:
        json.dump(shown, answer)


if __name__ == "__main__":
    _main(sys.argv[1])
