"""One call for a state machine of your own: is it what replog needs? See ``docs/state-machines.md``.

::

    def test_my_state_machine() -> None:
        replog.testing.check_state_machine(MyStateMachine, [b"add 3", b"add -9", b"reset"])

It raises `StateMachineFault` with the rule that is broken, or returns a report of what was tried. In this order, so that a fault is told in its simplest form:

1. **results**: bytes, one for each command; rubbish as well, which any client may send. A **query** changes nothing, a snapshot does not change when the state machine goes on.
2. **determinism**: processes with other hash seeds, clocks, time zones and random numbers show the same.
3. **error**: a command that raises changes nothing.
4. **batch**: `apply_batch` does what `apply` does one by one.
5. **snapshot**: restoring it is the same as replaying the log, at every cut, over any earlier state.
6. **cluster**: in a simulated cluster with crashes, partitions, lost messages, snapshots and full disks, every node has the same state at the same index, a command is applied
   once, and every client is told what a single machine would have said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from replog.statemachine import StateMachine
from replog.testing.coverage import Coverage
from replog.testing.determinism import ZONES, Made, NotAStateMachine, compare_processes, name_of, named, new
from replog.testing.faults import Weather
from replog.testing.history import Operation
from replog.testing.ledger import PropertyBroken
from replog.testing.machine_checks import RUBBISH, Checks, StateMachineFault
from replog.testing.machine_workload import CommandsWorkload
from replog.testing.run import run
from replog.testing.simulator import Plan

COMMANDS_DRAWN: Final = 200
"""Commands that are drawn where a function draws them."""
STORM_SECONDS: Final = 4.0
"""Virtual seconds of faults in each simulated run."""
_WEATHER: Final = Weather(
    operations_per_second=300.0, crashes=2.0, blackouts=0.3, restart_us_max=500_000, snapshots=3.0, partitions=0.7, drop=0.01
)
"""What a state machine itself meets of a cluster's troubles is restarts and snapshots. Each third seed has any weather instead."""
_MACHINE_RULES: Final = ("S13", "S15", "S16", "machine")
"""Properties that a state machine can break. Were another one broken, it would be replog's fault."""

Commands = Sequence[bytes] | Callable[[Random], bytes]


@dataclass(slots=True, kw_only=True)
class MachineReport:
    """What was tried. Read `notes`: what could not be."""

    machine: str
    commands: int = 0
    raising: int = 0
    """Commands that raised, and changed nothing."""
    cuts: int = 0
    """Snapshots that were restored, each twice."""
    processes: int = 0
    seeds: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    """What the simulated clusters met."""
    notes: list[str] = field(default_factory=list)

    def describe(self) -> str:
        met = self.coverage.counts
        lines = [
            f"{self.machine}: all rules hold",
            f"  {self.commands} commands, {self.raising} of them raise; {self.cuts} snapshots restored; {self.processes} processes compared",
        ]
        if self.seeds:
            lines.append(
                f"  {self.seeds} simulated clusters, {met['virtual seconds']} virtual seconds: {met['operations answered']} operations answered,"
                f" {met['crashes'] + met['blackouts']} crashes, {met['elections']} elections, {met['partitions']} partitions,"
                f" {met['states restored']} states restored from snapshots"
            )
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def check_state_machine(
    machine: Made | str,
    commands: Commands,
    *,
    queries: Sequence[bytes] = (),
    seeds: int = 10,
    seed: int = 1,
    rubbish: bool = True,
    compare_snapshots: bool = True,
    processes: bool = True,
) -> MachineReport:
    """Put a state machine through everything above; about ten seconds with the defaults.

    `machine`: a class or a function without arguments, or its name as ``module:Class``; the other processes import it by that name. `commands`: some that are typical, in
    an order that makes sense (some of them should fail), or a function that draws one. `queries`: for `StateMachine.query`. `seeds`: simulated clusters; 0: none. `seed`: of all
    that is drawn here: the same seed does the same. `rubbish`: also try commands that nobody meant. `compare_snapshots` False: equal states may have snapshots with different
    bytes (a dict or set in any order); the state machine should then have a `state_digest`. `processes` False: for what no other process can import.

    Raises `StateMachineFault` (an AssertionError) for the first rule that is broken, `NotAStateMachine` when there is nothing to check.
    """
    make = named(machine) if isinstance(machine, str) else machine
    name = machine if isinstance(machine, str) else getattr(machine, "__qualname__", repr(machine))
    first = new(make)
    if first.durable_index():
        raise NotAStateMachine(f"{name} holds a state already (durable_index is {first.durable_index()}): make one that is empty each time")
    chance = Random(f"{seed} commands")
    tried = _commands(commands, chance, rubbish=rubbish)
    report = MachineReport(machine=name, commands=len(tried))

    checks = Checks(make, tried, queries, compare_snapshots=compare_snapshots)
    report.raising, report.cuts = len(checks.yardstick.raising), len(checks.cuts)
    _note_what_was_not_tried(report, first, checks, queries, compare_snapshots=compare_snapshots)
    if processes:
        _compare_in_processes(
            report, machine if isinstance(machine, str) else name_of(make), tried, queries, compare_snapshots=compare_snapshots
        )
    else:
        report.notes.append("determinism was not tried in several processes")
    checks.check_errors()
    checks.check_batches(chance)
    checks.check_snapshots()
    for number in range(seed, seed + seeds):
        _simulate(report, number, make, commands, tried, queries, compare_snapshots=compare_snapshots)
    return report


