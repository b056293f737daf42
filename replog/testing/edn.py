"""Just enough of EDN (Clojure's data notation) to read the histories that Jepsen writes: maps, vectors, lists, sets, text, keywords, numbers.

Keywords become text without their colon, tags are dropped (``#jepsen.history.Op{...}`` is the map), ``nil`` becomes None, ``#_`` hides the value behind it.
"""

from __future__ import annotations

import re
from typing import Any, Final

_TOKEN: Final = re.compile(
    r"""[\s,]*(?:;[^\n]*[\s,]*)*(?:(?P<open>\#?\{|\[|\()|(?P<close>[\]})])|(?P<text>"(?:[^"\\]|\\.)*")|(?P<hide>\#_)|(?P<tag>\#[\w./:-]+)|(?P<atom>[^\s,"\[\](){};]+))"""
)
_CLOSING: Final = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_DEPTH_MAX: Final = 50
_BLANK: Final = re.compile(r"[\s,]*(?:;[^\n]*[\s,]*)*")


class EdnMalformed(ValueError):
    """The text is no EDN; the message names the offset."""


def parse_edn(text: str) -> Any:
    """The one value in `text`; raises `EdnMalformed`."""
    value, offset = _value(text, 0, 0)
    if _skip(text, offset) < len(text):
        raise EdnMalformed(f"offset {offset}: more than one value")
    return value


def parse_edn_forms(text: str) -> list[tuple[int, Any]]:
    """All the values in `text`, one behind the other, each with the number of the line that it begins in. Raises `EdnMalformed`, which then names the line."""
    forms: list[tuple[int, Any]] = []
    line, counted = 1, 0
    offset = _skip(text, 0)
    while offset < len(text):
        line, counted = line + text.count("\n", counted, offset), offset
        try:
            value, offset = _value(text, offset, 0)
        except EdnMalformed as error:
            raise EdnMalformed(f"in what begins in line {line}: {error}") from None
        forms.append((line, value))
        offset = _skip(text, offset)
    return forms


def _skip(text: str, offset: int) -> int:
    """Where the next value begins: behind blanks, comments and what `#_` hides."""
    while True:
        match = _BLANK.match(text, offset)
        offset = match.end() if match is not None else offset
        if not text.startswith("#_", offset):
            return offset
        offset = _value(text, offset + 2, 0)[1]


def _value(text: str, offset: int, depth: int) -> tuple[Any, int]:
    match = _TOKEN.match(text, offset)
    while match is not None and match["hide"]:
        match = _TOKEN.match(text, _value(text, match.end(), depth + 1)[1])
    if match is None or match["close"] or depth > _DEPTH_MAX:
        raise EdnMalformed(f"offset {offset}: a value is expected")
    offset = match.end()
    if match["tag"]:
        return _value(text, offset, depth)
    if match["text"]:
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), match["text"][1:-1]), offset
    if match["atom"]:
        return _atom(match["atom"]), offset
    return _collection(text, offset, match["open"], depth + 1)


def _collection(text: str, offset: int, opening: str, depth: int) -> tuple[Any, int]:
    items: list[Any] = []
    while True:
        match = _TOKEN.match(text, offset)
        while match is not None and match["hide"]:
            offset = _value(text, match.end(), depth)[1]
            match = _TOKEN.match(text, offset)
        if match is None:
            raise EdnMalformed(f"offset {offset}: {opening} is never closed")
        if match["close"]:
            if match["close"] != _CLOSING[opening]:
                raise EdnMalformed(f"offset {match.start('close')}: {match['close']} closes {opening}")
            offset = match.end()
            break
        item, offset = _value(text, offset, depth)
        items.append(item)
    if opening != "{":
        return items, offset
    if len(items) % 2:
        raise EdnMalformed(f"offset {offset}: a map with {len(items)} forms")
    return {str(key): value for key, value in zip(items[::2], items[1::2], strict=True)}, offset


def _atom(atom: str) -> Any:
    named = {"nil": None, "true": True, "false": False}
    if atom in named:
        return named[atom]
    if atom.startswith(":"):
        return atom[1:]
    for number in (int, float):
        try:
            return number(atom.rstrip("NM"))
        except ValueError:
            continue
    return atom
