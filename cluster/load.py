"""A closed loop: as many workers as operations in flight, each with one operation at a time, each timing its own.

What it adds to an operation is its argument, a reading of the clock and an append (0.2 us), so that the system is measured and not the harness. A task that waits for
a future, made and woken for each operation, costs another 1.1 us (uvloop): that is the caller's, whoever answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Operation = Callable[[Any], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What a closed loop saw after its warm-up."""

    operations: int
    seconds: float
    operations_before: int
    """Those of the warm-up."""
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds


async def closed_loop(
    operation: Operation, arguments: Iterator[Any], *, in_flight: int, seconds: float, warmup_seconds: float = 0.5
) -> LoadResult:
    """Run `operation` on one of `arguments` after another (they do not end) by `in_flight` workers for `seconds` after the warm-up. An error of an
    operation ends the loop and is raised."""
    clock = time.perf_counter
    argument = arguments.__next__
    start = clock() + warmup_seconds
    deadline = start + seconds
    ends: list[list[float]] = []
    """For each worker: when its first operation began, and when each of them ended, which is when the next one began."""
    before = 0

    async def worker() -> None:
        nonlocal before
        while clock() < start:
            await operation(argument())
            before += 1
        mine = [clock()]
        ends.append(mine)
        note = mine.append
        while True:
            await operation(argument())
            now = clock()
            note(now)
            if now >= deadline:
                return

    workers = [asyncio.create_task(worker()) for _ in range(in_flight)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
    elapsed = clock() - start
    ordered = sorted(ended - began for mine in ends for began, ended in pairwise(mine))
    assert ordered, "every worker does at least one operation"
    return LoadResult(
        operations=len(ordered),
        seconds=elapsed,
        operations_before=before,
        p50_ms=ordered[len(ordered) // 2] * 1e3,
        p99_ms=ordered[len(ordered) * 99 // 100] * 1e3,
        max_ms=ordered[-1] * 1e3,
    )
