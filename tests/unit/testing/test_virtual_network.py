"""Links do to messages what they were told to, each direction on its own, the same for the same seed."""

from __future__ import annotations

from random import Random

from replog.raft.messages import Heartbeat, Message
from replog.testing.clock import SECOND, VirtualClock
from replog.testing.network import LinkFaults, VirtualNetwork


class Bench:
    def __init__(self, seed: int = 1) -> None:
        self.clock = VirtualClock()
        self.arrived: list[tuple[str, str, int]] = []
        self.lost: list[tuple[str, str]] = []
        self.network = VirtualNetwork(self.clock, Random(seed), self._deliver, lambda a, b: self.lost.append((a, b)))

    def _deliver(self, message: Message) -> None:
        self.arrived.append((message.source, message.target, message.term))

    def send(self, source: str, target: str, count: int = 1) -> None:
        self.network.send([Heartbeat(source=source, target=target, term=term, committed_index=0) for term in range(count)])
        self.clock.run_until(self.clock.now_us + 10 * SECOND)


def test_a_link_without_faults_keeps_its_order() -> None:
    bench = Bench()

    bench.send("a", "b", 200)

    assert [term for _, _, term in bench.arrived] == list(range(200))


def test_a_link_that_drops_drops_about_its_share() -> None:
    bench = Bench()
    bench.network.faults = LinkFaults(drop=0.3)

    bench.send("a", "b", 1000)

    assert 600 < len(bench.arrived) < 800
    assert bench.network.dropped == 1000 - len(bench.arrived)


def test_a_link_duplicates_reorders_and_replays() -> None:
    bench = Bench()
    bench.network.faults = LinkFaults(duplicate=0.2, reorder=0.2, replay=0.1)

    bench.send("a", "b", 500)

    terms = [term for _, _, term in bench.arrived]
    assert len(terms) > 550
    assert terms != sorted(terms)
    assert set(terms) == set(range(500))
    assert bench.network.replayed > 0


def test_a_cut_in_one_direction_leaves_the_other() -> None:
    bench = Bench()
    bench.network.part([["a"], ["b"]], one_way=True)

    bench.send("a", "b")
    bench.send("b", "a")

    assert [(source, target) for source, target, _ in bench.arrived] == [("b", "a")]
    assert bench.lost == [("a", "b")]


def test_a_bridge_reaches_both_halves() -> None:
    bench = Bench()
    bench.network.part([["a", "c"], ["b", "c"]])

    for source, target in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")):
        bench.send(source, target)

    assert [(source, target) for source, target, _ in bench.arrived] == [("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")]


def test_what_is_on_its_way_when_the_cut_comes_is_gone() -> None:
    bench = Bench()
    bench.network.send([Heartbeat(source="a", target="b", term=1, committed_index=0)])

    bench.network.part([["a"], ["b"]])
    bench.clock.run_until(SECOND)

    assert bench.arrived == []
    bench.network.heal()
    bench.send("a", "b")
    assert len(bench.arrived) == 1


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[tuple[str, str, int]]:
        bench = Bench(seed)
        bench.network.faults = LinkFaults(drop=0.2, duplicate=0.2, reorder=0.3, replay=0.2)
        bench.send("a", "b", 100)
        return bench.arrived

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_events_at_one_time_happen_in_the_order_they_were_scheduled() -> None:
    clock, seen = VirtualClock(), list[int]()
    for number in range(5):
        clock.after(10, seen.append, number)
    clock.after(5, seen.append, 99)

    clock.run_until(10)

    assert seen == [99, 0, 1, 2, 3, 4]
    assert clock.events == 6
