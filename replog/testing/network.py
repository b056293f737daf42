"""A network that drops, delays, duplicates, reorders, replays and cuts, each direction of each pair of nodes on its own.

A message is a value and is handed over as it is: encoding is the transport's concern, and has its own tests. Without faults a link keeps its order (the
transport's promise); a link that reorders gives a message a later time of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from replog.raft.messages import Message
from replog.testing.clock import MILLISECOND, VirtualClock
from replog.types import NodeId

_REMEMBERED_MAX: Final = 16
"""Old messages a link keeps for a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFaults:
    """Strengths of one link's faults; probabilities are a message."""

    delay_us_min: int = 100
    delay_us_max: int = 600
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """A message gets up to `reorder_us_max` of extra delay, so that later ones overtake it."""
    reorder_us_max: int = 30 * MILLISECOND
    replay: float = 0.0
    """With this message an old one of the link is delivered again."""


class VirtualNetwork:
    """All links between the nodes; `deliver` gets what arrives, `lost` hears of a sender's message that a cut swallowed."""

    def __init__(
        self, clock: VirtualClock, random: Random, deliver: Callable[[Message], None], lost: Callable[[NodeId, NodeId], None]
    ) -> None:
        self._clock, self._random, self._deliver, self._lost = clock, random, deliver, lost
        self.faults = LinkFaults()
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        """Directed links that let nothing through; what is on its way when the cut comes is gone too."""
        self.sent = self.dropped = self.cut_off = self.duplicated = self.reordered = self.replayed = 0
        self._arrival_us: dict[tuple[NodeId, NodeId], int] = {}
        self._remembered: dict[tuple[NodeId, NodeId], list[Message]] = {}

    def send(self, messages: Sequence[Message]) -> None:
        """Take messages in order; each arrives later, once, never or more than once."""
        faults, random, clock = self.faults, self._random.random, self._clock
        span = faults.delay_us_max - faults.delay_us_min
        faulty = faults.drop or faults.duplicate or faults.reorder or faults.replay
        for message in messages:
            self.sent += 1
            link = (message.source, message.target)
            if link in self.cuts:
                self.cut_off += 1
                self._lost(*link)
                continue
            time_us = clock.now_us + faults.delay_us_min + int(random() * span)
            if faulty:
                if random() < faults.drop:
                    self.dropped += 1
                    continue
                if random() < faults.duplicate:
                    self.duplicated += 1
                    clock.at(time_us + int(random() * 20 * MILLISECOND), self._arrive, message)
                if faults.replay:
                    self._replay(link, message)
                if random() < faults.reorder:
                    self.reordered += 1
                    clock.at(time_us + int(random() * faults.reorder_us_max), self._arrive, message)
                    continue
            before_us = self._arrival_us.get(link, 0)
            if time_us <= before_us:
                time_us = before_us + 1
            self._arrival_us[link] = time_us
            clock.at(time_us, self._arrive, message)

    def _replay(self, link: tuple[NodeId, NodeId], message: Message) -> None:
        old = self._remembered.setdefault(link, [])
        if old and self._random.random() < self.faults.replay:
            self.replayed += 1
            again = old[int(self._random.random() * len(old))]
            self._clock.after(int(self._random.random() * 200 * MILLISECOND), self._arrive, again)
        if len(old) < _REMEMBERED_MAX:
            old.append(message)
        elif self._random.random() < 0.1:
            old[int(self._random.random() * _REMEMBERED_MAX)] = message

    def _arrive(self, message: Message) -> None:
        if self.cuts and (message.source, message.target) in self.cuts:
            self.cut_off += 1
            self._lost(message.source, message.target)
            return
        self._deliver(message)

    # -- cuts -----------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Every link works from now on, without faults."""
        self.cuts.clear()
        self.faults = LinkFaults()
        self._remembered.clear()

    def part(self, groups: Sequence[Iterable[NodeId]], *, one_way: bool = False) -> None:
        """Cut all links between different groups (one_way: only those from an earlier group to a later one). A node in no group, or in several,
        reaches everybody: that is a bridge."""
        sides = [frozenset(group) for group in groups]
        for first, side in enumerate(sides):
            for second, other in enumerate(sides):
                if first == second or (one_way and first > second):
                    continue
                self.cuts.update(
                    (a, b) for a in sorted(side) for b in sorted(other) if a != b and not any(a in both and b in both for both in sides)
                )
