"""Direct streams: who may open one, what happens where none comes about, and that it lives and dies with its gRPC stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.counter import CommandCounter
from replog.config import ClusterConfig, NodeConfig
from replog.errors import ConfigError, PortTaken
from replog.node.node import Node
from replog.rpc import methods
from replog.rpc import raft_pb2 as pb
from replog.rpc.channel import open_channel
from replog.transport import direct_listener, peer
from replog.transport.direct import PREFACE, TOKEN_BYTES, connect
from replog.transport.direct_listener import DirectListener
from tests.integration.transport_nodes import Endpoint, append, reply, running, until


@contextlib.asynccontextmanager
async def accepted_stream(b: Endpoint, source: str = "a") -> AsyncIterator[tuple[Any, pb.Accepted]]:
    """A gRPC stream of `source` to `b` behind its handshake, by hand."""
    channel = open_channel(b.address, 1 << 20)
    call = channel.stream_stream(methods.DELIVER)()
    try:
        await call.write(pb.Envelope(hello=Endpoint(source, offers_direct=False).identity.hello("b")).SerializeToString())
        yield call, pb.Notice.FromString(await call.read()).accepted
    finally:
        call.cancel()
        await channel.close()


async def answer_to(port: int, greeting: bytes) -> bytes:
    """What the listener says to `greeting`; nothing when it closes the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, greeting)
        try:
            async with asyncio.timeout(5):
                return await loop.sock_recv(connection, 100)
        except ConnectionError:
            return b""


async def test_messages_go_over_the_direct_stream_and_not_over_grpc() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        sender = a.transport._peers["b"]._sender
        a.transport.send([append("a", "b", 1, [b"x"])])
        await until(lambda: b.received)

        assert type(sender).__name__ == "DirectSender"
        assert a.transport.counters.direct_connects == a.transport.counters.connects == 1


async def test_each_side_decides_for_itself_whether_it_offers_one() -> None:
    a, b = Endpoint("a"), Endpoint("b", offers_direct=False)
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        b.transport.set_peers({"a": a.address})
        await until(lambda: a.transport.connected and b.transport.connected)
        a.transport.send([reply("a", "b", 1)])
        b.transport.send([reply("b", "a", 2)])
        await until(lambda: a.received and b.received)

        assert a.transport.counters.direct_connects == 0
        assert b.transport.counters.direct_connects == 1


async def test_where_the_port_cannot_be_reached_grpc_will_do_and_people_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "replog.transport")
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        b.transport._inbound._direct._socket.close()  # type: ignore[union-attr]  # it offers one
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        a.transport.send([reply("a", "b", 1)])
        await until(lambda: b.received)

        assert a.transport.counters.direct_connects == 0
        assert "no direct stream to b at 127.0.0.1" in caplog.text
        assert a.transport.peer_error("b") == ""


async def test_a_port_that_swallows_everything_costs_a_moment_and_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "DIRECT_SECONDS_MAX", 0.1)
    monkeypatch.setattr(peer, "_LIVED_SECONDS", 0.0)
    a, b = Endpoint("a"), Endpoint("b")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with running(a, b):
            b.transport._inbound._direct.port = silent.getsockname()[1]  # type: ignore[union-attr]  # it offers one
            a.transport.set_peers({"b": b.address})
            await until(lambda: a.transport.connected)
            assert a.transport.counters.direct_connects == 0
            assert a.transport._peers["b"]._no_direct_until > asyncio.get_running_loop().time()

            b.transport._inbound._direct.port = 1  # type: ignore[union-attr]  # a port that is not looked at
            next(iter(b.transport._inbound._serving)).end()
            await until(lambda: a.transport.counters.connects == 2)
            a.transport.send([reply("a", "b", 1)])
            await until(lambda: b.received)


async def test_another_program_at_the_port_is_not_taken_for_the_peer() -> None:
    async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ready\r\n")
        await writer.drain()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ConnectionError, match="no peer: it answered b'220 mail'"):
            await connect("127.0.0.1", port, bytes(TOKEN_BYTES))


