"""What the leader knows of one follower, and how freely it sends to it.

::

              rejected, or stream lost              needs what is compacted
    REPLICATE ------------------------->  PROBE  ---------------------------->  SNAPSHOT
              <-------------------------         <----------------------------
                     accepted                     snapshot sent, failed or installed

    PROBE      one message, then wait for its answer (or a heartbeat's, should it be lost): where does the log agree?
    REPLICATE  pipeline: `next_index` runs ahead of `match_index` by what the window allows
    SNAPSHOT   nothing but heartbeats
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from replog.types import INDEX_MAX, Index, NodeId


class ProgressState(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


PROBE, REPLICATE, SNAPSHOT = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.SNAPSHOT


class Progress:
    """Invariants: match_index < next_index; match_index never goes back in a term, unless the follower came back without its tail
    (`may_have_lost_tail`); in_flight_bytes is the sum over in_flight."""

    __slots__ = (
        "acked_round",
        "active_at_tick",
        "caught_up_told",
        "commit_sent",
        "departure_round",
        "in_flight",
        "in_flight_bytes",
        "last_wanted",
        "match_index",
        "may_have_lost_tail",
        "next_index",
        "node",
        "paused",
        "pending_snapshot",
        "state",
        "window_bytes",
    )

    def __init__(self, node: NodeId, next_index: Index, active_at_tick: int) -> None:
        self.node = node
        self.state = PROBE
        self.match_index: Index = 0
        """The follower's synced log agrees with ours up to here."""
        self.next_index = next_index
        """First index of the next append."""
        self.paused = False
        """In PROBE: a probe is out and not answered."""
        self.pending_snapshot: Index = 0
        """In SNAPSHOT: the index of the snapshot on its way."""
        self.in_flight: deque[tuple[Index, int]] = deque()
        """In REPLICATE: (last index, bytes) of each append without an answer."""
        self.in_flight_bytes = 0
        self.window_bytes = INDEX_MAX
        """Measured limit on `in_flight_bytes`, below the configured one; INDEX_MAX: not measured."""
        self.active_at_tick = active_at_tick
        """The leader's tick count when it last heard of this follower."""
        self.commit_sent: Index = 0
        """The commit index that the last append said."""
        self.acked_round = 0
        """The newest heartbeat round it has answered."""
        self.last_wanted: Index = INDEX_MAX
        """Entries above are not for it: the index of the membership that removed it."""
        self.departure_round = 0
        """Of a removed node: the first heartbeat round that told it a commit index of at least `last_wanted` (0: none yet)."""
        self.caught_up_told = False
        self.may_have_lost_tail = False
        """Its connection broke, so it may have restarted with a log that its recovery cut."""

    # -- states -------------------------------------------------------------------------------------------------------

    def become_probe(self, next_index: Index | None = None) -> None:
        self.state = PROBE
        self.next_index = max(self.match_index + 1, next_index or 0)
        self.paused = False
        self.pending_snapshot = 0
        self.forget_in_flight()

    def become_replicate(self) -> None:
        self.state = REPLICATE
        self.next_index = self.match_index + 1
        self.paused = False
        self.pending_snapshot = 0
        self.forget_in_flight()

    def become_snapshot(self, index: Index) -> None:
        self.state = SNAPSHOT
        self.pending_snapshot = index
        self.next_index = max(index, self.match_index) + 1
        self.paused = False
        self.forget_in_flight()

    def forget_in_flight(self) -> None:
        self.in_flight.clear()
        self.in_flight_bytes = 0

    # -- sending ------------------------------------------------------------------------------------------------------

    def sent(self, last: Index, size_bytes: int) -> None:
        """An append up to `last` was sent: the pipeline goes on behind it, a probe waits."""
        if self.state is REPLICATE:
            self.next_index = last + 1
            self.in_flight.append((last, size_bytes))
            self.in_flight_bytes += size_bytes
        else:
            self.paused = True

    # -- answers ------------------------------------------------------------------------------------------------------

    def accepted(self, match_index: Index) -> bool:
        """The follower holds everything up to `match_index`; says whether that is news."""
        in_flight = self.in_flight
        while in_flight and in_flight[0][0] <= match_index:
            self.in_flight_bytes -= in_flight.popleft()[1]
        if match_index <= self.match_index:
            return False
        self.match_index = match_index
        if self.next_index <= match_index:
            self.next_index = match_index + 1
        return True

    def rejected(self, rejected_prev_index: Index, probe_index: Index) -> bool:
        """The follower has no entry (`rejected_prev_index`, its term); `probe_index` is the best guess where the logs agree.

        Says whether this is news: a rejection of what was known or sent before is stale (reordered, repeated).
        """
        if self.state is REPLICATE:
            if rejected_prev_index <= self.match_index:
                return False
            self.next_index = self.match_index + 1
            return True
        if self.state is SNAPSHOT or self.next_index - 1 != rejected_prev_index:
            return False
        self.next_index = max(min(rejected_prev_index, probe_index + 1), self.match_index + 1)
        self.paused = False
        return True

    def lost_tail(self) -> None:
        """The follower lost entries it had acknowledged: start over."""
        self.match_index = 0
        self.may_have_lost_tail = False
        self.caught_up_told = False

    def check(self, last_index: Index) -> None:
        assert self.match_index < self.next_index <= last_index + 1 or self.state is SNAPSHOT
        assert self.match_index <= last_index
        assert self.in_flight_bytes == sum(size for _, size in self.in_flight)
        assert self.state is REPLICATE or not self.in_flight
        assert (self.state is SNAPSHOT) == (self.pending_snapshot > 0)
