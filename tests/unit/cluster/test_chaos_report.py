"""What a chaos run prints: what was put in, what was left out and why, what was seen, and what held or did not."""

import dataclasses

import pytest

from cluster.chaos_report import ChaosReport, print_report

HELD = ChaosReport(
    ok=True,
    failures=(),
    seed=7,
    nodes=3,
    clients=5,
    seconds=60.0,
    kinds=("kill", "stop", "cut", "loss"),
    injected={"kill": 4, "stop": 1},
    skipped={"kill": 2},
    left_out={"cut": "not run as root", "loss": "not run as root"},
    notes={"transfer: Busy": 3},
    kills=4,
    starts=8,
    crashes=0,
    disk_ends={},
    members_joined=0,
    operations={"ok": 5000, "refused": 10, "unknown": 3},
    operations_by_kind={},
    elections=5,
    term_max=6,
    longest_pause_seconds=2.5,
    pauses=((2.5, 10.0),),
    recoveries=4,
    recovery_seconds_max=1.0,
    recovery_seconds_median=0.5,
    histories=6,
    history_keys=24,
    history_operations=4000,
    acknowledged_writes=1000,
    items={"n1": 1010, "n2": 1010, "n3": 1010},
    digest="ab" * 32,
    progress_seconds=0.4,
    quiet_elections=0,
)


def test_a_run_that_held_says_what_was_checked(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(HELD)

    out = capsys.readouterr().out
    assert "What was injected (seed 7, 3 nodes, 5 clients, 60 s)" in out
    assert "started again (2 more found nobody to hit)" in out
    assert "Left out (not run as root): cut, loss" in out
    assert "Noted 3 times, and no fault: transfer: Busy" in out
    held = out[out.index("It held:") :]
    assert "4,000 operations on 24 keys, in 6 histories, are linearizable" in held
    assert "Each of 1,000 acknowledged writes is on every node" in held
    assert "All 3 nodes hold the same at the same applied index (SHA-256 abababababababab...)." in held
    assert "0.40 s after the last healing" in held


def test_a_run_that_did_not_hold_says_why_and_where_everything_lies(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(dataclasses.replace(HELD, ok=False, failures=("n2: [lost] 3 writes",), directory="/tmp/run"))

    out = capsys.readouterr().out
    assert "It held" not in out
    assert "It did not hold:\n  n2: [lost] 3 writes\nLogs, data directories and histories: /tmp/run" in out
