"""The mutex of the append path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Thread

import pytest

from replog.wal.turn import Turn


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads are switched every few bytecodes."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("way", ["with", "hot path"])
def test_one_at_a_time_and_nobody_waits_for_ever(way: str) -> None:
    turn = Turn()
    inside = 0
    total = 0

    def work() -> None:
        nonlocal inside, total
        for _ in range(2000):
            if way == "with":
                turn.take()
            else:
                try:
                    turn.tokens.pop()
                except IndexError:
                    turn.take()
            inside += 1
            assert inside == 1
            seen = total
            total = seen + 1
            inside -= 1
            if way == "with":
                turn.give()
            else:
                turn.tokens.append(None)
                if turn.waiters:
                    turn.wake()

    threads = [Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
    assert total == 12_000
    assert turn.waiters == 0


def test_an_error_inside_gives_the_turn_back() -> None:
    turn = Turn()

    with pytest.raises(ValueError, match="inside"), turn:
        raise ValueError("inside")

    turn.tokens.pop()
    with pytest.raises(IndexError):
        turn.tokens.pop()
