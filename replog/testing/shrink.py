"""Making a failure short: the same property broken by fewer faults, fewer operations, fewer nodes, in a shorter run.

Every candidate is a plan, run from its beginning; it counts only if it breaks the same property. Faults draw from streams of their own, so turning one off leaves
the others much as they were. In order: no faults after the break, each kind of fault off, fewer operations, fewer nodes and clients, and again until
nothing helps or the budget of runs is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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


def _size(report: Report) -> tuple[int, int, int, int]:
    """What is shorter to read comes first: faults, nodes, operations, events."""
    weather = report.weather
    return (len(weather.active()), weather.nodes, report.operations, report.events)


def _smaller(report: Report) -> Iterator[tuple[str, Plan]]:
    """Plans with something less, the largest steps first."""
    plan, weather = report.plan, report.weather
    if plan.faults_until_us is None or plan.faults_until_us > report.virtual_us:
        yield "no fault after the break", replace(plan, faults_until_us=report.virtual_us)
    for fault in weather.active():
        yield f"without {fault}", replace(plan, weather=weather.without(fault))
    for nodes in (1, 2, 3):
        if nodes < weather.nodes:
            yield f"{nodes} nodes", replace(plan, weather=replace(weather, nodes=nodes))
    if weather.clients > 1:
        yield "one client", replace(plan, weather=replace(weather, clients=1))
    for share in (4, 2):
        if report.operations // share >= 1:
            yield f"{report.operations // share} operations", replace(plan, operations_max=report.operations // share)
    for share in (4, 2):
        if plan.faults_until_us:
            yield f"faults for 1/{share} of the time", replace(plan, faults_until_us=plan.faults_until_us // share)
