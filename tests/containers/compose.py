"""The project's own compose file, brought up for real, with ports of its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from cluster.launch import free_ports
from tests.containers import images

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
