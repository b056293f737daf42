"""Envelopes over a socket: whole and in order however the bytes are cut, nothing lost where the socket is full, and an end that is told once."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replog.errors import MalformedMessage
from replog.transport import direct
from replog.transport.direct import DirectReceiver, DirectSender

LIMIT = 8 << 20


def framed(envelopes: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(envelope)) + envelope for envelope in envelopes)


class Pair:
    """Both ends of a connection on one loop, and what they tell."""

    def __init__(self, sending: socket.socket, receiving: socket.socket, limit: int = LIMIT) -> None:
        self.sending, self.receiving = sending, receiving
        self.received: list[bytes] = []
        self.reads = 0
        self.written = 0
        self.sender_ends: list[str] = []
        self.receiver_ends: list[Exception | None] = []
        for end in (sending, receiving):
            end.setblocking(False)
        self.sender = DirectSender(sending, self._on_written, self.sender_ends.append)
        self.receiver = DirectReceiver(receiving, limit, self._deliver, self.receiver_ends.append)

    def _on_written(self) -> None:
        self.written += 1

    def _deliver(self, envelopes: list[bytes]) -> None:
        self.reads += 1
        self.received += envelopes

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


async def until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_is_written_arrives_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    pair = Pair(*ends)
    envelopes = [b"one", b"2", b"three" * 1000]

    assert all(pair.sender.write([envelope]) for envelope in envelopes)
    await until(lambda: len(pair.received) == 3)
    pair.close()

    assert pair.received == envelopes
    assert pair.sender_ends == []
    assert pair.receiver_ends == []


@given(
    sizes=st.lists(st.integers(1, 300), max_size=12),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    buffer_bytes=st.integers(8, 64),
)
def test_envelopes_are_whole_however_the_bytes_are_cut(sizes: list[int], cuts: list[int], buffer_bytes: int) -> None:
    """Also with a buffer that most envelopes do not fit into."""
    chance = random.Random(1)
    envelopes = [chance.randbytes(size) for size in sizes]
    data = framed(envelopes)

    async def receive() -> list[bytes]:
        one, other = socket.socketpair()
        other.setblocking(False)
        received: list[bytes] = []
        receiver = DirectReceiver(other, LIMIT, received.extend, lambda _: None)
        at, number = 0, 0
        while at < len(data):
            step = cuts[number % len(cuts)]
            one.sendall(data[at : at + step])
            receiver._on_readable()
            at, number = at + step, number + 1
        while len(received) < len(envelopes):
            receiver._on_readable()
        receiver.close()
        one.close()
        return received

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_BUFFER_BYTES", buffer_bytes)
        patch.setattr(direct, "_BUFFER_BYTES_KEPT_MAX", 2 * buffer_bytes)
        received = asyncio.run(receive())

    assert received == envelopes


async def test_an_envelope_larger_than_the_buffer_arrives_and_its_room_is_given_back(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "_BUFFER_BYTES_KEPT_MAX", 1 << 20)
    pair = Pair(*ends)
    large = random.Random(2).randbytes(5 << 20)

    assert not pair.sender.write([large[:100], large[100:]]), "the socket does not take all of it at once"
    await until(lambda: pair.written)
    assert pair.sender.write([b"behind it"])
    await until(lambda: len(pair.received) == 2)
    room = len(pair.receiver._buffer)
    pair.close()

    assert pair.received == [large, b"behind it"]
    assert room <= 1 << 20


async def test_a_receiver_that_reads_late_holds_the_sender_and_loses_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    """One byte of room at a time is left and taken: the cut may fall into the length."""
    pair = Pair(*ends)
    asyncio.get_running_loop().remove_reader(pair.receiving)
    count = 0
    while pair.sender.write([b"%06d" % count * 25, b"%06d" % count * 25]):
        count += 1
    assert pair.written == 0

    asyncio.get_running_loop().add_reader(pair.receiving, pair.receiver._on_readable)
    await until(lambda: pair.written == 1)
    await until(lambda: len(pair.received) == count + 1)
    pair.close()

    assert pair.received == [b"%06d" % number * 50 for number in range(count + 1)]


async def test_a_write_that_stops_within_the_length_or_a_piece_goes_on_there(ends: tuple[socket.socket, socket.socket]) -> None:
    class Stingy:
        """Takes three bytes at a time."""

        def __init__(self, connection: socket.socket) -> None:
            self._connection = connection
            self.fileno, self.recv, self.close = connection.fileno, connection.recv, connection.close

        def sendmsg(self, pieces: list[bytes]) -> int:
            return self._connection.send(b"".join(pieces)[:3])

    pair = Pair(*ends)
    pair.sender._connection = Stingy(ends[0])  # type: ignore[assignment]  # all that the sender uses of a socket

    assert not pair.sender.write([b"wh", b"ole"])
    await until(lambda: pair.received)
    pair.sender._connection = ends[0]
    pair.close()

    assert pair.received == [b"whole"]
    assert pair.written == 1


async def test_bytes_leave_before_the_loop_is_held_up(ends: tuple[socket.socket, socket.socket]) -> None:
    """The owner may sync on the loop right after it sent: the follower has the entries by then."""
    arrived: list[float] = []

    def read() -> None:
        ends[1].recv(1000)
        arrived.append(time.monotonic())

    ends[0].setblocking(False)
    sender = DirectSender(ends[0], lambda: None, lambda _: None)
    reader = threading.Thread(target=read)
    reader.start()
    began = time.monotonic()
    sender.write([b"x" * 100])
    time.sleep(0.3)
    reader.join()
    sender.close()

    assert arrived[0] - began < 0.2


async def test_a_length_over_the_limit_ends_the_connection_and_is_never_allocated(ends: tuple[socket.socket, socket.socket]) -> None:
    pair = Pair(*ends, limit=1000)
    pair.sender.close()
    one, other = socket.socketpair()
    other.setblocking(False)
    told: list[Exception | None] = []
    receiver = DirectReceiver(other, 1000, lambda _: None, told.append)
    one.send(struct.pack("<I", 2**32 - 1))
    await until(lambda: told)
    one.close()
    pair.close()

    assert str(told[0]) == "envelope of 4294967295 bytes; allowed are 1 to 1000"
    assert len(receiver._buffer) <= 1 << 20
    assert other.fileno() == -1


async def test_room_grows_with_what_has_come_and_not_with_what_a_length_says(ends: tuple[socket.socket, socket.socket]) -> None:
    """And none is held once the connection is closed: a stranger's four bytes must not cost megabytes."""
    ends[1].setblocking(False)
    receiver = DirectReceiver(ends[1], 64 << 20, lambda _: None, lambda _: None)
    ends[0].send(struct.pack("<I", 60 << 20) + bytes(1000))
    receiver._on_readable()

    assert len(receiver._buffer) == direct._BUFFER_BYTES
    receiver.close()
    assert len(receiver._buffer) == 0


