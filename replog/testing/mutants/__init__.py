"""Mutants: the judge is judged. Each breaks one rule; a property must find each of them (FAULTS: "Mutants")."""

from __future__ import annotations

from replog.testing.mutants.core_mutants import CORE
from replog.testing.mutants.judging import Verdict, judge
from replog.testing.mutants.log_mutants import LOG
from replog.testing.mutants.planting import CannotPlant, Edit, Mutant, planted

ALL: tuple[Mutant, ...] = (*CORE, *LOG)

__all__ = ["ALL", "CORE", "LOG", "CannotPlant", "Edit", "Mutant", "Verdict", "judge", "planted"]
