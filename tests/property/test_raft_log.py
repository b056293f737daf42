"""The log's positions, against a plain list of terms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import replog.raft.log
from replog.raft.log import Log


class Model:
    def __init__(self) -> None:
        self.first_index = 1
        self.entries: list[tuple[int, int]] = []  # term, bytes

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.entries) - 1

    def term_at(self, index: int) -> int | None:
        return self.entries[index - self.first_index][0] if self.first_index <= index <= self.last_index else None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5), st.integers(0, 2)),
        st.tuples(st.just("truncate"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("compact"), st.integers(1, 6), st.just(0)),
    ),
    max_size=25,
)


def build(plan: list[tuple[str, int, int]]) -> tuple[Log, Model, int | None]:
    log, model, boundary = Log(1, 0, (), 0, 0), Model(), 0
    term = 1
    for what, number, raised in plan:
        if what == "append":
            term += raised
            log.append(number, term, number * 10)
            model.entries += [(term, 10)] * number
        elif what == "truncate" and number <= model.last_index - log.committed_index:
            log.truncate(model.last_index - number + 1)
            del model.entries[-number:]
        elif what == "compact" and number <= len(model.entries):
            cut = model.first_index + number
            log.committed_index = max(log.committed_index, cut - 1)
            boundary = model.term_at(cut - 1) or 0
            log.compact(cut)
            del model.entries[:number]
            model.first_index = cut
        log.handed_index = log.persisted_index = log.last_index
        log.check()
    return log, model, boundary


@given(steps)
def test_terms_and_sizes_are_those_of_the_entries(plan: list[tuple[str, int, int]]) -> None:
    log, model, boundary = build(plan)

    assert (log.first_index, log.last_index) == (model.first_index, model.last_index)
    for index in range(model.first_index, model.last_index + 1):
        assert log.term_at(index) == model.term_at(index)
        assert log.size_bytes(index, model.last_index) == 10 * (model.last_index - index + 1)
    assert log.term_at(model.first_index - 1) == boundary
    assert log.term_at(model.first_index - 2) is None
    assert log.term_at(model.last_index + 1) is None


@given(steps, st.integers(1, 40), st.integers(1, 60))
def test_a_cut_range_is_within_its_limits_or_one_entry(plan: list[tuple[str, int, int]], bytes_max: int, entries_max: int) -> None:
    log, model, _ = build(plan)

    for first in range(model.first_index, model.last_index + 1):
        last = log.last_within(first, model.last_index, bytes_max, entries_max)
        assert first <= last <= model.last_index
        assert last == first or (log.size_bytes(first, last) <= bytes_max and last - first + 1 <= entries_max)
        if last < model.last_index and last - first + 1 < entries_max:
            assert log.size_bytes(first, last + 1) > bytes_max, "more would have fitted"


@given(steps, st.integers(0, 40), st.integers(0, 30))
def test_the_conflict_hint_skips_only_what_cannot_match(plan: list[tuple[str, int, int]], index: int, term: int) -> None:
    log, model, boundary = build(plan)

    hint_index, hint_term = log.find_conflict_by_term(index, term)

    assert hint_index <= min(index, model.last_index)
    for skipped in range(hint_index + 1, min(index, model.last_index) + 1):
        known = model.term_at(skipped) or (boundary if skipped == model.first_index - 1 else None)
        assert known is None or known > term
    if hint_term:
        assert hint_term <= term
        assert log.term_at(hint_index) == hint_term


@given(steps, st.data())
def test_the_first_conflict_is_where_terms_part(plan: list[tuple[str, int, int]], data: st.DataObject) -> None:
    log, model, _ = build(plan)
    first = data.draw(st.integers(max(model.first_index - 2, 1), model.last_index + 1))
    count = data.draw(st.integers(1, 8))
    terms: list[int] = []
    for index in range(first, first + count):
        own = model.term_at(index)
        least = terms[-1] if terms else 1
        terms.append(max(least, data.draw(st.sampled_from([own or least, least, least + 1]))))
    runs = [(first + i, term) for i, term in enumerate(terms) if i == 0 or term != terms[i - 1]]

    found = log.first_conflict(first, first + count - 1, runs)

    expected = first + count
    for index, term in enumerate(terms, first):
        if index >= model.first_index and model.term_at(index) != term:
            expected = index
            break
    assert found == expected


def test_many_small_batches_cost_bounded_memory_and_keep_their_sum() -> None:
    log = Log(1, 0, (), 0, 0)
    for _ in range(3 * replog.raft.log.EXTENTS_MAX):
        log.append(1, 1, 7)

    assert len(log.extent_ends) <= replog.raft.log.EXTENTS_MAX
    assert log.size_bytes(1, log.last_index) == 7 * log.last_index
    assert log.size_bytes(1000, 1999) == 7000
    log.handed_index = log.persisted_index = log.last_index
    log.check()
