"""Computes the geometry of SVG charts: bars or lines with rounded axes. Pure; `chart.html` draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 6.0, 12.0, 28.0


class Bar(NamedTuple):
    """A bar. `title` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str
    link: str


class Tick(NamedTuple):
    """A mark on an axis."""

    at: float
    text: str


class LinePath(NamedTuple):
    """A line. `points` are (x, y, tooltip)."""

    d: str
    series: int
    points: list[tuple[float, float, str]]
    links: list[str]
    """The address of each point."""


class Chart(NamedTuple):
    """A chart ready to be drawn. `rows` are its values as a table: (label, value of each series).

    `links` are the addresses of the rows, empty for a chart without links.
    """

    title: str
    series: list[str]
    bars: list[Bar]
    paths: list[LinePath]
    y: list[Tick]
    x: list[Tick]
    rows: list[tuple[str, list[str]]]
    links: list[str]
    empty: bool


Series = Sequence["float | None"]


def draw_marks(chart: Chart) -> Markup:
    """Return the bars, lines and points of a chart as SVG. A template would take much longer for hundreds of them."""
    drawn = [
        _linked(
            f'<rect class="s{bar.series}" x="{bar.x:.1f}" y="{bar.y:.1f}" width="{bar.width:.1f}"'
            f' height="{bar.height:.1f}" rx="1.5"><title>{escape(bar.title)}</title></rect>',
            bar.link,
        )
        for bar in chart.bars
    ]
    for path in chart.paths:
        drawn.append(f'<path class="s{path.series}" d="{path.d}"/>')
        for (x, y, title), link in zip(path.points, path.links, strict=True):
            circle = f'<circle class="s{path.series}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{escape(title)}</title></circle>'
            drawn.append(_linked(circle, link))
    return Markup("".join(drawn))  # noqa: S704  # texts are escaped above


def _linked(shape: str, link: str) -> str:
    return f'<a href="{escape(link)}" tabindex="-1">{shape}</a>' if link else shape


def draw_rows(chart: Chart) -> Markup:
    """Return the rows of a chart's table as HTML."""
    rows = []
    for (label, values), link in zip(chart.rows, chart.links, strict=True):
        name = f'<a href="{escape(link)}">{escape(label)}</a>' if link else escape(label)
        cells = "".join(f'<td class="num">{escape(value)}</td>' for value in values)
        rows.append(f"<tr><td>{name}</td>{cells}</tr>")
    return Markup("".join(rows))  # noqa: S704  # texts are escaped above


def build_chart(
    title: str,
    names: list[str],
    values: Sequence[Series],
    labels: list[str],
    show: Callable[[float | None], str],
    *,
    lines: bool = False,
    ticks: list[tuple[int, str]] | None = None,
    links: list[str] | None = None,
    highest: float | None = None,
) -> Chart:
    """Build a chart of one or more series over the same times.

    Args:
        title: Title of the chart.
        names: Names of the series.
        values: For each series, one value per label. None means unknown and leaves a gap.
        labels: Names of the times.
        show: Formats a value.
        lines: Draw lines instead of stacked bars.
        ticks: (index, text) of the times labelled on the x axis.
        links: The address that each time leads to.
        highest: The end of the y axis; None for one that fits the values.
    """
    tops = [
        max((s[i] or 0 for s in values), default=0) if lines else sum(s[i] or 0 for s in values)
        for i in range(len(labels))
    ]
    top = _round_up(max(tops, default=0.0)) if highest is None else highest
    links = links or [""] * len(labels)
    step = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    scale = (HEIGHT - TOP - BOTTOM) / top
    marks = [
        (f"{label}: " + ", ".join(f"{n} {show(s[i])}" for n, s in zip(names, values, strict=True)), links[i])
        for i, label in enumerate(labels)
    ]
    return Chart(
        title,
        names,
        [] if lines else _stack_bars(values, marks, step, scale),
        _trace_lines(values, marks, step, scale) if lines else [],
        [Tick(HEIGHT - BOTTOM - top * share * scale, show(top * share)) for share in (0, 0.5, 1)],
        [Tick(LEFT + (index + 0.5) * step, text) for index, text in ticks or []],
        [(label, [show(s[i]) for s in values]) for i, label in enumerate(labels)],
        links,
        not any(s[i] is not None and (s[i] or highest is not None) for s in values for i in range(len(labels))),
    )


def _stack_bars(values: Sequence[Series], marks: list[tuple[str, str]], step: float, scale: float) -> list[Bar]:
    bars = []
    for index, (title, link) in enumerate(marks):
        base = HEIGHT - BOTTOM
        for number, series in enumerate(values):
            if value := series[index]:
                height = max(value * scale, 0.75)
                base -= height
                bars.append(Bar(LEFT + index * step + step * 0.12, base, step * 0.76, height, number, title, link))
    return bars


def _trace_lines(values: Sequence[Series], marks: list[tuple[str, str]], step: float, scale: float) -> list[LinePath]:
    paths = []
    for number, series in enumerate(values):
        points, links, commands, command = [], [], [], "M"
        for index, value in enumerate(series):
            if value is None:
                command = "M"
                continue
            x, y = LEFT + (index + 0.5) * step, HEIGHT - BOTTOM - value * scale
            commands.append(f"{command}{x:.1f},{y:.1f}")
            points.append((x, y, marks[index][0]))
            links.append(marks[index][1])
            command = "L"
        paths.append(LinePath(" ".join(commands), number, points, links))
    return paths


def _round_up(value: float) -> float:
    """Round up to 1, 2, 2.5, 4, 5, 6, 8 or 10 times a power of ten: 3.1 → 4, 23 → 25."""
    if value < 1e-9:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 6, 8, 10) if value <= step * power * 1.000001)
