"""The compose file brought up for real: three containers, killed and restarted, and what was written is still there."""

from __future__ import annotations

import os
import signal
import urllib.request

import pytest

from tests.containers.compose import NODES, Compose, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(900)]


def test_three_healthy_containers_answer_as_one_store(compose: Compose) -> None:
    compose.cluster("node1", "put", "greeting", "hello")

    assert compose.cluster("node3", "get", "greeting") == "hello"
    assert compose.cluster("node2", "get", "greeting", "--consistency", "linearizable") == "hello"


def test_the_nodes_run_as_an_ordinary_user_and_show_metrics_and_readiness(compose: Compose) -> None:
    assert compose("exec", "-T", "node1", "id", "-u").strip() == "10001"

    for port in compose.http_ports.values():
        for path in ("metrics", "livez", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                assert answer.status == 200


def test_a_node_that_dies_is_restarted_by_the_engine_and_has_its_data(compose: Compose) -> None:
    compose.cluster("node1", "put", "before", "the crash")
    before = compose.container("node2")
    process_id = before["Pid"]
    assert isinstance(process_id, int)

    os.kill(process_id, signal.SIGKILL)
    wait_until(lambda: compose.container("node2")["Pid"] not in (0, process_id), lambda: "node2 was not restarted")
    compose.wait_healthy("node2")

    assert compose.cluster("node2", "get", "before", "--consistency", "stale") == "the crash"


def test_all_containers_killed_at_once_come_back_with_everything_that_was_acknowledged(compose: Compose) -> None:
    for number in range(5):
        compose.cluster(NODES[number % 3], "put", f"kept/{number}", str(number))

    compose("kill", "--signal", "SIGKILL")
    compose("start")
    compose.wait_healthy(*NODES)

    for node in NODES:
        lines = compose.cluster(node, "scan", "kept/").splitlines()
        assert [line.split("\t")[0] for line in lines] == [f"kept/{number}" for number in range(5)]


def test_containers_that_are_removed_and_made_again_keep_their_volumes(compose: Compose) -> None:
    compose.cluster("node1", "put", "volume", "kept")

    compose("down")
    compose("up", "--detach", "--no-build")
    compose.wait_healthy(*NODES)

    assert compose.cluster("node3", "get", "volume") == "kept"


def test_a_node_stops_cleanly_when_the_engine_asks(compose: Compose) -> None:
    compose("stop", "node1")

    assert compose.container("node1")["ExitCode"] == 0
    compose("start", "node1")
    compose.wait_healthy("node1")
