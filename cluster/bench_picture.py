"""A comparison as a picture: throughput, and latency, against the number in flight; an SVG written by hand, so that no plotting library is needed.

Both axes are logarithmic: the systems differ by tens. A line is named where it ends, and the names are moved apart where they would overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from cluster.bench_compare import Comparison, is_ours

_WIDTH, _HEIGHT = 1120, 470
_PLOT_WIDTH, _PLOT_HEIGHT = 300, 330
_TOP, _LEFTS = 70, (70, 620)
_LABEL_PIXELS = 15
_OURS = ("#0b6e4f", "#2a9d5c", "#7ab547", "#0f4c81")
_PEERS = ("#c1440e", "#8a5a44", "#777777")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One system: (in flight, value) ascending."""

    name: str
    colour: str
    dashed: bool
    points: tuple[tuple[int, float], ...]


def picture(found: Comparison, title: str) -> str:
    """The SVG's text. Systems with a single point are left out."""
    rates = _lines(found, "ops_per_second")
    latencies = _lines(found, "p50_ms", "mean_ms")
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFTS[0]}" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
        *_panel(_LEFTS[0], "acknowledged commands a second (higher is better)", rates),
        *_panel(_LEFTS[1], "latency, ms: median, etcd's the mean (lower is better)", latencies),
        "</svg>",
    ]
    return "\n".join(body) + "\n"


def _lines(found: Comparison, *keys: str) -> list[Line]:
    """The median of the first of `keys` that a system has."""
    systems = list(dict.fromkeys(system for system, _ in found.rows))
    lines: list[Line] = []
    ours = peers = 0
    for system in systems:
        points: list[tuple[int, float]] = []
        for (name, width), rows in sorted(found.rows.items(), key=lambda item: item[0][1]):
            key = next((key for key in keys if all(key in row for row in rows)), None)
            if name == system and key is not None:
                points.append((width, median(row[key] for row in rows)))
        if len(points) < 2:
            continue
        durable = next(rows for (name, _), rows in found.rows.items() if name == system)[0]["durable"]
        if is_ours(system):
            colour, ours = _OURS[ours % len(_OURS)], ours + 1
        else:
            colour, peers = _PEERS[peers % len(_PEERS)], peers + 1
        lines.append(Line(name=system + ("" if durable else ", not durable"), colour=colour, dashed=not durable, points=tuple(points)))
    return lines


def _panel(left: int, title: str, lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    widths = sorted({width for line in lines for width, _ in line.points})
    values = [value for line in lines for _, value in line.points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    span = math.log(widths[-1] / widths[0]) or 1.0

    def x_of(width: int) -> float:
        return left + _PLOT_WIDTH * math.log(width / widths[0]) / span

    def y_of(value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (high - math.log10(value)) / (high - low)

    bottom = _TOP + _PLOT_HEIGHT
    drawn = [f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{escape(title)}</text>']
    for power in range(low, high + 1):
        y = y_of(10.0**power)
        drawn.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + _PLOT_WIDTH}" y2="{y:.1f}" stroke="#dddddd"/>')
        drawn.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:,.10g}</text>')
    for width in widths:
        x = x_of(width)
        drawn.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#eeeeee"/>')
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{width:,}</text>')
    drawn.append(f'<text x="{left + _PLOT_WIDTH / 2}" y="{bottom + 40}" text-anchor="middle">operations in flight</text>')
    for line in lines:
        path = " ".join(f"{x_of(width):.1f},{y_of(value):.1f}" for width, value in line.points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>')
        drawn += [f'<circle cx="{x_of(width):.1f}" cy="{y_of(value):.1f}" r="3" fill="{line.colour}"/>' for width, value in line.points]
    ends = [y_of(line.points[-1][1]) for line in lines]
    for line, end, y in zip(lines, ends, apart(ends, _LABEL_PIXELS), strict=True):
        x = x_of(line.points[-1][0])
        drawn.append(
            f'<line x1="{x + 4:.1f}" y1="{end:.1f}" x2="{left + _PLOT_WIDTH + 14}" y2="{y:.1f}" stroke="{line.colour}" stroke-width="0.5"/>'
        )
        drawn.append(f'<text x="{left + _PLOT_WIDTH + 17}" y="{y + 4:.1f}" fill="{line.colour}">{escape(line.name)}</text>')
    return drawn


def apart(positions: Sequence[float], gap: float) -> list[float]:
    """`positions`, moved down where two are closer than `gap`, in their order from above."""
    moved = list(positions)
    last = -math.inf
    for at in sorted(range(len(positions)), key=lambda at: positions[at]):
        last = moved[at] = max(positions[at], last + gap)
    return moved
