"""How much one turn may take in: as much as keeps its write and sync short beside a heartbeat.

A turn is one write and one sync, and nothing else reaches the disk meanwhile: whoever comes late waits for all of it, and so does the next batch that could
be on its way to the followers. A quick disk may take large turns, which cost least per entry; on a slow one they would hold everything up. So the
limit follows the measured time, down at once and up again by and by; small batches and their fixed cost say nothing and change nothing.
"""

from __future__ import annotations

from typing import Final

TURN_BYTES_MIN: Final = 64 * 1024
"""Never less: below it the fixed cost of a sync is all that is measured."""


class TurnSize:
    """Invariant: TURN_BYTES_MIN (or the configured most, where that is less) <= `bytes` <= the configured most."""

    def __init__(self, bytes_max: int, target_seconds: float) -> None:
        """`target_seconds`: how long a turn's write and sync should take at most."""
        self.bytes = bytes_max
        self._bytes_max = bytes_max
        self._bytes_min = min(TURN_BYTES_MIN, bytes_max)
        self._target_seconds = target_seconds

    def measured(self, size_bytes: int, seconds: float) -> None:
        """A turn of `size_bytes` was durable after `seconds`."""
        if size_bytes < self._bytes_min:
            return
        if seconds > self._target_seconds:
            self.bytes = max(self._bytes_min, min(self.bytes, size_bytes) // 2)
        elif self.bytes < self._bytes_max and size_bytes * 2 >= self.bytes and seconds < self._target_seconds / 4:
            self.bytes = min(self._bytes_max, self.bytes * 2)
