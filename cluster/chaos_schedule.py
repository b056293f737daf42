"""Which faults, when and for how long: drawn from the seed alone, before anything runs.

The same seed, length and kinds give the same schedule. What it meets (who leads when an episode begins, how far the others are, how soon clients are served again
after the one before) is not in its power, so two runs of a seed are alike, not equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

QUIET_SECONDS: Final = 1.5
"""Before the first episode."""
_SECONDS_MIN: Final = 0.5
_SECONDS_MAX: Final = 4.0
_GAP_SECONDS_MAX: Final = 2.0
_OVERLAP: Final = 0.3
"""Probability that an episode begins before the one in front of it has ended."""

PROCESS_KINDS: Final = ("kill", "kill-two", "kill-all", "freeze", "stop")
NETWORK_KINDS: Final = ("cut", "cut-one-way", "isolate-leader", "deafen-leader", "mute-leader", "delay", "loss")
DISK_KINDS: Final = ("disk-full", "disk-slow", "disk-failing")
CLUSTER_KINDS: Final = ("transfer", "membership", "wipe")
KINDS: Final = (*PROCESS_KINDS, *NETWORK_KINDS, *DISK_KINDS, *CLUSTER_KINDS)

MEANING: Final = {
    "kill": "SIGKILL to one node, often the leader; started again",
    "kill-two": "SIGKILL to two nodes; started again",
    "kill-all": "SIGKILL to all nodes at once; started again",
    "freeze": "SIGSTOP, then SIGCONT",
    "stop": "SIGTERM to one node (a clean end); started again",
    "cut": "nothing passes between two halves, in both directions",
    "cut-one-way": "nothing passes from one node to another; the way back is open",
    "isolate-leader": "the leader is cut off from all nodes, not from the clients",
    "deafen-leader": "the leader is heard, but hears no node",
    "mute-leader": "the leader hears, but no node hears it",
    "delay": "what one node sends is late",
    "loss": "a part of what one node sends is lost",
    "disk-full": "nothing on one node's disk can grow",
    "disk-slow": "each sync of one node takes long",
    "disk-failing": "each sync of one node fails",
    "transfer": "leadership is handed over",
    "membership": "a node joins, is promoted, and one (it, the leader or another) is removed",
    "wipe": "a node is killed and loses its data directory; started again, and readmitted as a learner that is promoted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One fault: when it begins (seconds from the start), how long it lasts before it is healed, and a number to draw its details from."""

    at: float
    kind: str
    seconds: float
    overlaps: bool
    """It begins while the one before lasts; otherwise it waits until all others are healed and clients are served."""
    draw: int


def draw_schedule(seed: int, seconds: float, kinds: Sequence[str] = KINDS) -> list[Episode]:
    """Episodes for a run of `seconds`, by their begin; every kind comes once before any comes again."""
    chance = Random(seed)
    episodes: list[Episode] = []
    bag: list[str] = []
    at, overlaps = QUIET_SECONDS, False
    while True:
        if not bag:
            bag = list(kinds)
            chance.shuffle(bag)
        episode = Episode(
            at=round(at, 3),
            kind=bag.pop(),
            seconds=round(chance.uniform(_SECONDS_MIN, _SECONDS_MAX), 3),
            overlaps=overlaps,
            draw=chance.getrandbits(32),
        )
        if episode.at + episode.seconds > seconds:
            return episodes
        episodes.append(episode)
        overlaps = chance.random() < _OVERLAP
        at += chance.uniform(0.2, 1.0) if overlaps else episode.seconds + chance.uniform(0.3, _GAP_SECONDS_MAX)
