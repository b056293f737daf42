"""The hot paths do for each entry what they did when the table was written, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from replog.node.effects import Ticket
from replog.node.pending import Pending
from replog.types import Index
from tests.performance.calls import ROOTS, Costs, calls_per_entry, dearer
from tests.performance.paths import PATHS
from tests.performance.table import FILE, PYTHON, allowed, python_of_the_table

_LEADER = "leader, singly: frame, write, send, commit, apply"


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_no_function_is_called_more_often_per_entry_than_the_table_allows(path: str) -> None:
    found: Costs = calls_per_entry(PATHS[path])
    if python_of_the_table() != PYTHON:
        found = {name: cost for name, cost in found.items() if "->" not in name}

    worse = dearer(found, allowed(path))

    total, before = sum(found.values()), sum(allowed(path).values())
    assert not worse, (
        f"{path}: a cost per entry that was not there ({total:.2f} calls in all, {before:.2f} before). Pay it once a batch; if it has to be, or has only"
        f" moved, `python -m tests.performance.table --rewrite` and say in the change why:\n  " + "\n  ".join(worse)
    )


def test_every_path_is_in_the_table() -> None:
    assert [path for path in PATHS if not allowed(path)] == ["wal.Log.append_many"], f"`--rewrite` {FILE.name}"


@pytest.mark.slow
def test_a_call_for_each_entry_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Pending.add

    def look_at(ticket: Ticket) -> None:
        assert ticket is not None

    def add_and_look(self: Pending, first_index: Index, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            look_at(ticket)
        add(self, first_index, tickets)

    monkeypatch.setattr(Pending, "add", add_and_look)

    worse = dearer(calls_per_entry(PATHS[_LEADER], roots=(*ROOTS, __file__)), allowed(_LEADER))

    assert len(worse) == 1
    assert worse[0].endswith("look_at: 1.00 calls per entry, allowed 0.00")


@pytest.mark.slow
def test_a_built_in_function_called_for_each_entry_is_found_under_its_callers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    applied = Pending.applied

    def applied_and_measured(self: Pending, first_index: Index, results: Sequence[bytes]) -> object:
        sum(len(result) for result in results)
        return applied(self, first_index, results)

    monkeypatch.setattr(Pending, "applied", applied_and_measured)

    worse = dearer(calls_per_entry(PATHS[_LEADER], roots=(*ROOTS, __file__)), allowed(_LEADER))

    (line,) = [line for line in worse if "-> len" in line]
    assert "applied_and_measured" in line
    assert line.endswith("-> len: 1.00 calls per entry, allowed 0.00")


def test_a_function_that_became_cheaper_passes() -> None:
    assert dearer({"a": 1.0, "b": 0.5}, {"a": 2.0, "b": 0.5, "c": 1.0}) == []
