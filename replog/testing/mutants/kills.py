"""What finds a mutant: a seed of the simulator, or a scenario that is played step by step. Both say which property was broken, or that none was.

The product goes on changing, and a seed is a run of one version of it: an election that takes one message more moves everything behind it. So a seed
may be followed by spare ones: where the known seed does not show the mutant any more, the next ones are tried, and the one that does is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from replog.testing.enumerator import CrashFault
from replog.testing.ledger import PropertyBroken
from replog.testing.run import run
from replog.testing.simulator import Plan

STORM_SECONDS: Final = 3.0
CRASHES: Final = "crashes"
"""What the crash enumerator finds: acknowledged <= recovered <= written does not hold."""
_NAMED: Final = re.compile(r"([SL]\d+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """A broken property, by its name, and what was broken."""

    name: str
    text: str


class Kill(Protocol):
    """A run that can be repeated."""

    @property
    def breaks(self) -> tuple[str, ...]:
        """Properties of which the mutant breaks one first; any other one does not count."""
        ...

    def play(self) -> Found | None:
        """The same every time, with the same code; None: nothing is broken."""
        ...

    def spares(self) -> Iterator[Kill]:
        """What to try where this one does not show the mutant any more."""
        ...

    def describe(self) -> str:
        """How to play it, for people."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A run of the simulator."""

    profile: str
    seed: int
    breaks: tuple[str, ...]
    storm_seconds: float = STORM_SECONDS
    more: int = 40
    """So many seeds behind it are spare ones."""

    def play(self) -> Found | None:
        broken = run(self.plan()).broken
        return Found(broken.name, broken.text) if broken is not None else None

    def plan(self) -> Plan:
        return Plan(seed=self.seed, profile=self.profile, storm_seconds=self.storm_seconds)

    def spares(self) -> Iterator[Seed]:
        for step in range(1, self.more + 1):
            yield replace(self, seed=self.seed + step, more=0)

    def describe(self) -> str:
        return f"--profile {self.profile} --seed {self.seed} --storm-seconds {self.storm_seconds:g}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scripted sequence of steps, which raises AssertionError where something is broken."""

    steps: Callable[[], None]
    breaks: tuple[str, ...]

    def play(self) -> Found | None:
        try:
            self.steps()
        except AssertionError as error:
            return found_in(error)
        return None

    def spares(self) -> Iterator[Scenario]:
        yield from ()

    def describe(self) -> str:
        return f"scenario {self.steps.__name__}"


def found_in(error: AssertionError) -> Found:
    """The property that the error names; "assertion" for one that names none."""
    if isinstance(error, PropertyBroken):
        return Found(error.name, error.text)
    if isinstance(error, CrashFault):
        return Found(CRASHES, str(error))
    named = _NAMED.fullmatch(str(error))
    return Found(named[1], named[2]) if named is not None else Found("assertion", str(error))
