"""The simulator: a plan is a run, bit for bit; what a run met is counted; a hunt sums it up."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from replog.testing.command import main
from replog.testing.coverage import EXPECTED, STRIKES, Coverage
from replog.testing.faults import ALL_PROFILES, DIRECTED, PROFILES, Weather, draw_weather
from replog.testing.history import Operation
from replog.testing.hunting import Hunt, Outcome, Totals, hunt, run_one
from replog.testing.mutants import ALL, planted
from replog.testing.run import run
from replog.testing.simulator import Plan, Report, Simulator

# -- replay -------------------------------------------------------------------------------------------------------------


def everything_of(plan: Plan) -> tuple[object, ...]:
    """All that a run shows: its trace line by line, its history, its counters."""
    lines: list[str] = []
    history: list[Operation] = []
    report = run(plan, on_trace=lines.append, history=history)
    return (lines, history, report.digest, report.events, report.virtual_us, report.coverage.counts, report.trace, str(report.broken))


@pytest.mark.slow
@pytest.mark.parametrize("profile", ALL_PROFILES)
def test_a_plan_is_the_same_run_every_time(profile: str) -> None:
    plan = Plan(seed=5, profile=profile, storm_seconds=1.5)

    first, again = everything_of(plan), everything_of(plan)

    assert first == again
    assert first[0], "something happened"


@pytest.mark.slow
def test_another_seed_is_another_run() -> None:
    digests = {run(Plan(seed=seed, profile="crash-loop", storm_seconds=1.0)).digest for seed in range(1, 6)}

    assert len(digests) == 5


@pytest.mark.slow
def test_a_prefix_of_a_run_is_its_beginning() -> None:
    whole: list[str] = []
    prefix: list[str] = []
    run(Plan(seed=4, profile="crash-loop", storm_seconds=2.0), on_trace=whole.append)

    report = run(Plan(seed=4, profile="crash-loop", storm_seconds=2.0, events_max=900), on_trace=prefix.append)

    assert report.events == 900
    assert 0 < len(prefix) < len(whole)
    assert whole[: len(prefix)] == prefix


def test_turning_one_fault_off_leaves_the_streams_of_the_others() -> None:
    weather = Weather(crashes=1.0, partitions=1.0, drop=0.1)
    with_it, without = Simulator(Plan(seed=3, weather=weather)), Simulator(Plan(seed=3, weather=weather.without("crashes")))

    for name in ("network", "workload", "drift", "node n1", "disk n1"):
        assert with_it.stream(name).random() == without.stream(name).random()


def test_a_weather_is_drawn_by_its_profile_alone() -> None:
    for profile in PROFILES:
        assert (
            draw_weather(Simulator(Plan(seed=9, profile=profile)).stream("weather"), profile)
            == Simulator(Plan(seed=9, profile=profile)).weather
        )
    for profile, fixed in DIRECTED.items():
        assert Simulator(Plan(seed=1, profile=profile)).weather.active() == fixed.active()
    with pytest.raises(KeyError):
        Simulator(Plan(seed=1, profile="fair"))


@pytest.mark.slow
def test_the_cores_own_invariants_are_checked_on_demand() -> None:
    mutant = next(one for one in ALL if one.name == "no no-op on election")
    plan = Plan(seed=1, profile="calm", storm_seconds=1.0)
    with planted(mutant):
        unseen, seen = run(plan), run(replace(plan, check_core=True))

    assert unseen.broken is None, "clients write, so L1 holds"
    assert seen.broken is not None
    assert seen.broken.name == "assertion"
    assert "raft/check.py" in str(seen.broken)
    assert run(replace(plan, check_core=True)).broken is None


# -- what a run met -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_calm_run_meets_an_election_and_no_fault() -> None:
    counts = run(Plan(seed=2, profile="calm", storm_seconds=2.0)).coverage.counts

    assert counts["elections"] == 1
    assert counts["entries committed"] > 20
    assert counts["settled"] == 2, "before and after the ten writes and reads of L1"
    for name in (*STRIKES, "leaders lost", "messages dropped", "messages replayed", "syncs failed", "sectors lost"):
        assert not counts[name], name


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_fault_that_is_on_is_counted() -> None:
    weather = Weather(
        nodes=3,
        operations_per_second=500.0,
        drop=0.05,
        duplicate=0.05,
        reorder=0.05,
        replay=0.05,
        partitions=1.0,
        crashes=1.0,
        blackouts=0.3,
        pauses=1.0,
        slow_disks=1.0,
        sync_failures=1.0,
        full_disks=1.0,
        transfers=1.0,
        changes=1.0,
        snapshots=1.0,
        slow_applies=1.0,
        restart_us_max=100_000,
    )
    met = Coverage()
    for seed in range(1, 6):
        report = run(Plan(seed=seed, weather=weather, storm_seconds=4.0))
        assert report.broken is None, report.describe()
        met.merge(report.coverage)

    never = [name for name in STRIKES if not met.counts[name]]
    assert never == ["rot", "nodes wiped and replaced"], "which were off"
    assert met.strikes == sum(met.counts[name] for name in STRIKES)
    for name in ("dropped", "duplicated", "reordered", "replayed"):
        assert met.counts[f"messages {name}"], name


@pytest.mark.slow
def test_a_run_counts_what_it_traces() -> None:
    lines: list[str] = []
    report = run(Plan(seed=6, profile="crash-loop", storm_seconds=2.0), on_trace=lines.append)
    counts = report.coverage.counts

    assert counts["crashes"] == sum(" loses power" in line or " is killed" in line for line in lines) > 0
    assert counts["elections"] == sum(" is leader in term" in line for line in lines) > 0
    assert counts["events"] == report.events
    assert counts["operations answered"] == report.operations > 0


def test_what_was_never_met_is_named() -> None:
    met = Coverage()
    for name in EXPECTED[1:]:
        met.add(name)
    met.add("crashes", 3)

    assert met.missing() == [EXPECTED[0]]
    assert f"{4:>10}  crashes" in met.lines()


# -- hunts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_hunt_in_two_processes_finds_what_one_process_finds() -> None:
    plan = Hunt(profiles=("crash-loop", "calm"), seeds_max=3, first_seed=7, storm_seconds=1.0)
    outcomes: list[tuple[str, int]] = []

    alone = hunt(plan, on_outcome=lambda outcome, _: outcomes.append((outcome.profile, outcome.seed)))
    together = hunt(Hunt(profiles=plan.profiles, seeds_max=3, first_seed=7, storm_seconds=1.0, processes=2))

    assert outcomes == [(profile, seed) for seed in (7, 8, 9) for profile in ("crash-loop", "calm")]
    assert alone.runs == together.runs == 6
    assert (alone.events, alone.virtual_us, alone.operations) == (together.events, together.virtual_us, together.operations)
    assert alone.coverage.counts == together.coverage.counts
    assert alone.runs_by_profile == {"crash-loop": 3, "calm": 3}
    assert not alone.failures


@pytest.mark.slow
def test_the_totals_of_a_hunt_are_the_sums_of_its_runs() -> None:
    reports = [run(Plan(seed=seed, profile="crash-loop", storm_seconds=1.0)) for seed in (1, 2)]

    totals = hunt(Hunt(profiles=("crash-loop",), seeds_max=2, storm_seconds=1.0))

    assert totals.events == sum(report.events for report in reports)
    assert totals.virtual_us == sum(report.virtual_us for report in reports)
    assert totals.coverage.counts["crashes"] == sum(report.coverage.counts["crashes"] for report in reports)
    assert totals.simulated_hours == pytest.approx(totals.virtual_us / 3.6e9)


def test_a_hunt_without_time_runs_nothing() -> None:
    assert hunt(Hunt(seconds_max=0.0)).runs == 0


@pytest.mark.slow
def test_the_command_prints_totals_and_writes_them(tmp_path: Path) -> None:
    out, path = io.StringIO(), tmp_path / "totals.json"

    code = main(["hunt", "--seeds", "2", "--profile", "crash-loop", "--storm-seconds", "1", "--json", str(path)], out)

    written = json.loads(path.read_text())
    assert code == 0
    assert written["runs"] == 2
    assert written["failures"] == []
    assert written["met"]["crashes"] > 0
    assert f"{written['met']['crashes']:>10}  crashes" in out.getvalue()
    assert "2 runs, 0.00 simulated hours" in out.getvalue()
    assert "never met: " in out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_hunt_that_finds_something_fails_and_says_how_to_see_it_again(processes: str) -> None:
    out = io.StringIO()

    code = main(
        [
            "hunt",
            "--seeds",
            "1",
            "--profile",
            "crash-loop",
            "--storm-seconds",
            "1",
            "--processes",
            processes,
            "--mutant",
            "vote reply before sync",
        ],
        out,
    )

    assert code == 1
    assert "BROKEN S8" in out.getvalue()
    assert "again: python -m replog.testing run --profile crash-loop --seed 1 --storm-seconds 1" in out.getvalue()
    assert "FAILED crash-loop 1 1 S8" in out.getvalue()


def test_a_hunt_needs_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hunt"]) == 2
    assert "--seeds or --minutes" in capsys.readouterr().err


def test_outcomes_add_up() -> None:
    totals = Totals()
    fine = Outcome(
        profile="calm", seed=1, broken="", text="", events=10, virtual_us=3, operations=2, cpu_seconds=0.5, counts={"crashes": 1}
    )
    bad = Outcome(
        profile="calm", seed=2, broken="S1", text="x", events=5, virtual_us=4, operations=1, cpu_seconds=0.5, counts={"crashes": 2}
    )
    for one in (fine, bad):
        totals.add(one)

    assert totals.failures == [bad]
    assert totals.as_json()["failures"] == [{"profile": "calm", "seed": 2, "broken": "S1"}]
    assert "15 events, 15 a second of CPU" in totals.lines()
    assert totals.coverage.counts["crashes"] == 3


@pytest.mark.slow
def test_a_report_of_a_clean_run_is_short() -> None:
    report: Report = run(Plan(seed=3, profile="crash-loop", storm_seconds=1.0))

    assert report.describe().startswith("seed 3, profile crash-loop: all properties hold\n  weather: ")
    assert "again:" not in report.describe(), "nothing is to be looked at"
    assert run_one(Plan(seed=3, profile="crash-loop", storm_seconds=1.0)).text == ""
