"""A coroutine that begins at once goes on by itself, and tells its end once."""

from __future__ import annotations

import asyncio
import gc

import pytest

from replog.transport.eager import Eager


class Ends:
    """What `on_end` was told."""

    def __init__(self) -> None:
        self.told: list[BaseException | None] = []
        self.there = asyncio.Event()

    def __call__(self, error: BaseException | None) -> None:
        self.told.append(error)
        self.there.set()


async def test_it_runs_up_to_its_first_wait_at_once_and_on_by_itself() -> None:
    steps: list[str] = []
    loop = asyncio.get_running_loop()
    first, second, ends = loop.create_future(), loop.create_future(), Ends()

    async def work() -> None:
        steps.append("begun")
        assert await first == 5
        steps.append("woken")
        await second
        steps.append("ended")

    eager = Eager(work(), ends)
    assert steps == ["begun"]
    assert not eager.done
    first.set_result(5)
    loop.call_soon(second.set_result, None)
    await ends.there.wait()

    assert steps == ["begun", "woken", "ended"]
    assert ends.told == [None]
    assert eager.done


async def test_one_that_never_waits_is_done_at_once_and_tells_nobody() -> None:
    ends = Ends()

    async def work() -> None:
        return

    eager = Eager(work(), ends)
    await asyncio.sleep(0)

    assert eager.done
    assert eager.error is None
    assert ends.told == []


async def test_an_error_before_the_first_wait_is_kept() -> None:
    ends = Ends()

    async def work() -> None:
        raise ValueError("at once")

    eager = Eager(work(), ends)

    assert eager.done
    assert isinstance(eager.error, ValueError)
    assert ends.told == []


@pytest.mark.parametrize("caught", [True, False])
async def test_an_error_of_what_it_waits_for_reaches_the_coroutine_and_is_told_when_not_caught(caught: bool) -> None:
    gate, ends = asyncio.get_running_loop().create_future(), Ends()
    error = ValueError("x")

    async def work() -> None:
        try:
            await gate
        except ValueError:
            if not caught:
                raise

    Eager(work(), ends)
    gate.set_exception(error)
    await ends.there.wait()

    assert ends.told == ([None] if caught else [error])


async def test_a_future_that_is_cancelled_is_told_as_a_cancellation() -> None:
    gate, ends = asyncio.get_running_loop().create_future(), Ends()

    async def work() -> None:
        await gate

    Eager(work(), ends)
    gate.cancel()
    await ends.there.wait()

    assert isinstance(ends.told[0], asyncio.CancelledError)


async def test_one_that_is_abandoned_is_closed_and_tells_nobody() -> None:
    gate, ends = asyncio.get_running_loop().create_future(), Ends()
    seen: list[str] = []

    async def work() -> None:
        try:
            await gate
        finally:
            seen.append("closed")

    eager = Eager(work(), ends)
    eager.abandon()
    eager.abandon()
    gate.set_result(None)
    await asyncio.sleep(0)

    assert seen == ["closed"]
    assert ends.told == []


async def test_what_an_abandoned_one_waited_for_may_fail_in_silence() -> None:
    loop = asyncio.get_running_loop()
    gate, told = loop.create_future(), list[dict[str, object]]()
    loop.set_exception_handler(lambda _, context: told.append(context))

    async def work(gate: asyncio.Future[None]) -> None:
        await gate

    Eager(work(gate), Ends()).abandon()
    gate.set_exception(ValueError("the stream ended"))
    await asyncio.sleep(0)
    del gate
    gc.collect()

    assert told == []