@pytest.mark.parametrize(
    "greeting",
    [PREFACE + bytes(TOKEN_BYTES), b"GET / HTTP/1.1\r\nHost: replog\r\n\r\n", bytes(24), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["an invented token", "HTTP", "zeros", "HTTP/2"],
)
async def test_strangers_at_the_port_are_closed_without_an_answer(greeting: bytes) -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        assert await answer_to(b.transport.direct_port, greeting) == b""

        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.counters.direct_connects == 1)


async def test_a_token_is_good_once() -> None:
    b = Endpoint("b")
    async with running(b), accepted_stream(b) as (_, accepted):
        greeting = PREFACE + accepted.direct_token
        loop = asyncio.get_running_loop()
        with socket.socket() as first:
            first.setblocking(False)
            await loop.sock_connect(first, ("127.0.0.1", accepted.direct_port))
            await loop.sock_sendall(first, greeting)
            assert await loop.sock_recv(first, 100) == PREFACE

            assert await answer_to(accepted.direct_port, greeting) == b""


async def test_a_token_dies_with_its_stream() -> None:
    b = Endpoint("b")
    async with running(b):
        async with accepted_stream(b) as (_, accepted):
            pass
        await until(lambda: not b.transport._inbound)

        assert await answer_to(accepted.direct_port, PREFACE + accepted.direct_token) == b""
        assert b.transport._inbound._direct._expected == {}  # type: ignore[union-attr]  # it offers one


async def test_who_says_nothing_is_closed_in_time_and_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers hold their place only until the time for a token is over; peers get through then."""
    monkeypatch.setattr(direct_listener, "GREETINGS_MAX", 5)
    monkeypatch.setattr(direct_listener, "GREETING_SECONDS_MAX", 0.3)
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        listener = b.transport._inbound._direct
        assert listener is not None
        ends = await asyncio.gather(*(answer_to(listener.port, b"") for _ in range(12)))
        assert ends == [b""] * 12
        assert not listener._greetings

        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.counters.direct_connects == 1)


async def test_when_the_direct_connection_breaks_the_peer_is_lost_and_connected_anew() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        connection = a.transport._peers["b"]._sender._connection  # type: ignore[union-attr]  # connected
        connection.shutdown(socket.SHUT_RDWR)
        await until(lambda: a.lost)
        await until(lambda: a.transport.counters.direct_connects == 2)
        a.transport.send([reply("a", "b", 1)])
        await until(lambda: b.received)

    assert a.lost == ["b"]


async def test_when_the_grpc_stream_ends_the_direct_connection_is_closed() -> None:
    b = Endpoint("b")
    async with running(b):
        async with accepted_stream(b) as (_, accepted):
            connection = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""
        connection.close()


async def test_a_stream_that_is_replaced_takes_its_direct_connection_along() -> None:
    b = Endpoint("b")
    async with running(b), accepted_stream(b) as (_, accepted):
        connection = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        async with accepted_stream(b):
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""
        connection.close()


async def test_stopping_closes_every_connection_and_the_port() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        port = b.transport.direct_port
        await b.transport.stop()
        await until(lambda: a.lost)

        with pytest.raises(ConnectionRefusedError):
            await connect("127.0.0.1", port, bytes(TOKEN_BYTES))


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1:{port}"):
            DirectListener("127.0.0.1", port)


def test_a_host_of_another_machine_is_named() -> None:
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1"):
        DirectListener("192.0.2.1", 0)


@pytest.mark.parametrize("port", [-2, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="direct_port"):
        NodeConfig(node_id="a", data_dir="d", direct_port=port)


@pytest.mark.parametrize(("configured", "offered"), [(0, True), (-1, False)])
async def test_a_node_offers_what_it_is_configured_to(configured: int, offered: bool, tmp_path: Any) -> None:
    config = NodeConfig(node_id="n1", data_dir=str(tmp_path), direct_port=configured)
    async with Node(ClusterConfig(initial_members={"n1": "127.0.0.1:7000"}), config, CommandCounter()) as node:
        assert node._services is not None

        assert bool(node._services.transport.direct_port) == offered
