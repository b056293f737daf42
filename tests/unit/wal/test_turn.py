"""The mutex of the append path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Event, Thread
from time import sleep

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


def test_a_thread_that_takes_every_turn_does_not_starve_another_one() -> None:
    turn = Turn()
    ended = Event()

    def work() -> None:
        while not ended.is_set():
            with turn:
                sleep(0)  # as a write does: another thread may run, and finds the turn taken

    threads = [Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        turn.take()
        turn.give()
    ended.set()
    for thread in threads:
        thread.join(10)

    assert not any(thread.is_alive() for thread in threads)
    assert turn.waiters == 0


def test_who_is_interrupted_while_it_waits_leaves_the_turn_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn()

    class Interrupted:
        """A lock of which the second acquire is interrupted; `passed_on`: just after the turn was passed on."""

        def __init__(self) -> None:
            self.is_new = True

        def acquire(self) -> None:
            if self.is_new:
                self.is_new = False
                return
            if passed_on:
                turn.give()
            raise KeyboardInterrupt

        def release(self) -> None:
            pass

    monkeypatch.setattr("replog.wal.turn.Lock", Interrupted)
    for passed_on in (False, True):
        turn.take()

        with pytest.raises(KeyboardInterrupt):
            turn.take()
        if not passed_on:
            turn.give()

        turn.take()
        turn.give()
        assert turn.waiters == 0
