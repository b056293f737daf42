"""The judge is judged: every mutant is found by a known run that is clean without it; and canaries show that one which lives would be reported."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from replog.raft import quorum
from replog.testing import simulation_command
from replog.testing.command import main
from replog.testing.mutants import ALL, CannotPlant, Edit, Mutant, judge, planted
from replog.testing.mutants.kills import CRASHES, Scenario, Seed
from replog.testing.properties import SAFETY

BY_NAME = {mutant.name: mutant for mutant in ALL}
HARMLESS = Mutant(
    name="canary",
    breaks="nothing: the changed function does what the shipped one does",
    edits=(Edit("replog.raft.quorum", "majority_result", "if yes >= needed:", "if needed <= yes:"),),
    kills=(Seed(profile="crash-loop", seed=1, breaks=("S1",), storm_seconds=0.5, more=2),),
)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_property_finds_the_mutant_and_holds_without_it(mutant: Mutant) -> None:
    verdict = judge(mutant)

    assert verdict.is_killed, verdict.describe()


def test_every_mutant_says_which_property_of_ours_finds_it() -> None:
    known = {one.name for one in SAFETY} | {"L1", "L2", CRASHES}

    assert len(BY_NAME) == len(ALL) >= 33
    for mutant in ALL:
        assert mutant.kills, mutant.name
        assert all(kill.breaks and set(kill.breaks) <= known for kill in mutant.kills), mutant.name


# -- canaries -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_mutant_that_breaks_nothing_is_reported_as_living() -> None:
    verdict = judge(HARMLESS)

    assert not verdict.is_killed
    assert "canary LIVES" in verdict.describe()
    assert len(verdict.tried) == 3, "the known seed and its spare ones"


@pytest.mark.slow
def test_a_mutant_that_breaks_another_property_than_its_own_lives() -> None:
    mutant = replace(BY_NAME["vote reply before sync"], kills=(Seed(profile="crash-loop", seed=1, breaks=("S16",), more=0),))

    assert "S8" in judge(mutant).describe()
    assert not judge(mutant).is_killed


def test_a_run_that_fails_without_the_mutant_proves_nothing() -> None:
    def always() -> None:
        raise AssertionError("S1: whatever is planted")

    verdict = judge(replace(HARMLESS, kills=(Scenario(always, ("S1",)),)))

    assert not verdict.is_killed
    assert "without it, too" in verdict.describe()


def test_a_mutant_whose_source_has_moved_on_cannot_be_planted() -> None:
    for edit in (
        Edit("replog.raft.quorum", "majority_result", "what is not there", ""),
        Edit("replog.raft.quorum", "majority_result", "return", "pass"),
        Edit("replog.raft.quorum", "no_such_function", "", ""),
        Edit("replog.raft.quorum", "NoSuchClass.method", "", ""),
    ):
        with pytest.raises(CannotPlant, match="canary"), planted(replace(HARMLESS, edits=(edit,))):
            pass


def test_nothing_of_a_mutant_is_left_behind() -> None:
    shipped = quorum.majority_result

    with planted(HARMLESS):
        assert quorum.majority_result is not shipped

    assert quorum.majority_result is shipped


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_command_line_reports_a_failure_with_seed_profile_and_last_events() -> None:
    command = [sys.executable, "-m", "replog.testing", "run", "--profile", "crash-loop", "--seed", "7", "--storm-seconds", "2"]

    clean = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=50, check=False)
    failed = subprocess.run(
        [*command, "--mutant", "vote reply before sync"], env=os.environ, capture_output=True, text=True, timeout=50, check=False
    )

    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "seed 7, profile crash-loop: BROKEN S8" in failed.stdout
    assert "again: python -m replog.testing run --profile crash-loop --seed 7 --storm-seconds 2" in failed.stdout
    assert "is pre-candidate in term 0: election timeout" in failed.stdout.partition("last events:")[2]


@pytest.mark.slow
def test_judging_on_the_command_line_fails_if_one_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    found = BY_NAME["second vote in a term"]
    monkeypatch.setattr(simulation_command, "ALL", (found, HARMLESS))
    alone, both, listing = io.StringIO(), io.StringIO(), io.StringIO()

    assert main(["mutants", "--judge", found.name], alone) == 0
    assert main(["mutants", "--judge"], both) == 1
    assert main(["mutants"], listing) == 0

    assert "1 of 1 mutants found" in alone.getvalue()
    assert "canary LIVES" in both.getvalue()
    assert "1 of 2 mutants found" in both.getvalue()
    assert "canary: nothing" in listing.getvalue()


def test_a_mutant_that_nobody_knows_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["run", "--seed", "1"], ["hunt", "--seeds", "1"]):
        assert main([*command, "--mutant", "unheard of"]) == 2
    assert main(["mutants", "unheard of"]) == 2

    assert capsys.readouterr().err.count("no mutant 'unheard of'") == 3
