"""How much one turn may take in."""

from __future__ import annotations

from replog.node.turn_size import TURN_BYTES_MIN, TurnSize

MIB = 1024 * 1024


def test_a_slow_disk_gets_smaller_turns_down_to_the_least() -> None:
    size = TurnSize(8 * MIB, 0.05)

    sizes = []
    for _ in range(10):
        size.measured(size.bytes, 0.2)
        sizes.append(size.bytes)

    assert sizes[:3] == [4 * MIB, 2 * MIB, MIB]
    assert sizes[-1] == TURN_BYTES_MIN


def test_a_disk_that_is_quick_again_gets_larger_turns_step_by_step() -> None:
    size = TurnSize(MIB, 0.05)
    size.measured(MIB, 0.2)
    size.measured(MIB // 2, 0.2)
    assert size.bytes == MIB // 4

    size.measured(MIB // 4, 0.02)
    assert size.bytes == MIB // 4, "a time near the target is right as it is"
    for _ in range(3):
        size.measured(size.bytes, 0.001)
    assert size.bytes == MIB


def test_small_batches_say_nothing() -> None:
    size = TurnSize(MIB, 0.05)

    size.measured(100, 3.0)

    assert size.bytes == MIB


def test_a_configured_most_below_the_least_is_kept() -> None:
    size = TurnSize(2048, 0.05)

    size.measured(2048, 1.0)
    size.measured(2048, 0.0)

    assert size.bytes == 2048
