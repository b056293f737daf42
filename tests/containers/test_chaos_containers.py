"""The compose file under fire: containers are frozen, killed and taken off the network while clients read and write; then everything is judged as in `cluster chaos`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

from cluster.chaos_clients import Workload
from cluster.chaos_judge import Historian, State, judge_states, read_state
from replog.client.client import ReplogClient
from replog.types import NodeId
from tests.containers import images
from tests.containers.compose import NODES, Compose

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(900)]

FAULT_SECONDS = 3.0
SERVED_SECONDS_MAX = 60.0
"""From a healing to the next answers; the machine may be busy with the containers' health checks."""


class Containers:
    """The containers of a project by the names of their nodes, and what can be done to them."""

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self._names = {node: compose("ps", "--quiet", node).strip() for node in NODES}

    def docker(self, command: str, *nodes: NodeId) -> None:
        images.run("docker", command, *(self._names[node] for node in nodes))

    def _network(self, node: NodeId) -> str:
        described = images.run("docker", "inspect", "--format", "{{.HostConfig.NetworkMode}}", self._names[node])
        return described.strip()

    def disconnect(self, node: NodeId) -> None:
        images.run("docker", "network", "disconnect", self._network(node), self._names[node])

    def connect(self, node: NodeId) -> None:
        """With the name under which the others look for it."""
        attached = json.loads(images.run("docker", "inspect", "--format", "{{json .NetworkSettings.Networks}}", self._names[node]))
        if self._network(node) not in attached:
            images.run("docker", "network", "connect", "--alias", node, self._network(node), self._names[node])

    async def leader(self) -> NodeId:
        """Who leads, by the word of whichever node answers."""
        async with asyncio.timeout(SERVED_SECONDS_MAX):
            while True:
                said = json.loads(await asyncio.to_thread(self._status))
                leading = [(status["term"], status["node_id"]) for status in said if status.get("role") == "leader"]
                if leading:
                    leader: NodeId = max(leading)[1]
                    return leader
                await asyncio.sleep(0.2)

    def _status(self) -> str:
        endpoints = ",".join(f"{node}:7000" for node in NODES)
        return self._compose.cluster("node1", "status", "--json", "--endpoints", endpoints)


async def until_equal(addresses: dict[NodeId, str]) -> dict[NodeId, State]:
    """What the nodes hold, once all have applied all that is committed."""
    async with ReplogClient(list(addresses.values()), cluster_id="compose") as client, asyncio.timeout(SERVED_SECONDS_MAX):
        await client.read_barrier(timeout=SERVED_SECONDS_MAX)
        while True:
            states = {
                node: await read_state(ReplogClient([address], cluster_id="compose", follow_leader=False))
                for node, address in addresses.items()
            }
            if len({state.applied_index for state in states.values()}) == 1:
                return states
            await asyncio.sleep(0.1)


async def test_frozen_killed_and_disconnected_containers_lose_nothing_that_was_acknowledged(compose: Compose, tmp_path: Path) -> None:
    containers = Containers(compose)
    addresses = {node: f"127.0.0.1:{port}" for node, port in compose.ports.items()}
    historian = Historian()
    workload = Workload(
        lambda: list(addresses.values()), "compose", clients=3, rate=30, chance=Random(1), directory=tmp_path, on_chapter=historian.take
    )
    historian.start()
    workload.start()
    await workload.wait_answered(100, SERVED_SECONDS_MAX)

    async def hit(fault: str, heal: str, *nodes: NodeId) -> None:
        await asyncio.to_thread(containers.docker, fault, *nodes)
        await asyncio.sleep(FAULT_SECONDS)
        await asyncio.to_thread(containers.docker, heal, *nodes)
        await workload.wait_answered(50, SERVED_SECONDS_MAX)

    await hit("pause", "unpause", await containers.leader())
    await hit("kill", "start", await containers.leader())
    await hit("kill", "start", *NODES)
    leader = await containers.leader()
    await asyncio.to_thread(containers.disconnect, leader)
    try:
        await workload.wait_answered(50, SERVED_SECONDS_MAX)
    finally:
        await asyncio.to_thread(containers.connect, leader)
    await asyncio.to_thread(compose.wait_healthy, *NODES)
    await workload.wait_answered(50, SERVED_SECONDS_MAX)
    await workload.stop()

    states = await until_equal(addresses)
    await historian.finish()
    assert judge_states(states, workload) == []
    assert historian.failures == []
    assert historian.operations > 200
    assert not workload.surprises
    assert len(workload.record.acknowledged) > 20
