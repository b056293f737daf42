"""What nodes hold beside what clients were told, and the closed loop."""

import asyncio
import itertools

import pytest

from cluster.commands import Item
from cluster.load import closed_loop
from cluster.writers import Record, judge

PROMISED = {b"a": (1, b"one"), b"b": (2, b"two")}
HELD = {b"a": Item(b"a", 1, b"one"), b"b": Item(b"b", 2, b"two")}


def record() -> Record:
    return Record(acknowledged=dict(PROMISED), unknown={b"u": b"perhaps"})


def test_all_that_was_promised_and_nothing_else_holds() -> None:
    assert judge(record(), HELD).holds
    assert judge(record(), {**HELD, b"u": Item(b"u", 3, b"perhaps")}).holds


def test_an_acknowledged_write_that_is_gone_is_lost() -> None:
    verdict = judge(record(), {b"a": HELD[b"a"]})

    assert (verdict.lost, verdict.changed, verdict.invented) == (1, 0, 0)
    assert verdict.example == "lost: b"
    assert not verdict.holds


@pytest.mark.parametrize("changed", [Item(b"b", 3, b"two"), Item(b"b", 2, b"other")])
def test_an_acknowledged_write_with_another_revision_or_value_is_changed(changed: Item) -> None:
    verdict = judge(record(), {**HELD, b"b": changed})

    assert (verdict.lost, verdict.changed, verdict.invented) == (0, 1, 0)


@pytest.mark.parametrize("item", [Item(b"x", 3, b"?"), Item(b"u", 3, b"something else")])
def test_what_nobody_wrote_is_invented(item: Item) -> None:
    assert judge(record(), {**HELD, item.key: item}).invented == 1


async def test_a_closed_loop_keeps_so_many_in_flight_and_times_each() -> None:
    under_way, most, count = 0, 0, itertools.count()

    async def operation(argument: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        next(count)
        await asyncio.sleep(0.001)
        under_way -= 1

    result = await closed_loop(operation, itertools.repeat(None), in_flight=7, seconds=0.05, warmup_seconds=0.02)

    assert most == 7
    assert 7 <= result.operations < next(count)
    assert 1 <= result.p50_ms <= result.p99_ms <= result.max_ms
    assert result.per_second == result.operations / result.seconds


async def test_an_operation_that_fails_ends_the_loop() -> None:
    async def operation(argument: object) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await closed_loop(operation, itertools.repeat(None), in_flight=3, seconds=1, warmup_seconds=0.0)
