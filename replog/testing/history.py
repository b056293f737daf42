"""A history: what concurrent clients asked, when, and what they were told; and its file format.

A history file is JSON lines, one operation a line, in any order (``replog.testing check`` also reads the forms of other tools, see
`replog.testing.history_formats`)::

    {"client": "c1", "key": "x", "kind": "put", "args": ["v1"], "result": null, "start": 0.10, "end": 0.25, "outcome": "ok"}
    {"client": "c2", "key": "x", "kind": "get", "args": [], "result": "v1", "start": 0.12, "end": 0.30, "outcome": "ok"}
    {"client": "c3", "key": "x", "kind": "cas", "args": ["v1", "v2"], "result": null, "start": 0.3, "end": null, "outcome": "unknown"}

========= ==========================================================================================================================
client    string or number; a client has one operation at a time
key       string; operations on different keys are independent
kind      for the register model: get, put (args: value), delete, cas (args: expected, new; result: true or false), append (args: text)
result    what the client was told; null for a get of a key that is not there
start     time of the call, any unit
end       time of the answer; null: never answered
outcome   ``ok``: done, with this result. ``refused``: certainly not done. ``unknown``: may have been done at any time after `start`
========= ==========================================================================================================================

Further fields are kept out of the model; two of them serve `replog.testing.index_check`: ``index`` (the log index of a write, the read index of a read)
and ``session``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from replog.errors import CallerError

Outcome = Literal["ok", "refused", "unknown"]
OUTCOMES: Final = ("ok", "refused", "unknown")
NEVER: Final = math.inf
"""`Operation.end` of an operation that got no answer."""


class HistoryMalformed(CallerError):
    """A history file cannot be understood; the message names line and field. Correct the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of one client. `start` <= `end`; `end` is `NEVER` when no answer came."""

    client: str
    key: str
    kind: str
    args: tuple[Any, ...] = ()
    result: Any = None
    start: float
    end: float = NEVER
    outcome: Outcome = "ok"
    index: int | None = None
    """Log index of a write, read index of a read, where the recorder knows it."""

    def describe(self) -> str:
        """One line for people, such as ``cas('a', 'b') -> True``."""
        call = f"{self.kind}({', '.join(repr(arg) for arg in self.args)})"
        if self.outcome == "ok":
            return call if self.result is None and self.args else f"{call} -> {self.result!r}"
        return f"{call} -> {self.outcome}"


def freeze(value: Any) -> Any:
    """A hashable twin of a JSON value, equal exactly when the values are equal as JSON (1 and True differ)."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (list, tuple)):
        return ("list", *(freeze(item) for item in value))
    if isinstance(value, dict):
        return ("dict", *sorted((str(key), freeze(item)) for key, item in value.items()))
    return value


def operation_from_json(value: object, where: str) -> Operation:
    """One line of the file format; raises `HistoryMalformed` naming `where` and the field."""
    if not isinstance(value, dict):
        raise HistoryMalformed(f"{where}: not a JSON object")
    for name in ("client", "kind", "start"):
        if name not in value:
            raise HistoryMalformed(f"{where}: field {name!r} is missing")
    outcome = value.get("outcome", "ok" if _time(value.get("end"), where, "end") != NEVER else "unknown")
    if outcome not in OUTCOMES:
        raise HistoryMalformed(f"{where}: outcome is {outcome!r}, allowed: {', '.join(OUTCOMES)}")
    start, end = _time(value["start"], where, "start"), _time(value.get("end"), where, "end")
    if math.isinf(start) or end < start:
        raise HistoryMalformed(f"{where}: start is {start}, end is {end}; start must be finite and not after end")
    args = value.get("args", [])
    index = value.get("index")
    return Operation(
        client=str(value["client"]),
        key=str(value.get("key", "")),
        kind=str(value["kind"]),
        args=tuple(args) if isinstance(args, list) else (args,),
        result=value.get("result"),
        start=start,
        end=NEVER if outcome == "unknown" else end,
        outcome=outcome,
        index=index if isinstance(index, int) else None,
    )


def _time(value: object, where: str, field: str) -> float:
    if value is None or (isinstance(value, str) and value.lower() in ("infinity", "inf", "never")):
        return NEVER
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise HistoryMalformed(f"{where}: {field} is {value!r}, allowed: a number, or null for never")
    return value


def operation_to_json(operation: Operation) -> dict[str, Any]:
    value: dict[str, Any] = {
        "client": operation.client,
        "key": operation.key,
        "kind": operation.kind,
        "args": list(operation.args),
        "result": operation.result,
        "start": operation.start,
        "end": None if operation.end == NEVER else operation.end,
        "outcome": operation.outcome,
    }
    if operation.index is not None:
        value["index"] = operation.index
    return value


def dump(history: Iterable[Operation]) -> Iterator[str]:
    """The lines of a history file (each with its line end)."""
    for operation in history:
        yield json.dumps(operation_to_json(operation), separators=(", ", ": ")) + "\n"
