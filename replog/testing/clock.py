"""Virtual time: one heap of (time, sequence, event), so that a run is a function of its seed.

Times are whole microseconds: adding floats in another order would be another run. Events at the same time happen in the order in which they were
scheduled.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

MICROSECOND: Final = 1
MILLISECOND: Final = 1_000
SECOND: Final = 1_000_000

Action = Callable[[Any], None]


class VirtualClock:
    """The heap and the present. Invariant: no event on the heap lies before `now_us`."""

    __slots__ = ("_heap", "_sequence", "events", "now_us", "stopped")

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        """Events that have happened."""
        self.stopped = False
        self._heap: list[tuple[int, int, Action, Any]] = []
        self._sequence = 0

    def after(self, delay_us: int, action: Action, argument: Any = None) -> None:
        """`action(argument)` happens `delay_us` from now (0: behind what is already due now)."""
        self.at(self.now_us + delay_us, action, argument)

    def at(self, time_us: int, action: Action, argument: Any = None) -> None:
        assert time_us >= self.now_us
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (time_us, sequence, action, argument))

    def run_until(self, time_us: int, events_max: int | None = None) -> None:
        """Let everything happen up to and with `time_us`; stops early when `stopped` is set or `events_max` events in all have happened."""
        heap = self._heap
        limit = events_max if events_max is not None else 2**62
        events = self.events
        try:
            while heap and heap[0][0] <= time_us and not self.stopped and events < limit:
                self.now_us, _, action, argument = heappop(heap)
                events += 1
                self.events = events
                action(argument)
        finally:
            self.events = events
        if not self.stopped and events < limit:
            self.now_us = max(self.now_us, time_us)
