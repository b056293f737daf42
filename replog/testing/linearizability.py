"""Is a history linearizable? Wing and Gong's search with remembered configurations, key by key.

A history is linearizable when every operation can be given one instant between its call and its answer so that, done one after another at these
instants, a single copy would have answered the same (Herlihy and Wing 1990). The search (Wing and Gong 1993) picks, again and again, an operation
that no unpicked one precedes in real time, does it on the model, and backs up where it is stuck. What makes it finish:

* keys are independent, so each is searched alone (locality; "P-compositionality" of Horn and Kroening 2015);
* a configuration (what is done, state) that failed once is not tried again (Lowe 2017);
* an operation whose answer says that it changed nothing (a read, a cas that failed) is done as soon as it fits and never reconsidered: in any
  completion it can be moved here. (Not so one that merely happens to change nothing now, as a write of the value that is there.);
* an operation of unknown outcome (its call has no answer, its interval never ends) *may* be done. A configuration that used fewer of them can do all
  that one with more can, so it stands for both; equal ones are taken in order of their start; those that no answer could show are left out; and none
  is done right before a write, which would hide it.

Many unknown operations on few values still make a history that does *not* hold expensive: which of them were used must be tried in all ways. So when a part
of the budget is used up, a second search asks less: there an unknown operation may be done again and again. It has far fewer configurations, and what even it cannot
explain has no explanation.

A refused operation was not done and is dropped. The budget counts configurations; when it is used up the verdict is "unknown", which is no pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from replog.testing.history import NEVER, Operation, freeze
from replog.testing.models import Model, RegisterModel

CONFIGURATIONS_MAX: Final = 3_000_000
"""Default budget per key. A thousand operations of eight clients need some ten thousand; a minute of search is the end of it."""

_FIRST_BUDGET: Final = 50_000
"""Configurations after which the search that asks less is tried; the first goes on behind it."""
_NOT_TRIED: Final = -2


class Verdict(Enum):
    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNKNOWN = "unknown"
    """The budget was used up before an answer was found. No pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyResult:
    """The verdict on one key, and what shows it."""

    key: str
    verdict: Verdict
    operations: tuple[Operation, ...]
    """What was searched, by start (refused ones dropped)."""
    order: tuple[int, ...]
    """Positions in `operations`, in an order that explains the answers: of all when linearizable, else the one that got furthest."""
    blocked: int | None = None
    """Not linearizable: position of the operation whose answer no order explains; all that was answered before it can be explained."""
    states: tuple[str, ...] = ()
    """Not linearizable: the states possible at that point (at most eight of them)."""
    configurations: int = 0

    def explain(self) -> str:
        """Why not, in a sentence."""
        where = f"key {self.key!r}: " if self.key else ""
        if self.blocked is None:
            return f"{where}{self.verdict.value}"
        operation = self.operations[self.blocked]
        states = ", ".join(self.states)
        return (
            f"{where}no order explains what client {operation.client} was told between {operation.start} and {operation.end}: "
            f"{operation.describe()}; the state could only be {states}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    verdict: Verdict
    keys: tuple[KeyResult, ...]

    @property
    def failed(self) -> tuple[KeyResult, ...]:
        return tuple(result for result in self.keys if result.verdict is not Verdict.LINEARIZABLE)


def check(history: Iterable[Operation], model: Model | None = None, *, configurations_max: int = CONFIGURATIONS_MAX) -> CheckResult:
    """The verdict on `history`, with the verdict on each key. Not linearizable where one key is not; else unknown where one is unknown."""
    chosen: Model = model if model is not None else RegisterModel()
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.outcome != "refused":
            by_key[operation.key].append(operation)
    results = tuple(check_key(key, by_key[key], chosen, configurations_max=configurations_max) for key in sorted(by_key))
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.NOT_LINEARIZABLE, Verdict.UNKNOWN):
        if verdict in verdicts:
            return CheckResult(verdict=verdict, keys=results)
    return CheckResult(verdict=Verdict.LINEARIZABLE, keys=results)


