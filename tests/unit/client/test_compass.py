"""Where the client looks for the leader."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from replog.client.compass import Compass


def test_it_begins_at_the_first_address() -> None:
    assert Compass(["a:1", "b:1"]).current == "a:1"


def test_without_a_hint_it_goes_round() -> None:
    compass = Compass(["a:1", "b:1", "c:1"])
    seen = []
    for _ in range(4):
        seen.append(compass.current)
        assert not compass.hinted(None, None, by=compass.current)

    assert seen == ["a:1", "b:1", "c:1", "a:1"]


def test_a_hint_is_followed() -> None:
    compass = Compass(["a:1", "b:1"])

    assert compass.hinted("x", "x:9", by="a:1")
    assert compass.current == "x:9"


def test_a_configured_address_where_the_leader_was_met_goes_before_its_advertised_one() -> None:
    compass = Compass(["a:1", "b:1"])
    compass.met("node-b", "b:1")

    assert compass.hinted("node-b", "internal:1", by="a:1")
    assert compass.current == "b:1"


def test_a_hint_to_where_nothing_answers_is_not_followed_twice() -> None:
    compass = Compass(["a:1", "b:1"])
    compass.hinted("x", "x:9", by="a:1")
    compass.failed("x:9")

    assert compass.current == "a:1"
    assert not compass.hinted("x", "x:9", by="a:1")
    assert compass.current == "b:1"


def test_a_node_that_hints_at_itself_is_left() -> None:
    compass = Compass(["a:1", "b:1"])

    assert not compass.hinted("node-a", "a:1", by="a:1")
    assert compass.current == "b:1"


def test_an_old_failure_does_not_turn_it_away_from_a_new_address() -> None:
    compass = Compass(["a:1", "b:1"])
    compass.hinted("node-b", "b:1", by="a:1")
    compass.turn_from("a:1")

    assert compass.current == "b:1"


def test_one_address_alone_is_kept() -> None:
    compass = Compass(["a:1"])
    compass.failed("a:1")

    assert compass.current == "a:1"


def test_addresses_that_failed_are_passed_over_while_others_are_left() -> None:
    compass = Compass(["a:1", "b:1", "c:1"])
    compass.failed("b:1")
    compass.turn_from("a:1")

    assert compass.current == "c:1"


@given(st.lists(st.tuples(st.sampled_from(["failed", "turn", "none", "hint"]), st.integers(0, 3)), max_size=60))
def test_every_configured_address_is_tried_again_whatever_happened(steps: list[tuple[str, int]]) -> None:
    addresses = ["a:1", "b:1", "c:1"]
    compass = Compass(addresses)
    for step, number in steps:
        match step:
            case "failed":
                compass.failed(compass.current)
            case "turn":
                compass.turn_from(compass.current)
            case "none":
                compass.hinted(None, None, by=compass.current)
            case _:
                compass.hinted(f"node-{number}", f"hint-{number}:1", by=compass.current)

    seen = set()
    for _ in range(12):
        seen.add(compass.current)
        compass.failed(compass.current)
    assert seen.issuperset(addresses)
