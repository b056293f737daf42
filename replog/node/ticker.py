"""The node's only clock: turns the machine's monotonic time into ticks.

A timer that fires late finds several ticks due. All of them are one for the protocol (the owner folds them), because what was late is this
process and not its leader; but `now_ticks` counts them all, because a lease must not outlive the time that really went by.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Ticker:
    """Calls `on_tick` about every `tick_ms` milliseconds."""

    def __init__(self, tick_ms: int, on_tick: Callable[[int], None]) -> None:
        """`on_tick` gets how many ticks are due, at least 1."""
        self._seconds = tick_ms / 1000
        self._on_tick = on_tick
        self._start = time.monotonic()
        self._told = 0
        self._handle: asyncio.TimerHandle | None = None

    def now_ticks(self) -> int:
        """Ticks of monotonic time since the ticker was made."""
        return int((time.monotonic() - self._start) / self._seconds)

    def seconds(self) -> float:
        """Monotonic time since the ticker was made."""
        return time.monotonic() - self._start

    def start(self) -> None:
        self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        now = time.monotonic() - self._start
        due = (int(now / self._seconds) + 1) * self._seconds
        self._handle = asyncio.get_running_loop().call_later(due - now, self._fire)

    def _fire(self) -> None:
        now = self.now_ticks()
        if now > self._told:
            due, self._told = now - self._told, now
            self._on_tick(due)
        self._arm()