def _commands(commands: Commands, chance: Random, *, rubbish: bool) -> list[bytes]:
    """Those to try, with rubbish strewn among them."""
    tried = [commands(chance) for _ in range(COMMANDS_DRAWN)] if callable(commands) else list(commands)
    for one in tried:
        _require_bytes(one)
    if not tried:
        raise NotAStateMachine("there are no commands: give some that are typical of the state machine")
    for one in RUBBISH if rubbish else ():
        tried.insert(chance.randint(0, len(tried)), one)
    return tried


def _require_bytes(command: object) -> None:
    if not isinstance(command, bytes):
        raise NotAStateMachine(f"a command is bytes; found a {type(command).__name__}, {command!r}")


def _note_what_was_not_tried(
    report: MachineReport, machine: StateMachine, checks: Checks, queries: Sequence[bytes], *, compare_snapshots: bool
) -> None:
    if not report.raising:
        report.notes.append("no command raised: whether one that raises changes nothing was not tried")
    if not queries and type(machine).query is not StateMachine.query:
        report.notes.append("it answers queries, and none was given")
    if not any(checks.yardstick.digests):
        if compare_snapshots:
            report.notes.append("it has no state_digest: in production, nodes compare only the results of commands")
        else:
            report.notes.append("it has no state_digest and its snapshots are not compared: states were compared only by results")


def _compare_in_processes(
    report: MachineReport, name: str, tried: Sequence[bytes], queries: Sequence[bytes], *, compare_snapshots: bool
) -> None:
    difference = compare_processes(name, tried, queries, compare_snapshots=compare_snapshots)
    if difference is not None:
        raise StateMachineFault(
            "determinism",
            f"{difference.text}. The processes differ in hash seed, random numbers, clock and time zone: look for the order of a set, hash(), id(), random, uuid, time, datetime",
        )
    report.processes = len(ZONES)


def _simulate(
    report: MachineReport,
    seed: int,
    make: Made,
    commands: Commands,
    tried: Sequence[bytes],
    queries: Sequence[bytes],
    *,
    compare_snapshots: bool,
) -> None:
    """One cluster. Raises `StateMachineFault`."""
    draw = commands if callable(commands) else (lambda random: tried[int(random.random() * len(tried))])
    workload = CommandsWorkload(make, draw, queries, compare_snapshots=compare_snapshots)
    history: list[Operation] = []
    again = f"(simulated cluster, seed {seed}: check_state_machine(..., seeds=1, seed={seed}) shows it again)"
    plan = Plan(seed=seed, storm_seconds=STORM_SECONDS, weather=None if seed % 3 == 0 else _WEATHER)
    result = run(plan, workload=workload, history=history)
    broken: PropertyBroken | None = result.broken
    if broken is not None:
        blame = "" if broken.name in _MACHINE_RULES else " This is not a rule for state machines: please report it as a fault of replog."
        raise StateMachineFault("cluster", f"{broken}{blame} {again}\n" + "\n".join(result.trace[-12:])) from broken
    try:
        told = workload.judge(history)
    except PropertyBroken as error:
        raise StateMachineFault("cluster", f"{error} {again}") from error
    if told:
        raise StateMachineFault("cluster", f"{told} {again}")
    report.seeds += 1
    report.coverage.merge(result.coverage)
    report.coverage.add("states restored", workload.restored)


__all__ = ["MachineReport", "NotAStateMachine", "StateMachineFault", "check_state_machine"]
