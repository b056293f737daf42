"""Messages between transports over real sockets: order, loss, reconnection, and who is refused; each test over direct streams and over gRPC alone."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from replog.config import ClusterConfig, NodeConfig
from replog.errors import ConfigError, PortTaken
from replog.node.server import NodeServer
from replog.raft.messages import AppendEntries
from replog.transport import WireLimits, inbound
from replog.transport.peer import Peer
from tests.integration.transport_nodes import CODEC, LIMITS, Endpoint, append, free_port, recording_peer, reply, running, until


@pytest.fixture(autouse=True, params=[True, False], ids=["direct", "gRPC"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Endpoint, "offers_direct", request.param)


async def test_messages_go_both_ways() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        b.transport.set_peers({"a": a.address})
        a.transport.send([reply("a", "b", 1)])
        b.transport.send([reply("b", "a", 2)])

        await until(lambda: a.received and b.received)

    assert a.received == [reply("b", "a", 2)]
    assert b.received == [reply("a", "b", 1)]


async def test_entries_arrive_with_the_bytes_that_were_sent() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    sent = append("a", "b", 1, [b"x" * 100_000, b"y"])
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        a.transport.send([sent])
        await until(lambda: b.received)

    [received] = b.received
    assert isinstance(received, AppendEntries)
    assert received.frames.buffer == sent.frames.buffer


@pytest.mark.slow
async def test_ten_thousand_messages_keep_their_order() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        for number in range(10_000):
            message = append("a", "b", number + 1, [b"%d" % number]) if number % 3 else reply("a", "b", number)
            a.transport.send([message])
            if number % 50 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(b.received) == 10_000)

    numbers = [message.entries.first_index - 1 if isinstance(message, AppendEntries) else message.round for message in b.received]  # type: ignore[union-attr]  # every append here has entries, the others are heartbeat replies
    assert numbers == list(range(10_000))
    if not Endpoint.offers_direct:  # a socket takes what it is given at once, so there nothing waits
        assert a.transport.counters.envelopes_sent < 2_000, "messages that wait together travel together"
    assert a.transport.counters.messages_sent == b.transport.counters.messages_received == 10_000
    assert a.lost == []


async def test_one_batch_of_bytes_goes_to_two_followers() -> None:
    a, b, c = Endpoint("a"), Endpoint("b"), Endpoint("c")
    to_b = append("a", "b", 1, [b"x"])
    to_c = AppendEntries(
        source="a",
        target="c",
        term=1,
        prev_index=0,
        prev_term=0,
        committed_index=0,
        entries=to_b.entries,
        frames=to_b.frames,
    )
    async with running(a, b, c):
        a.transport.set_peers({"b": b.address, "c": c.address})
        await until(lambda: len(a.transport.connected) == 2)
        a.transport.send([to_b, to_c])
        await until(lambda: b.received and c.received)

    assert [message.target for message in (*b.received, *c.received)] == ["b", "c"]


async def test_bytes_leave_before_the_loop_is_held_up() -> None:
    """The owner may sync on the loop right after it sent: the followers have the entries by then."""
    arrived: list[float] = []
    with recording_peer(arrived) as address:
        a = Endpoint("a")
        async with running(a):
            a.transport.set_peers({"b": address})
            await until(lambda: a.transport.connected)
            await asyncio.sleep(0)
            began = time.monotonic()
            a.transport.send([append("a", "b", 1, [b"x" * 100])])
            time.sleep(0.3)
            await until(lambda: arrived)

    assert arrived[0] - began < 0.2


async def test_a_message_for_a_node_of_unknown_address_is_dropped_and_counted() -> None:
    a = Endpoint("a")
    async with running(a):
        a.transport.send([reply("a", "nobody", 1)])

    assert a.transport.counters.messages_dropped == 1


async def test_a_node_that_knows_nobody_can_answer_its_leader() -> None:
    """A joining node has no membership: it learns the address from the leader's hello."""
    leader, joining = Endpoint("leader"), Endpoint("new")
    async with running(leader, joining):
        leader.transport.set_peers({"new": joining.address})
        leader.transport.send([reply("leader", "new", 1)])
        await until(lambda: joining.received)
        joining.transport.send([reply("new", "leader", 2)])

        await until(lambda: leader.received)

    assert leader.received == [reply("new", "leader", 2)]


async def test_a_peer_that_restarts_is_found_again_and_its_loss_is_told() -> None:
    port = free_port()
    a, first = Endpoint("a"), Endpoint("b", bind_address=f"127.0.0.1:{port}")
    async with running(a):
        a.transport.set_peers({"b": f"127.0.0.1:{port}"})
        async with running(first):
            await until(lambda: a.transport.connected)
        await until(lambda: a.lost)
        assert a.transport.connected == ()

        second = Endpoint("b", bind_address=f"127.0.0.1:{port}")
        async with running(second):
            await until(lambda: a.transport.connected)
            a.transport.send([reply("a", "b", 7)])
            await until(lambda: second.received)

    assert second.received == [reply("a", "b", 7)]
    assert a.lost[0] == "b"
    assert a.transport.counters.connects == 2


