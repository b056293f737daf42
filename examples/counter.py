"""A replicated counter: commands that can fail, many commands in one batch, and a snapshot.

python examples/counter.py
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import BinaryIO

from replog import BytesSnapshot, ClusterConfig, CommandFailed, Entry, Node, NodeConfig, StateMachine


class Counter(StateMachine):
    """``add N`` adds; the result is the new value. It never goes below zero."""

    def __init__(self) -> None:
        self.value = 0

    def apply(self, entry: Entry) -> bytes:
        word, _, amount = entry.payload.decode().partition(" ")
        if word != "add":
            raise ValueError(f"unknown command {word!r}; known is: add N")
        if self.value + int(amount) < 0:
            raise ValueError(f"{self.value} {int(amount):+d} would be negative")  # raise before anything is changed
        self.value += int(amount)
        return str(self.value).encode()

    def snapshot(self) -> BytesSnapshot:
        return BytesSnapshot(str(self.value).encode())

    def restore(self, source: BinaryIO) -> None:
        self.value = int(source.read())


async def main(directory: str) -> None:
    cluster = ClusterConfig(cluster_id="counter", initial_members={"me": "127.0.0.1:7000"})
    config = NodeConfig(node_id="me", data_dir=directory, bind_address="127.0.0.1:0")

    async with Node(cluster, config, Counter()) as node:
        print("add 3 ->", (await node.propose(b"add 3")).decode())
        try:
            await node.propose(b"add -10")
        except CommandFailed as error:  # the same on every node; the log goes on
            print("add -10 ->", error)
        results = await node.propose_many([b"add 1"] * 1000)  # one future for all of them
        print("1000 times add 1 ->", results[-1].decode() if isinstance(results[-1], bytes) else results[-1])
        await node.take_snapshot()

    counter = Counter()
    async with Node(cluster, config, counter) as node:  # from the snapshot, and the log behind it
        await node.read_barrier()
        print("after a restart:", counter.value)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(temporary))
