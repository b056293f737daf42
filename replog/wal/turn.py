"""A mutex that costs two list operations when nobody else wants it, and starves nobody.

An append of 100 bytes is one system call of 0.3 us and some 0.2 us of framing; `threading.Lock` would add 0.15 us. Taking an item out of a list
is atomic in Python, and fails when the list is empty: so a list with one token in it is a lock that can be tried. Whoever finds it empty goes
the slow way: into a line, an ordinary lock, whose head sleeps until the turn is passed on to it.

Passed on, and not given back for all to try: the one who ends a turn still has the interpreter, and would take the next turn, and the next, before
the one that was woken gets to run. (It did: of two threads that appended all the time, one got every turn.) Only the head is served like this. Until the next
one in line has woken, the turn is free, and a thread that runs takes it many times without a switch of threads.

Nobody is forgotten. 1. The head counts itself and says that it waits, then tries once more, then sleeps. 2. The owner gives the token back, then looks at
the count. If the head's second try failed, the token was out when it had said that it waits: whoever has it will give it back, see the count,
and find the head. 3. The owner takes the token again before it takes the head's gate, so a turn is passed on once, by one who has it.
"""

from __future__ import annotations

from threading import Lock
from types import TracebackType
from typing import Final


class Turn:
    """Use ``with turn:``, or on the hot path its halves.

    ``tokens.pop()`` takes the turn, or raises IndexError when `take` must be called instead. ``tokens.append(None)`` gives it back, and then
    `wake` must be called if there are `waiters`. Written like this the interpreter runs both without a call.
    """

    __slots__ = ("_head", "_line", "tokens", "waiters")

    def __init__(self) -> None:
        self.tokens: Final[list[None]] = [None]
        """One token while the turn is free, none while it is taken."""
        self._line = Lock()
        """Held by the head of the line; those behind it wait for this."""
        self._head: Final[list[Lock]] = []
        """What the head sleeps on, until the turn is passed on to it."""
        self.waiters = 0
        """How many wait for the turn (and what `add_duty` has added): 0 means that giving it back is all there is to do."""

    def take(self) -> None:
        """Wait for the turn."""
        try:
            self.tokens.pop()
        except IndexError:
            self._wait()

    def _wait(self) -> None:
        gate = Lock()
        gate.acquire()
        with self._line:
            self.waiters += 1
            self._head.append(gate)
            try:
                if self._took():
                    self._head.clear()
                else:
                    gate.acquire()
            except BaseException:  # interrupted
                try:
                    self._head.pop()
                except IndexError:
                    self.give()  # it has been passed on
                raise
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
        with self._line:
            self.waiters += 1

    def wake(self) -> None:
        """Pass the turn on to the head of the line, unless another one has it already and will do so."""
        while self._head and self._took():
            try:
                gate = self._head.pop()
            except IndexError:  # it has left; another one may have come meanwhile
                self.tokens.append(None)
                continue
            gate.release()
            return

    def __enter__(self) -> None:
        try:
            self.tokens.pop()
        except IndexError:
            self._wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.tokens.append(None)
        if self.waiters:
            self.wake()
