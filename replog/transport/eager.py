"""Start a coroutine now and have the rest of it run by itself, without a task.

A task made for it would begin in the loop's next iteration; but the owner may hold the loop with a data sync just after it has sent, and then the appends would
leave behind the sync and not beside it (DESIGN: latency is the larger of the two, not the sum). Python 3.12 has eager tasks for this; 3.11 has not. And a task
that waited for it would be woken twice for each write; here one callback goes on where the write has stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

OnEnd = Callable[[BaseException | None], None]


class Eager:
    """`coroutine`, run up to its first suspension when this is made; `done` says whether that was its end already.

    If not, the loop runs the rest, and `on_end` is told of the end: None, or what the coroutine raised. The coroutine may wait for asyncio's futures, and
    must not ask for the current task: there is none.
    """

    __slots__ = ("_coroutine", "_on_end", "_waits_for", "done", "error")

    def __init__(self, coroutine: Coroutine[Any, Any, None], on_end: OnEnd) -> None:
        self._coroutine = coroutine
        self._on_end = on_end
        self._waits_for: asyncio.Future[Any] | None = None
        self.done = False
        self.error: BaseException | None = None
        self._run()

    def abandon(self) -> None:
        """Close the coroutine where it stands; `on_end` is not told. Harmless when it has ended.

        What it waits for may fail afterwards (gRPC fails a write when its stream ends): that is nobody's concern any more.
        """
        waits_for, self._waits_for = self._waits_for, None
        if waits_for is not None:
            waits_for.remove_done_callback(self._go_on)
            waits_for.add_done_callback(_look_at)
        self.done = True
        self._coroutine.close()

    def _go_on(self, _: asyncio.Future[Any]) -> None:
        self._waits_for = None
        self._run()
        if self.done:
            self._on_end(self.error)

    def _run(self) -> None:
        try:
            waits_for = self._coroutine.send(None)  # what it waited for is read by its own `await`
        except StopIteration:
            self.done = True
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - told to whoever started it
            self.done = True
            self.error = error
        else:
            assert isinstance(waits_for, asyncio.Future), "a bare yield (asyncio.sleep(0)) is for tasks"
            waits_for._asyncio_future_blocking = False  # the protocol between a future that is awaited and who drives the coroutine
            self._waits_for = waits_for
            waits_for.add_done_callback(self._go_on)


def _look_at(future: asyncio.Future[Any]) -> None:
    """A future whose error nobody asks for is reported as an error of the program."""
    if not future.cancelled():
        future.exception()
