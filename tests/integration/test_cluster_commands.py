"""`up` and the client commands, as a user types them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.launch import LocalCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REPLOG_")}


class Up:
    """``python -m cluster up`` in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cluster", "up", "--dir", str(directory)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "ctrl-C stops them all" in line:
                return
        raise AssertionError("`up` ended before its nodes were ready")

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cluster", *arguments, "--dir", str(self.directory)],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.strip() or done.stderr.strip()

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """(exit code, what it said last)."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def node_pids(self) -> list[int]:
        nodes = LocalCluster.open(str(self.directory)).nodes.values()
        return [json.loads(Path(node.ready_path).read_text())["pid"] for node in nodes]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    started = Up(tmp_path_factory.mktemp("up") / "data")
    try:
        started.wait_ready()
        yield started
        assert started.stop()[0] == 0
    finally:
        started.process.kill()
        started.process.communicate()


def test_put_get_delete_as_a_user_types_them(up: Up) -> None:
    revision = int(up("put", "greeting", "hello").removeprefix("revision "))
    assert up("get", "greeting") == "hello"
    assert json.loads(up("get", "greeting", "--json")) == {"key": "greeting", "value": "hello", "revision": revision}
    assert up("get", "greeting", "--consistency", "stale") == "hello"

    assert up("delete", "greeting") == f"removed revision {revision}"

    assert up("get", "greeting", code=1) == "error: greeting: no such key"
    assert up("delete", "greeting", code=1) == "error: greeting: no such key"


def test_cas_swaps_only_what_is_expected(up: Up) -> None:
    first = int(up("cas", "lock", "me", "--absent").removeprefix("revision "))
    assert up("cas", "lock", "you", "--absent", code=1) == f"error: lock: not swapped, it has revision {first}"
    second = json.loads(up("cas", "lock", "you", "--revision", str(first), "--json"))

    assert second["swapped"]
    assert up("cas", "lock", "me", "--expect", "you").startswith("revision ")
    assert up("get", "lock") == "me"


def test_scan_prints_a_prefix_in_order(up: Up) -> None:
    for key in ("s/2", "s/1", "t"):
        up("put", key, f"value of {key}")

    lines = [line.split("\t") for line in up("scan", "s/").splitlines()]

    assert [(line[0], line[2]) for line in lines] == [("s/1", "value of s/1"), ("s/2", "value of s/2")]
    assert json.loads(up("scan", "s/", "--json", "--limit", "1"))["key"] == "s/1"


def test_a_value_that_is_no_text_comes_through(up: Up) -> None:
    raw = os.fsdecode(b"\xff\xfe")
    up("put", "raw", raw)

    assert json.loads(up("get", "raw", "--json"))["value_base64"] == "//4="


def test_status_shows_every_node_for_people_and_for_programs(up: Up) -> None:
    found = json.loads(up("status", "--json"))

    assert sorted(node["node_id"] for node in found) == ["n1", "n2", "n3"]
    assert sum(node["role"] == "leader" for node in found) == 1
    table = up("status")
    assert all(word in table for word in ("n1", "n2", "n3", "leader", "follower", "commit", "log size"))


def test_every_node_serves_metrics_liveness_and_readiness(up: Up) -> None:
    for node in LocalCluster.open(str(up.directory)).nodes.values():
        for path in ("livez", "readyz"):
            with urllib.request.urlopen(f"http://{node.http_address}/{path}", timeout=5) as answer:
                assert answer.status == 200
        with urllib.request.urlopen(f"http://{node.http_address}/metrics", timeout=5) as answer:
            assert b"replog_" in answer.read()


def test_ctrl_c_stops_all_nodes_cleanly_and_the_next_up_has_what_was_written(tmp_path: Path) -> None:
    first = Up(tmp_path / "data")
    first.wait_ready()
    first("put", "kept", "yes")
    pids = first.node_pids()

    code, said = first.stop()

    assert code == 0
    assert "all nodes stopped" in said
    assert not any(map(is_alive, pids))
    again = Up(tmp_path / "data")
    again.wait_ready()
    assert again("get", "kept") == "yes"
    assert again.stop(signal.SIGTERM)[0] == 0


def test_no_node_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    started = Up(tmp_path / "data")
    started.wait_ready()
    pids = started.node_pids()

    started.stop(signal.SIGKILL)

    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "nodes are still there"
        time.sleep(0.05)


def test_another_number_of_nodes_than_the_directory_has_is_refused(up: Up) -> None:
    said = up("up", "--nodes", "5", code=2)

    assert said.startswith("error: --nodes: found 5, allowed: 3, as in ")


@pytest.mark.parametrize("via", ["embedded", "client"])
@pytest.mark.parametrize("extra", [("--app", "kv"), ("--app", "counter", "--batch", "10"), ("--op", "read")])
def test_bench_prints_lines_with_the_keys_of_the_comparison(via: str, extra: tuple[str, ...]) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cluster",
            "bench",
            "--via",
            via,
            "--in-flight",
            "8",
            "--in-flight",
            "16",
            "--seconds",
            "0.3",
            "--json",
            *extra,
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["in_flight"] for row in rows] == [8, 16]
    for row in rows:
        assert {"system", "durable", "in_flight", "payload_bytes", "ops_per_second", "p50_ms", "p99_ms"} <= set(row)
        assert row["durable"] is True
        assert row["ops_per_second"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_bench_measures_how_cost_grows_and_prints_tables() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "bench", "--scale", "startup", "--scale", "memory", "--entries", "2000"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"\n\| 2,000 \| \d+ \| \d+\.\d\d \| \d+\.\d\d \|", done.stdout)
    assert re.search(r"\n\| at rest \| \d\d+ \| \d\d+ \|", done.stdout)


def test_bench_kills_leaders_and_measures_the_gap() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "bench", "--scale", "failover", "--times", "1"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"\n\| 1 \| \d+\.\d\d \| \d+\.\d\d \| \d+\.\d\d \| 1 - 2 \|", done.stdout)
