"""Reading histories that others recorded: our JSON lines, and the event logs of Jepsen and the operations of Porcupine.

=================== ================================================================================================================
operations          one JSON object an operation, with ``start`` (see `replog.testing.history`); names of other tools are understood too:
                    ``process`` or ``ClientId``, ``f`` or ``op``, ``Call`` and ``Return``, ``Input`` and ``Output``
events              one object a call or answer, JSON or EDN, as Jepsen writes them: ``process``, ``type`` (invoke, ok, fail, info), ``f``,
                    ``value``, and ``key`` or a value ``[key value]`` throughout; ``time`` orders them if all have it, else their order in the file
jepsen.util lines   ``INFO  jepsen.util - 4  :invoke  :cas  [2 4]``; there a cas that fails with its own arguments compared and said no
=================== ================================================================================================================

Objects stand one a line, or all in one array, vector or list (perhaps in an object under ``history`` or ``operations``), over as many lines as they like. An answer
``fail`` means: certainly not done. ``info``, or no answer before the end of the file, means: unknown. A file in which no operation is found is refused: it is
no history that holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from replog.testing.edn import EdnMalformed, parse_edn, parse_edn_forms
from replog.testing.history import NEVER, HistoryMalformed, Operation, Outcome, operation_from_json

_UTIL_LINE: Final = re.compile(r"INFO\s+jepsen\.util\s+-\s+(\S+)\s+:(invoke|ok|fail|info)\s+:(\w+)\s+(.*)")
_KINDS: Final = {"read": "get", "write": "put", "r": "get", "w": "put", "set": "put", "compare-and-set": "cas"}
_HISTORY_NAMES: Final = ("history", "operations", "ops", "events")
"""Under which an object holds the whole history."""
_NUMBERED_KINDS: Final = {0: "get", 1: "put", 2: "append"}
"""`Input.op` of Porcupine's key-value histories."""
_ALIASES: Final = {
    "client": ("client", "process", "ClientId", "clientId", "client_id"),
    "kind": ("kind", "f", "op", "Op"),
    "start": ("start", "Call", "call", "invoke_time"),
    "end": ("end", "Return", "return", "return_time"),
    "key": ("key", "Key"),
    "result": ("result", "Output", "output"),
    "outcome": ("outcome",),
    "index": ("index",),
}


def parse(text: str) -> list[Operation]:
    """The operations in a history file of any of the known forms; raises `HistoryMalformed` naming the line."""
    records = _records(text)
    if not records:
        if text.strip():
            raise HistoryMalformed(f"none of the {len(text.splitlines())} lines holds an operation")
        return []
    if any("type" in record and ("process" in record or "client" in record) for _, record in records):
        return _from_events(records)
    return [operation_from_json(_normalise(record), where) for where, record in records]


Record = tuple[str, dict[str, Any]]


def _records(text: str) -> list[Record]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, (list, dict)):
        return _objects(whole, "item")
    lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(where, line) for where, line in lines if line and not line.startswith(("//", "# ", "#!", ";"))]
    if any(_UTIL_LINE.match(line) for _, line in lines):
        return _log_lines(lines)
    records = _json_lines(lines)
    return records if records is not None else _edn_forms(text)


def _json_lines(lines: Sequence[tuple[str, str]]) -> list[Record] | None:
    """None when the first line is no JSON object: it may be EDN."""
    records: list[Record] = []
    for where, line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not records:
                return None
            raise HistoryMalformed(f"{where}: not JSON, as the lines before it are: {error}") from None
        records += _objects(found, where)
    return records


def _log_lines(lines: Sequence[tuple[str, str]]) -> list[Record]:
    """Lines of jepsen.util among others of a log."""
    records: list[Record] = []
    for where, line in lines:
        if (match := _UTIL_LINE.match(line)) is not None:
            records.append((where, _util_record(match)))
        elif not line.startswith("INFO"):
            raise HistoryMalformed(f"{where}: no jepsen.util line, as others are: {line[:60]!r}")
    return records


def _edn_forms(text: str) -> list[Record]:
    try:
        forms = parse_edn_forms(text)
    except EdnMalformed as error:
        raise HistoryMalformed(f"neither JSON nor EDN: {error}") from None
    records: list[Record] = []
    for line, form in forms:
        if not isinstance(form, (list, dict)):
            raise HistoryMalformed(f"line {line}: neither a JSON object, an EDN map nor a jepsen.util line: {str(form)[:60]!r}")
        records += _objects(form, f"line {line}")
    return records


def _objects(found: object, where: str) -> list[Record]:
    """The records in a value: itself, or those that it lists, perhaps under a name."""
    if isinstance(found, dict):
        listed = next((found[name] for name in _HISTORY_NAMES if isinstance(found.get(name), list)), None)
        if listed is None:
            return [(where, found)]
        found = listed
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise HistoryMalformed(f"{where}: a list of objects is expected")
    name = "item" if where == "item" else f"{where}, item"
    return [(f"{name} {number}", item) for number, item in enumerate(found, 1)]


def _edn(text: str, where: str) -> Any:
    try:
        return parse_edn(text)
    except EdnMalformed as error:
        raise HistoryMalformed(f"{where}: neither JSON nor EDN: {error}") from None


