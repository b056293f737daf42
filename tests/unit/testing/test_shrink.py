"""A failure is made short: the same property broken by less, in a run that is the same every time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replog.testing.faults import Weather
from replog.testing.mutants import ALL, Mutant, planted
from replog.testing.run import run
from replog.testing.shrink import shrink
from replog.testing.simulator import Plan, Report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BY_NAME = {mutant.name: mutant for mutant in ALL}
STORMY = Weather(
    nodes=5,
    clients=6,
    operations_per_second=300.0,
    drop=0.05,
    duplicate=0.05,
    reorder=0.05,
    delay_us_max=20_000,
    partitions=0.7,
    crashes=3.0,
    transfers=0.7,
    restart_us_max=100_000,
)


def failing(mutant: Mutant, weather: Weather = STORMY, storm_seconds: float = 2.0) -> Report:
    """The first seed that breaks something; call it with the mutant planted."""
    for seed in range(1, 40):
        report = run(Plan(seed=seed, weather=weather, storm_seconds=storm_seconds))
        if report.broken is not None:
            return report
    raise AssertionError(f"{mutant.name} is found by none of 40 seeds")


@pytest.mark.parametrize("name", ["match goes back", "vote not kept", "old-term entry committed by counting"])
def test_a_failure_is_shrunk_to_less_that_breaks_the_same_property(name: str) -> None:
    with planted(BY_NAME[name]):
        report = failing(BY_NAME[name])
        assert report.broken is not None

        shrunk = shrink(report, run)

        short = shrunk.report
        assert short.broken is not None
        assert short.broken.name == report.broken.name
        assert shrunk.steps, "not all kinds of fault are needed"
        assert len(short.weather.active()) < len(report.weather.active())
        assert short.weather.nodes <= report.weather.nodes
        assert short.coverage.strikes <= report.coverage.strikes

        again = run(short.plan)

    assert (again.digest, again.events, again.virtual_us, again.trace) == (short.digest, short.events, short.virtual_us, short.trace)
    assert str(again.broken) == str(short.broken)
    assert run(short.plan).broken is None, "and it is the bug that breaks it"


def test_a_failure_that_shows_only_after_healing_gets_a_shorter_storm() -> None:
    """L1 is broken a minute after the faults have ended: what can be cut off is the time in which they come."""
    mutant = BY_NAME["no no-op on election"]
    weather = Weather(nodes=3, clients=4, crashes=6.0, restart_us_max=200_000)
    with planted(mutant):
        report = failing(mutant, weather, 2.0)

        shrunk = shrink(report, run, runs_max=60)

    assert shrunk.report.broken is not None
    assert shrunk.report.broken.name == "L1"
    assert shrunk.report.plan.faults_until_us is not None
    assert shrunk.report.plan.faults_until_us < 2_000_000
    assert shrunk.report.coverage.counts["crashes"] < report.coverage.counts["crashes"]


def test_no_more_runs_are_made_than_are_allowed() -> None:
    mutant = BY_NAME["match goes back"]
    plans: list[Plan] = []
    with planted(mutant):
        report = failing(mutant)

        shrunk = shrink(report, noting(plans), runs_max=7)

    assert shrunk.runs == len(plans) == 7
    assert shrunk.report.broken is not None


def test_a_candidate_that_breaks_another_property_does_not_count() -> None:
    """With a judge that finds something else in everything smaller, nothing is taken away."""
    mutant = BY_NAME["match goes back"]
    with planted(mutant):
        report = failing(mutant)
    with planted(BY_NAME["vote reply before sync"]):
        shrunk = shrink(report, run, runs_max=30)

    assert shrunk.steps == ()
    assert shrunk.report.broken is report.broken


def noting(plans: list[Plan]) -> Callable[[Plan], Report]:
    def run_and_note(plan: Plan) -> Report:
        plans.append(plan)
        return run(plan)

    return run_and_note
