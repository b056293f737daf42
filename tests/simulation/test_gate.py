"""Whole clusters in virtual time: 300 seeds over the profiles with every change, more on demand (``REPLOG_SIM_SEEDS``, the number of seeds a profile)."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from replog.testing.coverage import Coverage
from replog.testing.faults import ALL_PROFILES
from replog.testing.run import run
from replog.testing.simulator import Plan

SEEDS = int(os.environ.get("REPLOG_SIM_SEEDS", "22"))
STORM_SECONDS = float(os.environ.get("REPLOG_SIM_STORM_SECONDS", "4"))
FIRST_SEED = int(os.environ.get("REPLOG_SIM_FIRST_SEED", "1000"))
MET: dict[str, tuple[str, ...]] = {
    "swarm": ("elections", "crashes", "partitions", "messages dropped"),
    "calm": ("elections", "entries committed"),
    "network": ("elections", "partitions", "messages dropped", "messages reordered", "messages duplicated", "messages replayed"),
    "crash": ("crashes", "blackouts", "pauses"),
    "quick-restarts": ("crashes", "crashes inside a write", "torn or lost on power cut"),
    "crash-loop": ("crashes", "crashes inside a write", "torn or lost on power cut", "elections"),
    "disk": ("crashes", "slow disks", "storage failures"),
    "membership": ("membership changes", "transfers", "snapshots written"),
    "snapshots": ("snapshots written", "snapshots installed", "partitions"),
    "stale-messages": ("messages replayed", "messages reordered", "transfers", "elections"),
    "lost-tails": ("blackouts", "partitions", "conflicts truncated"),
    "failing-disks": ("syncs failed", "storage failures", "crashes inside a write"),
    "full-disks": ("disks filled", "full disks", "snapshots failed", "snapshots installed"),
    "rotting-disks": ("rot", "starts refused on damage"),
    "changing-members": ("membership changes", "membership changes asked", "nodes wiped and replaced", "snapshots installed"),
    "everything": ("crashes", "partitions", "pauses", "messages replayed", "full disks", "syncs failed", "membership changes asked", "rot"),
    "interrupted-installs": ("snapshots installed", "crashes inside a write"),
}
"""What a profile's seeds must have met: a run that met nothing is no evidence."""


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * SEEDS)
@pytest.mark.parametrize("profile", ALL_PROFILES)
def test_all_properties_hold_under_the_weather_of(profile: str) -> None:
    events = operations = 0
    coverage = Coverage()
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        report = run(Plan(seed=seed, profile=profile, storm_seconds=STORM_SECONDS, check_core=seed % 4 == 0))

        assert report.broken is None, report.describe()
        events += report.events
        operations += report.operations
        coverage.merge(report.coverage)
    assert events > 100 * SEEDS, "a run in which nothing happens is no evidence"
    assert operations > 0
    assert all(coverage.counts[name] for name in MET[profile]), f"never met: {[name for name in MET[profile] if not coverage.counts[name]]}"


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