def _util_record(match: re.Match[str]) -> dict[str, Any]:
    process, event, kind, value_text = match.groups()
    value = _edn(value_text, "jepsen.util line")
    if event == "fail" and kind == "cas" and isinstance(value, list):
        event = "compared-and-differs"
    return {"process": process, "type": event, "f": kind, "value": value}


def _normalise(record: dict[str, Any]) -> dict[str, Any]:
    """Our names for the fields of an operation that another tool wrote."""
    value: dict[str, Any] = {}
    for name, aliases in _ALIASES.items():
        for alias in aliases:
            if alias in record:
                value[name] = record[alias]
                break
    asked = record.get("Input", record.get("input"))
    if isinstance(asked, dict):
        lowered = {str(key).lower(): item for key, item in asked.items()}
        kind = lowered.get("op", lowered.get("kind", value.get("kind")))
        value["kind"] = _NUMBERED_KINDS.get(kind, kind) if type(kind) is int else kind
        value.setdefault("key", lowered.get("key", ""))
        value["args"] = _arguments(str(value["kind"]).lower(), lowered.get("value", lowered.get("args")))
    elif "args" in record:
        value["args"] = record["args"]
    elif "value" in record:
        value["args"] = _arguments(str(value.get("kind")), record["value"])
    answer = value.get("result")
    if isinstance(answer, dict) and len(answer) == 1:
        value["result"] = next(iter(answer.values()))
    value["kind"] = _kind(value.get("kind", "get"))
    if value["kind"] == "get":
        value["args"] = []
    return value


def _kind(kind: Any) -> str:
    name = str(kind).lower()
    return _KINDS.get(name, name)


def _arguments(kind: str, value: Any) -> list[Any]:
    if _kind(kind) in ("get", "delete") or value is None:
        return []
    if _kind(kind) == "cas" and isinstance(value, list):
        return value
    return [value]


def _from_events(records: Sequence[Record]) -> list[Operation]:
    records = [(where, record) for where, record in records if str(record.get("process", record.get("client"))) != "nemesis"]
    times = _times(records)
    keyed = _value_holds_key(records)
    running: dict[str, tuple[float, dict[str, Any]]] = {}
    operations: list[Operation] = []
    for (where, record), time in zip(records, times, strict=True):
        client = str(record.get("process", record.get("client")))
        event = str(record.get("type"))
        if event == "invoke":
            if client in running:
                raise HistoryMalformed(f"{where}: process {client} calls again before its call at {running[client][0]} was answered")
            running[client] = (time, record)
            continue
        if client not in running:
            raise HistoryMalformed(f"{where}: process {client} gets an answer ({event}) to no call")
        start, call = running.pop(client)
        operations.append(_completed(client, call, record, event, start, time, keyed, where))
    for client, (start, call) in running.items():
        operations.append(_completed(client, call, call, "info", start, NEVER, keyed, "end of file"))
    return sorted(operations, key=lambda operation: operation.start)


def _times(records: Sequence[Record]) -> Sequence[float]:
    """Those of the records if all have one; their places in the file if not, or if they stand in the order of their times and only the file tells equal ones apart."""
    told = [record.get("time") for _, record in records]
    times = [time for time in told if isinstance(time, (int, float)) and not isinstance(time, bool)]
    if len(times) < len(told):
        return range(len(records))
    in_order = all(before <= after for before, after in pairwise(times))
    return range(len(records)) if in_order and len(set(times)) < len(times) else times


def _value_holds_key(records: Sequence[Record]) -> bool:
    """Whether all calls carry ``[key value]``, as with jepsen.independent."""
    calls = [record for _, record in records if record.get("type") == "invoke"]
    return bool(calls) and all(
        ("key" not in record and isinstance(record.get("value"), list) and len(record["value"]) == 2 and _kind(record.get("f")) != "cas")
        or (isinstance(record.get("value"), list) and len(record["value"]) == 2 and isinstance(record["value"][1], list))
        for record in calls
    )


def _completed(
    client: str, call: dict[str, Any], answer: dict[str, Any], event: str, start: float, end: float, keyed: bool, where: str
) -> Operation:
    kind = _kind(call.get("f", call.get("kind")))
    asked, told, key = call.get("value"), answer.get("value"), str(call.get("key", ""))
    if keyed:
        assert isinstance(asked, list)
        key, asked = str(asked[0]), asked[1]
        told = told[1] if isinstance(told, list) and len(told) == 2 else told
    outcomes: dict[str, Outcome] = {"ok": "ok", "fail": "refused", "info": "unknown", "compared-and-differs": "ok"}
    if event not in outcomes:
        raise HistoryMalformed(f"{where}: type is {event!r}, allowed: invoke, ok, fail, info")
    result: Any = told if kind == "get" else None
    if kind == "cas" and outcomes[event] == "ok":
        result = event == "ok" and told is not False
    outcome = outcomes[event]
    return Operation(
        client=client,
        key=key,
        kind=kind,
        args=tuple(_arguments(kind, asked)),
        result=result if outcome == "ok" else None,
        start=start,
        end=NEVER if outcome == "unknown" else end,
        outcome=outcome,
    )
