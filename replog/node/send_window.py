"""How much may be on its way to one follower: as much as keeps the pipe full, and no more than its disk takes in beside a heartbeat.

The time from sending an append to its acknowledgement is the way there and back and the follower's write and sync; with more on the way than it can
take, it is also the time spent in queues. The shortest time that was seen is the pipe without queues. So::

    rate    = bytes acknowledged meanwhile / time        what the follower and the way to it really take
    window  = rate * (shortest time + target)            the bandwidth-delay product, and a queue that the disk works off within the target

A window that was used and whose acknowledgement came within the target is doubled: over a long way it takes some round trips to fill the pipe. A single
append has at most half of it (`RaftCore.limit_in_flight`): one is on its way while the other is synced. Long pipelines do not help, larger batches do.

A time that is longer with hardly anything on the way is a hiccup and changes nothing; if it stays so with the smallest window, the way itself has become longer.

One append at a time is measured per follower, so this costs nothing per entry and little per message. Times come from the caller; there is no clock here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from replog.raft.messages import AppendEntries, AppendEntriesReply, Message
from replog.types import Index, NodeId, Term

WINDOW_BYTES_MIN: Final = 128 * 1024
"""Never less: below it the fixed cost of a message and a sync is all that is measured."""
WINDOW_BYTES_FIRST: Final = 1024 * 1024
_SMOOTHING: Final = 8


class SendWindow:
    """The window towards one follower, for as long as the connection to it and the leadership last.

    Invariant: WINDOW_BYTES_MIN (or the configured most, where that is less) <= `bytes` <= the configured most.
    """

    __slots__ = (
        "_bytes_max",
        "_bytes_min",
        "_delivered_before",
        "_delivered_bytes",
        "_in_flight",
        "_in_flight_before",
        "_sample_began",
        "_sample_index",
        "_sent_bytes",
        "_shortest_seconds",
        "_target_seconds",
        "acknowledgement_seconds",
        "bytes",
    )

    def __init__(self, bytes_max: int, target_seconds: float, *, messages_max: int) -> None:
        """`target_seconds`: how long what is on its way may wait for the follower's disk. `messages_max`: appends that can be on their way."""
        self._bytes_max = bytes_max
        self._bytes_min = min(WINDOW_BYTES_MIN, bytes_max)
        self._target_seconds = target_seconds
        self.bytes = min(WINDOW_BYTES_FIRST, bytes_max)
        self.acknowledgement_seconds = 0.0
        """Moving average of the time from sending to acknowledgement; 0 before the first."""
        self._shortest_seconds = float("inf")
        self._in_flight: deque[tuple[Index, int]] = deque(maxlen=messages_max + 1)
        """(last index, bytes sent up to and with it) of appends without an answer."""
        self._sent_bytes = 0
        self._delivered_bytes = 0
        self._sample_index: Index = 0
        """Last index of the append that is measured; 0: none is."""
        self._sample_began = 0.0
        self._delivered_before = 0
        self._in_flight_before = 0

    def sent(self, last_index: Index, size_bytes: int, now: float) -> None:
        """An append up to `last_index` left at `now` (seconds)."""
        if self._in_flight and last_index <= self._in_flight[-1][0]:
            self.lost()  # it is sent once more
        self._sent_bytes += size_bytes
        self._in_flight.append((last_index, self._sent_bytes))
        if not self._sample_index:
            self._sample_index, self._sample_began = last_index, now
            self._delivered_before = self._delivered_bytes
            self._in_flight_before = self._sent_bytes - self._delivered_bytes

    def acknowledged(self, match_index: Index, now: float) -> bool:
        """The follower has everything up to `match_index` on its disk; says whether `bytes` changed."""
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= match_index:
            self._delivered_bytes = in_flight.popleft()[1]
        if not self._sample_index or match_index < self._sample_index:
            return False
        self._sample_index = 0
        seconds = now - self._sample_began
        if seconds <= 0:
            return False
        smoothed = self.acknowledgement_seconds
        self.acknowledgement_seconds = smoothed + (seconds - smoothed) / _SMOOTHING if smoothed else seconds
        before = self.bytes
        self._adapt(seconds, self._delivered_bytes - self._delivered_before)
        return self.bytes != before

    def lost(self) -> None:
        """The connection broke, or the follower is probed anew: what was on its way says nothing any more."""
        self._in_flight.clear()
        self._delivered_bytes = self._sent_bytes
        self._sample_index = 0

    def _adapt(self, seconds: float, delivered_bytes: int) -> None:
        self._shortest_seconds = min(self._shortest_seconds, seconds)
        allowed_seconds = self._shortest_seconds + self._target_seconds
        if seconds <= allowed_seconds:
            if 2 * self._in_flight_before >= self.bytes:
                self.bytes = min(self._bytes_max, 2 * self.bytes)
        elif self._in_flight_before < self._bytes_min:
            return
        elif self.bytes > self._bytes_min:
            self.bytes = min(self.bytes, max(self._bytes_min, int(delivered_bytes / seconds * allowed_seconds)))
        else:
            self._shortest_seconds = seconds


class SendWindows:
    """The windows of a leader, by follower. On a node that does not lead there is nothing to do."""

    def __init__(self, bytes_max: int, target_seconds: float, *, messages_max: int) -> None:
        """As `SendWindow`."""
        self.by_node: dict[NodeId, SendWindow] = {}
        self._bytes_max = bytes_max
        self._target_seconds = target_seconds
        self._messages_max = messages_max
        self._term: Term = 0
        self._changed: dict[NodeId, int] = {}

    def sent(self, messages: Sequence[Message], seconds: Callable[[], float]) -> None:
        """These have left; `seconds` reads the clock, once for all of them."""
        now: float | None = None
        for message in messages:
            if type(message) is AppendEntries and message.entries is not None:
                if now is None:
                    now = seconds()
                if message.term != self._term:
                    self._term = message.term
                    self.by_node.clear()
                window = self.by_node.get(message.target)
                if window is None:
                    window = SendWindow(self._bytes_max, self._target_seconds, messages_max=self._messages_max)
                    self.by_node[message.target] = window
                    self._changed[message.target] = window.bytes
                window.sent(message.entries.last_index, message.entries.size_bytes, now)

    def received(self, messages: Sequence[Message], seconds: Callable[[], float]) -> None:
        """These have arrived."""
        for message in messages:
            if type(message) is AppendEntriesReply and message.term == self._term:
                window = self.by_node.get(message.source)
                if window is None:
                    continue
                if message.rejected_prev_index is not None:
                    window.lost()
                elif window.acknowledged(message.match_index, seconds()):
                    self._changed[message.source] = window.bytes

    def lost(self, node: NodeId) -> None:
        """The connection to `node` broke."""
        window = self.by_node.get(node)
        if window is not None:
            window.lost()

    def take_changed(self) -> dict[NodeId, int] | None:
        """Windows that changed since the last call, in bytes; None when none did."""
        if not self._changed:
            return None
        changed, self._changed = self._changed, {}
        return changed
