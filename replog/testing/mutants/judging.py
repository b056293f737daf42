"""Whether the properties find a mutant: with it planted a known run must break the property that it is known to break, and without it hold them all."""

from __future__ import annotations

from dataclasses import dataclass

from replog.testing.mutants.kills import Found, Kill
from replog.testing.mutants.planting import Mutant, planted


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a mutant."""

    mutant: Mutant
    kill: Kill | None = None
    """The run that showed it; None: it lives."""
    found: Found | None = None
    clean: Found | None = None
    """What that run reports without the mutant: then it proves nothing."""
    tried: tuple[str, ...] = ()
    """Runs in which it went unnoticed, or broke another property than it is known to."""

    @property
    def is_killed(self) -> bool:
        return self.kill is not None and self.clean is None

    def describe(self) -> str:
        if self.kill is None or self.found is None:
            return f"{self.mutant.name} LIVES: {self.mutant.breaks}; tried {'; '.join(self.tried) or 'nothing, no run is known'}"
        if self.clean is not None:
            return f"{self.mutant.name} LIVES: {self.kill.describe()} breaks {self.clean.name} without it, too: {self.clean.text}"
        return f"{self.mutant.name}: {self.found.name} by {self.kill.describe()}"


def judge(mutant: Mutant) -> Verdict:
    """Play the mutant's runs until one shows it, then that one without it. Raises CannotPlant."""
    tried: list[str] = []
    for known in mutant.kills:
        for kill in (known, *known.spares()):
            with planted(mutant):
                found = kill.play()
            if found is not None and found.name in kill.breaks:
                return Verdict(mutant=mutant, kill=kill, found=found, clean=kill.play(), tried=tuple(tried))
            tried.append(f"{kill.describe()} ({'nothing' if found is None else found.name})")
    return Verdict(mutant=mutant, tried=tuple(tried))
