"""Making a failure short: the same property broken by fewer faults, fewer operations, fewer nodes, in a shorter run.

Every candidate is a plan, run from its beginning; it counts only if it breaks the same property. Faults draw from streams of their own, so turning one off leaves
the others much as they were. In order: no faults after the break, each kind of fault off, fewer nodes and clients, fewer operations, faults for a shorter time,
and again until nothing helps or the budget of runs is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from replog.testing.clock import SECOND
from replog.testing.simulator import Plan, Report

RUNS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """The shortest failing run that was found."""

    report: Report
    runs: int
    steps: tuple[str, ...]
    """What was taken away, in order."""


def shrink(report: Report, run: Callable[[Plan], Report], *, runs_max: int = RUNS_MAX) -> Shrunk:
    """Shrink a failed run. `run` is how it was run (with its workload, and with whatever bug is planted)."""
    assert report.broken is not None
    name = report.broken.name
    best = replace(report, plan=replace(report.plan, weather=report.weather))
    runs, steps = 0, list[str]()
    progress = True
    while progress and runs < runs_max:
        progress = False
        for step, plan in _smaller(best):
            if runs >= runs_max:
                break
            runs += 1
            found = run(plan)
            if found.broken is not None and found.broken.name == name and _size(found) < _size(best):
                best, progress = found, True
                steps.append(step)
                break
    return Shrunk(report=best, runs=runs, steps=tuple(steps))


def _size(report: Report) -> tuple[int, int, int, int, int]:
    """What is shorter to read comes first: kinds of faults, nodes, how often faults struck, operations, events."""
    weather = report.weather
    return (len(weather.active()), weather.nodes, report.coverage.strikes, report.operations, report.events)


def _smaller(report: Report) -> Iterator[tuple[str, Plan]]:
    """Plans with something less, the largest steps first."""
    plan, weather = report.plan, report.weather
    faults_us = min(report.virtual_us, int(plan.storm_seconds * SECOND))
    if plan.faults_until_us is not None:
        faults_us = min(faults_us, plan.faults_until_us)
    if plan.faults_until_us is None or plan.faults_until_us > faults_us:
        yield "no fault after the break", replace(plan, faults_until_us=faults_us)
    for fault in weather.active():
        yield f"without {fault}", replace(plan, weather=weather.without(fault))
    for nodes in (1, 2, 3):
        if nodes < weather.nodes:
            yield f"{nodes} nodes", replace(plan, weather=replace(weather, nodes=nodes))
    if weather.clients > 1:
        yield "one client", replace(plan, weather=replace(weather, clients=1))
    for quarters in (1, 2, 3):
        if (operations := report.operations * quarters // 4) >= 1:
            yield f"{operations} operations", replace(plan, operations_max=operations)
    for quarters in (1, 2, 3):
        shorter_us = faults_us * quarters // 4
        yield f"faults for {shorter_us / SECOND:.3f} s", replace(plan, faults_until_us=shorter_us)
