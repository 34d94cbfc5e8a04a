"""Periods of time: from an address, for lists and charts, in the zone of the reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo

from gati.store.message_columns import utc_datetime

_MICRO = 1_000_000
_HOUR = 3600 * _MICRO
_DAY = 24 * _HOUR

ALL = "all"
PRESETS = {
    "24h": "24 hours", "today": "Today", "yesterday": "Yesterday", "7d": "7 days", "30d": "30 days", "90d": "90 days",
    "1y": "1 year", ALL: "All time",
}  # fmt: skip
"""Name of a period in addresses → its name on pages."""

KEYS = ("period", "since", "until")
"""Parameters of addresses that choose a period."""

_DAYS = {"today": (0, 1), "yesterday": (-1, 1), "7d": (-6, 7), "30d": (-29, 30), "90d": (-89, 90), "1y": (-363, 364)}
"""Name → first day, relative to today, and number of days."""

_MOST_BARS = 100


@dataclass(frozen=True)
class Period:
    """A period of time. Times are microseconds since the epoch; None is open.

    Attributes:
        name: One of `PRESETS`; empty for a period from one time to another.
        label: What pages call it.
        since: The first time in the period.
        until: The first time after it.
        parameters: The parameters that choose it in an address.
        zone: The reader's time zone; None for that of this machine.
    """

    name: str
    label: str
    since: int | None
    until: int | None
    parameters: dict[str, str] = field(default_factory=dict)
    zone: tzinfo | None = None

    def edges(self, earliest: int, now: int) -> list[int]:
        """Return the times that divide the period into bars: hours, days, weeks or months.

        Args:
            earliest: Beginning of a period that is open.
            now: End of one that is open.
        """
        since = earliest if self.since is None else self.since
        until = max(now + 1 if self.until is None else self.until, since + 1)
        if until - since <= 2 * _DAY + 2 * _HOUR:
            return _edges_of_hours(since, until)
        days = (until - since) // _DAY
        step = 1 if days < _MOST_BARS else 7 if days < _MOST_BARS * 7 else 0
        return _edges_of_days(since, until, step, self.zone)


def parse_period(query: Mapping[str, str], default: str, now: int, zone: tzinfo | None = None) -> Period:
    """Return the period that an address asks for: a name of `PRESETS`, or days or times in `since` and `until`."""
    since, until = _parse_time(query.get("since"), zone), _parse_time(query.get("until"), zone, end=True)
    if since is not None or until is not None:
        given = {key: query[key] for key in ("since", "until") if query.get(key)}
        return Period("", _label(given), since, until, given, zone)
    name = query.get("period", "")
    name = name if name in PRESETS else default
    parameters = {"period": name} if query.get("period") in PRESETS else {}
    if name == ALL:
        return Period(name, PRESETS[name], None, None, parameters, zone)
    if name == "24h":
        end = (now // _HOUR + 1) * _HOUR
        return Period(name, PRESETS[name], end - _DAY, end, parameters, zone)
    today = local(now, zone).date()
    first, count = _DAYS[name]
    begin = today + timedelta(days=first)
    return Period(
        name, PRESETS[name], midnight(begin, zone), midnight(begin + timedelta(days=count), zone), parameters, zone
    )


def _label(given: Mapping[str, str]) -> str:
    since, until = (given.get(key, "").replace("T", " ") for key in ("since", "until"))
    if since == until:
        return since
    return f"{since} to {until}" if since and until else f"from {since}" if since else f"until {until}"


def bar_parameters(since: int, until: int, zone: tzinfo | None) -> dict[str, str]:
    """Return the parameters that choose the period of one bar: whole days if it has them."""
    first, end = local(since, zone), local(until, zone)
    if (first.hour, first.minute, end.hour, end.minute) == (0, 0, 0, 0):
        return {"since": f"{first:%Y-%m-%d}", "until": f"{end - timedelta(hours=12):%Y-%m-%d}"}
    return {"since": f"{first:%Y-%m-%dT%H:%M}", "until": f"{end:%Y-%m-%dT%H:%M}"}


def local(at: int, zone: tzinfo | None = None) -> datetime:
    """Convert microseconds since the epoch to a zone; None for that of this machine.

    The first and the last days of the calendar, which some zones cannot express, stay in UTC.
    """
    moment = utc_datetime(at)
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return moment


def midnight(day: date, zone: tzinfo | None = None) -> int:
    """Return the beginning of a day in microseconds since the epoch."""
    return _moment(datetime(day.year, day.month, day.day), zone)  # noqa: DTZ001  # the zone is added by _moment


def _moment(naive: datetime, zone: tzinfo | None) -> int:
    aware = naive.replace(tzinfo=zone) if zone is not None else naive.astimezone()
    return round(aware.timestamp()) * _MICRO


def _parse_time(text: str | None, zone: tzinfo | None, *, end: bool = False) -> int | None:
    """Convert ``2026-11-27`` or ``2026-11-27T08:00``; None if invalid. With `end`, a day means its end."""
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M"):
        try:
            naive = datetime.strptime(text or "", form)  # noqa: DTZ007  # the zone is added by _moment
            return _moment(naive + timedelta(days=1) if end and form == "%Y-%m-%d" else naive, zone)
        except (ValueError, OverflowError, OSError):
            continue
    return None


def _edges_of_hours(since: int, until: int) -> list[int]:
    inner = range((since // _HOUR + 1) * _HOUR, until, _HOUR)
    return [since, *inner, until]


def _edges_of_days(since: int, until: int, step: int, zone: tzinfo | None) -> list[int]:
    """Return edges at the beginning of days, of weeks (step 7, from Monday) or of months (step 0)."""
    edges = [since]
    day = local(since, zone).date()
    while True:
        day = _next_edge(day, step)
        if (at := midnight(day, zone)) >= until or len(edges) > 2 * _MOST_BARS:
            return [*edges, until]
        if at > since:
            edges.append(at)


def _next_edge(day: date, step: int) -> date:
    if step == 0:
        return date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return day + timedelta(days=7 - day.weekday() if step == 7 else 1)
