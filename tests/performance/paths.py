"""The hot paths, each as a function that takes so many entries along it.

Real parts with a disk in memory: what a node does is what is counted. Values have mixed lengths, as batches of equal ones take a shorter way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from cluster import commands
from cluster.kv import KeyValueStore
from replog import wal
from replog.config import ClusterConfig, NodeConfig
from replog.node.effects import Inputs, Persist, Send
from replog.node.node import Node
from replog.node.replica import Replica, ReplicaConfig
from replog.raft.messages import Message
from replog.storage.disk import DiskStorage
from replog.storage.frames import EntryFrameCodec
from replog.testing.memory_files import MemoryFileSystem
from replog.transport.convert import Gateway
from replog.transport.encode import encode_envelope
from replog.transport.limits import WireLimits
from tests.integration.served_node import ServedNode, served
from tests.performance.calls import CallCounter, Run

_LEADER: Final = "n1"
_FOLLOWER: Final = "n2"


def puts(count: int) -> list[bytes]:
    return [commands.encode_put(b"key%04d" % (number % 1000), b"v" * (90 + number % 20)) for number in range(count)]


# --- Replicas: a leader and its followers, with the bytes of the wire between them --------------------------------------------


class _Member:
    def __init__(self, name: str, cluster: ClusterConfig, timeout_ticks: int) -> None:
        config = NodeConfig(node_id=name, data_dir="data", preallocate=False)
        self.name = name
        self.codec = EntryFrameCodec.of(cluster)
        self.storage = DiskStorage.open_for(cluster, config, filesystem=MemoryFileSystem())
        self.replica = Replica(
            ReplicaConfig(cluster=cluster, node=config),
            storage=self.storage,
            state_machine=KeyValueStore(),
            frame_codec=self.codec,
            draw_timeout=lambda: timeout_ticks,
        )

    def turn(self, inputs: Inputs) -> list[Message]:
        """One turn, and those that are due at once; what it sent."""
        sent: list[Message] = []
        while True:
            for effect in self.replica.turn(inputs):
                if isinstance(effect, Send):
                    sent += effect.messages
                elif isinstance(effect, Persist):
                    self.storage.persist(effect.write)
            if not self.replica.has_work:
                return sent
            inputs = Inputs(now_ticks=inputs.now_ticks)


class _Group:
    """Three replicas of which `n1` leads. Only what `counted` does is counted."""

    def __init__(self) -> None:
        names = [_LEADER, _FOLLOWER, "n3"]
        cluster = ClusterConfig(
            initial_members={name: f"127.0.0.1:{7000 + number}" for number, name in enumerate(names)}, state_digest_entries=0
        )
        self.members = {name: _Member(name, cluster, 50 + 20 * number) for number, name in enumerate(names)}
        self.limits = WireLimits.of(cluster)
        self.now_ticks = 0
        self.counted = ""
        self.counter = CallCounter()
        while not self.members[_LEADER].replica.core.is_leader:
            self.tick()

    def tick(self) -> None:
        self.now_ticks += 1
        for name in self.members:
            self.step(name, Inputs(ticks=1, now_ticks=self.now_ticks))

    def step(self, name: str, inputs: Inputs) -> None:
        """A turn of `name`, and everything that follows from it."""
        queue = [(message.target, data) for message, data in self._turn(name, inputs)]
        while queue:
            (target, data), *queue = queue
            queue += [(message.target, data) for message, data in self._receive(target, data)]

    def _turn(self, name: str, inputs: Inputs) -> list[tuple[Message, tuple[str, bytes]]]:
        def work() -> list[tuple[Message, tuple[str, bytes]]]:
            return [(message, (name, encode_envelope([message]))) for message in self.members[name].turn(inputs)]

        if name != self.counted:
            return work()
        with self.counter:
            return work()

    def _receive(self, target: str, envelope: tuple[str, bytes]) -> list[tuple[Message, tuple[str, bytes]]]:
        source, data = envelope
        gateway = Gateway(source, target, self.limits, self.members[target].codec.decode)
        if target != self.counted:
            messages = gateway.decode(data)
        else:
            with self.counter:
                messages = gateway.decode(data)
        return self._turn(target, Inputs(messages=messages, now_ticks=self.now_ticks))

    def propose(self, payloads: Sequence[bytes]) -> None:
        self.step(_LEADER, Inputs(payloads=list(payloads), tickets=[object() for _ in payloads], now_ticks=self.now_ticks))

    def propose_group(self, payloads: Sequence[bytes]) -> None:
        self.step(_LEADER, Inputs(groups=[(list(payloads), object())], now_ticks=self.now_ticks))


def _replicated(counted: str, propose: Callable[[_Group, Sequence[bytes]], None]) -> Run:
    def run(entries: int, counter: CallCounter) -> None:
        group = _Group()
        propose(group, puts(10))
        group.counted, group.counter = counted, counter
        propose(group, puts(entries))
        for _ in range(10):
            group.tick()  # the next heartbeat tells the followers what is committed
        group.counted = ""
        applied = {name: member.replica.applied_index for name, member in group.members.items()}
        assert len(set(applied.values())) == 1, applied
        assert applied[_LEADER] >= entries + 10

    return run


# --- A node in its process, and a client ---------------------------------------------------------------------------------------


@asynccontextmanager
async def _single_node() -> AsyncIterator[Node]:
    cluster = ClusterConfig(cluster_id="performance", initial_members={_LEADER: "127.0.0.1:7000"}, state_digest_entries=0)
    config = NodeConfig(node_id=_LEADER, data_dir="data", preallocate=False, sync_mode="inline")
    files = MemoryFileSystem()
    node = Node(cluster, config, KeyValueStore(), open_storage=lambda of, at: DiskStorage.open_for(of, at, filesystem=files))
    async with node:
        await node.propose(puts(1)[0], timeout=10)
        yield node


Ask = Callable[[Any, int], Coroutine[Any, Any, object]]


async def _together(calls: Sequence[Coroutine[Any, Any, object]], counter: CallCounter) -> None:
    """Run all of `calls` at the same time and count what happens on this thread until the last one has ended."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    with counter:
        await asyncio.gather(*tasks)


