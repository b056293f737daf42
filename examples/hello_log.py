"""The smallest use: one durable node in this process, an ordered log, and what it says after a restart.

python examples/hello_log.py [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from typing import BinaryIO

from replog import BytesSnapshot, ClusterConfig, Entry, Node, NodeConfig, StateMachine


class Journal(StateMachine):
    """Keeps every line; the result of a line is its number."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def apply(self, entry: Entry) -> bytes:
        self.lines.append(entry.payload.decode())
        return b"line %d" % len(self.lines)

    def snapshot(self) -> BytesSnapshot:
        return BytesSnapshot(json.dumps(self.lines).encode())

    def restore(self, source: BinaryIO) -> None:
        self.lines = json.load(source)


async def main(directory: str) -> None:
    cluster = ClusterConfig(cluster_id="hello", initial_members={"me": "127.0.0.1:7000"})
    config = NodeConfig(node_id="me", data_dir=directory, bind_address="127.0.0.1:0")

    async with Node(cluster, config, Journal()) as node:
        for word in ("one", "two", "three"):
            result = await node.propose(word.encode())  # durable when this returns
            print(f"{word} -> {result.decode()}")

    journal = Journal()
    async with Node(cluster, config, journal) as node:  # the same directory: everything is there again
        await node.read_barrier()
        print("after a restart:", ", ".join(journal.lines))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else temporary))
