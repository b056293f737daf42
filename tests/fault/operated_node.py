"""A node of the cluster with something planted, for tests of what operators see: ``python -m tests.fault.operated_node OPTIONS -- ... --config FILE``.

``--state-bytes N``    The state machine's snapshot has N bytes, made while they are written and checked while they are read: never held.
``--stall-while FILE`` The disk stands still while FILE exists: a write waits.
``--deaf-to NODE``     Neither direction of the connection to NODE comes about, as if a switch had failed between the two.

It takes the place of the launcher's own command (`LocalCluster.command_prefixes`), of which only the configuration counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import struct
import sys
import time
from typing import BinaryIO

from cluster import node as node_process
from cluster.config import Configuration, load
from cluster.kv import KeyValueStore
from replog.config import ClusterConfig, NodeConfig
from replog.errors import SnapshotDamaged
from replog.node.incarnations import Incarnations
from replog.node.node import Node
from replog.statemachine import StateMachine
from replog.storage.disk import DiskStorage
from replog.storage.interface import Storage, Write
from replog.types import Entry, NodeId, SnapshotWriter

BLOCK_BYTES = 1024 * 1024
_HEADER = struct.Struct("<QQ")


def block(number: int, seed: int) -> bytes:
    """The block that stands there; cheap to make, different each."""
    digest = hashlib.sha256(b"%d %d" % (number, seed)).digest()
    return digest * (BLOCK_BYTES // len(digest))


class LargeSnapshot:
    """Frozen: how many commands were applied."""

    def __init__(self, applied: int, blocks: int) -> None:
        self._applied, self._blocks = applied, blocks

    def write(self, sink: BinaryIO) -> None:
        sink.write(_HEADER.pack(self._applied, self._blocks))
        sink.writelines(block(number, self._applied) for number in range(self._blocks))


class LargeState(StateMachine):
    """Counts commands, and has a large snapshot. A query is answered by ``commands applied, blocks restored``."""

    def __init__(self, state_bytes: int) -> None:
        self._blocks = state_bytes // BLOCK_BYTES
        self._applied = 0
        self._restored_blocks = 0

    def apply(self, entry: Entry) -> bytes:
        self._applied += 1
        return b"%d" % entry.index

    def snapshot(self) -> SnapshotWriter:
        return LargeSnapshot(self._applied, self._blocks)

    def restore(self, source: BinaryIO) -> None:
        self._applied, blocks = _HEADER.unpack(source.read(_HEADER.size))
        for number in range(blocks):
            if source.read(BLOCK_BYTES) != block(number, self._applied):
                raise SnapshotDamaged(f"block {number} of {blocks} is another one")
        if source.read(1):
            raise SnapshotDamaged(f"bytes behind the {blocks} blocks")
        self._restored_blocks = blocks

    def query(self, request: bytes) -> bytes:
        return b"%d %d" % (self._applied, self._restored_blocks)


class StallingStorage:
    """Passes everything on; `persist` waits while the file is there."""

    def __init__(self, inner: Storage, path: str) -> None:
        self.inner, self._path = inner, path

    def persist(self, write: Write) -> None:
        while os.path.exists(self._path):
            time.sleep(0.01)
        self.inner.persist(write)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def be_deaf_to(nodes: frozenset[NodeId]) -> None:
    """From now on no handshake with these nodes succeeds in this process."""
    hears = Incarnations.expected

    def expected(self: Incarnations, node: NodeId) -> int | None:
        return None if node in nodes else hears(self, node)

    Incarnations.expected = expected  # type: ignore[method-assign]  # planted on purpose, in a process of its own


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-bytes", type=int, default=0)
    parser.add_argument("--stall-while", default="")
    parser.add_argument("--deaf-to", action="append", default=[])
    separator = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:separator])
    command = sys.argv[separator + 1 :]
    configuration = load(command[command.index("--config") + 1], os.environ)
    be_deaf_to(frozenset(options.deaf_to))

    def open_storage(cluster: ClusterConfig, config: NodeConfig) -> Storage:
        storage = DiskStorage.open_for(cluster, config)
        return StallingStorage(storage, options.stall_while) if options.stall_while else storage  # type: ignore[return-value]  # __getattr__

    def assemble(configuration: Configuration) -> Node:
        machine = LargeState(options.state_bytes) if options.state_bytes else KeyValueStore()
        return Node(configuration.cluster, configuration.node, machine, open_storage=open_storage)

    node_process._assemble = assemble
    return node_process.run(configuration)


if __name__ == "__main__":
    sys.exit(main())
