"""The transport inside one process keeps the same promises as the one over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from replog.config import ClusterConfig
from replog.raft.messages import HeartbeatReply, Message, TimeoutNow
from replog.storage.frames import EntryFrameCodec
from replog.transport import InprocNetwork, InprocTransport, WireLimits

CLUSTER = ClusterConfig()


class Endpoint:
    def __init__(self, network: InprocNetwork, name: str) -> None:
        self.transport: InprocTransport = network.transport(name)
        self.received: list[Message] = []
        self.lost: list[str] = []

    async def start(self, *peers: str) -> None:
        await self.transport.start(self.receive, self.lost.append)
        self.transport.set_peers({name: f"{name}:1" for name in peers})

    def receive(self, messages: Sequence[Message]) -> None:
        self.received += messages


def network() -> InprocNetwork:
    return InprocNetwork(decode_frames=EntryFrameCodec.of(CLUSTER).decode, limits=WireLimits.of(CLUSTER))


def reply(number: int, target: str = "b") -> HeartbeatReply:
    return HeartbeatReply(source="a", target=target, term=1, round=number)


async def test_messages_arrive_in_order_and_not_within_send() -> None:
    wires = network()
    a, b = Endpoint(wires, "a"), Endpoint(wires, "b")
    await a.start("b")
    await b.start()

    a.transport.send([reply(1), reply(2)])
    a.transport.send([reply(3)])
    assert b.received == []
    await asyncio.sleep(0)

    assert b.received == [reply(1), reply(2), reply(3)]


async def test_a_cut_link_loses_messages_and_tells_the_sender() -> None:
    wires = network()
    a, b = Endpoint(wires, "a"), Endpoint(wires, "b")
    await a.start("b")
    await b.start()
    wires.cut("a", "b")
    a.transport.send([reply(1)])
    await asyncio.sleep(0)
    wires.heal()
    a.transport.send([reply(2)])
    await asyncio.sleep(0)

    assert b.received == [reply(2)]
    assert a.lost == ["b", "b"]


async def test_a_rule_drops_what_it_does_not_pass() -> None:
    wires = network()
    a, b = Endpoint(wires, "a"), Endpoint(wires, "b")
    await a.start("b")
    await b.start()
    wires.passes = lambda message: not isinstance(message, TimeoutNow)
    a.transport.send([TimeoutNow(source="a", target="b", term=1), reply(1)])
    await asyncio.sleep(0)

    assert b.received == [reply(1)]
    assert a.transport.messages_dropped == 1


async def test_who_is_no_peer_or_has_stopped_gets_nothing() -> None:
    wires = network()
    a, b = Endpoint(wires, "a"), Endpoint(wires, "b")
    await a.start("b")
    await b.start()
    a.transport.send([reply(1, target="c")])
    await b.transport.stop()
    a.transport.send([reply(2)])
    await asyncio.sleep(0)

    assert b.received == []
    assert a.lost == ["b"]
    assert a.transport.messages_dropped == 1