def _in_a_node(ask: Ask) -> Run:
    async def work(entries: int, counter: CallCounter) -> None:
        async with _single_node() as node:
            await _together([ask(node, number) for number in range(entries)], counter)

    return lambda entries, counter: asyncio.run(work(entries, counter))


def _through_a_client(ask: Ask) -> Run:
    async def work(entries: int, counter: CallCounter) -> None:
        async with served(ServedNode("a")) as client:
            await client.propose(b"x")
            await _together([ask(client, number) for number in range(entries)], counter)

    return lambda entries, counter: asyncio.run(work(entries, counter))


# --- The log alone -------------------------------------------------------------------------------------------------------------


def _on_a_log(work: Callable[[wal.Log, list[bytes], CallCounter], None]) -> Run:
    def run(entries: int, counter: CallCounter) -> None:
        files = MemoryFileSystem()
        wal.create("log", wal.WalOptions(preallocate_bytes=0), fs=files)
        with wal.open("log", wal.WalOptions(preallocate_bytes=0, prepare_next=False), sync=wal.NoSync(), fs=files) as log:
            work(log, puts(entries), counter)

    return run


def _append(log: wal.Log, datas: list[bytes], counter: CallCounter) -> None:
    with counter:
        for data in datas:
            log.append(data)


def _append_many(log: wal.Log, datas: list[bytes], counter: CallCounter) -> None:
    with counter:
        log.append_many(datas)


def _read_range(log: wal.Log, datas: list[bytes], counter: CallCounter) -> None:
    first = log.append_many(datas)
    with counter:
        found = log.read_range(first, log.last_sequence, 1 << 30)
    assert found == datas


def _read(log: wal.Log, datas: list[bytes], counter: CallCounter) -> None:
    first = log.append_many(datas)
    with counter:
        for sequence in range(first, first + len(datas)):
            log.read(sequence)


_PUTS: Final = puts(2000)

PATHS: Final[dict[str, Run]] = {
    "leader, singly: frame, write, send, commit, apply": _replicated(_LEADER, _Group.propose),
    "leader, a batch: frame, write, send, commit, apply": _replicated(_LEADER, _Group.propose_group),
    "follower: verify, write, apply": _replicated(_FOLLOWER, _Group.propose),
    "Node.propose, all of it": _in_a_node(lambda node, number: node.propose(_PUTS[number])),
    "Node.query": _in_a_node(lambda node, number: node.query(commands.encode_get(b"key%04d" % number))),
    "ReplogClient.propose and its service": _through_a_client(lambda client, number: client.propose(_PUTS[number])),
    "ReplogClient.query and its service": _through_a_client(lambda client, number: client.query(b"%d" % number)),
    "wal.Log.append": _on_a_log(_append),
    "wal.Log.append_many": _on_a_log(_append_many),
    "wal.Log.read_range": _on_a_log(_read_range),
    "wal.Log.read": _on_a_log(_read),
}
