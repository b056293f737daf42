"""What waits for the owner."""

from __future__ import annotations

import asyncio

import pytest

from replog.errors import Busy
from replog.node.inbox import Inbox


def make_inbox(proposals_max: int = 100, turn_bytes_max: int = 1000) -> Inbox:
    return Inbox(proposals_max=proposals_max, turn_bytes_max=turn_bytes_max)


def test_one_turn_takes_everything_that_fits() -> None:
    inbox = make_inbox()
    inbox.inputs.payloads += [b"a", b"b"]
    inbox.inputs.tickets += ["A", "B"]
    inbox.inputs.ticks += 3

    taken = inbox.drain()

    assert (taken.payloads, taken.tickets, taken.ticks) == ([b"a", b"b"], ["A", "B"], 3)
    assert not inbox.inputs


def test_proposals_over_a_turns_bytes_stay_in_order() -> None:
    inbox = make_inbox(turn_bytes_max=10)
    inbox.inputs.payloads += [b"12345", b"12345", b"x" * 50, b"y"]
    inbox.inputs.tickets += [1, 2, 3, 4]

    turns = [inbox.drain().tickets for _ in range(3)]

    assert turns == [[1, 2], [3], [4]]


def test_groups_stay_whole() -> None:
    inbox = make_inbox(turn_bytes_max=10)
    for ticket in (1, 2, 3):
        inbox.add_group([b"1234", b"5678"], ticket)

    assert [ticket for _, ticket in inbox.drain().groups] == [1]
    assert [ticket for _, ticket in inbox.drain().groups] == [2]


async def test_a_full_inbox_makes_the_caller_wait_until_the_owner_has_drained_it() -> None:
    inbox = make_inbox(proposals_max=2)
    inbox.inputs.payloads += [b"a", b"b"]
    inbox.inputs.tickets += [1, 2]
    waiting = asyncio.ensure_future(inbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()

    inbox.drain()

    await asyncio.wait_for(waiting, 1)


def test_who_cannot_wait_is_told_that_it_is_full() -> None:
    inbox = make_inbox(proposals_max=3)
    inbox.check_room()
    inbox.add_group([b"a", b"b", b"c"], "group")

    with pytest.raises(Busy, match="proposals waiting for the owner is 3, the limit is 3"):
        inbox.check_room()


async def test_the_owner_wakes_when_something_comes() -> None:
    inbox = make_inbox()
    waiting = asyncio.ensure_future(inbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()

    inbox.inputs.ticks += 1
    inbox.wake()

    await asyncio.wait_for(waiting, 1)
