"""The outbox: order, limits, and what gives way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from replog.raft.messages import AppendEntries, EntryRange, HeartbeatReply, Message
from replog.transport.encode import size_of
from replog.transport.outbox import Outbox


def append(number: int, size_bytes: int = 1000) -> AppendEntries:
    entries = EntryRange(first_index=number + 1, last_index=number + 1, terms=((number + 1, 1),), size_bytes=size_bytes)
    return AppendEntries(
        source="a", target="b", term=1, prev_index=number, prev_term=int(number > 0), committed_index=0, entries=entries, frames=None
    )


def reply(number: int) -> HeartbeatReply:
    return HeartbeatReply(source="b", target="a", term=1, round=number)


def filled(*messages: Message) -> Outbox:
    outbox = Outbox()
    for message in messages:
        outbox.put(message)
    return outbox


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    messages: list[Message] = [append(1), reply(1), append(2), reply(2)]

    assert filled(*messages).take(10**9) == messages


def test_an_envelope_takes_until_its_target_is_reached() -> None:
    outbox = filled(append(1), append(2), append(3))

    assert outbox.take(1500) == [append(1), append(2)]
    assert outbox.take(1500) == [append(3)]
    assert outbox.size_bytes == 0
    assert outbox.take(1500) == []


def test_a_message_above_the_target_leaves_alone() -> None:
    outbox = filled(append(1, 10_000), append(2))

    assert outbox.take(100) == [append(1, 10_000)]


def test_the_oldest_append_gives_way_and_replies_stay() -> None:
    outbox = filled(reply(1), append(1), reply(2), append(2), append(3))

    assert outbox.bound(2500)
    assert outbox.take(10**9) == [reply(1), reply(2), append(2), append(3)]
    assert outbox.dropped == 1


def test_without_appends_the_oldest_of_all_gives_way() -> None:
    outbox = filled(reply(1), reply(2), reply(3))

    assert outbox.bound(10**9, messages_max=2)
    assert outbox.take(10**9) == [reply(2), reply(3)]


def test_the_newest_message_always_stays() -> None:
    outbox = filled(append(1, 10_000))

    assert not outbox.bound(10)
    assert outbox.take(10**9) == [append(1, 10_000)]


def test_within_its_limits_nothing_is_dropped() -> None:
    outbox = filled(append(1), append(2))

    assert not outbox.bound(10_000, messages_max=2)
    assert outbox.dropped == 0


def test_clearing_counts_what_is_lost() -> None:
    outbox = filled(append(1), reply(1))

    assert outbox.clear() == 2
    assert (len(outbox), outbox.size_bytes, outbox.dropped) == (0, 0, 2)


@given(st.lists(st.one_of(st.integers(0, 5000), st.none()), max_size=30), st.integers(1, 10_000), st.integers(1, 10_000))
def test_size_order_and_limit_hold_whatever_comes(sizes: list[int | None], limit: int, target: int) -> None:
    messages: list[Message] = [reply(at) if size is None else append(at, size) for at, size in enumerate(sizes)]
    outbox = filled(*messages)
    outbox.bound(limit)
    assert outbox.size_bytes <= limit or len(outbox) == 1

    taken: list[Message] = []
    while batch := outbox.take(target):
        taken += batch

    assert outbox.size_bytes == 0
    assert len(taken) + outbox.dropped == len(messages)
    assert taken == [message for message in messages if message in taken]
    if messages:
        assert taken[-1] == messages[-1]
    assert sum(map(size_of, taken)) <= max(limit, size_of(taken[-1]) if taken else 0)
