"""A mutex that costs two list operations when nobody else wants it.

An append of 100 bytes is one system call of 0.4 us and some 0.2 us of framing; `threading.Lock` would add 0.15 us. Taking an item out of a list
is atomic in Python, and fails when the list is empty: so a list with one token in it is a lock that can be tried. Whoever finds it empty goes
the slow way, through a condition.

No wake-up is lost. 1. The waiter counts itself, then tries again, then waits; it holds the condition's lock from before the count until it
waits. 2. The owner gives the token back, then looks at the count. If the waiter's second try failed, the token was given back after it, so after the count: the
owner sees the count, and cannot notify before the waiter waits.
"""

from __future__ import annotations

from threading import Condition
from types import TracebackType
from typing import Final


class Turn:
    """Use ``with turn:``, or on the hot path its halves.

    ``tokens.pop()`` takes the turn, or raises IndexError when `take` must be called instead. ``tokens.append(None)`` gives it back, and then
    `wake` must be called if there are `waiters`. Written like this the interpreter runs both without a call.
    """

    __slots__ = ("_changed", "tokens", "waiters")

    def __init__(self) -> None:
        self.tokens: Final[list[None]] = [None]
        """One token while the turn is free, none while it is taken."""
        self._changed = Condition()
        self.waiters = 0
        """How many wait for the turn (and what `add_duty` has added): 0 means that giving it back is all there is to do."""

    def take(self) -> None:
        """Wait for the turn."""
        try:
            self.tokens.pop()
        except IndexError:
            with self._changed:
                self.waiters += 1
                try:
                    while not self._took():
                        self._changed.wait()
                finally:
                    self.waiters -= 1

    def _took(self) -> bool:
        try:
            self.tokens.pop()
        except IndexError:
            return False
        return True

    def give(self) -> None:
        """End the turn."""
        assert not self.tokens
        self.tokens.append(None)
        if self.waiters:
            self.wake()

    def add_duty(self) -> None:
        """From now on `waiters` is never 0: who ends a turn on the hot path has something else to do, too."""
        with self._changed:
            self.waiters += 1

    def wake(self) -> None:
        """Let one of those who wait try again."""
        with self._changed:
            self._changed.notify()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.give()
