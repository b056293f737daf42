"""The judge of a chaos run: it passes what held, and names what did not."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from cluster.chaos_clients import Kept, Workload
from cluster.chaos_judge import Historian, State, judge_states
from cluster.commands import Item
from replog.testing.history import Operation, dump


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    made = Workload(list, "chaos", clients=1, rate=1, chance=Random(1), directory=tmp_path, on_chapter=lambda path, operations: None)
    made.record.acknowledged[b"own/1"] = (7, b"value")
    made.record.unknown[b"own/2"] = b"perhaps"
    made.kept["shared/1/0"] = Kept(index=9, start=5.0, deleted=3.0)
    return made


def state(*items: Item, applied: int = 20) -> State:
    return State(applied, {item.key: item for item in items})


OWN = Item(b"own/1", 7, b"value")
SHARED = Item(b"shared/1/0", 9, b"newest")


def test_equal_states_with_all_that_was_acknowledged_hold(workload: Workload) -> None:
    full = state(OWN, SHARED)
    also_what_may_be = state(OWN, SHARED, Item(b"own/2", 8, b"perhaps"))

    assert judge_states({"n1": full, "n2": full}, workload) == []
    assert judge_states({"n1": also_what_may_be, "n2": also_what_may_be}, workload) == []


def test_a_lost_write_is_named_with_its_node(workload: Workload) -> None:
    (lost, differ) = judge_states({"n1": state(OWN, SHARED), "n2": state(SHARED)}, workload)

    assert lost.startswith("n2: of the acknowledged writes 1 are lost")
    assert "own/1" in lost
    assert differ.startswith("the states differ: n1")


def test_a_shared_key_that_went_back_or_away_is_named(workload: Workload) -> None:
    old = state(OWN, Item(b"shared/1/0", 4, b"older"))
    gone = state(OWN)

    assert "older than its acknowledged write at index 9" in judge_states({"n1": old}, workload)[0]
    assert "is gone, although" in judge_states({"n1": gone}, workload)[0]


def test_a_shared_key_that_a_late_delete_may_have_removed_may_be_gone(workload: Workload) -> None:
    workload.kept["shared/1/0"].deleted = 6.0

    assert judge_states({"n1": state(OWN)}, workload) == []


def test_the_same_items_at_another_applied_index_are_another_state(workload: Workload) -> None:
    assert "differ" in judge_states({"n1": state(OWN, SHARED), "n2": state(OWN, SHARED, applied=21)}, workload)[0]


@pytest.fixture
async def historian() -> AsyncIterator[Historian]:
    made = Historian()
    made.start()
    yield made
    await made.abandon()


def put_then_get(found: str) -> list[Operation]:
    return [
        Operation(client="a", key="k", kind="put", args=("1",), start=0.0, end=1.0, index=3),
        Operation(client="b", key="k", kind="get", result=found, start=2.0, end=3.0),
    ]


@pytest.mark.slow
async def test_a_history_that_holds_leaves_nothing_behind_and_one_that_does_not_its_picture(historian: Historian, tmp_path: Path) -> None:
    for name, operations in (("good", put_then_get("1")), ("bad", put_then_get("0"))):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(dump(operations)))
        historian.take(path, operations)

    await historian.finish()

    assert (historian.chapters, historian.keys, historian.operations) == (2, 2, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.html", "bad.jsonl"]
    assert len(historian.failures) == 1
    assert "not linearizable" in historian.failures[0]
    assert str(tmp_path / "bad.html") in historian.failures[0]


@pytest.mark.slow
async def test_log_indexes_that_contradict_real_time_are_found_beside_a_linearizable_history(historian: Historian, tmp_path: Path) -> None:
    operations = [
        Operation(client="a", key="k", kind="put", args=("1",), start=0.0, end=1.0, index=9),
        Operation(client="a", key="other", kind="put", args=("2",), start=2.0, end=3.0, index=4),
    ]
    path = tmp_path / "back.jsonl"
    path.write_text("".join(dump(operations)))

    historian.take(path, operations)
    await historian.finish()

    assert len(historian.failures) == 1
    assert "a write's index is not above one answered before it began" in historian.failures[0]
    assert path.exists()
