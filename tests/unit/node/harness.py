"""Three replicas in one thread: messages are delivered when the test says so, the disk is in memory, time is a tick that the test gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import BinaryIO

from replog.config import ClusterConfig, NodeConfig
from replog.node.effects import Answer, Effect, Fail, Inputs, Persist, Reply, ReplyGroup, RestoreState, Send, TakeSnapshot
from replog.node.replica import Replica, ReplicaConfig
from replog.raft.messages import Message
from replog.statemachine import BytesSnapshot, StateMachine
from replog.storage.frames import EntryFrameCodec
from replog.storage.memory import MemoryDisk, MemoryStorage
from replog.types import Entry, SnapshotWriter


class Register(StateMachine):
    """Keeps every command it applied; ``fail`` raises. The query ``last`` is answered by the last one."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, entry: Entry) -> bytes:
        if entry.payload == b"fail":
            raise ValueError("told to fail")
        self.commands.append(entry.payload)
        return b"%d:" % entry.index + entry.payload

    def query(self, request: bytes) -> bytes:
        if request != b"last":
            raise ValueError("it knows only its last command")
        return self.commands[-1]

    def snapshot(self) -> SnapshotWriter:
        return BytesSnapshot(b"\n".join(self.commands))

    def restore(self, source: BinaryIO) -> None:
        body = source.read()
        self.commands = body.split(b"\n") if body else []


class LocalNode:
    def __init__(self, name: str, cluster: ClusterConfig, config: NodeConfig, timeout: int, machine: type[Register]) -> None:
        self.name, self.cluster, self.config, self.timeout = name, cluster, config, timeout
        self.machine_type = machine
        self.disk = MemoryDisk()
        self.answers: dict[object, object] = {}
        self.failures: dict[object, Exception] = {}
        self.effects: list[Effect] = []
        self.now_ticks = 0
        self.snapshot_error: Exception | None = None
        """What writing a snapshot fails with."""
        self.start()

    def start(self) -> None:
        """Begin a life; the former one was killed, not closed."""
        self.disk.is_open = False
        self.storage = MemoryStorage.open(self.disk, self.cluster, self.config)
        self.machine = self.machine_type()
        snapshot = self.storage.recovered.snapshot
        if snapshot is not None:
            self.machine.restore(self.storage.open_snapshot(snapshot))
        self.replica = Replica(
            ReplicaConfig(cluster=self.cluster, node=self.config),
            storage=self.storage,
            state_machine=self.machine,
            frame_codec=EntryFrameCodec.of(self.cluster),
            draw_timeout=lambda: self.timeout,
        )
        self.inputs = Inputs()

    def turn(self) -> list[Message]:
        """One turn (and those that are due at once); returns what it sent, in order."""
        sent: list[Message] = []
        while True:
            inputs, self.inputs = self.inputs, Inputs()
            inputs.now_ticks = self.now_ticks
            for effect in self.replica.turn(inputs):
                self.effects.append(effect)
                match effect:
                    case Send(messages):
                        sent += messages
                    case Persist(write):
                        self.storage.persist(write)
                    case RestoreState(meta):
                        self.machine.restore(self.storage.open_snapshot(meta))
                    case TakeSnapshot(meta, writer):
                        if self.snapshot_error is not None:
                            self.inputs.snapshots_done.append((meta, self.snapshot_error))
                        else:
                            self.inputs.snapshots_done.append((self.storage.write_snapshot(meta, writer), None))
                    case Reply(tickets, results):
                        self.answers.update(zip(tickets, results, strict=True))
                    case ReplyGroup(ticket, group):
                        self.answers[ticket] = group
                    case Answer(tickets, value):
                        self.answers.update(dict.fromkeys(tickets, value))
                    case Fail(tickets, error):
                        self.failures.update(dict.fromkeys(tickets, error))
                    case _:
                        pass
            self.replica.core.check()
            if not self.replica.has_work and not self.inputs:
                return sent


class LocalCluster:
    """`n1` has the shortest election timeout, so it campaigns first."""

    def __init__(self, size: int = 3, *, digest_entries: int = 0, machine: type[Register] = Register, **settings: int) -> None:
        names = [f"n{number}" for number in range(1, size + 1)]
        self.cluster = ClusterConfig(
            initial_members={name: f"127.0.0.1:{7000 + number}" for number, name in enumerate(names)},
            heartbeat_ticks=1,
            election_timeout_ticks_min=10,
            election_timeout_ticks_max=20,
            state_digest_entries=digest_entries,
        )
        self.nodes: dict[str, LocalNode] = {}
        for position, name in enumerate(names):
            config = NodeConfig(node_id=name, data_dir="memory", **settings)  # type: ignore[arg-type]  # the tests set numbers
            self.nodes[name] = LocalNode(name, self.cluster, config, 10 + position, machine)
        self.passes: Callable[[Message], bool] = lambda _: True
        self.queue: deque[Message] = deque()

    def __getitem__(self, name: str) -> LocalNode:
        return self.nodes[name]

    def turn(self, name: str) -> None:
        self.queue += [message for message in self.nodes[name].turn() if self.passes(message)]

    def stabilize(self) -> None:
        """Deliver until nothing is on its way; each receiver takes all of its messages in one turn."""
        for name in self.nodes:
            self.turn(name)
        while self.queue:
            messages, self.queue = self.queue, deque()
            for message in messages:
                if message.target in self.nodes:
                    self.nodes[message.target].inputs.messages.append(message)
            for name in self.nodes:
                self.turn(name)

    def tick(self, count: int = 1, only: Sequence[str] = ()) -> None:
        for _ in range(count):
            for name in only or self.nodes:
                self.nodes[name].now_ticks += 1
                self.nodes[name].inputs.ticks = 1
            self.stabilize()

    def elect(self, name: str = "n1") -> LocalNode:
        """Tick until `name` leads."""
        node = self.nodes[name]
        for _ in range(100):
            if node.replica.core.is_leader:
                return node
            self.tick()
        raise AssertionError(f"{name} does not lead: {node.replica.core.status()}")

    def propose(self, name: str, *commands: bytes) -> list[str]:
        """One turn with all of `commands`; returns their tickets."""
        node = self.nodes[name]
        tickets = [f"{name}-{len(node.answers) + len(node.failures)}-{position}" for position in range(len(commands))]
        node.inputs.payloads += commands
        node.inputs.tickets += tickets
        self.stabilize()
        return tickets
