"""The checker is checked: by hand-made histories, by a brute force twin, and by histories with a planted fault."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.testing.history import NEVER, Operation
from replog.testing.linearizability import Verdict, _Search, check, real_time_order_holds
from replog.testing.models import RegisterModel


def op(client: str, kind: str, args: tuple[Any, ...], result: Any, start: float, end: float = NEVER, outcome: Any = "ok") -> Operation:
    return Operation(client=client, key="k", kind=kind, args=args, result=result, start=start, end=end, outcome=outcome)


def test_an_empty_history_is_linearizable() -> None:
    assert check([]).verdict is Verdict.LINEARIZABLE


def test_a_read_may_see_a_write_that_runs_beside_it() -> None:
    history = [op("a", "put", (1,), None, 0, 10), op("b", "get", (), 1, 2, 7), op("c", "get", (), None, 3, 6)]

    assert check(history).verdict is Verdict.LINEARIZABLE


def test_a_read_must_not_go_back_behind_another_read() -> None:
    history = [op("a", "put", (2,), None, 0, 100), op("b", "get", (), 2, 10, 30), op("c", "get", (), None, 40, 90)]

    result = check(history)

    assert result.verdict is Verdict.NOT_LINEARIZABLE
    failed = result.failed[0]
    assert failed.blocked is not None
    assert failed.operations[failed.blocked].client == "c"
    assert failed.states == ("2",)
    assert "client c" in failed.explain()


def test_a_write_of_unknown_outcome_may_take_effect_long_after() -> None:
    history = [
        op("a", "put", (1,), None, 0, outcome="unknown"),
        op("b", "get", (), None, 5, 6),
        op("b", "get", (), 1, 7, 8),
    ]

    assert check(history).verdict is Verdict.LINEARIZABLE


def test_a_write_of_unknown_outcome_takes_effect_only_once() -> None:
    history = [
        op("a", "put", (1,), None, 0, outcome="unknown"),
        op("b", "get", (), 1, 5, 6),
        op("b", "put", (2,), None, 7, 8),
        op("b", "get", (), 1, 9, 10),
    ]

    assert check(history).verdict is Verdict.NOT_LINEARIZABLE


def test_two_equal_writes_of_unknown_outcome_may_take_effect_twice() -> None:
    history = [
        op("a", "put", (1,), None, 0, outcome="unknown"),
        op("c", "put", (1,), None, 1, outcome="unknown"),
        op("b", "get", (), 1, 5, 6),
        op("b", "put", (2,), None, 7, 8),
        op("b", "get", (), 1, 9, 10),
    ]

    assert check(history).verdict is Verdict.LINEARIZABLE


def test_a_refused_write_must_not_be_seen() -> None:
    history = [op("a", "put", (1,), None, 0, 1, "refused"), op("b", "get", (), 1, 2, 3)]

    assert check(history).verdict is Verdict.NOT_LINEARIZABLE


def test_a_write_of_the_value_that_is_there_may_still_be_needed_later() -> None:
    history = [
        op("a", "put", (1,), None, 0, 1),
        op("b", "put", (1,), None, 2, 20),
        op("c", "put", (2,), None, 3, 19),
        op("d", "get", (), 2, 4, 10),
        op("d", "get", (), 1, 21, 22),
    ]

    assert check(history).verdict is Verdict.LINEARIZABLE


def test_an_unknown_write_explains_a_failed_cas_although_nobody_reads_it() -> None:
    history = [
        op("b", "put", (1,), None, 0, 1),
        op("a", "put", (7,), None, 2, outcome="unknown"),
        op("b", "cas", (1, 2), False, 5, 6),
    ]

    assert check(history).verdict is Verdict.LINEARIZABLE
    assert check(history[:1] + history[2:]).verdict is Verdict.NOT_LINEARIZABLE


def test_keys_are_judged_apart_and_the_bad_one_is_named() -> None:
    good = [Operation(client="a", key="good", kind="put", args=(1,), start=0, end=1)]
    bad = [Operation(client="a", key="bad", kind="get", args=(), result=1, start=2, end=3)]

    result = check(good + bad)

    assert [failed.key for failed in result.failed] == ["bad"]


def test_true_and_one_are_different_values() -> None:
    assert check([op("a", "put", (1,), None, 0, 1), op("a", "get", (), True, 2, 3)]).verdict is Verdict.NOT_LINEARIZABLE


def test_a_budget_that_is_used_up_is_no_pass() -> None:
    history = concurrent_history(random.Random(1), operations=200, clients=8)

    assert check(history, configurations_max=20).verdict is Verdict.UNKNOWN


def concurrent_history(
    source: random.Random, *, operations: int, clients: int, unknown_rate: float = 0.0, values: int = 5
) -> list[Operation]:
    """A history that a single copy really produced: each operation takes effect at an instant inside its interval."""
    effects: list[tuple[float, float, float, str, str, tuple[Any, ...], bool]] = []
    for client in range(clients):
        now = source.random()
        for number in range(operations // clients):
            start = now
            instant = start + source.random()
            end = instant + source.random()
            kind = source.choice(["get", "put", "cas", "delete"])
            value = f"{client}.{number}" if values == 0 else source.randrange(values)
            args: tuple[Any, ...] = {"get": (), "delete": (), "put": (value,), "cas": (source.randrange(max(values, 1)), value)}[kind]
            lost = source.random() < unknown_rate
            effects.append(
                (
                    instant + (source.random() * 20 if lost else 0),
                    start,
                    end,
                    f"{client}.{number}" if lost else str(client),
                    kind,
                    args,
                    lost,
                )
            )
            now = end + source.random() * 0.2
    model, state, history = RegisterModel(), RegisterModel().initial(), []
    for _, start, end, client_name, kind, args, lost in sorted(effects):
        result: Any = None
        if kind == "get":
            result = state
        elif kind == "cas":
            result = state == args[0]
        done = Operation(client=client_name, key="k", kind=kind, args=args, result=result, start=start, end=end)
        _, state = model.step(state, done)
        history.append(Operation(client=client_name, key="k", kind=kind, args=args, start=start, outcome="unknown") if lost else done)
    return history


@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_operations_of_eight_clients_finish(seed: int) -> None:
    result = check(concurrent_history(random.Random(seed), operations=1000, clients=8))

    assert result.verdict is Verdict.LINEARIZABLE
    only = result.keys[0]
    assert sorted(only.order) == list(range(len(only.operations)))
    assert real_time_order_holds(only.operations, only.order)


@pytest.mark.parametrize("seed", range(5))
def test_lost_answers_do_not_make_the_search_explode(seed: int) -> None:
    result = check(concurrent_history(random.Random(seed), operations=1000, clients=8, unknown_rate=0.05))

    assert result.verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize("seed", range(5))
def test_a_stale_read_planted_late_in_a_long_history_is_found(seed: int) -> None:
    source = random.Random(seed)
    history = sorted(concurrent_history(source, operations=1000, clients=8, values=0), key=lambda operation: operation.start)
    late = next(operation for operation in history[800:] if operation.kind == "get")
    stale = Operation(client="x", key="k", kind="get", result="0.0", start=late.start, end=late.end)
    first = Operation(client="y", key="k", kind="put", args=("0.0",), start=-2, end=-1)

    result = check([first, *history, stale])

    assert result.verdict is Verdict.NOT_LINEARIZABLE
    blocked = result.failed[0].blocked
    assert blocked is not None


def brute_force(operations: Sequence[Operation]) -> bool:
    """Every subset of the unknown, every order: the definition itself."""
    model = RegisterModel()
    sure = [operation for operation in operations if operation.outcome == "ok"]
    maybe = [operation for operation in operations if operation.outcome == "unknown"]
    for count in range(len(maybe) + 1):
        for chosen in itertools.combinations(maybe, count):
            for order in itertools.permutations([*sure, *chosen]):
                if real_time_order_holds(order, range(len(order))):
                    state = model.initial()
                    for operation in order:
                        fits, state = model.step(state, operation)
                        if not fits:
                            break
                    else:
                        return True
    return False


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    history = []
    for client in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["get", "put", "cas", "delete"]))
        start = draw(st.integers(0, 6))
        outcome = draw(st.sampled_from(["ok", "ok", "unknown"]))
        value = st.integers(0, 2)
        args: tuple[Any, ...] = {"get": (), "delete": (), "put": (draw(value),), "cas": (draw(value), draw(value))}[kind]
        result: Any = None
        if kind == "get":
            result = draw(st.one_of(st.none(), value))
        elif kind == "cas":
            result = draw(st.booleans())
        elif kind == "delete":
            result = draw(st.sampled_from([None, True, False]))
        end = NEVER if outcome == "unknown" else start + draw(st.integers(0, 4))
        history.append(op(str(client), kind, args, result, start, end, outcome))
    return history


@settings(max_examples=500, deadline=None)
@given(small_histories())
def test_the_search_agrees_with_the_definition(history: list[Operation]) -> None:
    expected = Verdict.LINEARIZABLE if brute_force(history) else Verdict.NOT_LINEARIZABLE

    assert check(history).verdict is expected


@settings(max_examples=300, deadline=None)
@given(small_histories())
def test_the_search_that_asks_less_refutes_nothing_that_holds(history: list[Operation]) -> None:
    operations = tuple(sorted(history, key=lambda operation: (operation.start, operation.end)))

    result = _Search("k", operations, RegisterModel(), 100_000, again_and_again=True).run()

    if result.verdict is Verdict.NOT_LINEARIZABLE:
        assert not brute_force(history)


@pytest.mark.parametrize("seed", range(4))
def test_many_lost_answers_on_few_values_do_not_hide_a_wrong_one(seed: int) -> None:
    """Which of the lost writes were done can be explained in very many ways; that a read saw what nobody wrote, in none."""
    history = concurrent_history(random.Random(seed), operations=1000, clients=8, unknown_rate=0.05)
    late = [operation for operation in sorted(history, key=lambda operation: operation.start)[600:] if operation.kind == "get"]
    wrong = late[0]
    history[history.index(wrong)] = dataclasses.replace(wrong, result=99)

    result = check(history, configurations_max=400_000)

    assert result.verdict is Verdict.NOT_LINEARIZABLE
    only = result.keys[0]
    assert only.blocked is not None
    assert only.operations[only.blocked].result == 99
