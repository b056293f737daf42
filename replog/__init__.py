"""replog: a replicated log for Python.

An application writes a deterministic state machine; replog keeps it identical and durable on several machines (Raft), as long as a majority of
them is there::

    class Counter(replog.StateMachine):
        def __init__(self) -> None:
            self.value = 0

        def apply(self, entry: replog.Entry) -> bytes:
            self.value += int(entry.payload)
            return str(self.value).encode()

        def snapshot(self) -> replog.SnapshotWriter:
            return replog.BytesSnapshot(str(self.value).encode())

        def restore(self, source: BinaryIO) -> None:
            self.value = int(source.read())

    cluster = replog.ClusterConfig(initial_members={"n1": "127.0.0.1:7001"})
    config = replog.NodeConfig(node_id="n1", data_dir="data/n1", bind_address="127.0.0.1:7001")
    async with replog.Node(cluster, config, Counter()) as node:
        await node.propose(b"3")        # returns b"3", once a majority holds it on its synced disks
        await node.read_barrier()       # from here on, node.state_machine.value is as new as any acknowledged write

Three layers can each be used alone: `replog.wal`, a write-ahead log; `replog.raft`, the protocol without I/O; and `replog.Node`, which joins them
over gRPC. `replog.testing` puts a state machine of yours through simulated crashes.
"""

from __future__ import annotations

from replog.client import ReplogClient
from replog.config import ClusterConfig, NodeConfig
from replog.errors import (
    Busy,
    CommandFailed,
    ConfigError,
    NodeStopped,
    NotLeader,
    OutcomeUnknown,
    ReplogError,
    Unavailable,
)
from replog.node.node import Node
from replog.node.status import NodeStatus
from replog.raft.membership import AddLearner, AddVoter, RemoveNode, UpdateMember
from replog.statemachine import BytesSnapshot, CommandError, SnapshotWriter, StateMachine
from replog.types import Entry, EntryId, EntryKind, Member, Membership, Role, SnapshotMeta

__all__ = [
    "AddLearner",
    "AddVoter",
    "Busy",
    "BytesSnapshot",
    "ClusterConfig",
    "CommandError",
    "CommandFailed",
    "ConfigError",
    "Entry",
    "EntryId",
    "EntryKind",
    "Member",
    "Membership",
    "Node",
    "NodeConfig",
    "NodeStatus",
    "NodeStopped",
    "NotLeader",
    "OutcomeUnknown",
    "RemoveNode",
    "ReplogClient",
    "ReplogError",
    "Role",
    "SnapshotMeta",
    "SnapshotWriter",
    "StateMachine",
    "Unavailable",
    "UpdateMember",
]
