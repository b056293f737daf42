"""The cheap linearizability check for long runs: every answer names its place in the log, so nothing has to be searched.

Wing and Gong's search needs no help from the system it judges, but cannot take a million operations. This check takes the system's word for the
order (each write's log index, each read's read index) and tests that the word is an explanation:

1. no index is given to two writes, and the entry at a write's index is that write (`entries`, if given);
2. a write that was called after another operation was answered has a larger index than that one saw (real-time order);
3. a read's index covers every index acknowledged before the read was called (S12);
4. with a model: the answers are what the model gives when the writes are done in the order of their indexes.

If all hold, the order by index is a linearization: it respects real time and explains every answer. Linear in the history but for two sorts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from replog.testing.history import NEVER, Operation
from replog.testing.models import Model

READ_KINDS = frozenset({"get", "read"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFinding:
    """One broken rule. `operations` are the ones that break it, the later one last."""

    rule: str
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        shown = "; ".join(
            f"client {operation.client} {operation.describe()} at index {operation.index} ({operation.start} to {operation.end})"
            for operation in self.operations
        )
        return f"{self.rule}: {shown}"


def check_indexes(
    history: Iterable[Operation], *, entries: Mapping[int, Any] | None = None, model: Model | None = None
) -> list[IndexFinding]:
    """Every broken rule. `entries` is what the log holds at an index, to be compared with a write's whole ``(kind, key, *args)``."""
    answered = [operation for operation in history if operation.outcome == "ok"]
    findings = [
        IndexFinding(rule="an answer without its index", operations=(operation,)) for operation in answered if operation.index is None
    ]
    answered = [operation for operation in answered if operation.index is not None]
    writes = sorted((operation for operation in answered if operation.kind not in READ_KINDS), key=_index)
    findings += _unique(writes)
    if entries is not None:
        findings += [
            IndexFinding(rule="the entry at the index is not this write", operations=(write,))
            for write in writes
            if entries.get(_index(write)) != (write.kind, write.key, *write.args)
        ]
    findings += _real_time(answered)
    if model is not None:
        findings += _explained(answered, model)
    return findings


def _index(operation: Operation) -> int:
    assert operation.index is not None
    return operation.index


def _unique(writes: Sequence[Operation]) -> list[IndexFinding]:
    return [IndexFinding(rule="one index for two writes", operations=pair) for pair in pairwise(writes) if pair[0].index == pair[1].index]


def _real_time(answered: Sequence[Operation]) -> list[IndexFinding]:
    """Sweep over time: the largest index answered so far bounds every operation that is called later."""
    findings: list[IndexFinding] = []
    by_end = sorted((operation for operation in answered if operation.end != NEVER), key=lambda operation: operation.end)
    highest: Operation | None = None
    position = 0
    for operation in sorted(answered, key=lambda operation: operation.start):
        while position < len(by_end) and by_end[position].end < operation.start:
            if highest is None or _index(by_end[position]) > _index(highest):
                highest = by_end[position]
            position += 1
        if highest is None:
            continue
        if operation.kind in READ_KINDS:
            if _index(operation) < _index(highest):
                findings.append(IndexFinding(rule="a read index below one answered before the read began", operations=(highest, operation)))
        elif _index(operation) <= _index(highest):
            findings.append(IndexFinding(rule="a write's index is not above one answered before it began", operations=(highest, operation)))
    return findings


def _explained(answered: Sequence[Operation], model: Model) -> list[IndexFinding]:
    """Do the writes by index and each read behind the write at its read index. Writes of unknown outcome leave gaps: give only complete histories."""
    findings: list[IndexFinding] = []
    states: dict[str, Any] = {}
    for operation in sorted(answered, key=lambda operation: (_index(operation), operation.kind in READ_KINDS, operation.start)):
        fits, after = model.step(states.get(operation.key, model.initial()), operation)
        if not fits:
            findings.append(IndexFinding(rule="the log up to its index does not explain the answer", operations=(operation,)))
        else:
            states[operation.key] = after
    return findings
