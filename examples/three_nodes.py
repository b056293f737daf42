"""Three nodes on this machine, one of them stopped while a client goes on: the cluster does not mind.

python examples/three_nodes.py
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from typing import BinaryIO

from replog import BytesSnapshot, ClusterConfig, Entry, Node, NodeConfig, ReplogClient, StateMachine


class Register(StateMachine):
    """Holds the last value; the result of a command is the value before it."""

    def __init__(self) -> None:
        self.value = ""

    def apply(self, entry: Entry) -> bytes:
        before, self.value = self.value, entry.payload.decode()
        return before.encode()

    def query(self, request: bytes) -> bytes:  # noqa: ARG002 - there is one question
        return self.value.encode()

    def snapshot(self) -> BytesSnapshot:
        return BytesSnapshot(json.dumps(self.value).encode())

    def restore(self, source: BinaryIO) -> None:
        self.value = json.load(source)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def main(directory: str) -> None:
    addresses = {name: free_address() for name in ("a", "b", "c")}
    cluster = ClusterConfig(cluster_id="three", initial_members=addresses)
    nodes = {
        name: Node(cluster, NodeConfig(node_id=name, data_dir=f"{directory}/{name}", bind_address=address), Register())
        for name, address in addresses.items()
    }
    await asyncio.gather(*(node.start() for node in nodes.values()))

    async with ReplogClient(list(addresses.values()), cluster_id="three") as client:
        await client.propose(b"first")
        leader = next(name for name, node in nodes.items() if node.is_leader)
        print(f"written while {leader} led")

        await nodes.pop(leader).stop()  # hands leadership over before it goes
        before = await client.propose(b"second")
        print(f"written without {leader}, over {before.decode()!r}")
        print(f"read: {(await client.query(b'')).decode()!r}")

    await asyncio.gather(*(node.stop() for node in nodes.values()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(temporary))
