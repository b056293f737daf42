"""Linearizable queries of one process: one read for all that are asked in one turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from replog.errors import Unavailable
from replog.node.inbox import Inbox
from replog.node.queries import TOLD_AT_ONCE_MIN, Queries, QueryBatch
from replog.statemachine import StateMachine
from tests.unit.node.harness import Register


class Echo(Register):
    """Counts its calls; ``raise`` raises, ``stop`` raises what a future does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def query(self, request: bytes) -> bytes:
        if request == b"raise":
            raise ValueError("no such thing")
        if request == b"stop":
            raise StopIteration
        return b"state of " + request

    def query_batch(self, requests: Sequence[bytes]) -> Sequence[bytes | Exception]:
        self.calls.append(len(requests))
        return super().query_batch(requests)


class Broken(Register):
    def query_batch(self, requests: Sequence[bytes]) -> Sequence[bytes | Exception]:
        if requests[0] == b"raise":
            raise LookupError("all of them")
        return [b""]


def make_queries(machine: StateMachine) -> tuple[Queries, Inbox]:
    inbox = Inbox(proposals_max=100, turn_bytes_max=1000)
    return Queries(machine, inbox), inbox


def take(inbox: Inbox) -> QueryBatch:
    """The one ticket that the owner's next turn finds."""
    (batch,) = inbox.drain().reads
    assert isinstance(batch, QueryBatch)
    return batch


async def test_queries_of_one_turn_are_one_ticket_and_one_call_of_the_state_machine() -> None:
    machine = Echo()
    queries, inbox = make_queries(machine)
    futures = [queries.ask(b"%d" % number) for number in range(100)]

    take(inbox).set_result(7)

    assert [future.result() for future in futures] == [b"state of %d" % number for number in range(100)]
    assert machine.calls == [100]


async def test_a_query_asked_after_the_owner_took_the_batch_waits_for_a_round_of_its_own() -> None:
    queries, inbox = make_queries(Echo())
    early = queries.ask(b"early")
    batch = take(inbox)

    late = queries.ask(b"late")
    batch.set_result(7)

    assert early.done()
    assert not late.done()
    take(inbox).set_result(8)
    assert late.result() == b"state of late"


async def test_who_joins_shares_the_batch_that_is_open_and_nobody_joins_one_that_was_taken() -> None:
    machine = Echo()
    queries, inbox = make_queries(machine)
    assert queries.join(b"nobody has asked yet") is None
    first, second = queries.ask(b"first"), queries.join(b"second")

    batch = take(inbox)
    assert queries.join(b"too late") is None
    batch.set_result(7)

    assert second is not None
    assert (first.result(), second.result()) == (b"state of first", b"state of second")
    assert machine.calls == [2]


async def test_a_query_that_raises_fails_alone() -> None:
    queries, inbox = make_queries(Echo())
    good, bad, odd = queries.ask(b"x"), queries.ask(b"raise"), queries.ask(b"stop")

    take(inbox).set_result(7)

    assert good.result() == b"state of x"
    with pytest.raises(ValueError, match="no such thing"):
        bad.result()
    with pytest.raises(RuntimeError, match="StopIteration"):
        odd.result()


@pytest.mark.parametrize(
    ("first", "error", "text"), [(b"raise", LookupError, "all of them"), (b"x", RuntimeError, "1 answers for 2 requests")]
)
async def test_a_broken_query_batch_is_the_answer_to_all_and_raises_nothing_in_the_owner(
    first: bytes, error: type[Exception], text: str
) -> None:
    queries, inbox = make_queries(Broken())
    futures = [queries.ask(first), queries.ask(b"y")]

    take(inbox).set_result(7)

    for future in futures:
        with pytest.raises(error, match=text):
            future.result()


async def test_a_caller_that_has_gone_is_passed_over() -> None:
    queries, inbox = make_queries(Echo())
    gone, here = queries.ask(b"gone"), queries.ask(b"here")
    gone.cancel()

    take(inbox).set_result(7)

    assert here.result() == b"state of here"


async def test_a_read_that_nobody_confirms_fails_all_of_its_queries() -> None:
    queries, inbox = make_queries(Echo())
    futures = [queries.ask(b"x"), queries.ask(b"y")]

    take(inbox).set_exception(Unavailable("nobody"))

    for future in futures:
        with pytest.raises(Unavailable, match="nobody"):
            future.result()


async def test_of_many_callers_the_first_half_asks_again_before_the_second_is_told() -> None:
    machine = Echo()
    queries, inbox = make_queries(machine)
    futures = [queries.ask(b"x") for _ in range(3 * TOLD_AT_ONCE_MIN)]
    half = len(futures) // 2

    take(inbox).set_result(7)

    assert [future.done() for future in futures] == [True] * half + [False] * half
    await asyncio.sleep(0)
    assert all(future.done() for future in futures)
    assert machine.calls == [len(futures)], "both halves are answered from one state"