def check_key(key: str, operations: Sequence[Operation], model: Model, *, configurations_max: int = CONFIGURATIONS_MAX) -> KeyResult:
    """The verdict on operations that share one state; none of them refused."""
    ordered = sorted(operations, key=lambda operation: (operation.start, operation.end))
    dropped = model.without_influence(ordered)
    kept = tuple(operation for position, operation in enumerate(ordered) if position not in dropped)
    if configurations_max <= _FIRST_BUDGET or all(operation.outcome == "ok" for operation in kept):
        return _Search(key, kept, model, configurations_max).run()
    first = _Search(key, kept, model, _FIRST_BUDGET).run()
    if first.verdict is not Verdict.UNKNOWN:
        return first
    refuted = _Search(key, kept, model, configurations_max, again_and_again=True).run()
    if refuted.verdict is Verdict.NOT_LINEARIZABLE:
        return refuted
    return _Search(key, kept, model, configurations_max).run()


class _Frame:
    """One choice of the search: what may come next here, and what was done to get here."""

    __slots__ = ("candidates", "done", "hidden", "state", "unknown")

    def __init__(self, state: int, done: int, unknown: int, *, hidden: bool = False) -> None:
        self.state = state
        self.done = done
        self.unknown = unknown
        self.hidden = hidden
        """An operation of unknown outcome was done last, and nothing has seen it yet: what comes next must, or it was done for nothing."""
        self.candidates: list[tuple[int, int]] = []
        """(operation, state after it), best last."""


