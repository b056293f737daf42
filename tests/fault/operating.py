"""What the tests of operations share: the command line as a process, nodes that are added, and conditions to wait for."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.launch import LocalCluster, LocalNode, free_ports
from replog.types import NodeId
from tests.fault.conftest import FAST

CHECKOUT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def begin(*arguments: str) -> asyncio.subprocess.Process:
    """Start ``replog`` with these arguments."""
    environment = {**os.environ, "PYTHONPATH": CHECKOUT, "COLUMNS": "80"}
    environment.pop("REPLOG_ENDPOINTS", None)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "replog.cli.main", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )


async def replog(*arguments: str, code: int | None = 0) -> Ran:
    """Run ``replog`` to its end, which must be `code` (None: any)."""
    process = await begin(*arguments)
    out, err = await process.communicate()
    ran = Ran(process.returncode if process.returncode is not None else -1, out.decode(), err.decode())
    assert code is None or ran.code == code, f"{arguments} ended with {ran.code}: {ran.out}{ran.err}"
    return ran


def endpoints(cluster: LocalCluster) -> str:
    return ",".join(cluster.addresses)


async def report(cluster: LocalCluster) -> Any:
    """`replog status --json`."""
    return (await replog("status", "-e", endpoints(cluster), "--json", code=None)).json


def row(found: Any, node_id: NodeId) -> Any:
    return next(node for node in found["nodes"] if node["node"] == node_id)


def add_node(cluster: LocalCluster, node_id: NodeId, **node: object) -> LocalNode:
    """Configure one more node, which knows nobody and waits to be contacted; it is not started."""
    ports = free_ports(2)
    local = LocalNode(
        node_id=node_id,
        address=f"127.0.0.1:{ports[0]}",
        http_address=f"127.0.0.1:{ports[1]}",
        directory=str(Path(cluster.directory) / node_id),
    )
    Path(local.directory).mkdir(parents=True)
    cluster.nodes[node_id] = local
    cluster.configure(local, FAST, node, {"log_level": "info"})
    return local


def wipe(cluster: LocalCluster, node_id: NodeId) -> None:
    """The data directory is lost; the configuration is still there."""
    shutil.rmtree(cluster.node(node_id).data_dir)


def plant(cluster: LocalCluster, node_id: NodeId, *options: str) -> None:
    """Start this node with something planted (`tests.fault.operated_node`) from now on."""
    cluster.command_prefixes[node_id] = (sys.executable, "-m", "tests.fault.operated_node", *options, "--")


def ready(cluster: LocalCluster, node_id: NodeId) -> tuple[int, str]:
    """Status and text of /readyz."""
    try:
        with urllib.request.urlopen(f"http://{cluster.node(node_id).http_address}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def log_of(cluster: LocalCluster, node_id: NodeId) -> str:
    return Path(cluster.node(node_id).log_path).read_text(encoding="utf-8", errors="replace")


def memory_bytes(cluster: LocalCluster, node_id: NodeId) -> int:
    """Resident memory of the node's process."""
    for line in Path(f"/proc/{cluster.process(node_id).pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def until_status(cluster: LocalCluster, holds: Callable[[dict[str, Any]], bool], seconds: float = 30.0) -> dict[NodeId, Any]:
    """Wait until `holds` of the statuses of all nodes that are known (None: no answer); returns them."""
    async with asyncio.timeout(seconds):
        while True:
            found = await cluster.statuses()
            if holds(found):
                return found
            await asyncio.sleep(0.02)


async def recorded(cluster: LocalCluster) -> None:
    """Until every member's data directory stands in the membership that every node has."""
    await until_status(
        cluster,
        lambda found: all(
            status and all(one["incarnation"] for one in status["membership"]["members"].values()) for status in found.values()
        ),
    )


def voters_are(*expected: NodeId) -> Callable[[dict[str, Any]], bool]:
    """Whether each of these nodes answers and knows these voters, and no joint membership."""

    def holds(found: dict[str, Any]) -> bool:
        return all(
            (status := found[node]) is not None
            and tuple(status["membership"]["voters"]) == tuple(sorted(expected))
            and not status["membership"]["voters_outgoing"]
            for node in expected
        )

    return holds
