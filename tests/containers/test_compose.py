"""The compose file brought up for real: three containers, killed and restarted, and what was written is still there."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.launch import free_ports
from tests.containers import images

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(900)]

NODES = ("node1", "node2", "node3")


class Compose:
    """One project of the compose file, with ports of its own."""

    def __init__(self, directory: Path, base_image: str) -> None:
        self._directory = directory
        self._command = [*images.compose_command(), "--project-name", f"replogtest{os.getpid()}"]
        ports = free_ports(6)
        self.ports = dict(zip(NODES, ports[:3], strict=True))
        self.http_ports = dict(zip(NODES, ports[3:], strict=True))
        settings = {f"REPLOG_PORT_{number + 1}": str(ports[number]) for number in range(3)}
        settings |= {f"REPLOG_HTTP_PORT_{number + 1}": str(ports[3 + number]) for number in range(3)}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REPLOG_")}
        self._environment = {**inherited, **settings, "REPLOG_BASE_IMAGE": base_image, "DOCKER_BUILDKIT": "0"}

    def __call__(self, *arguments: str, seconds: float = 120) -> str:
        return images.run(*self._command, *arguments, seconds=seconds, directory=self._directory, environment=self._environment)

    def cluster(self, service: str, *arguments: str) -> str:
        """Output of ``python3 -m cluster ...`` in the container of `service`."""
        return self("exec", "-T", service, "python3", "-m", "cluster", *arguments).strip()

    def container(self, service: str) -> dict[str, object]:
        name = self("ps", "--quiet", "--all", service).strip() if "compose" in self._command else self("ps", "--quiet", service).strip()
        found: dict[str, object] = json.loads(images.run("docker", "inspect", "--format", "{{json .State}}", name))
        return found

    def is_healthy(self, service: str) -> bool:
        health = self.container(service).get("Health")
        return isinstance(health, dict) and health["Status"] == "healthy"

    def wait_healthy(self, *services: str) -> None:
        wait_until(lambda: all(self.is_healthy(service) for service in services), lambda: self("logs", "--tail", "20"))


def wait_until(condition: Callable[[], bool], explain: Callable[[], str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    missing = images.engine_missing()
    if missing:
        pytest.skip(missing)
    workdir = tmp_path_factory.mktemp("containers")
    try:
        base = images.base_image(workdir)
    except images.NoImage as reason:
        pytest.skip(str(reason))
    context = workdir / "context"
    context.mkdir()
    images.build_context(context)
    project = Compose(context, base)
    project("build", seconds=600)
    try:
        project("up", "--detach", "--no-build")
        project.wait_healthy(*NODES)
        yield project
    finally:
        project("down", "--volumes", "--remove-orphans")


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
