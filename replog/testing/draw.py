"""A history as a picture: one row a client, one bar an operation, time from left to right; self-contained HTML with an SVG per key.

Times are drawn by rank, not to scale: what matters is which call comes before which answer, and a quiet second would hide it. Of a failed key the
picture shows the operation that no order explains (red), the order that got furthest (numbered ticks), and the state it leads to; further away operations
are cut off, and how many says the caption. The client with the red bar is on top, then those that were at work close to it. The picture opens at the break; the
names of the clients stay where they are when it is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from replog.testing.history import NEVER, Operation
from replog.testing.linearizability import CheckResult, KeyResult, Verdict

OPERATIONS_SHOWN_MAX: Final = 80
_STEP: Final = 60
"""Pixels between two events."""
_ROW: Final = 44
_BAR: Final = 22
_NAMES: Final = 130
"""Pixels of the column with the clients' names."""
_LEFT: Final = 16
_REPEAT: Final = 420
"""Pixels of a long bar after which its text is written again: its begin may be out of sight."""
_TOP: Final = 46
_STYLE: Final = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 24px; color: #1c2733; background: #fff; }
h1 { font-size: 20px; } h2 { font-size: 16px; margin: 28px 0 4px; }
.bad { color: #b3261e; } .ok { color: #1b6e3c; } .unknown { color: #8a5a00; }
.scroll { overflow-x: auto; display: flex; border: 1px solid #d5dbe1; border-radius: 6px; margin-top: 8px; }
.names { position: sticky; left: 0; background: #fff; border-right: 1px solid #d5dbe1; flex: none; }
.legend span { display: inline-block; margin-right: 18px; } .legend i { display: inline-block; width: 14px; height: 14px; border-radius: 3px; vertical-align: -2px; margin-right: 5px; }
table { border-collapse: collapse; } td, th { padding: 2px 10px; text-align: left; border-bottom: 1px solid #e5e9ee; }
svg text { font: 12px ui-monospace, monospace; } svg .client { font: 600 13px system-ui, sans-serif; }
"""
_SCROLL: Final = """<script>
for (const box of document.querySelectorAll(".scroll")) {
  const mark = box.querySelector(".break");
  if (mark) box.scrollLeft = mark.getAttribute("x1") - box.clientWidth * 0.6;
}
</script>"""
_TEXT_ROOM: Final = 620
"""Pixels from the left that the words at the break may need."""
_COLOURS: Final = {
    "ordered": ("#cfe3fb", "#3d7cc9"),
    "open": ("#eceff3", "#98a3b0"),
    "unknown": ("#fdf0cf", "#c08a1c"),
    "blocked": ("#f8c9c5", "#b3261e"),
}


def to_html(result: CheckResult, title: str) -> str:
    """The whole page: the verdict, a picture of each key that failed (of the first key when none did), and a table of all keys."""
    shown = result.failed or result.keys[:1]
    classes = {Verdict.LINEARIZABLE: "ok", Verdict.NOT_LINEARIZABLE: "bad", Verdict.UNKNOWN: "unknown"}
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>',
        f'<h1>{escape(title)}: <span class="{classes[result.verdict]}">{result.verdict.value}</span></h1>',
        _legend(),
    ]
    for key in shown:
        parts.append(f'<h2>{escape(_name(key))}: <span class="{classes[key.verdict]}">{key.verdict.value}</span></h2>')
        if key.blocked is not None:
            parts.append(f"<p>{escape(key.explain())}.</p>")
        parts.append(to_svg_figure(key))
    parts.append("<h2>All keys</h2><table><tr><th>key</th><th>operations searched</th><th>verdict</th><th>configurations</th></tr>")
    parts += [
        f"<tr><td>{escape(key.key) or '(no key)'}</td><td>{len(key.operations)}</td><td class={classes[key.verdict]}>{key.verdict.value}</td>"
        f"<td>{key.configurations}</td></tr>"
        for key in result.keys
    ]
    parts.append(f"</table>{_SCROLL}</body></html>\n")
    return "\n".join(parts)


def _name(key: KeyResult) -> str:
    return f"Key {key.key!r}" if key.key else "The register"


def _legend() -> str:
    names = {
        "ordered": "explained, with its place in the order",
        "blocked": "the answer that no order explains",
        "unknown": "no answer: may have been done at any time after its call",
        "open": "not reached",
    }
    spans = "".join(
        f'<span><i style="background:{_COLOURS[name][0]};border:1px solid {_COLOURS[name][1]}"></i>{text}</span>'
        for name, text in names.items()
    )
    return f'<p class="legend">{spans}</p>'


def to_svg_figure(key: KeyResult) -> str:
    """The SVG of one key in a box that scrolls, with a caption of what was cut off."""
    shown = _window(key)
    drawing = _Svg(key, shown)
    hidden = len(key.operations) - len(shown)
    caption = f"<p>{hidden} operations further from the break are not drawn.</p>" if hidden else ""
    return f'<div class="scroll"><div class="names">{drawing.names()}</div>{drawing.draw()}</div>{caption}'


def _window(key: KeyResult) -> list[int]:
    """Positions of the operations to draw, by start: those around the break."""
    positions = range(len(key.operations))
    if len(key.operations) <= OPERATIONS_SHOWN_MAX:
        return list(positions)
    if key.blocked is None:
        return list(positions[:OPERATIONS_SHOWN_MAX])
    blocked = key.operations[key.blocked]

    def distance(position: int) -> tuple[float, int]:
        operation = key.operations[position]
        if operation.end == NEVER and position not in key.order:
            return (NEVER, position)
        return (_distance(operation, blocked), abs(position - (key.blocked or 0)))

    return sorted(sorted(positions, key=distance)[:OPERATIONS_SHOWN_MAX])


class _Svg:
    """Lays out and draws the operations `shown` of one key."""

    def __init__(self, key: KeyResult, shown: Sequence[int]) -> None:
        self._key, self._shown = key, shown
        self._rank_in_order = {position: rank for rank, position in enumerate(key.order, 1)}
        operations = [key.operations[position] for position in shown]
        times = {operation.start for operation in operations} | {operation.end for operation in operations if operation.end != NEVER}
        self._x = {time: _LEFT + number * _STEP for number, time in enumerate(sorted(times))}
        self._right = _LEFT + len(times) * _STEP + 40
        self._rows = _rows(operations, key.operations[key.blocked] if key.blocked is not None else None)
        self._height = _TOP + max(self._rows.values(), default=0) * _ROW + _ROW + 40

    def draw(self) -> str:
        width = self._right + 20
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{self._height}" style="flex:none" role="img">']
        parts += [self._rule(row, width) for row in self._first_rows().values()]
        if self._key.blocked is not None:
            parts += self._break(self._key.operations[self._key.blocked])
        parts += [self._operation(position) for position in self._shown]
        parts.append("</svg>")
        return "\n".join(parts)

    def names(self) -> str:
        """The column of the clients' names, beside the rows of `draw`."""
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{_NAMES}" height="{self._height}">']
        for client, row in self._first_rows().items():
            label = client if len(client) <= 15 else client[:14] + "…"
            parts.append(f'<text class="client" x="10" y="{_TOP + row * _ROW + 16}">{escape(label)}</text>')
            parts.append(self._rule(row, _NAMES))
        parts.append("</svg>")
        return "\n".join(parts)

    def _rule(self, row: int, width: float) -> str:
        """The line above a client's first row."""
        y = _TOP + row * _ROW - 10
        return f'<line x1="0" x2="{width}" y1="{y}" y2="{y}" stroke="#e5e9ee"/>'

    def _first_rows(self) -> dict[str, int]:
        first_row: dict[str, int] = {}
        for position in self._shown:
            operation = self._key.operations[position]
            row = self._rows[id(operation)]
            first_row[operation.client] = min(row, first_row.get(operation.client, row))
        return dict(sorted(first_row.items(), key=lambda item: item[1]))

    def _break(self, blocked: Operation) -> list[str]:
        """The instant by which the blocked operation had to be done: its answer."""
        x = self._x[blocked.end]
        states = "the state could only be " + " or ".join(self._key.states)
        told = f"no order explains that client {blocked.client} was told {blocked.describe()} ▾"
        anchor = "end" if x > _TEXT_ROOM else "start"
        return [
            f'<line class="break" x1="{x}" x2="{x}" y1="24" y2="{self._height - 24}" stroke="#b3261e" stroke-width="2" stroke-dasharray="5 4"/>',
            f'<text x="{x}" y="16" fill="#b3261e" text-anchor="{anchor}">{escape(told)}</text>',
            f'<text x="{x}" y="{self._height - 8}" fill="#b3261e" text-anchor="{anchor}">{escape(states)}</text>',
        ]

    def _operation(self, position: int) -> str:
        operation = self._key.operations[position]
        rank = self._rank_in_order.get(position)
        look = "blocked" if position == self._key.blocked else "unknown" if operation.end == NEVER else "ordered" if rank else "open"
        fill, stroke = _COLOURS[look]
        x = self._x[operation.start]
        width = max(8, (self._right if operation.end == NEVER else self._x[operation.end]) - x)
        y = _TOP + self._rows[id(operation)] * _ROW
        text = operation.describe()
        room = max(3, int((width - 8) / 7.3))
        short = _short(operation, room)
        places = [x + 4, *(x + at for at in range(_REPEAT, int(width) - 100, _REPEAT))]
        texts = "".join(f'<text x="{place}" y="{y + 15}">{escape(short)}</text>' for place in places)
        dash = ' stroke-dasharray="4 3"' if operation.end == NEVER else ""
        ends = "never" if operation.end == NEVER else operation.end
        number = f'<text x="{x + 2}" y="{y - 2}" fill="{stroke}" style="font-size:10px">{rank}</text>' if rank else ""
        return (
            f"<g><title>{escape(f'client {operation.client}: {text}; called {operation.start}, answered {ends}')}</title>"
            f'<rect x="{x}" y="{y}" width="{width}" height="{_BAR}" rx="4" fill="{fill}" stroke="{stroke}"{dash}/>'
            f"{texts}{number}</g>"
        )


def _short(operation: Operation, room: int) -> str:
    """The operation in at most `room` characters: in full, or without what the bar's place and colour tell, or cut."""
    full = operation.describe()
    if len(full) <= room:
        return full
    shown = [repr(arg) for arg in operation.args]
    if operation.outcome == "ok" and operation.result is not None:
        shown.append(f"→{operation.result!r}")
    text = " ".join([operation.kind, *shown])
    return text if len(text) <= room else text[: room - 1] + "…"


def _distance(operation: Operation, other: Operation) -> float:
    """Time between the two; 0 where they overlap."""
    return max(0.0, other.start - operation.end, operation.start - other.end)


def _rows(operations: Sequence[Operation], blocked: Operation | None) -> dict[int, int]:
    """A row for each operation (by identity). Clients stand below each other in the order of their names, or of how close to `blocked` they were at work and were answered;
    operations of one client that overlap stand apart."""
    rows: dict[int, int] = {}
    base = 0
    near: dict[str, tuple[float, float]] = {}
    for operation in operations:
        if blocked is not None:
            far = 0.0 if operation.end != NEVER else 1.0
            key = (-1.0, 0.0) if operation is blocked else (far, _distance(operation, blocked))
            near[operation.client] = min(key, near.get(operation.client, key))
    for client in sorted({operation.client for operation in operations}, key=lambda name: (near.get(name, (0.0, 0.0)), len(name), name)):
        busy_until: list[float] = []
        for operation in operations:
            if operation.client != client:
                continue
            row = next((number for number, until in enumerate(busy_until) if until < operation.start), len(busy_until))
            if row == len(busy_until):
                busy_until.append(operation.end)
            busy_until[row] = operation.end
            rows[id(operation)] = base + row
        base += len(busy_until)
    return rows
