"""Rubbish, strangers and greed on every method of a node's server: a named refusal, the service goes on, memory stays bounded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from replog.node import client_service
from replog.rpc import client_pb2 as cpb
from replog.rpc import methods
from replog.rpc import raft_pb2 as rpb
from replog.rpc.channel import EOF, open_channel
from replog.transport import inbound
from tests.integration.served_node import ServedNode, served, until
from tests.integration.transport_nodes import CLUSTER, Endpoint, append, reply, running

RUBBISH = [b"\xff" * 50, os.urandom(200), rpb.Envelope(messages=[rpb.Message(term=2**64 - 1)]).SerializeToString()[:-1]]


@asynccontextmanager
async def stream(address: str, method: str) -> AsyncIterator[Any]:
    """A raw bytes stream to `method`."""
    channel = open_channel(address, 100 << 20)
    call = channel.stream_stream(method)()
    try:
        yield call
    finally:
        call.cancel()
        await channel.close()


async def end_of(call: Any) -> tuple[str, str]:
    """Code and details of a stream that the other side ends."""
    try:
        async with asyncio.timeout(10):
            while await call.read() is not EOF:
                pass
    except grpc.aio.AioRpcError:
        pass
    return (await call.code()).name, await call.details() or ""


def hello(**fields: Any) -> bytes:
    values = {"version": 1, "cluster_id": "test", "fingerprint": CLUSTER.fingerprint(), "source": "a", "target": "b", "incarnation": 1}
    return rpb.Envelope(hello=rpb.Hello(**{**values, **fields})).SerializeToString()


# --- Peers' stream ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [*RUBBISH, b"", reply("a", "b", 1)], ids=["ff", "random", "cut", "empty", "no hello"])
async def test_a_stream_that_does_not_begin_with_a_hello_is_ended(data: Any) -> None:
    b = Endpoint("b")
    first = data if isinstance(data, bytes) else rpb.Envelope(messages=[rpb.Message(term=1)]).SerializeToString()
    async with running(b), stream(b.address, methods.DELIVER) as call:
        await call.write(first)

        code, details = await end_of(call)

    assert code == "INVALID_ARGUMENT"
    assert "MalformedMessage" in details
    assert b.transport.counters.malformed == 1


@pytest.mark.parametrize("source", ["", "../x"])
async def test_a_hello_under_an_impossible_name_is_malformed(source: str) -> None:
    b = Endpoint("b")
    async with running(b), stream(b.address, methods.DELIVER) as call:
        await call.write(hello(source=source))
        code, details = await end_of(call)

    assert code == "INVALID_ARGUMENT"
    assert "hello.source" in details


async def test_a_hello_under_the_receivers_own_name_is_refused() -> None:
    b = Endpoint("b")
    async with running(b), stream(b.address, methods.DELIVER) as call:
        await call.write(hello(source="b"))

        assert rpb.Notice.FromString(await call.read()).refused.field == "source"


@pytest.mark.parametrize("data", [*RUBBISH, hello()], ids=["ff", "random", "cut", "second hello"])
async def test_rubbish_in_a_stream_ends_it_and_the_next_one_works(data: bytes) -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        async with stream(b.address, methods.DELIVER) as call:
            await call.write(hello())
            assert rpb.Notice.FromString(await call.read()).HasField("accepted")
            await call.write(data)
            code, details = await end_of(call)
        assert (code, "MalformedMessage" in details) == ("INVALID_ARGUMENT", True)
        assert b.received == []

        a.transport.set_peers({"b": b.address})
        a.transport.send([reply("a", "b", 1)])
        await until(lambda: b.received)


async def test_a_peer_that_sends_what_it_must_not_is_told_dropped_and_counted() -> None:
    """The sender's own log names the field; it connects again with pauses, not in a tight loop."""
    a, b = Endpoint("a"), Endpoint("b")
    broken = append("a", "b", 1, [b"x"])
    object.__setattr__(broken, "term", 2**64 - 1)
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        a.transport.send([broken])
        await until(lambda: a.lost)
        await until(lambda: a.transport.connected)

        assert b.transport.counters.malformed == 1
        assert b.received == []


async def test_an_envelope_over_the_limit_ends_the_stream() -> None:
    b = Endpoint("b")
    async with running(b), stream(b.address, methods.DELIVER) as call:
        await call.write(hello())
        await call.read()
        await call.write(bytes(30 << 20))

        code, details = await end_of(call)

    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in details.lower()


