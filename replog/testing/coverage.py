"""What a run met: a run without elections, cuts and torn tails is no evidence of surviving them."""

from __future__ import annotations

from collections import Counter
from typing import Final

EXPECTED: Final = (
    "elections",
    "leaders lost",
    "crashes",
    "crashes inside a write",
    "torn or lost on power cut",
    "blackouts",
    "partitions",
    "messages dropped",
    "messages reordered",
    "messages replayed",
    "conflicts truncated",
    "snapshots written",
    "snapshots installed",
    "membership changes",
    "transfers",
    "operations of unknown outcome",
    "storage failures",
    "disks filled",
    "full disks",
    "syncs failed",
    "rot",
)
"""What a campaign over many seeds should have met at least once each."""

STRIKES: Final = (
    "crashes",
    "blackouts",
    "pauses",
    "partitions",
    "slow disks",
    "sync failures set",
    "write failures set",
    "disks filled",
    "rot",
    "transfers",
    "membership changes asked",
    "nodes wiped and replaced",
    "slow applies",
)
"""What was done to the cluster, one by one (faults of messages come in crowds and are counted apart)."""


class Coverage:
    """Counters by name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        self.counts[name] += count

    def merge(self, other: Coverage) -> None:
        self.counts.update(other.counts)

    @property
    def strikes(self) -> int:
        """How many of `STRIKES` there were."""
        return sum(self.counts[name] for name in STRIKES)

    def missing(self) -> list[str]:
        """Names of `EXPECTED` that were never met."""
        return [name for name in EXPECTED if not self.counts[name]]

    def lines(self) -> list[str]:
        return [f"{count:>10}  {name}" for name, count in sorted(self.counts.items())]
