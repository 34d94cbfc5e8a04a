"""The chart of the documentation: an SVG with a panel per workload and a bar per contender."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.report import BURSTS, Rounds, lost, measured, ratio
from tests.benchmarks.workloads import WORKLOADS

_WIDTH, _LABELS, _BAR, _GAP, _PANEL = 860, 230, 16, 5, 44
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.value { font-size: 12px }
.ours { fill: #0f7b5f }
.peer { fill: #9aa4ae }
.axis { stroke: #9aa4ae; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) { text { fill: #d7dde3 } .ours { fill: #35c79c } .peer { fill: #5c6772 } }
"""


def svg(rounds: Rounds) -> str:
    """Draw the slow-down of the calling thread relative to no tracing."""
    names = [name for name in measured(rounds) if name != "none"]
    workloads = [name for name in BURSTS if name in rounds[0]["none"]]
    height = len(workloads) * (_PANEL + len(names) * (_BAR + _GAP)) + 10
    picture = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {height}", role="img", width=str(_WIDTH)
    )
    ET.SubElement(picture, "title").text = "Slow-down of the calling thread relative to no tracing (1.00: no overhead)"
    ET.SubElement(picture, "style").text = _STYLE
    worst = max((ratio(rounds, name, w, "wall").median for name in names for w in workloads), default=2.0)
    # Logarithmic, so that 1.1 and 30 are both visible.
    scale = (_WIDTH - _LABELS - 150) / math.log2(max(2.0, worst))
    top = 0
    for workload in workloads:
        _panel(picture, rounds, workload, names, top, scale)
        top += _PANEL + len(names) * (_BAR + _GAP)
    return ET.tostring(picture, encoding="unicode") + "\n"


def _panel(picture: ET.Element, rounds: Rounds, workload: str, names: list[str], top: int, scale: float) -> None:
    values = {name: ratio(rounds, name, workload, "wall").median for name in names}
    _text(picture, 0, top + 28, WORKLOADS[workload].title, "title")
    y = top + _PANEL - 4
    for name in names:
        length = max(2.0, math.log2(max(1.0, values[name])) * scale)
        _text(picture, _LABELS - 8, y + 13, CONTENDERS[name].title, "", "end")
        kind = "ours" if name.startswith("gati") else "peer"
        bar = {"x": f"{_LABELS}", "y": f"{y}", "width": f"{length:.1f}", "height": f"{_BAR}", "rx": "2", "class": kind}
        ET.SubElement(picture, "rect", bar)
        share = lost(rounds, name, workload)
        label = f"{values[name]:.2f}×" + (f", loses {max(share, 0.01):.0%}" if share else "")
        _text(picture, _LABELS + length + 6, y + 12, label, "value")
        y += _BAR + _GAP


def _text(picture: ET.Element, x: float, y: float, text: str, kind: str, anchor: str = "start") -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": kind, "text-anchor": anchor}
    ET.SubElement(picture, "text", place).text = text
