"""Real nodes on one loop: real sockets on loopback, disks in memory (or real ones), short ticks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from replog.config import ClusterConfig, NodeConfig
from replog.node.node import Node
from replog.statemachine import StateMachine
from replog.storage.interface import Storage
from replog.storage.memory import MemoryDisk, MemoryStorage
from tests.unit.node.harness import Register


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for taken in sockets:
            taken.bind(("127.0.0.1", 0))
        return [int(taken.getsockname()[1]) for taken in sockets]
    finally:
        for taken in sockets:
            taken.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for `condition`, looking at it each hundredth of a second."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class NodeCluster:
    """Nodes n1, n2, ... of one cluster; `disks` outlive the nodes."""

    def __init__(self, size: int, *, make_machine: Callable[[], StateMachine] = Register, **settings: Any) -> None:
        self.ports = free_ports(size)
        self.names = [f"n{number}" for number in range(1, size + 1)]
        self.cluster = ClusterConfig(
            initial_members={name: f"127.0.0.1:{port}" for name, port in zip(self.names, self.ports, strict=True)},
            tick_ms=10,
            heartbeat_ticks=3,
            election_timeout_ticks_min=25,
            election_timeout_ticks_max=50,
        )
        self.settings = settings
        self.make_machine = make_machine
        self.disks = {name: MemoryDisk() for name in self.names}
        self.nodes: dict[str, Node] = {}
        self.wrap: Callable[[str, Storage], Storage] = lambda _, storage: storage

    def config(self, name: str) -> NodeConfig:
        port = self.ports[self.names.index(name)]
        return NodeConfig(node_id=name, data_dir=f"memory/{name}", bind_address=f"127.0.0.1:{port}", **self.settings)

    async def start(self, name: str) -> Node:
        def open_storage(cluster: ClusterConfig, config: NodeConfig) -> Storage:
            return self.wrap(name, MemoryStorage.open(self.disks[name], cluster, config))

        node = Node(self.cluster, self.config(name), self.make_machine(), open_storage=open_storage)
        await node.start()
        self.nodes[name] = node
        return node

    async def leader(self, *, other_than: str | None = None) -> Node:
        """The node that leads, once all running nodes follow it."""
        found: list[Node] = []

        def agreed() -> bool:
            found[:] = [node for name, node in self.nodes.items() if node.is_leader and name != other_than]
            return len(found) == 1

        await until(agreed)
        return found[0]

    def followers(self) -> list[Node]:
        return [node for node in self.nodes.values() if not node.is_leader]

    async def stop(self) -> None:
        stops: list[Awaitable[None]] = [node.stop() for node in self.nodes.values()]
        await asyncio.gather(*stops)


@asynccontextmanager
async def nodes(size: int = 3, **settings: Any) -> AsyncIterator[NodeCluster]:
    """A running cluster with a leader."""
    cluster = NodeCluster(size, **settings)
    try:
        for name in cluster.names:
            await cluster.start(name)
        await cluster.leader()
        yield cluster
    finally:
        await cluster.stop()
