"""Every bug that the simulator has found stays found: its seed is run again with each change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from replog.testing.faults import ALL_PROFILES
from replog.testing.mutants import ALL, planted
from replog.testing.run import run
from replog.testing.simulator import Plan


@dataclass(frozen=True, slots=True)
class Regression:
    plan: Plan
    sentence: str


def regressions(text: str) -> list[Regression]:
    """The lines that are no comment."""
    found: list[Regression] = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            profile, seed, storm_seconds, sentence = line.split(maxsplit=3)
            found.append(Regression(Plan(seed=int(seed), profile=profile, storm_seconds=float(storm_seconds)), sentence))
    return found


LINES = regressions((Path(__file__).parent / "regressions.txt").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("regression", LINES, ids=lambda one: f"{one.plan.profile}-{one.plan.seed}")
def test_the_seed_of_a_bug_is_clean(regression: Regression) -> None:
    report = run(regression.plan)

    assert report.broken is None, f"{regression.sentence}\n{report.describe()}"
    assert report.operations > 0


def test_every_line_has_a_profile_that_there_is_and_a_sentence() -> None:
    assert len(LINES) >= 5
    for line in LINES:
        assert line.plan.profile in ALL_PROFILES
        assert line.sentence.endswith(".")
        assert line.sentence[0].isupper()


def test_a_line_that_fails_is_reported_with_its_sentence() -> None:
    """The canary: with a bug planted the same test fails, and says for what the line is there."""
    mutant = next(one for one in ALL if one.name == "vote reply before sync")

    with planted(mutant), pytest.raises(AssertionError, match="A bug came back") as failure:
        test_the_seed_of_a_bug_is_clean(Regression(Plan(seed=1, profile="crash-loop", storm_seconds=2.0), "A bug came back."))

    assert "seed 1, profile crash-loop: BROKEN S8" in str(failure.value)
