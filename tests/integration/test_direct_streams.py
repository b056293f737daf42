"""Direct streams: who may open one, what happens where none comes about, and that it lives and dies with its gRPC stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cluster.counter import CommandCounter
from replog.config import ClusterConfig, NodeConfig
from replog.errors import ConfigError, PortTaken
from replog.node.node import Node
from replog.rpc import methods
from replog.rpc import raft_pb2 as pb
from replog.rpc.channel import open_channel
from replog.transport import Identity, direct, direct_attempts, direct_listener
from replog.transport.direct import GOES_DIRECT, PREFACE, TOKEN_BYTES, TOKEN_SHOWN_BYTES, connect
from replog.transport.direct_listener import DirectListener
from replog.transport.encode import encode_envelope
from tests.integration.transport_nodes import CLUSTER, Endpoint, append, free_port, reply, running, until


@contextlib.asynccontextmanager
async def accepted_stream(b: Endpoint, source: str = "a") -> AsyncIterator[tuple[Any, pb.Accepted]]:
    """A gRPC stream of `source` to `b` behind its handshake, by hand."""
    channel = open_channel(b.address, 1 << 20)
    call = channel.stream_stream(methods.DELIVER)()
    try:
        identity = Identity(node_id=source, cluster_id="test", fingerprint=CLUSTER.fingerprint(), incarnation=1)
        await call.write(pb.Envelope(hello=identity.hello("b")).SerializeToString())
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


def is_direct(endpoint: Endpoint, count: int = 1) -> Callable[[], bool]:
    """So many streams of `endpoint` have gone direct."""
    return lambda: endpoint.transport.counters.direct_connects == count


async def test_messages_go_over_the_direct_stream_and_not_over_grpc() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(is_direct(a))
        sender = a.transport._peers["b"]._sender
        a.transport.send([append("a", "b", 1, [b"x"])])
        await until(lambda: b.received)

        assert type(sender).__name__ == "DirectSender"
        assert a.transport.counters.connects == 1
    assert a.lost == []


@pytest.mark.slow
async def test_messages_keep_their_order_while_the_stream_changes_over() -> None:
    """Large ones before, so that gRPC has something to do when the small ones could overtake."""
    a, b = Endpoint("a"), Endpoint("b")
    sent = 0
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        while not is_direct(a)() or sent < 500:
            a.transport.send([append("a", "b", sent + 1, [bytes(100_000 if sent % 7 == 0 else 10)])])
            sent += 1
            await asyncio.sleep(0)
        await until(lambda: len(b.received) == sent)

    assert [message.entries.first_index for message in b.received] == list(range(1, sent + 1))  # type: ignore[union-attr]  # appends with entries, all of them
    assert a.lost == []


async def test_each_side_decides_for_itself_whether_it_offers_one() -> None:
    a, b = Endpoint("a"), Endpoint("b", offers_direct=False)
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        b.transport.set_peers({"a": a.address})
        await until(lambda: a.transport.connected and b.transport.connected)
        a.transport.send([reply("a", "b", 1)])
        b.transport.send([reply("b", "a", 2)])
        await until(lambda: a.received and b.received)
        await until(is_direct(b))

        assert a.transport.counters.direct_connects == 0


async def test_where_the_port_cannot_be_reached_grpc_will_do_and_people_are_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "replog.transport")
    monkeypatch.setattr(direct_attempts, "PAUSE_SECONDS_MIN", 0.01)
    monkeypatch.setattr(direct_attempts, "PAUSE_SECONDS_MAX", 0.02)
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        listener = b.transport._inbound._direct
        assert listener is not None
        await listener.stop()
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        a.transport.send([reply("a", "b", 1)])
        await until(lambda: b.received)
        attempts = a.transport._peers["b"]._attempts
        await until(lambda: attempts.pause_seconds == 0.02)

        assert caplog.text.count("no direct stream, gRPC will do") == 1
        assert a.transport.peer_error("b") == ""
        assert a.lost == []


async def test_a_port_that_swallows_everything_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the stream goes direct as soon as the port can be reached."""
    monkeypatch.setattr(direct_attempts, "CONNECT_SECONDS_MAX", 0.3)
    monkeypatch.setattr(direct_attempts, "PAUSE_SECONDS_MIN", 0.01)
    a, b = Endpoint("a"), Endpoint("b")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with running(a, b):
            listener = b.transport._inbound._direct
            assert listener is not None
            port, listener.port = listener.port, silent.getsockname()[1]
            began = asyncio.get_running_loop().time()
            a.transport.set_peers({"b": b.address})
            a.transport.send([reply("a", "b", 1)])
            await until(lambda: b.received)
            assert asyncio.get_running_loop().time() - began < 0.3

            listener.port = port
            next(iter(b.transport._inbound._serving)).end()
            await until(is_direct(a))