async def test_a_peer_that_comes_back_and_calls_is_called_back_at_once() -> None:
    """Its stream to us ends our pause: it is not waited out."""
    port = free_port()
    a, b = Endpoint("a"), Endpoint("b", bind_address=f"127.0.0.1:{port}")
    async with running(a):
        a.transport.set_peers({"b": f"127.0.0.1:{port}"})
        await until(lambda: a.transport.peer_error("b"))
        async with running(b):
            b.transport.set_peers({"a": a.address})
            await until(lambda: b.transport.connected)

            await until(lambda: a.transport.connected, seconds=2.0)


async def test_what_waits_for_an_absent_peer_is_bounded_and_the_newest_arrives() -> None:
    port = free_port()
    a, b = Endpoint("a"), Endpoint("b", bind_address=f"127.0.0.1:{port}")
    async with running(a):
        a.transport.set_peers({"b": f"127.0.0.1:{port}"})
        for number in range(1_000):
            a.transport.send([reply("a", "b", number)])
        await until(lambda: a.lost)
        async with running(b):
            await until(lambda: b.received)

    assert b.received == [reply("a", "b", number) for number in range(936, 1_000)]
    assert a.transport.counters.messages_dropped == 936


async def test_a_full_outbox_drops_the_oldest_appends_and_reports_the_peer() -> None:
    a, b = Endpoint("a", outbox_bytes_max=50_000), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        a.transport.send([reply("a", "b", 0), *(append("a", "b", number, [b"x" * 10_000]) for number in range(1, 21))])
        await until(lambda: len(b.received) >= 5 and a.lost)

    kept = [message.entries.first_index for message in b.received if isinstance(message, AppendEntries) and message.entries]
    assert kept == [17, 18, 19, 20]
    assert b.received[0] == reply("a", "b", 0)
    assert a.lost == ["b"], "told once, not once a message"


