"""Whole clusters in virtual time: a few seeds of each profile with every change, more on demand (``REPLOG_SIM_SEEDS``, the number of seeds a profile)."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from replog.testing.faults import PROFILES
from replog.testing.run import run
from replog.testing.simulator import Plan

SEEDS = int(os.environ.get("REPLOG_SIM_SEEDS", "5"))
FIRST_SEED = int(os.environ.get("REPLOG_SIM_FIRST_SEED", "1000"))


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * SEEDS)
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_all_properties_hold_under_the_weather_of(profile: str) -> None:
    events = operations = 0
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        report = run(Plan(seed=seed, profile=profile, storm_seconds=4.0))

        assert report.broken is None, report.describe()
        events += report.events
        operations += report.operations
    assert events > 100 * SEEDS, "a run in which nothing happens is no evidence"
    assert operations > 0


@pytest.mark.slow
def test_a_seed_is_the_same_run_under_any_hash_seed() -> None:
    digests: set[str] = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "replog.testing", "run", "--seed", "11", "--storm-seconds", "3"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        digests.update(re.findall(r"digest ([0-9a-f]{8})", done.stdout))

    assert len(digests) == 1
