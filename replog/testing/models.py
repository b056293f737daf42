"""Sequential models: what a correct single copy would answer (the specification that a history is held against).

A model is a pure function of state and operation. States must be hashable: the search remembers them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, Protocol

from replog.testing.history import HistoryMalformed, Operation, freeze

ABSENT: Final = None
"""State of a register that was never written, or was deleted."""


class Model(Protocol):
    """What `replog.testing.linearizability.check` asks of a specification."""

    name: str

    def initial(self) -> Hashable:
        """State before the first operation (of one key)."""
        ...

    def step(self, state: Any, operation: Operation) -> tuple[bool, Hashable]:
        """(whether `operation`, done now, could have answered what it did; the state afterwards).

        An operation whose outcome is unknown told its client nothing: any result is possible.
        """
        ...

    def is_pure(self, operation: Operation) -> bool:
        """Whether `operation`, given its answer, changed nothing, whatever the state. False is always safe, and slower."""
        ...

    def is_blind(self, operation: Operation) -> bool:
        """Whether neither the answer of `operation` nor the state behind it depends on the state before it, as with a write. False is always safe, and slower."""
        ...

    def show(self, state: Any) -> str:
        """The state for a person."""
        ...

    def without_influence(self, operations: Sequence[Operation]) -> frozenset[int]:
        """Positions of operations of unknown outcome that cannot explain any answer, so that the search may leave them out. May be empty."""
        ...


class RegisterModel:
    """A key with a value: get, put, delete, cas (compare and set), append. The default.

    A delete's or put's result is not checked, except that a delete answering true or false says whether the key was there. `missing` is what a
    get of an absent key answers: null by default, the empty text in some stores.
    """

    _READS: Final = frozenset({"get", "read"})
    _WRITES: Final = frozenset({"put", "write", "set"})

    def __init__(self, missing: Any = None, name: str = "register") -> None:
        self._missing: Hashable = freeze(missing)
        self.name = name

    def initial(self) -> Hashable:
        return self._missing

    def step(self, state: Any, operation: Operation) -> tuple[bool, Hashable]:
        kind, known = operation.kind, operation.outcome == "ok"
        if kind in self._READS:
            return (not known or freeze(operation.result) == state), state
        if kind in self._WRITES:
            return True, freeze(_argument(operation, 0))
        if kind == "cas":
            matches = freeze(_argument(operation, 0)) == state
            after = freeze(_argument(operation, 1)) if matches else state
            return (not known or matches == _as_bool(operation)), after
        if kind == "delete":
            existed = state != self._missing
            answered = operation.result if known and isinstance(operation.result, bool) else existed
            return existed == answered, self._missing
        if kind == "append":
            before = state if isinstance(state, str) else ""
            return True, before + str(_argument(operation, 0))
        raise HistoryMalformed(f"client {operation.client}, start {operation.start}: kind {kind!r} is not of the register model")

    def is_pure(self, operation: Operation) -> bool:
        return operation.kind in self._READS or (operation.kind in ("cas", "delete") and operation.result is False)

    def is_blind(self, operation: Operation) -> bool:
        return operation.kind in self._WRITES or (operation.kind == "delete" and not isinstance(operation.result, bool))

    def show(self, state: Any) -> str:
        return "absent" if state is None else repr(_thaw(state))

    def without_influence(self, operations: Sequence[Operation]) -> frozenset[int]:
        """An unknown put explains something only if its value was seen (by a get or a cas), or if a cas failed, a delete said whether the key was
        there, or an append continued it; an unknown get never does."""
        unknown = [position for position, operation in enumerate(operations) if operation.outcome == "unknown"]
        if not unknown:
            return frozenset()
        reads = {position for position in unknown if operations[position].kind in self._READS}
        seen: set[Any] = set()
        for operation in operations:
            kind, known = operation.kind, operation.outcome == "ok"
            if kind in self._READS and known:
                seen.add(freeze(operation.result))
            elif kind == "cas":
                seen.add(freeze(_argument(operation, 0)))
                if known and not _as_bool(operation):
                    return frozenset(reads)
            elif kind == "append" or (kind == "delete" and isinstance(operation.result, bool)):
                return frozenset(reads)
        unseen = {
            position
            for position in unknown
            if operations[position].kind in self._WRITES and freeze(_argument(operations[position], 0)) not in seen
        }
        if self._missing not in seen:
            unseen |= {position for position in unknown if operations[position].kind == "delete"}
        return frozenset(reads | unseen)


def _argument(operation: Operation, position: int) -> Any:
    if position < len(operation.args):
        return operation.args[position]
    raise HistoryMalformed(
        f"client {operation.client}, start {operation.start}: {operation.kind} has {len(operation.args)} arguments, needs {position + 1}"
    )


def _as_bool(operation: Operation) -> bool:
    """A cas that answers nothing but that it was done, was done."""
    return operation.result is not False


def _thaw(state: Any) -> Any:
    if isinstance(state, tuple) and state:
        if state[0] == "bool":
            return state[1]
        if state[0] == "list":
            return [_thaw(item) for item in state[1:]]
        if state[0] == "dict":
            return {key: _thaw(item) for key, item in state[1:]}
    return state


MODELS: Final[dict[str, Model]] = {"register": RegisterModel(), "register-empty": RegisterModel("", "register-empty")}
"""Models by the name that ``replog.testing check --model`` takes."""
