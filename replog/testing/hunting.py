"""A hunt: many seeds over many profiles, in several processes, and the sum of what they met.

One seed says little: it draws which faults are on, and most seeds break nothing that a change has broken. What a hunt is worth stands in its totals; a hunt
over runs without elections, cuts and torn tails is no evidence of surviving them (`replog.testing.coverage`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from time import monotonic, process_time
from typing import Any

from replog.testing.clock import SECOND
from replog.testing.coverage import Coverage
from replog.testing.faults import ALL_PROFILES
from replog.testing.mutants import ALL, planted
from replog.testing.run import run
from replog.testing.simulator import Plan

_AHEAD = 4
"""Runs handed out for each process, so that none waits for the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunt:
    """What is run: each seed from `first_seed` on, over all `profiles`, until one of the limits is reached."""

    profiles: tuple[str, ...] = ALL_PROFILES
    first_seed: int = 1
    storm_seconds: float = 6.0
    seeds_max: int | None = None
    """Seeds of each profile; None: no limit."""
    seconds_max: float | None = None
    """Of real time; runs that have begun then are finished."""
    processes: int = 1
    mutant: str | None = None
    """Plant this one first: the hunt looks for seeds that show it."""

    def plans(self) -> Iterator[Plan]:
        seeds = count(self.first_seed) if self.seeds_max is None else range(self.first_seed, self.first_seed + self.seeds_max)
        for seed in seeds:
            for profile in self.profiles:
                yield Plan(seed=seed, profile=profile, storm_seconds=self.storm_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one run, small enough to be sent between processes."""

    profile: str
    seed: int
    broken: str
    """The property's name, empty if all held."""
    text: str
    """The run for people, if something broke."""
    events: int
    virtual_us: int
    operations: int
    cpu_seconds: float
    counts: dict[str, int]


@dataclass(slots=True, kw_only=True)
class Totals:
    """The sum over many runs."""

    runs: int = 0
    events: int = 0
    virtual_us: int = 0
    operations: int = 0
    cpu_seconds: float = 0.0
    failures: list[Outcome] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    runs_by_profile: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.events += outcome.events
        self.virtual_us += outcome.virtual_us
        self.operations += outcome.operations
        self.cpu_seconds += outcome.cpu_seconds
        self.coverage.counts.update(outcome.counts)
        self.runs_by_profile[outcome.profile] = self.runs_by_profile.get(outcome.profile, 0) + 1
        if outcome.broken:
            self.failures.append(outcome)

    @property
    def simulated_hours(self) -> float:
        return self.virtual_us / SECOND / 3600

    def lines(self) -> list[str]:
        """For people."""
        rate = self.events / self.cpu_seconds if self.cpu_seconds else 0.0
        lines = [
            f"{self.runs} runs, {self.simulated_hours:.2f} simulated hours, {self.operations} operations answered, {len(self.failures)} failed",
            f"{self.events} events, {rate:,.0f} a second of CPU",
            "by profile: " + ", ".join(f"{profile} {runs}" for profile, runs in sorted(self.runs_by_profile.items())),
            *self.coverage.lines(),
        ]
        missing = self.coverage.missing()
        if missing:
            lines.append(f"never met: {', '.join(missing)}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "runs": self.runs,
            "simulated_hours": round(self.simulated_hours, 3),
            "events": self.events,
            "operations": self.operations,
            "cpu_seconds": round(self.cpu_seconds, 1),
            "runs_by_profile": dict(sorted(self.runs_by_profile.items())),
            "met": dict(sorted(self.coverage.counts.items())),
            "failures": [{"profile": one.profile, "seed": one.seed, "broken": one.broken} for one in self.failures],
        }


def run_one(plan: Plan) -> Outcome:
    """One run of the hunt."""
    began = process_time()
    report = run(plan)
    return Outcome(
        profile=plan.profile,
        seed=plan.seed,
        broken=report.broken.name if report.broken is not None else "",
        text=report.describe() if report.broken is not None else "",
        events=report.events,
        virtual_us=report.virtual_us,
        operations=report.operations,
        cpu_seconds=process_time() - began,
        counts=dict(report.coverage.counts),
    )


def hunt(plan: Hunt, *, on_outcome: Callable[[Outcome, Totals], None] | None = None) -> Totals:
    """Run it to its end. `on_outcome` hears of each run as it ends. Raises KeyError for an unknown mutant, `CannotPlant`."""
    totals = Totals()
    for outcome in _outcomes(plan):
        totals.add(outcome)
        if on_outcome is not None:
            on_outcome(outcome, totals)
    return totals


def _outcomes(plan: Hunt) -> Iterator[Outcome]:
    """Every run's outcome, in the order of the plans, whatever process it was run in."""
    until = monotonic() + plan.seconds_max if plan.seconds_max is not None else float("inf")
    plans = plan.plans()
    if plan.processes == 1:
        with ExitStack() as stack:
            _plant(plan.mutant, stack)
            for one in plans:
                if monotonic() >= until:
                    return
                yield run_one(one)
        return
    with ProcessPoolExecutor(plan.processes, get_context("spawn"), initializer=_begin_worker, initargs=(plan.mutant,)) as pool:
        ahead: deque[Future[Outcome]] = deque()
        for one in plans:
            if monotonic() >= until:
                break
            ahead.append(pool.submit(run_one, one))
            if len(ahead) >= _AHEAD * plan.processes:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


_WORKER = ExitStack()
"""What lives as long as a worker's process."""


def _plant(mutant: str | None, stack: ExitStack) -> None:
    if mutant is not None:
        stack.enter_context(planted({one.name: one for one in ALL}[mutant]))


def _begin_worker(mutant: str | None) -> None:
    _plant(mutant, _WORKER)
