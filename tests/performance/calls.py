"""How often the code is called for each entry of a batch: a figure that repeats, unlike a time.

`sys.setprofile` tells of every call. Counted are the calls of our own functions (each step of a generator or coroutine is one), and the calls that these make to
anything else, with the caller's name: ``replog.node.pending Pending.applied -> len``. A path is run with few entries and with many, in as many batches: what the
second run has more belongs to the entries, and what is done once a batch falls out.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FrameType, TracebackType
from typing import Any, Final, Self

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
ROOTS: Final = (f"{_CHECKOUT}/replog/", f"{_CHECKOUT}/cluster/")
FEW: Final = 300
MANY: Final = 1_300
NOISE: Final = 0.02
"""Calls per entry below which a function is not called per entry: what a tick or a turn more or less makes of it."""

Costs = Mapping[str, float]
"""Calls per entry, by function."""


class CallCounter:
    """Counts, on this thread, while it is entered."""

    def __init__(self, *, roots: tuple[str, ...] = ROOTS) -> None:
        self._roots = roots
        self._ours: dict[CodeType, bool] = {}
        self._calls: Counter[tuple[CodeType, CodeType | str]] = Counter()

    def __enter__(self) -> Self:
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.setprofile(None)

    def counts(self) -> Counter[str]:
        """Calls by function, ``module name`` or ``module name -> what it called``."""
        found: Counter[str] = Counter()
        for (code, called), count in self._calls.items():
            name = self._name(code)
            if isinstance(called, str):
                name += f" -> {called}"
            elif called is not code:
                name += f" -> {called.co_qualname}"
            found[name] += count
        return found

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call":
            if self._is_ours(code):
                self._calls[code, code] += 1
            elif frame.f_back is not None and self._is_ours(frame.f_back.f_code):
                self._calls[frame.f_back.f_code, code] += 1
        elif event == "c_call" and self._is_ours(code):
            self._calls[code, _name_of_builtin(argument)] += 1

    def _is_ours(self, code: CodeType) -> bool:
        known = self._ours.get(code)
        if known is None:
            known = self._ours[code] = code.co_filename.startswith(self._roots)
        return known

    @staticmethod
    def _name(code: CodeType) -> str:
        path = Path(code.co_filename)
        module = ".".join(path.relative_to(_CHECKOUT).with_suffix("").parts) if path.is_relative_to(_CHECKOUT) else path.stem
        return f"{module} {code.co_qualname}"


def _name_of_builtin(called: BuiltinFunctionType) -> str:
    owner = getattr(called, "__self__", None)
    if owner is None or isinstance(owner, type(sys)):
        return called.__name__
    return f"{type(owner).__name__}.{called.__name__}"


Run = Callable[[int, CallCounter], None]
"""Takes so many entries along the path, in a number of batches that does not depend on it; enters the counter for what is to be counted."""


def calls_per_entry(run: Run, *, roots: tuple[str, ...] = ROOTS) -> dict[str, float]:
    """What each further entry costs along the path of `run`; functions above the noise, the dearest first."""
    counts: list[Counter[str]] = []
    for entries in (FEW, MANY):
        counter = CallCounter(roots=roots)
        run(entries, counter)
        counts.append(counter.counts())
    few, many = counts
    costs = {name: round((many[name] - few[name]) / (MANY - FEW), 2) for name in many}
    return {name: cost for name, cost in sorted(costs.items(), key=lambda item: (-item[1], item[0])) if cost > NOISE}


def dearer(found: Costs, allowed: Costs) -> list[str]:
    """A line for each function that is called more often per entry than is allowed."""
    return [
        f"{name}: {cost:.2f} calls per entry, allowed {allowed.get(name, 0.0):.2f}"
        for name, cost in found.items()
        if cost > allowed.get(name, 0.0) + NOISE
    ]