async def test_a_mistake_of_ours_is_told_and_does_not_cost_the_peer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its task would end without a word, and the peer stay silent until a restart."""
    handshake, mistakes = Peer._handshake, [ValueError("ours")]

    async def mistaken(self: Peer, call: Any) -> Any:
        if mistakes:
            raise mistakes.pop()
        return await handshake(self, call)

    monkeypatch.setattr(Peer, "_handshake", mistaken)
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        a.transport.send([reply("a", "b", 1)])
        await until(lambda: b.received)

    assert "a mistake of ours on the way to b" in caplog.text


async def test_a_peer_that_is_no_longer_one_is_let_go() -> None:
    """Also when it still calls us: two that are no longer peers must not hold each other."""
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        b.transport.set_peers({"a": a.address})
        await until(lambda: a.transport.connected and b.transport.connected)
        a.transport.set_peers({})
        await until(lambda: not a.transport.connected and not b.transport._inbound)
        b.transport.set_peers({})

        await until(lambda: not b.transport.connected and not a.transport._inbound)


async def test_who_is_answered_without_being_a_peer_is_let_go_with_its_stream() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        assert b.transport._peers == {}
        b.transport.send([reply("b", "a", 1)])
        await until(lambda: a.received and b.transport.connected)
        a.transport.set_peers({})

        await until(lambda: not b.transport._peers and not a.transport._peers)


async def test_a_peer_whose_address_changes_is_reached_at_the_new_one() -> None:
    a, b, moved = Endpoint("a"), Endpoint("b"), Endpoint("b")
    async with running(a, b, moved):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        a.transport.set_peers({"b": moved.address})
        await until(lambda: a.transport.connected)
        a.transport.send([reply("a", "b", 1)])

        await until(lambda: moved.received)

    assert b.received == []


async def test_a_newer_stream_of_the_same_node_takes_the_older_ones_place() -> None:
    old, new, b = Endpoint("a"), Endpoint("a"), Endpoint("b")
    async with running(old, new, b):
        old.transport.set_peers({"b": b.address})
        await until(lambda: old.transport.connected)
        new.transport.set_peers({"b": b.address})
        await until(lambda: new.transport.connected)
        old.transport.send([reply("a", "b", 1)])
        await until(lambda: not old.transport.connected or old.lost)
        new.transport.send([reply("a", "b", 2)])
        await until(lambda: b.received)

        assert reply("a", "b", 1) not in b.received


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"cluster_id": "other"}, "cluster_id: found 'other', expected 'test'"),
        ({"fingerprint": "beef"}, "fingerprint: found 'beef', expected"),
        ({"incarnation": 9}, "incarnation: found '9', expected '1'"),
        ({"epoch": 0}, "epoch: found '0', expected '2'"),
    ],
)
async def test_a_stranger_is_refused_with_both_values_and_delivers_nothing(
    theirs: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "replog.transport")
    a, b = Endpoint("a", **{"epoch": 2, **theirs}), Endpoint("b", epoch=2, expected_incarnation=lambda _: 1)
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        a.transport.send([reply("a", "b", 1)])
        await until(lambda: a.transport.peer_error("b"))

        assert words in a.transport.peer_error("b")
        assert words in caplog.text
        assert b.transport.counters.refused >= 1
        assert b.received == []
        assert a.transport.connected == ()


async def test_a_refusal_is_told_to_people_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "replog.transport")
    a, b = Endpoint("a", fingerprint="beef"), Endpoint("b")

    def told(words: str) -> list[str]:
        return [record.getMessage() for record in caplog.records if words in record.getMessage()]

    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: b.transport.counters.refused >= 3)
        assert [line.partition(":")[0] for line in sorted(told("fingerprint"))] == ["a", "b"]

        a.identity.cluster_id = "other"
        before = b.transport.counters.refused
        await until(lambda: b.transport.counters.refused >= before + 3)

        assert [line.partition(":")[0] for line in sorted(told("cluster_id"))] == ["a", "b"]
        assert len(told("fingerprint")) == 2


async def test_refusals_of_ever_new_names_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "REFUSALS_REMEMBERED_MAX", 3)
    endpoint = Endpoint("b")
    for number in range(10):
        endpoint.transport._inbound._tell_refused(f"stranger-{number}", "somewhere", "no")

    assert len(endpoint.transport._inbound._refusals) <= 3


async def test_a_wiped_peer_is_noticed_by_who_calls_it_and_by_who_is_called() -> None:
    seen_by_a: list[tuple[str, int]] = []
    a = Endpoint("a", expected_incarnation=lambda _: 1, on_incarnation_seen=lambda node, number: seen_by_a.append((node, number)))
    wiped = Endpoint("b", incarnation=2)
    async with running(a, wiped):
        a.transport.set_peers({"b": wiped.address})
        await until(lambda: a.transport.peer_error("b"))
        assert "incarnation: found '2', expected '1'" in a.transport.peer_error("b")
        wiped.transport.set_peers({"a": a.address})
        await until(lambda: wiped.transport.peer_error("a"))

        assert "incarnation: found '2', expected '1'" in wiped.transport.peer_error("a")
        assert ("b", 2) in seen_by_a


async def test_another_node_at_the_address_is_refused() -> None:
    a, c = Endpoint("a"), Endpoint("c")
    async with running(a, c):
        a.transport.set_peers({"b": c.address})
        await until(lambda: a.transport.peer_error("b"))

        assert "target: found 'b', expected 'c'" in a.transport.peer_error("b")


async def test_a_name_is_resolved_at_each_connect() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address.replace("127.0.0.1", "localhost")})

        await until(lambda: a.transport.connected)


async def test_a_port_that_is_taken_is_named_before_anything_runs() -> None:
    a = Endpoint("a")
    async with running(a):
        second = NodeServer(a.address, [], message_bytes_max=LIMITS.envelope_bytes_max)

        with pytest.raises(PortTaken, match=f"cannot listen on {a.address}"):
            second.bind()


async def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1"):
        NodeServer("192.0.2.1:0", [], message_bytes_max=1000).bind()


async def test_stopping_ends_the_streams_of_others_in_order_and_at_once() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address})
        await until(lambda: a.transport.connected)
        await b.transport.stop()
        async with asyncio.timeout(5):
            await b.server.stop(grace_seconds=30.0)
        await until(lambda: a.lost)

        assert "OK" in a.transport.peer_error("b") or "UNAVAILABLE" in a.transport.peer_error("b")


async def test_stopping_leaves_no_task_behind() -> None:
    a, b = Endpoint("a"), Endpoint("b")
    async with running(a, b):
        a.transport.set_peers({"b": b.address, "gone": "127.0.0.1:1"})
        await until(lambda: a.transport.connected)

    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("replog-peer")] == []


def test_a_node_that_would_send_more_than_others_take_is_refused() -> None:
    limits = WireLimits.of(ClusterConfig())
    with pytest.raises(ConfigError, match="append_bytes_max"):
        limits.check(NodeConfig(node_id="a", data_dir="d", append_bytes_max=limits.frames_bytes_max + 1))


def test_an_entry_of_the_largest_size_fits_the_wire() -> None:
    cluster = ClusterConfig(entry_bytes_max=64 << 20)
    limits = WireLimits.of(cluster)
    frames = CODEC.encode(1, 1, 1, [b""])  # type: ignore[arg-type]  # the kind's number will do

    assert cluster.entry_bytes_max + frames.size_bytes <= limits.frames_bytes_max < limits.envelope_bytes_max
