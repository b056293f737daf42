"""The chaos run holds on a healthy cluster, notices every fault that is planted, and leaves nothing behind however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import chaos_network

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


def start_chaos(*arguments: str, fault: str = "", temporary: Path | None = None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REPLOG_")}
    if fault:
        environment["REPLOG_TEST_FAULT"] = fault
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", "chaos", "--json", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_chaos(*arguments: str, fault: str = "", temporary: Path | None = None) -> tuple[int, dict[str, Any], str]:
    """(exit code, report, what was said on the way)."""
    with start_chaos(*arguments, fault=fault, temporary=temporary) as process:
        out, said = process.communicate(timeout=280)
    lines = out.splitlines()
    assert len(lines) == 1, out + said
    report: dict[str, Any] = json.loads(lines[0])
    return process.returncode, report, said


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def namespaces() -> list[str]:
    found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in found.splitlines() if line.startswith(chaos_network.PREFIX)]


def node_processes(directory: Path) -> list[int]:
    """Processes of nodes whose configuration lies under `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"--config\0{directory}/".encode() in command:
                found.append(int(entry.name))
    return found


def wait_until_nodes_run(temporary: Path) -> None:
    wait_until(lambda: any(len(node_processes(run)) == 3 for run in temporary.glob("replog-chaos-*")))


def test_a_short_run_of_all_faults_holds(tmp_path: Path) -> None:
    code, report, said = run_chaos("--minutes", "0.4", "--seed", "7", "--report", str(tmp_path / "report.json"), temporary=tmp_path)

    assert (code, report["ok"], report["failures"]) == (0, True, []), said
    assert sum(report["injected"].values()) >= 3
    assert report["operations"]["ok"] > 100
    assert report["histories"] >= 1
    assert report["acknowledged_writes"] > 20
    assert set(report["items"].values()) != {0}
    assert report["digest"]
    assert report["progress_seconds"] < 30
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"], "a run that held leaves no directory"
    if not chaos_network.missing():
        assert report["left_out"] == {}


def test_killing_all_nodes_shows_a_disk_that_lies_about_its_syncs(tmp_path: Path) -> None:
    code, report, said = run_chaos("--minutes", "0.3", "--seed", "4", "--faults", "kill-all", fault="ack-before-sync", temporary=tmp_path)

    assert code == 1, said
    assert not report["ok"]
    assert any("are lost" in failure or "ended" in failure for failure in report["failures"]), report["failures"]
    assert Path(report["directory"]).is_dir(), "a run that failed keeps its directory"


def test_a_state_machine_that_drops_entries_on_one_node_is_found_and_drawn(tmp_path: Path) -> None:
    code, report, said = run_chaos("--minutes", "0.15", "--seed", "4", "--faults", "freeze", fault="drop-entry@n2", temporary=tmp_path)

    assert code == 1, said
    assert any("n2" in failure and "differs from" in failure for failure in report["failures"]), report["failures"]
    kept = list((Path(report["directory"]) / "histories").glob("*.jsonl"))
    assert all(path.with_suffix(".html").exists() for path in kept)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_every_node_and_removes_its_namespaces(number: signal.Signals, tmp_path: Path) -> None:
    before = namespaces() if not chaos_network.missing() else []
    with start_chaos("--minutes", "5", "--seed", "1", temporary=tmp_path) as process:
        wait_until_nodes_run(tmp_path)

        process.send_signal(number)
        _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert "interrupted" in said
    assert not list(tmp_path.iterdir())
    if not chaos_network.missing():
        assert set(namespaces()) <= set(before)


@pytest.mark.skipif(bool(chaos_network.missing()), reason=f"no namespaces here: {chaos_network.missing()}")
def test_what_a_killed_run_leaves_behind_is_removed_by_the_next_and_a_living_run_is_left_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with (
        start_chaos("--minutes", "5", "--seed", "1", temporary=first) as killed,
        start_chaos("--minutes", "5", "--seed", "1", temporary=second) as living,
    ):
        for path in (first, second):
            wait_until_nodes_run(path)
        (frozen, *_) = node_processes(next(first.glob("replog-chaos-*")))
        os.kill(frozen, signal.SIGSTOP)
        killed.kill()
        killed.communicate()
        mine = [name for name in namespaces() if name.startswith(f"{chaos_network.PREFIX}{killed.pid}-")]
        theirs = [name for name in namespaces() if name.startswith(f"{chaos_network.PREFIX}{living.pid}-")]
        assert mine

        removed = chaos_network.remove_leftovers()

        assert set(mine) <= set(removed)
        assert set(theirs) <= set(namespaces())
        assert living.poll() is None
        wait_until(lambda: not node_processes(next(first.glob("replog-chaos-*"))))
        living.send_signal(signal.SIGINT)
        living.communicate(timeout=60)
    assert living.returncode == 130


@pytest.mark.hunt
@pytest.mark.timeout(7200)
def test_a_long_run_of_all_faults_holds(tmp_path: Path) -> None:
    seconds = float(os.environ.get("REPLOG_HUNT_SECONDS", "90"))
    seed = str(time.time_ns() % 1_000_000)

    with start_chaos("--minutes", str(seconds / 60), "--seed", seed, temporary=tmp_path) as process:
        out, said = process.communicate(timeout=seconds + 600)

    report = json.loads(out)
    assert (process.returncode, report["failures"]) == (0, []), said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--faults", "flood"), "error: --faults: found 'flood', allowed: one or more of kill,"),
        (("--dir", "."), "error: --dir: found '.', allowed: a new or empty directory"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    with start_chaos(*arguments) as process:
        out, said = process.communicate(timeout=60)

    assert (process.returncode, out) == (2, "")
    assert said.startswith(words)
    assert len(said.splitlines()) == 1
