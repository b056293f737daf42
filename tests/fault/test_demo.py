"""The demo holds on a healthy cluster, and notices every fault that is planted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]


def run_demo(fault: str = "") -> tuple[int, dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REPLOG_")}
    if fault:
        environment["REPLOG_TEST_FAULT"] = fault
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "demo", "--json"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(lines[0])
    return done.returncode, report


def test_the_demo_holds_within_a_minute() -> None:
    code, report = run_demo()

    assert (code, report["ok"], report["failures"]) == (0, True, [])
    assert report["lost"] == 0
    assert report["acknowledged"] > 1000
    assert set(report["read_back"].values()) != {0}
    assert report["old_leader"] != report["new_leader"]
    assert 0 < report["failover_seconds"] < 10
    assert report["seconds"] < 60


@pytest.mark.parametrize("fault", ["ack-before-sync", "drop-entry", "drop-entry@n2"])
def test_the_demo_notices_a_planted_fault(fault: str) -> None:
    code, report = run_demo(fault)

    assert code == 1
    assert not report["ok"]
    assert report["failures"]


def test_an_unknown_fault_is_refused_by_name() -> None:
    code, report = run_demo("lose-everything")

    assert code == 1
    assert "REPLOG_TEST_FAULT: found 'lose-everything', allowed: one of ack-before-sync, drop-entry" in report["failures"][0]
