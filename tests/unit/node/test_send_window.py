"""How much may be on its way to a follower: against a pipe and a disk of known speed, with a clock of the test's own."""

from __future__ import annotations

from collections import deque

import pytest

from replog.node.send_window import WINDOW_BYTES_FIRST, WINDOW_BYTES_MIN, SendWindow, SendWindows
from replog.raft.messages import AppendEntries, AppendEntriesReply, EntryRange, Heartbeat
from tests.unit.raft.support import accept, leader, make, only, turn

MIB = 1024 * 1024
MOST = 32 * MIB
TARGET = 0.05


class Follower:
    """A way there and back of `round_trip` seconds, and a disk of `bytes_per_second` that takes one append after another."""

    def __init__(self, window: SendWindow, *, round_trip: float, bytes_per_second: float) -> None:
        self.window, self.round_trip, self.bytes_per_second = window, round_trip, bytes_per_second
        self.now = 0.0
        self.in_flight_most = 0
        self._disk_free = 0.0
        self._index = 0
        self._flying: deque[tuple[float, int, int]] = deque()
        """(arrival of the acknowledgement, last index, bytes)."""

    def flood(self, seconds: float) -> float:
        """Always send what the window allows; returns bytes a second that were acknowledged."""
        end, delivered, began = self.now + seconds, 0, self.now
        while self.now < end:
            while sum(size for _, _, size in self._flying) < self.window.bytes:
                self.send(min(MIB, self.window.bytes // 2))
            self.in_flight_most = max(self.in_flight_most, sum(size for _, _, size in self._flying))
            delivered += self.receive()
        return delivered / (self.now - began)

    def send(self, size_bytes: int) -> None:
        self._index += 1
        self.window.sent(self._index, size_bytes, self.now)
        arrived = self.now + self.round_trip / 2
        self._disk_free = max(self._disk_free, arrived) + size_bytes / self.bytes_per_second
        self._flying.append((self._disk_free + self.round_trip / 2, self._index, size_bytes))

    def receive(self) -> int:
        """The next acknowledgement arrives; returns its bytes."""
        self.now, index, size_bytes = self._flying.popleft()
        self.window.acknowledged(index, self.now)
        return size_bytes


def window(bytes_max: int = MOST) -> SendWindow:
    return SendWindow(bytes_max, TARGET, messages_max=64)


def test_a_long_way_is_filled_within_a_few_round_trips() -> None:
    """100 MB/s over 150 ms is 15 MB on the way; a window of one append would reach 7 MB/s."""
    far = Follower(window(), round_trip=0.15, bytes_per_second=100e6)

    far.flood(1.5)

    assert far.flood(1.0) > 0.9 * far.bytes_per_second
    assert far.window.bytes >= 0.15 * far.bytes_per_second


@pytest.mark.parametrize("megabytes_per_second", [2, 10, 50])
def test_a_slow_disk_gets_no_more_than_it_works_off_within_the_target(megabytes_per_second: float) -> None:
    rate = megabytes_per_second * 1e6
    slow = Follower(window(), round_trip=0.001, bytes_per_second=rate)
    slow.flood(2.0)
    slow.in_flight_most = 0

    throughput = slow.flood(5.0)

    assert throughput > 0.9 * rate, "the disk is never idle"
    # An append's own sync, the target, the doubling that shows it, and the append that passes the window; all of MOST would wait for 16 s at the slowest.
    assert slow.in_flight_most / rate <= 8 * TARGET
    assert slow.in_flight_most < MOST / 2


def test_the_window_does_not_creep_up_under_a_load_that_never_ends() -> None:
    slow = Follower(window(), round_trip=0.002, bytes_per_second=20e6)
    slow.flood(5.0)
    slow.in_flight_most = 0

    slow.flood(300.0)

    assert slow.in_flight_most < 4 * MIB


def test_a_disk_that_becomes_slow_and_quick_again_is_followed() -> None:
    changing = Follower(window(), round_trip=0.05, bytes_per_second=200e6)
    changing.flood(2.0)
    quick = changing.window.bytes
    changing.bytes_per_second = 5e6
    changing.flood(10.0)
    assert changing.window.bytes < quick / 8

    changing.bytes_per_second = 200e6
    changing.flood(2.0)

    assert changing.flood(1.0) > 0.9 * 200e6


def test_a_way_that_becomes_longer_is_learned_with_the_smallest_window() -> None:
    rerouted = Follower(window(), round_trip=0.001, bytes_per_second=500e6)
    rerouted.flood(1.0)
    rerouted.round_trip = 0.2

    rerouted.flood(10.0)

    assert rerouted.flood(2.0) > 0.9 * rerouted.bytes_per_second or rerouted.window.bytes == MOST


def test_an_unused_window_stays_as_it_is() -> None:
    idle = window()
    for index in range(1, 50):
        idle.sent(index, 100, index)
        idle.acknowledged(index, index + 0.001)

    assert idle.bytes == WINDOW_BYTES_FIRST
    assert idle.acknowledgement_seconds == pytest.approx(0.001)


def test_a_hiccup_with_hardly_anything_on_the_way_changes_nothing() -> None:
    quiet = window()
    quiet.sent(1, 100, 0.0)
    quiet.acknowledged(1, 0.001)
    quiet.sent(2, 100, 1.0)

    assert not quiet.acknowledged(2, 3.0)
    assert quiet.bytes == WINDOW_BYTES_FIRST


def test_the_limits_hold() -> None:
    small = SendWindow(1000, TARGET, messages_max=4)
    assert small.bytes == 1000
    follower = Follower(small, round_trip=0.1, bytes_per_second=1e9)
    follower.flood(5.0)
    assert small.bytes == 1000

    dead_slow = Follower(window(), round_trip=0.001, bytes_per_second=1e5)
    dead_slow.flood(60.0)
    assert dead_slow.window.bytes == WINDOW_BYTES_MIN


def test_what_was_lost_is_not_measured() -> None:
    broken = window()
    broken.sent(1, MIB, 0.0)
    broken.lost()
    broken.sent(1, MIB, 50.0)

    broken.acknowledged(1, 50.01)

    assert broken.acknowledgement_seconds == pytest.approx(0.01)
    assert broken.bytes == 2 * WINDOW_BYTES_FIRST


def test_what_is_sent_once_more_begins_a_new_measurement() -> None:
    again = window()
    again.sent(5, MIB, 0.0)
    again.sent(3, MIB // 2, 10.0)

    again.acknowledged(3, 10.01)

    assert again.acknowledgement_seconds == pytest.approx(0.01)


# -- a leader's windows, and the core ---------------------------------------------------------------------------------------


def append(target: str, last: int, size_bytes: int, term: int = 1) -> AppendEntries:
    entries = EntryRange(first_index=last, last_index=last, terms=((last, term),), size_bytes=size_bytes)
    return AppendEntries(source="1", target=target, term=term, prev_index=last - 1, prev_term=term, committed_index=0, entries=entries)


def reply(source: str, match: int, term: int = 1, rejected: int | None = None) -> AppendEntriesReply:
    return AppendEntriesReply(source=source, target="1", term=term, match_index=match, rejected_prev_index=rejected)


def windows() -> SendWindows:
    return SendWindows(MOST, TARGET, messages_max=64)


def test_each_follower_has_its_own_window_and_changes_are_told_once() -> None:
    both = windows()
    both.sent([append("2", 1, MIB), append("3", 1, MIB)], lambda: 0.0)
    assert both.take_changed() == {"2": WINDOW_BYTES_FIRST, "3": WINDOW_BYTES_FIRST}
    assert both.take_changed() is None

    both.received([reply("2", 1), reply("9", 1)], lambda: 0.01)

    assert both.take_changed() == {"2": 2 * WINDOW_BYTES_FIRST}


def test_another_term_begins_anew() -> None:
    ours = windows()
    ours.sent([append("2", 1, MIB)], lambda: 0.0)
    ours.received([reply("2", 1)], lambda: 0.01)
    ours.sent([append("2", 2, MIB, term=4)], lambda: 1.0)

    ours.received([reply("2", 1)], lambda: 1.01)

    assert ours.take_changed() == {"2": WINDOW_BYTES_FIRST}


def test_rejections_and_lost_connections_end_a_measurement() -> None:
    ours = windows()
    for is_rejected in (False, True):
        ours.sent([append("2", 1, MIB)], lambda: 0.0)
        if is_rejected:
            ours.received([reply("2", 0, rejected=1)], lambda: 1.0)
        else:
            ours.lost("2")
        ours.received([reply("2", 1)], lambda: 9.0)
    ours.lost("9")

    assert ours.by_node["2"].acknowledgement_seconds == 0


def test_the_clock_is_read_once_a_batch_and_only_where_entries_leave() -> None:
    reads: list[None] = []

    def seconds() -> float:
        reads.append(None)
        return 0.0

    ours = windows()
    ours.sent([Heartbeat(source="1", target="2", term=1, committed_index=0)], seconds)
    assert len(reads) == 0
    ours.sent([append("2", 1, 1), append("3", 1, 1), append("2", 2, 1)], seconds)
    assert len(reads) == 1


def test_the_core_holds_to_the_window_and_sends_half_of_it_at_most_at_once() -> None:
    core = leader(make(append_bytes_max=1000, in_flight_bytes_max=10_000), commit=True)
    core.limit_in_flight("2", 400)
    core.propose(count=100, size_bytes=10_000, frames="frames")

    sent = only(AppendEntries, turn(core).messages_before_sync)

    sizes = {node: [one.entries.size_bytes for one in sent if one.target == node and one.entries is not None] for node in ("2", "3")}
    assert sizes == {"2": [200, 200], "3": [1000] * 10}
    assert {peer.node: peer.window_bytes for peer in core.status().peers} == {"2": 400, "3": 10_000}
    core.receive(accept(core, "2", 1 + 2))
    assert [one.entries.size_bytes for one in only(AppendEntries, turn(core).messages_before_sync) if one.entries is not None] == [200]


def test_a_wider_window_is_used_at_once() -> None:
    core = leader(make(append_bytes_max=1000), commit=True)
    core.limit_in_flight("2", 100)
    core.propose(count=100, size_bytes=10_000, frames="frames")
    turn(core)

    core.limit_in_flight("2", 10_000)

    assert only(AppendEntries, turn(core).messages_before_sync)