async def test_streams_beyond_the_limit_are_refused_and_peers_still_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers that say nothing hold their place only until the time for a hello is over."""
    monkeypatch.setattr(inbound, "STREAMS_INBOUND_MAX", 5)
    monkeypatch.setattr(inbound, "HELLO_SECONDS_MAX", 0.2)
    a, b = Endpoint("a"), Endpoint("b")
    channels = []
    async with running(a, b):
        calls = []
        for _ in range(8):
            channel = open_channel(b.address, 1 << 20)
            channels.append(channel)
            call = channel.stream_stream(methods.DELIVER)()
            calls.append(call)
        ends = await asyncio.gather(*(end_of(call) for call in calls))
        for channel in channels:
            await channel.close()

        assert sorted({code for code, _ in ends}) == ["DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]
        assert any("the limit is 5" in details for _, details in ends)
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)


# --- Clients' sessions --------------------------------------------------------------------------------------------------


def requests(*items: cpb.Request) -> bytes:
    return cpb.Requests(requests=items).SerializeToString()


HELLO = cpb.Request(id=0, hello=cpb.Hello(version=1))


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"\xff" * 50, "do not parse"),
        (b"", "first request of a session is a hello"),
        (requests(cpb.Request(id=1, barrier=cpb.Barrier())), "first request of a session is a hello"),
        (requests(cpb.Request(id=1, hello=cpb.Hello(version=7))), "found 7"),
        (requests(cpb.Request(id=1, hello=cpb.Hello(version=1, cluster_id="other"))), "found 'other', this node is of cluster 'test'"),
        (requests(HELLO, HELLO), "second hello"),
        (requests(HELLO, cpb.Request(id=1)), "no content"),
    ],
)
async def test_a_session_that_begins_wrongly_is_ended_with_the_reason(first: bytes, words: str) -> None:
    node = ServedNode("a")
    async with served(node) as client:
        async with stream(node.address, methods.SESSION) as call:
            await call.write(first)
            code, details = await end_of(call)

        assert code == "INVALID_ARGUMENT"
        assert words in details
        assert await client.propose(b"x") == b"did x"
    assert node.service.malformed == 1


async def test_a_query_of_unknown_consistency_is_refused_alone() -> None:
    node = ServedNode("a")
    async with served(node), stream(node.address, methods.SESSION) as call:
        await call.write(requests(HELLO, cpb.Request(id=1, query=cpb.Query(requests=[b"x"], consistency=cpb.CONSISTENCY_UNSPECIFIED))))
        replies = [*cpb.Replies.FromString(await call.read()).replies]
        while len(replies) < 2:
            replies += cpb.Replies.FromString(await call.read()).replies

    assert replies[1].failure.code == cpb.Failure.MALFORMED
    assert "consistency" in replies[1].failure.message


async def test_a_client_that_closes_its_side_still_gets_its_answers() -> None:
    node = ServedNode("a")
    node.hold = asyncio.Event()
    async with served(node), stream(node.address, methods.SESSION) as call:
        await call.write(requests(HELLO, cpb.Request(id=1, propose=cpb.Propose(commands=[b"x"]))))
        await call.done_writing()
        await until(lambda: bool(node.appended))
        node.hold.set()
        replies: list[cpb.Reply] = []
        while (data := await call.read()) is not EOF:
            replies += cpb.Replies.FromString(data).replies

    assert [reply.id for reply in replies] == [0, 1]
    assert list(replies[1].results.results) == [b"did x"]


async def test_a_client_that_never_reads_is_not_read_from_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_service, "SESSION_BYTES_MAX", 100_000)
    node = ServedNode("a")
    made = 0
    query = node.state_machine.query

    def counted(request: bytes) -> bytes:
        nonlocal made
        made += 1
        return query(request)

    node.state_machine.query = counted  # type: ignore[method-assign]  # counts what the greedy client makes the node do
    request = cpb.Request(id=1, query=cpb.Query(requests=[b"size 1000000"], consistency=cpb.STALE))
    async with served(node) as client, stream(node.address, methods.SESSION) as call:
        await call.write(requests(HELLO, *([request] * 2_000)))
        await until(lambda: made > 3)
        for _ in range(50):
            assert await client.propose(b"x") == b"did x"

        assert made < 30, "answers of 1 MB each wait only up to the session's limit and gRPC's window"


async def test_sessions_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_service, "SESSIONS_MAX", 3)
    monkeypatch.setattr(client_service, "HELLO_SECONDS_MAX", 0.3)
    node = ServedNode("a")
    async with served(node) as client:
        channel = open_channel(node.address, 1 << 20)
        calls = [channel.stream_stream(methods.SESSION)() for _ in range(6)]
        ends = await asyncio.gather(*(end_of(call) for call in calls))
        await channel.close()

        assert sorted({code for code, _ in ends}) == ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"]
        assert await client.propose(b"x") == b"did x", "those that said nothing have lost their place"


async def test_proposals_of_all_clients_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_service, "PROPOSALS_BYTES_MAX", 1_000)
    node = ServedNode("a")
    node.hold = asyncio.Event()
    async with served(node) as client:
        first = asyncio.create_task(client.propose(bytes(900)))
        await until(lambda: len(node.appended) == 1)
        second = asyncio.create_task(client.propose(bytes(200)))
        await until(lambda: client.retries > 1)
        assert len(node.appended) == 1
        node.hold.set()

        assert await first == b"did " + bytes(900)
        assert await second == b"did " + bytes(200)


async def test_a_state_machine_that_returns_no_bytes_does_not_end_the_session() -> None:
    node = ServedNode("a")
    node.answer = lambda commands: ["text" if command == b"bad" else command for command in commands]  # type: ignore[misc]  # the application's mistake
    async with served(node) as client:
        good, bad = await asyncio.gather(client.propose(b"good"), client.propose(b"bad"), return_exceptions=True)

    assert good == b"good"
    assert "not bytes" in str(bad)


async def test_random_bytes_on_every_method_leave_the_node_serving() -> None:
    node = ServedNode("a")
    async with served(node) as client:
        for number in range(30):
            async with stream(node.address, methods.SESSION) as call:
                await call.write(requests(HELLO))
                await call.write(os.urandom(1 + number * 7))
                await call.done_writing()
                code, _ = await end_of(call)
                assert code in ("INVALID_ARGUMENT", "OK")

        assert await client.propose(b"x") == b"did x"