async def test_a_way_that_breaks_what_it_let_through_is_used_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine between the nodes that resets what it does not know: most messages arrive, over gRPC."""
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        attempts_seen = []
        a.transport.set_peers({"b": b.address})
        for count in (1, 2):
            await until(is_direct(a, count))
            peer = a.transport._peers["b"]
            monkeypatch.setattr(peer._attempts, "pause_seconds", 0.0 if count == 1 else 0.01)
            peer._sender._connection.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # direct
            await until(lambda: len(a.lost) == count)  # noqa: B023 - awaited in this turn
            attempts_seen.append(peer._attempts.pause_seconds)
            peer._attempts.pause_seconds = 0.0

        await until(lambda: a.transport.connected)
        assert attempts_seen == [direct_attempts.PAUSE_SECONDS_MIN, direct_attempts.PAUSE_SECONDS_MIN]


@pytest.mark.parametrize(
    ("blamed", "held_seconds", "pause_seconds"),
    [(True, 0.5, 8.0), (True, 11.0, 0.0), (False, 0.5, 0.0)],
    ids=["it broke soon", "it broke late", "the peer went"],
)
def test_only_a_connection_that_is_to_blame_is_tried_later(blamed: bool, held_seconds: float, pause_seconds: float) -> None:
    attempts = direct_attempts.DirectAttempts("a to b")
    attempts.pause_seconds = 4.0

    attempts.ended(held_seconds, blamed=blamed)

    assert attempts.pause_seconds == pause_seconds


async def test_a_peer_that_restarts_is_reached_directly_again_at_once() -> None:
    port = free_port()
    a = Endpoint("a")
    async with running(a):
        a.transport.set_peers({"b": f"127.0.0.1:{port}"})
        for count in (1, 2, 3):
            b = Endpoint("b", bind_address=f"127.0.0.1:{port}")
            async with running(b):
                await until(is_direct(a, count), seconds=5.0)
            await until(lambda: not a.transport.connected)

        assert a.transport._peers["b"]._attempts.pause_seconds == 0.0


async def test_an_address_that_swallows_everything_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "ADDRESS_SECONDS_MAX", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError, match=r"no answer within 0\.05 s"):
        await connect("127.0.0.1", silent.getsockname()[1], bytes(TOKEN_BYTES))


async def test_another_program_at_the_port_is_not_taken_for_the_peer() -> None:
    async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ready\r\n")
        await writer.drain()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ConnectionError, match=r"no peer: it answered b'220 mail\.example'"):
            await connect("127.0.0.1", port, bytes(TOKEN_BYTES))


@pytest.mark.parametrize(
    "greeting",
    [PREFACE + bytes(TOKEN_SHOWN_BYTES), b"GET / HTTP/1.1\r\nHost: replog\r\n\r\n", bytes(24), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["an invented token", "HTTP", "zeros", "HTTP/2"],
)
async def test_strangers_at_the_port_are_closed_without_an_answer(greeting: bytes) -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        assert await answer_to(b.transport.direct_port, greeting) == b""

        a.transport.set_peers({"b": b.address})
        await until(is_direct(a))


async def test_a_token_dies_with_its_stream() -> None:
    b = Endpoint("b")
    async with running(b):
        async with accepted_stream(b) as (_, accepted):
            pass
        await until(lambda: not b.transport._inbound)

        assert await answer_to(accepted.direct_port, PREFACE + accepted.direct_token[:TOKEN_SHOWN_BYTES]) == b""
        assert b.transport._inbound._direct._expected == {}  # type: ignore[union-attr]  # it offers one


async def test_a_sender_that_gave_up_and_comes_again_is_taken_and_the_stream_goes_on() -> None:
    """Its first connection was let go before anything was said; nothing came on it."""
    b = Endpoint("b")
    async with running(b), accepted_stream(b) as (call, accepted):
        (await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)).close()
        connection = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        await call.write(encode_envelope([reply("a", "b", 1)]))
        await call.write(GOES_DIRECT)
        envelope = encode_envelope([reply("a", "b", 2)])
        connection.send(struct.pack("<I", len(envelope)) + envelope)
        await until(lambda: len(b.received) == 2)

        late = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(late, 1) == b"", "the stream is direct already"
        late.close()
        connection.close()

    assert b.received == [reply("a", "b", 1), reply("a", "b", 2)]


async def test_nothing_is_read_before_grpc_has_had_its_last_word() -> None:
    b = Endpoint("b")
    async with running(b), accepted_stream(b) as (call, accepted):
        connection = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        envelope = encode_envelope([reply("a", "b", 2)])
        connection.send(struct.pack("<I", len(envelope)) + envelope)
        await call.write(encode_envelope([reply("a", "b", 1)]))
        await until(lambda: b.received)
        await call.write(GOES_DIRECT)
        await until(lambda: len(b.received) == 2)
        connection.close()

    assert b.received == [reply("a", "b", 1), reply("a", "b", 2)]


@pytest.mark.parametrize("what", ["without a connection", "twice", "an envelope behind it"])
async def test_a_sender_that_goes_direct_wrongly_is_dropped(what: str) -> None:
    b = Endpoint("b")
    async with running(b), accepted_stream(b) as (call, accepted):
        connection = None
        if what != "without a connection":
            connection = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        await call.write(GOES_DIRECT)
        if what == "twice":
            await call.write(GOES_DIRECT)
        elif what == "an envelope behind it":
            await call.write(encode_envelope([reply("a", "b", 1)]))
        async with asyncio.timeout(5):
            assert (await call.code()).name == "INVALID_ARGUMENT"
        if connection is not None:
            connection.close()

    assert b.transport.counters.malformed == 1
    assert b.received == []


async def test_a_malformed_length_is_counted_and_told_to_the_sender() -> None:
    b = Endpoint("b")
    async with running(b), accepted_stream(b) as (call, accepted):
        connection = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        await call.write(GOES_DIRECT)
        connection.send(struct.pack("<I", 2**32 - 1))
        async with asyncio.timeout(5):
            assert "4294967295 bytes" in await call.details()
        connection.close()

    assert b.transport.counters.malformed == 1


async def test_a_connection_that_breaks_alone_is_what_grpc_tells() -> None:
    b = Endpoint("b")
    async with running(b), accepted_stream(b) as (call, accepted):
        connection = await connect("127.0.0.1", accepted.direct_port, accepted.direct_token)
        await call.write(GOES_DIRECT)
        connection.close()
        async with asyncio.timeout(5):
            assert (await call.code()).name == "ABORTED"
            assert await call.details() == "the direct connection broke"


@pytest.mark.slow
async def test_who_says_nothing_is_closed_in_time_and_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers hold their place only until the time for a token is over; peers get through then."""
    monkeypatch.setattr(direct_listener, "GREETINGS_MAX", 5)
    monkeypatch.setattr(direct_listener, "GREETING_SECONDS_MAX", 1.0)
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        listener = b.transport._inbound._direct
        assert listener is not None
        silent = [asyncio.create_task(answer_to(listener.port, b"")) for _ in range(12)]
        await until(lambda: sum(task.done() for task in silent) == 7, seconds=0.9)
        assert len(listener._greetings) == 5

        assert await asyncio.gather(*silent) == [b""] * 12
        await until(lambda: not listener._greetings)
        a.transport.set_peers({"b": b.address})
        await until(is_direct(a))


async def test_when_the_direct_connection_breaks_the_peer_is_lost_and_connected_anew() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(is_direct(a))
        connection = a.transport._peers["b"]._sender._connection  # type: ignore[union-attr]  # direct
        connection.shutdown(socket.SHUT_RDWR)
        await until(lambda: a.lost)
        await until(lambda: a.transport.connected)
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
        await until(is_direct(a))
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
