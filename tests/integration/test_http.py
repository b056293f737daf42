"""The HTTP server: what it answers, and that neither rubbish nor slowness holds it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from replog.errors import PortTaken
from replog.node import http
from replog.node.http import HttpServer


class Broken(Collector):
    """Raises when it is scraped, not when it is registered."""

    armed = False

    def collect(self) -> Iterator[Metric]:
        if self.armed:
            raise ValueError("no numbers today")
        return iter(())


class Site:
    """A server whose health a test sets."""

    def __init__(self) -> None:
        self.not_alive = ""
        self.not_ready = ""
        self.registry = CollectorRegistry()
        self.server = HttpServer("127.0.0.1:0", self.registry, alive=lambda: self.not_alive, ready=lambda: self.not_ready)

    @property
    def port(self) -> int:
        return int(self.server.bound_address.rpartition(":")[2])

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Send `data`, read to the end: status and body (0 when nothing came)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        writer.close()
        if not answer:
            return 0, b""
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Content-Length: " in head
        return int(head.split(b" ")[1]), body

    async def get(self, path: str) -> tuple[int, bytes]:
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    site = Site()
    await site.server.start()
    try:
        yield site
    finally:
        await site.server.stop()


async def test_metrics_are_those_of_the_registry() -> None:
    async with serving() as site:
        Counter("replog_things", "Things", registry=site.registry).inc(3)
        status, body = await site.get("/metrics")

    assert status == 200
    assert b"replog_things_total 3.0" in body


async def test_health_is_told_with_one_line_why_not() -> None:
    async with serving() as site:
        assert await site.get("/livez") == (200, b"ok\n")
        assert await site.get("/readyz?verbose") == (200, b"ok\n")
        site.not_ready = "no leader\nis known"
        assert await site.get("/livez") == (200, b"ok\n")
        assert await site.get("/readyz") == (503, b"no leader is known\n")
        site.not_alive = "failed: disk"
        assert await site.get("/livez") == (503, b"failed: disk\n")
        assert await site.get("/readyz") == (503, b"failed: disk\n")


async def test_the_page_lists_the_others() -> None:
    async with serving() as site:
        status, body = await site.get("/")

    assert status == 200
    assert all(path in body for path in (b"/metrics", b"/livez", b"/readyz"))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /../etc/passwd HTTP/1.0\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_it_does_not_serve_has_its_status(data: bytes, status: int) -> None:
    async with serving() as site:
        assert (await site.ask(data))[0] in (status, 0 if status == 431 else status)
        assert (await site.get("/livez"))[0] == 200


async def test_head_has_no_body() -> None:
    async with serving() as site:
        assert await site.ask(b"HEAD /livez HTTP/1.1\r\n\r\n") == (200, b"")


async def test_a_collector_that_raises_is_an_answer() -> None:
    async with serving() as site:
        broken = Broken()
        site.registry.register(broken)
        broken.armed = True

        assert await site.get("/metrics") == (500, b"a collector failed: ValueError: no numbers today\n")
        assert (await site.get("/livez"))[0] == 200


async def test_a_slow_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS_MAX", 0.05)
    async with serving() as site:
        assert (await site.ask(b"GET / HT"))[0] == 408


async def test_connections_beyond_the_limit_are_dropped_and_make_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(http, "REQUEST_SECONDS_MAX", 0.1)
    async with serving() as site:
        idle = await asyncio.gather(*(site.ask(b"GET") for _ in range(10)))
        assert sorted({status for status, _ in idle}) == [0, 408]

        assert (await site.get("/livez"))[0] == 200


async def test_a_reader_that_never_reads_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS_MAX", 0.1)
    async with serving() as site:
        things = Counter("replog_things", "x" * 1000, ["name"], registry=site.registry)
        for number in range(200):
            things.labels(f"{number:050000}")
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # the greedy client
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(5):
            while not site.server._connections:
                await asyncio.sleep(0.005)
            while site.server._connections:
                await asyncio.sleep(0.005)
        writer.close()

        assert (await site.get("/livez"))[0] == 200


async def test_a_taken_port_is_named() -> None:
    async with serving() as site:
        second = HttpServer(site.server.bound_address, CollectorRegistry(), alive=str, ready=str)

        with pytest.raises(PortTaken, match=site.server.bound_address):
            await second.start()


async def test_stopping_ends_open_connections() -> None:
    async with serving() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET")
        async with asyncio.timeout(5):
            while not site.server._connections:
                await asyncio.sleep(0.005)
            await site.server.stop()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        writer.close()
