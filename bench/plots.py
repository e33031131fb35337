"""Line charts as SVG, without a library: small files that a README can show. Pure: points in, text out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 44, 48
COLOURS = {
    "direct": "#9aa0a6",
    "shared": "#5f6368",
    "headrace": "#1a73e8",
    "headrace2": "#7baaf7",
    "xread": "#e8710a",
    "resumable": "#9334e6",
    "durable": "#12a37a",
}


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    key: str
    title: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart's texts and axes. An axis is logarithmic, or begins at 0."""

    title: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    bound: float | None = None
    """The value of a horizontal line."""


class _Axis:
    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool) -> None:
        self._log = log
        low, high = min(values), max(values)
        self._low = 10 ** math.floor(math.log10(low)) if log else 0.0
        self._high = high if not log else max(high, self._low * 10)
        if not log:
            self._high = high * 1.05 or 1.0
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        if self._log:
            share = math.log(max(value, self._low) / self._low) / math.log(self._high / self._low)
        else:
            share = value / self._high
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        if self._log:
            powers = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
            found = [factor * 10**power for power in powers for factor in (1, 2, 5)]
            return [tick for tick in found if self._low <= tick <= self._high * 1.001]
        step = 10 ** math.floor(math.log10(self._high / 2))
        step *= next((factor for factor in (1, 2, 5) if self._high / (factor * step) <= 6), 10)
        return [step * number for number in range(int(self._high / step) + 1)]


def line_chart(chart: Chart, series: Sequence[Series]) -> str:
    """The chart as an SVG document. Series without points are left out. '' if none has points."""
    shown = [
        Series(one.key, one.title, [(x, y) for x, y in one.points if y == y and (y > 0 or not chart.log_y)])
        for one in series
    ]
    shown = [one for one in shown if one.points]
    if not shown:
        return ""
    across = _Axis([x for one in shown for x, _ in one.points], LEFT, WIDTH - RIGHT, log=chart.log_x)
    heights = [y for one in shown for _, y in one.points] + ([chart.bound] if chart.bound else [])
    up = _Axis(heights, HEIGHT - BOTTOM, TOP, log=chart.log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(chart.title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600">{escape(chart.title)}</text>',
    ]
    parts += _frame(chart, across, up)
    for place, one in enumerate(shown):
        colour = COLOURS.get(one.key, "#000")
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in one.points)
        wide = 3 if one.key == "headrace" else 1.8
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
        parts += [
            f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="2.6" fill="{colour}"/>' for x, y in one.points
        ]
        y = TOP + 12 + 20 * place
        parts.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 32}" y="{y - 3}">{escape(one.title)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _frame(chart: Chart, across: _Axis, up: _Axis) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks():
        y = up.at(tick)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e5e8"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{tick:,.6g}</text>')
    for tick in across.ticks():
        x = across.at(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#444"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#444">{tick:,.6g}</text>')
    if chart.bound is not None:
        y = up.at(chart.bound)
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d93025" stroke-dasharray="5 4"/>'
        )
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(chart.x)}</text>')
    turned = f'transform="rotate(-90 16 {(TOP + bottom) / 2})"'
    parts.append(f'<text x="16" y="{(TOP + bottom) / 2}" text-anchor="middle" {turned}>{escape(chart.y)}</text>')
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#444"/>')
    return parts
