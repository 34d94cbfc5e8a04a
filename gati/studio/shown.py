"""How values are written on the pages: what is unknown is a dash with a word for it, never 0. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

UNKNOWN = Markup('<span class="unknown" title="not known">–<span class="sr"> unknown</span></span>')

_FOLDED = 1200
"""Characters of a text that are shown before it is folded."""


def number(value: float | None) -> str | Markup:
    """A count, with thin groups of three."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", "\u202f")


def short(value: float | None) -> str:
    """A count for an axis: 1.2k, 3M."""
    if value is None:
        return "unknown"
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:.3g}"


def cost(value: float | None) -> str | Markup:
    """US dollars, precise enough that a small cost is not 0."""
    return UNKNOWN if value is None else dollars(value)


def dollars(value: float | None) -> str:
    """US dollars as plain text: cents from a dollar on, two telling digits below."""
    if value is None:
        return "unknown"
    if value == 0:
        return "$0"
    if value >= 1:
        return f"${value:,.2f}"
    if value < 1e-7:
        return "< $0.0000001"
    return f"${value:.{1 - math.floor(math.log10(value))}f}".rstrip("0")


def duration(milliseconds: float | None) -> str | Markup:
    """A time span in its natural unit."""
    return UNKNOWN if milliseconds is None else span(milliseconds)


def span(milliseconds: float | None) -> str:
    """A time span as plain text."""
    if milliseconds is None:
        return "unknown"
    if milliseconds < 1:
        return f"{milliseconds:.2g} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def share(value: float | None) -> str | Markup:
    """A share as per cent."""
    return UNKNOWN if value is None else percent(value)


def percent(value: float | None) -> str:
    """A share as plain text."""
    return "unknown" if value is None else f"{value * 100:.1f}".rstrip("0").rstrip(".") + " %"


def moment(at: int) -> datetime:
    """Microseconds since the epoch in this machine's time zone, which is also the reader's."""
    return datetime.fromtimestamp(at / 1_000_000, UTC).astimezone()


def when(at: int) -> Markup:
    """Day and time of a moment."""
    return _time(at, "%Y-%m-%d %H:%M")


def clock(at: int) -> Markup:
    """The time of day of a moment."""
    return _time(at, "%H:%M:%S")


def _time(at: int, form: str) -> Markup:
    local = moment(at)
    exact = local.isoformat(timespec="milliseconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, f"{local:{form}}")


def folded(text: str) -> tuple[str, str]:
    """The text's beginning, and the rest that is folded away (empty when it is short)."""
    if len(text) <= _FOLDED * 1.2:
        return text, ""
    cut = text.rfind("\n", _FOLDED // 2, _FOLDED)
    cut = cut if cut > 0 else _FOLDED
    return text[:cut], text[cut:]


def excerpt(text: str, words: str, width: int = 160) -> Markup:
    """The place of a text where the words stand, the words marked."""
    typed = [re.escape(word) for word in re.findall(r"\w+", words)]
    flat = " ".join(text.split())
    if not typed:
        return escape(flat[:width])
    pattern = re.compile("|".join(typed), re.IGNORECASE)
    found = pattern.search(flat)
    start = max(0, (found.start() if found else 0) - width // 3)
    piece = flat[start : start + width]
    marked, end = Markup(""), 0
    for hit in pattern.finditer(piece):
        marked += escape(piece[end : hit.start()]) + Markup("<mark>{}</mark>").format(hit[0])
        end = hit.end()
    marked += escape(piece[end:])
    return Markup("{}{}{}").format("…" if start else "", marked, "…" if start + width < len(flat) else "")
