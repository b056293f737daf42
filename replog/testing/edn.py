"""Just enough of EDN (Clojure's data notation) to read the histories that Jepsen writes: maps, vectors, lists, sets, text, keywords, numbers.

Keywords become text without their colon, tags are dropped, ``nil`` becomes None.
"""

from __future__ import annotations

import re
from typing import Any, Final

_TOKEN: Final = re.compile(
    r"""[\s,]*(?:;[^\n]*[\s,]*)*(?:(?P<open>\#?\{|\[|\()|(?P<close>[\]})])|(?P<text>"(?:[^"\\]|\\.)*")|(?P<tag>\#[\w./-]+)|(?P<atom>[^\s,"\[\](){};]+))"""
)
_CLOSING: Final = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_DEPTH_MAX: Final = 50


class EdnMalformed(ValueError):
    """The text is no EDN; the message names the offset."""


def parse_edn(text: str) -> Any:
    """The one value in `text`; raises `EdnMalformed`."""
    value, offset = _value(text, 0, 0)
    if text[offset:].strip(" \t\r\n,"):
        raise EdnMalformed(f"offset {offset}: more than one value")
    return value


def _value(text: str, offset: int, depth: int) -> tuple[Any, int]:
    match = _TOKEN.match(text, offset)
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