async def test_good_envelopes_in_front_of_a_bad_one_are_delivered(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].setblocking(False)
    received: list[bytes] = []
    told: list[Exception | None] = []
    receiver = DirectReceiver(ends[1], 100, received.extend, told.append)
    ends[0].send(framed([b"one", b"two"]) + struct.pack("<I", 0))
    receiver._on_readable()

    assert received == [b"one", b"two"]
    assert [str(error) for error in told] == ["envelope of 0 bytes; allowed are 1 to 100"]


async def test_a_mistake_of_ours_while_delivering_ends_the_connection_and_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    def mistaken(_: list[bytes]) -> None:
        raise ValueError("ours")

    ends[1].setblocking(False)
    told: list[Exception | None] = []
    receiver = DirectReceiver(ends[1], 100, mistaken, told.append)
    ends[0].send(framed([b"x"]))
    receiver._on_readable()

    assert [repr(error) for error in told] == ["ValueError('ours')"]


async def test_one_read_takes_no_more_than_its_share(ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_READ_BYTES_MAX", 50)
    pair = Pair(*ends)
    pair.sender.write([b"x" * 21])
    pair.sender.write([b"y" * 21])
    pair.sender.write([b"z" * 21])
    await until(lambda: len(pair.received) == 3)
    pair.close()

    assert pair.reads == 2


async def test_what_the_gateway_refuses_ends_the_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    told: list[Exception | None] = []

    def refuse(_: list[bytes]) -> None:
        raise MalformedMessage("no")

    ends[1].setblocking(False)
    DirectReceiver(ends[1], LIMIT, refuse, told.append)
    ends[0].send(framed([b"x"]))
    await until(lambda: told)

    assert [str(error) for error in told] == ["no"]
    assert ends[1].fileno() == -1


async def test_each_end_learns_once_that_the_other_is_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    pair = Pair(*ends)
    pair.sender.close()
    await until(lambda: pair.receiver_ends)
    assert pair.receiver_ends == [None]

    one, other = socket.socketpair()
    pair = Pair(one, other)
    pair.receiver.close()
    await until(lambda: pair.sender_ends)
    assert pair.sender_ends == ["closed by the other side"]
    pair.close()


async def test_a_write_to_a_broken_connection_is_told_as_its_end(ends: tuple[socket.socket, socket.socket]) -> None:
    pair = Pair(*ends)
    pair.receiver.close()

    assert not pair.sender.write([b"x"])

    assert len(pair.sender_ends) == 1
    assert ends[0].fileno() == -1


async def test_a_receiver_has_nothing_to_say(ends: tuple[socket.socket, socket.socket]) -> None:
    pair = Pair(*ends)
    ends[1].send(b"hello")
    await until(lambda: pair.sender_ends)
    pair.close()

    assert pair.sender_ends == ["it sent something"]
