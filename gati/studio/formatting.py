"""Formats values for the pages. Unknown values appear as a dash with a label, never as 0. Pure."""

from __future__ import annotations

import math
from datetime import datetime

from markupsafe import Markup, escape

from gati.store.message_columns import utc_datetime
from gati.store.words import mark_pattern

UNKNOWN = Markup('<span class="unknown" title="not known">–<span class="sr"> unknown</span></span>')

_FOLD_AFTER, _FOLD_AFTER_LINES = 1200, 60
"""Characters and lines of a text that are visible before the rest is folded."""


def format_number(value: float | None) -> str | Markup:
    """Format a count with thin spaces between thousands."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", "\u202f")


def format_compact(value: float | None) -> str:
    """Format a count for an axis: 1200 → ``1.2k``, 3000000 → ``3M``."""
    if value is None:
        return "unknown"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def format_cost(value: float | None) -> str | Markup:
    """Format US dollars, precisely enough that a small cost is not shown as 0."""
    return UNKNOWN if value is None else format_dollars(value)


def format_dollars(value: float | None) -> str:
    """Format US dollars as plain text: with cents from one dollar, with two significant digits below."""
    if value is None:
        return "unknown"
    if value == 0:
        return "$0"
    if value >= 1:
        return f"${value:,.2f}"
    if value < 1e-7:
        return "< $0.0000001"
    return f"${value:.{1 - math.floor(math.log10(value))}f}".rstrip("0")


def format_duration(milliseconds: float | None) -> str | Markup:
    """Format a duration in a suitable unit."""
    return UNKNOWN if milliseconds is None else format_duration_text(milliseconds)


def format_duration_text(milliseconds: float | None) -> str:
    """Format a duration as plain text."""
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


def format_share(value: float | None) -> str | Markup:
    """Format a fraction as a percentage."""
    return UNKNOWN if value is None else format_percent(value)


def format_percent(value: float | None) -> str:
    """Format a fraction as a percentage in plain text: 0.125 → ``12.5 %``."""
    return "unknown" if value is None else f"{value * 100:.1f}".rstrip("0").rstrip(".") + " %"


def format_rating_text(share: float | None) -> str:
    """Format a rating on a scale from 0 to 1 as one of 1 to 5 in plain text: 0.75 → ``4 of 5``."""
    return "unknown" if share is None else f"{1 + share * 4:.1f}".removesuffix(".0") + " of 5"


def format_rating(share: float | None) -> str | Markup:
    """Format a mean rating."""
    return Markup('<span class="quiet">–<span class="sr"> not rated</span></span>') if share is None else (
        format_rating_text(share)
    )  # fmt: skip


def local_datetime(at: int) -> datetime:
    """Convert microseconds since the epoch to this machine's time zone, which is also the reader's.

    The first and the last days of the calendar, which some time zones cannot express, stay in UTC.
    """
    moment = utc_datetime(at)
    try:
        return moment.astimezone()
    except (OverflowError, ValueError, OSError):
        return moment


def format_datetime(at: int) -> Markup:
    """Format date and time."""
    return _time_element(at, "%Y-%m-%d %H:%M", "datetime")


def format_clock(at: int) -> Markup:
    """Format the time of day."""
    return _time_element(at, "%H:%M:%S", "clock")


def _time_element(at: int, form: str, name: str) -> Markup:
    """Return a time in this machine's zone. The script shows it in the reader's, in the form that has this name."""
    local = local_datetime(at)
    exact = local.isoformat(timespec="milliseconds")
    element = '<time datetime="{}" data-form="{}" title="{}">{}</time>'
    return Markup(element).format(exact, name, exact, f"{local:{form}}")  # noqa: S704  # a constant


def fold_text(text: str) -> tuple[str, str]:
    """Split a text into its visible beginning and the folded rest, which is empty for short texts."""
    lines = text.split("\n", _FOLD_AFTER_LINES)[:_FOLD_AFTER_LINES]
    most = min(_FOLD_AFTER, sum(len(line) + 1 for line in lines))
    if len(text) <= most * 1.2:
        return text, ""
    cut = text.rfind("\n", most // 2, most)
    cut = cut if cut > 0 else most
    return text[:cut], text[cut:]


def search_excerpt(text: str, words: str, width: int = 160) -> Markup:
    """Return the part of a text around the first match of a search, with all matches marked."""
    pattern = mark_pattern(words)
    flat = " ".join(text.split())
    if pattern is None:
        return escape(flat[:width])
    first = pattern.search(flat)
    start = max(0, (first.start() if first else 0) - width // 3)
    excerpt = flat[start : start + width]
    marked, end = Markup(""), 0
    for match in pattern.finditer(excerpt):
        marked += escape(excerpt[end : match.start()]) + Markup("<mark>{}</mark>").format(match[0])
        end = match.end()
    marked += escape(excerpt[end:])
    return Markup("{}{}{}").format("…" if start else "", marked, "…" if start + width < len(flat) else "")