class _Search:
    """The search on one key. States are numbered as they are met; sets of operations are bits of an integer.

    `_next` and `_previous` link the events (calls and answers by time, 0 being the head) of all operations not yet done: lifting an operation
    out and putting it back cost the same whatever the length of the history (Lowe 2017, section 5).
    """

    def __init__(self, key: str, operations: tuple[Operation, ...], model: Model, budget: int, *, again_and_again: bool = False) -> None:
        """`again_and_again`: an operation of unknown outcome may be done more than once. Then only "not linearizable" is a verdict on the history."""
        self._again_and_again = again_and_again
        self._key, self._operations, self._model, self._budget = key, operations, model, budget
        self._states: list[Any] = []
        self._state_numbers: dict[Any, int] = {}
        self._steps: dict[int, int] = {}
        self._must = [operation.outcome == "ok" for operation in operations]
        self._pure = [operation.outcome == "ok" and model.is_pure(operation) for operation in operations]
        self._blind = [model.is_blind(operation) for operation in operations]
        self._class = _classes(operations)
        self._link()

    def _link(self) -> None:
        operations = self._operations
        events = [(operation.start, 0, position) for position, operation in enumerate(operations)]
        events += [(operation.end, 1, position) for position, operation in enumerate(operations) if operation.outcome == "ok"]
        events.sort()
        self._calls, self._answers = [0] * len(operations), [0] * len(operations)
        self._operation_of, self._is_call = [-1] * (len(events) + 2), [False] * (len(events) + 2)
        for place, (_, is_answer, position) in enumerate(events, 1):
            self._operation_of[place], self._is_call[place] = position, not is_answer
            (self._answers if is_answer else self._calls)[position] = place
        self._end = len(events) + 1
        self._next = [*range(1, len(events) + 2), 0]
        self._previous = [0, *range(len(events) + 1)]

    def _lift(self, position: int) -> None:
        following, previous = self._next, self._previous
        for place in (self._calls[position], self._answers[position]):
            if place:
                before, after = previous[place], following[place]
                following[before], previous[after] = after, before

    def _unlift(self, position: int) -> None:
        following, previous = self._next, self._previous
        for place in (self._answers[position], self._calls[position]):
            if place:
                following[previous[place]] = place
                previous[following[place]] = place

    def _number(self, state: Any) -> int:
        number = self._state_numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number

    def _step(self, state: int, position: int) -> int:
        """Number of the state after the operation, -1 where it does not fit."""
        slot = state * len(self._operations) + position
        after = self._steps.get(slot, _NOT_TRIED)
        if after == _NOT_TRIED:
            fits, reached = self._model.step(self._states[state], self._operations[position])
            after = self._number(reached) if fits else -1
            self._steps[slot] = after
        return after

    def _enter(self, frame: _Frame, path: list[int]) -> int:
        """Do what fits and can change nothing, list what else may come next; returns the event that waits (an answer, or the end of all)."""
        following, must, pure, operation_of, is_call = self._next, self._must, self._pure, self._operation_of, self._is_call
        frame_state = frame.state
        answered: list[tuple[int, int, int]] = []
        unanswered: dict[int, tuple[int, int]] = {}
        place: int = following[0]
        while is_call[place]:
            position = operation_of[place]
            after = self._step(frame_state, position)
            if pure[position]:
                if after >= 0:
                    before = self._previous[place]
                    self._lift(position)
                    path.append(position)
                    frame.done |= 1 << position
                    frame.hidden = False
                    place = following[before]
                    continue
            elif after >= 0:
                if must[position]:
                    answered.append((self._answers[position], position, after))
                elif after != frame_state:
                    unanswered.setdefault(self._class[position], (position, after))
            place = following[place]
        if frame.hidden:
            blind = self._blind
            answered = [one for one in answered if not blind[one[1]]]
            unanswered = {number: one for number, one in unanswered.items() if not blind[one[0]]}
        answered.sort(reverse=True)
        frame.candidates = [*unanswered.values(), *((position, after) for _, position, after in answered)]
        return place

    def run(self) -> KeyResult:
        path: list[int] = []
        frame = _Frame(self._number(self._model.initial()), 0, 0)
        stack: list[tuple[_Frame, int]] = []
        failed: dict[tuple[int, int], list[int]] = {}
        hidden_before: set[tuple[int, int, int]] = set()
        furthest, furthest_path, furthest_states = -1, [], set[int]()
        waiting = self._enter(frame, path)
        stack.append((frame, 0))
        visited = 1
        while True:
            if waiting == self._end:
                return self._result(Verdict.LINEARIZABLE, path, visited)
            if waiting > furthest:
                furthest, furthest_path, furthest_states = waiting, path.copy(), {frame.state}
            elif waiting == furthest:
                furthest_states.add(frame.state)
                if len(path) > len(furthest_path):
                    furthest_path = path.copy()
            tried = failed.setdefault((frame.done, frame.state), [])
            if any(not fewer & ~frame.unknown for fewer in tried):
                frame.candidates = []
            elif frame.hidden:
                # It may do less than one that is not hidden, so it does not stand for those; it need not be done twice itself.
                seen = (frame.done, frame.state, frame.unknown)
                frame.candidates = [] if seen in hidden_before else frame.candidates
                hidden_before.add(seen)
            else:
                tried[:] = [more for more in tried if frame.unknown & ~more]
                tried.append(frame.unknown)
            while not frame.candidates:
                _, length = stack.pop()
                while len(path) > length:
                    self._unlift(path.pop())
                if not stack:
                    blocked = self._operation_of[furthest]
                    return self._result(Verdict.NOT_LINEARIZABLE, furthest_path, visited, blocked, furthest_states)
                frame = stack[-1][0]
            if visited >= self._budget:
                return self._result(Verdict.UNKNOWN, furthest_path, visited)
            visited += 1
            position, after = frame.candidates.pop()
            length = len(path)
            bit = 1 << position
            if self._again_and_again and not self._must[position]:
                bit = 0
            else:
                self._lift(position)
                path.append(position)
            frame = (
                _Frame(after, frame.done | bit, frame.unknown)
                if self._must[position]
                else _Frame(after, frame.done, frame.unknown | bit, hidden=True)
            )
            waiting = self._enter(frame, path)
            stack.append((frame, length))

    def _result(
        self, verdict: Verdict, path: list[int], visited: int, blocked: int | None = None, states: set[int] | None = None
    ) -> KeyResult:
        shown = tuple(sorted(self._model.show(self._states[state]) for state in states or ()))
        return KeyResult(
            key=self._key,
            verdict=verdict,
            operations=self._operations,
            order=tuple(path),
            blocked=blocked,
            states=shown[:8],
            configurations=visited,
        )


def _classes(operations: Sequence[Operation]) -> list[int]:
    """A number for each operation; two of unknown outcome that ask the same share one."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault((operation.kind, freeze(operation.args)), len(numbers)) for operation in operations]


def real_time_order_holds(operations: Sequence[Operation], order: Sequence[int]) -> bool:
    """Whether `order` puts no operation behind one that it preceded in real time. For those who check the checker."""
    latest_start = -NEVER
    for position in order:
        if operations[position].end < latest_start:
            return False
        latest_start = max(latest_start, operations[position].start)
    return True
