"""The index-based check finds each broken rule, and passes what a log really did."""

from __future__ import annotations

from typing import Any

from replog.testing.history import Operation
from replog.testing.index_check import check_indexes
from replog.testing.models import RegisterModel


def put(value: int, index: int | None, start: float, end: float) -> Operation:
    return Operation(client="w", key="k", kind="put", args=(value,), start=start, end=end, index=index)


def get(result: Any, index: int | None, start: float, end: float) -> Operation:
    return Operation(client="r", key="k", kind="get", result=result, start=start, end=end, index=index)


def rules(history: list[Operation], **options: Any) -> list[str]:
    return [finding.rule for finding in check_indexes(history, **options)]


def test_a_history_in_the_order_of_its_indexes_passes() -> None:
    history = [put(1, 1, 0, 1), get(1, 1, 2, 3), put(2, 2, 2, 5), get(2, 2, 4, 6)]

    assert rules(history, model=RegisterModel(), entries={1: ("put", "k", 1), 2: ("put", "k", 2)}) == []


def test_an_index_given_twice_is_found() -> None:
    assert "one index for two writes" in rules([put(1, 4, 0, 10), put(2, 4, 1, 9)])


def test_an_answer_without_an_index_is_found() -> None:
    assert rules([put(1, None, 0, 1)]) == ["an answer without its index"]


def test_an_entry_that_is_not_the_write_is_found() -> None:
    assert rules([put(1, 4, 0, 1)], entries={4: ("put", "k", 2)}) == ["the entry at the index is not this write"]


def test_a_write_placed_before_one_that_was_answered_is_found() -> None:
    assert rules([put(1, 5, 0, 1), put(2, 4, 2, 3)]) == ["a write's index is not above one answered before it began"]


def test_a_stale_read_is_found() -> None:
    assert rules([put(1, 5, 0, 1), get(None, 4, 2, 3)]) == ["a read index below one answered before the read began"]


def test_an_answer_that_the_log_does_not_explain_is_found() -> None:
    assert rules([put(1, 1, 0, 1), get(7, 1, 2, 3)], model=RegisterModel()) == ["the log up to its index does not explain the answer"]


def test_operations_side_by_side_may_have_any_order() -> None:
    assert rules([put(1, 5, 0, 10), put(2, 4, 1, 9), get(2, 4, 0, 9)], model=RegisterModel()) == []
