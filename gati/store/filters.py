"""Conditions on conversations and the order of a list, as SQL."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

SORTS = {
    "newest": "last_at", "oldest": "last_at", "cost": "cost", "slowest": "slowest_ms", "errors": "errors",
    "rating": "rating",
}  # fmt: skip
"""Name of an order → the column by which it sorts. `rating` has the worst first."""

_ASCENDING = {"oldest", "rating"}

YES, NO = "yes", "no"
"""Values of conditions that ask whether there is something."""


class Range(NamedTuple):
    """A range of numbers with its ends. None is open."""

    low: float | None = None
    high: float | None = None


ANY = Range()
"""The range of all numbers, and of none."""


@dataclass(frozen=True)
class Filter:
    """Conditions on conversations. None or empty matches everything. Times are microseconds since the epoch.

    Attributes:
        words: All of them must be found; see `hits`.
        errors: "yes" or "no".
        rating: "good" (above the middle of the scale), "bad", or "yes" and "no" for with and without one.
        note: "yes" or "no".
        mark: "good" or "bad", or "yes" and "no" for marked as either and not marked.
        cost: In US dollars.
        latency: Duration of the slowest turn in milliseconds.
        version: A prompt version as ``name v3``.
        since: The first last activity of a conversation that matches.
        until: Last activities from this time on do not match.
    """

    words: str = ""
    user: str | None = None
    organization: str | None = None
    agent: str | None = None
    model: str | None = None
    tool: str | None = None
    status: str | None = None
    product: str | None = None
    tag: str | None = None
    version: str | None = None
    errors: str | None = None
    rating: str | None = None
    note: str | None = None
    mark: str | None = None
    cost: Range = ANY
    latency: Range = ANY
    since: int | None = None
    until: int | None = None


_NUMBER = re.compile(r"\d{0,12}(?:\.\d{1,12})?")
_RANGE = re.compile(rf"\s*+(?:(<)\s*+)?\$?({_NUMBER.pattern})\s*+(?:(?:-|–|to)\s*+\$?({_NUMBER.pattern}))?\s*+")


def parse_range(text: str | None, unit: float = 1.0) -> Range:
    """Parse a range as people type it, in multiples of `unit`: "0.05" is at least, "<2" at most, "1-2" between.

    Anything else is an open range.
    """
    match = _RANGE.fullmatch(text or "")
    if match is None or not match[2]:
        return ANY
    first = float(match[2]) * unit
    if match[1]:
        return Range(None, first)
    return Range(first, float(match[3]) * unit if match[3] else None)


Condition = tuple[str, list[Any]]
"""SQL and its values."""


def where_clause(conditions: Filter, found: list[int] | None, *extra: Condition) -> Condition:
    """Return the WHERE clause for ``conversations c``. `found`: row ids of the conversations that a search found."""
    parts = [*_exact(conditions), *_by_contents(conditions), *_numbers(conditions), *_times(conditions), *extra]
    if found is not None:
        parts.append(("c.id IN (SELECT value FROM json_each(?))", [json.dumps(found)]))
    where = " AND ".join(text for text, _ in parts)
    return (f"WHERE {where}" if where else ""), [value for _, values in parts for value in values]


def _exact(conditions: Filter) -> list[Condition]:
    columns = ("user", "organization", "status", "product")
    return [(f"c.{name} = ?", [value]) for name in columns if (value := getattr(conditions, name)) is not None]


_VERDICTS = "(SELECT conversation FROM marks WHERE kind = 'verdict'"
_MARKS = {
    "good": f"IN {_VERDICTS} AND value = 'good')", "bad": f"IN {_VERDICTS} AND value = 'bad')",
    YES: f"IN {_VERDICTS})", NO: f"NOT IN {_VERDICTS})",
}  # fmt: skip


def _by_contents(conditions: Filter) -> list[Condition]:
    parts: list[Condition] = [
        ("c.id IN (SELECT conversation FROM facets WHERE kind = ? AND value = ?)", [kind, value])
        for kind in ("agent", "model", "tool")
        if (value := getattr(conditions, kind)) is not None
    ]
    labelled = "IN (SELECT CAST(owner AS INTEGER) FROM labels WHERE kind = ? AND owner_kind = 'conversation'"
    if conditions.tag is not None:
        parts.append((f"c.id {labelled} AND value = ?)", ["tag", conditions.tag]))
    if conditions.note in (YES, NO):
        parts.append((f"c.id {'' if conditions.note == YES else 'NOT '}{labelled})", ["note"]))
    if conditions.mark in _MARKS:
        parts.append((f"c.id {_MARKS[conditions.mark]}", []))
    if conditions.version is not None:
        name, _, number = conditions.version.rpartition(" v")
        uses = "SELECT k.conversation FROM prompts p JOIN prompt_versions v ON v.prompt = p.id JOIN calls k ON k.version = v.id"
        parts.append((f"c.id IN ({uses} WHERE p.name = ? AND CAST(v.number AS TEXT) = ?)", [name, number]))
    return parts


_RATINGS = {
    "good": "c.rating > 0.5", "bad": "c.rating < 0.5", YES: "c.ratings > 0", NO: "c.ratings = 0",
}  # fmt: skip


def _numbers(conditions: Filter) -> list[Condition]:
    parts: list[Condition] = []
    if conditions.errors in (YES, NO):
        parts.append(("c.errors > 0" if conditions.errors == YES else "c.errors = 0", []))
    if conditions.rating in _RATINGS:
        parts.append((_RATINGS[conditions.rating], []))
    for column, numbers in (("cost", conditions.cost), ("slowest_ms", conditions.latency)):
        if numbers.low is not None:
            parts.append((f"c.{column} >= ?", [numbers.low]))
        if numbers.high is not None:
            parts.append((f"c.{column} <= ?", [numbers.high]))
    return parts


def _times(conditions: Filter) -> list[Condition]:
    bounds = (("c.last_at >= ?", conditions.since), ("c.last_at < ?", conditions.until))
    return [(text, [value]) for text, value in bounds if value is not None]


class Order(NamedTuple):
    """The order of a list: a column that is never NULL in SQL, and the condition for what comes after a position."""

    column: str
    clause: str
    operator: str

    def after(self, position: tuple[float, int] | None) -> list[Condition]:
        """Return the condition for the conversations after a position: value of the column and row id."""
        return [] if position is None else [(f"(c.{self.column}, c.id) {self.operator} (?, ?)", list(position))]


def order_of(sort: str | None) -> Order:
    """Return an order of `SORTS`; by default the newest first. Conversations without the value are left out."""
    name = sort if sort in SORTS else "newest"
    column, ascending = SORTS[name], name in _ASCENDING
    direction = "" if ascending else " DESC"
    return Order(column, f"ORDER BY c.{column}{direction}, c.id{direction}", ">" if ascending else "<")


def has_value(order: Order) -> list[Condition]:
    """Return the condition that a conversation has the value by which it is sorted."""
    return [] if order.column in ("last_at", "errors") else [(f"c.{order.column} IS NOT NULL", [])]
