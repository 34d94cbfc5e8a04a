"""The settings of a request's reader: the time zone and the period that is carried from page to page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlencode
from zoneinfo import ZoneInfo

from gati.studio import period
from gati.studio.period import Period

if TYPE_CHECKING:
    from starlette.requests import Request

ZONE_COOKIE = "gati_zone"
"""Cookie with the name of the reader's time zone, set by `finding.js`."""

Render = Callable[..., str]
"""Renders a template: request, name of the template, values."""


def zone_of(request: Request) -> tzinfo | None:
    """Return the reader's time zone; None, for that of this machine, if it is not known."""
    name = unquote(request.cookies.get(ZONE_COOKIE, ""))
    try:
        return ZoneInfo(name) if name and len(name) < 64 else None
    except (ValueError, OSError):  # no such zone; a name that is not a path inside the folder of zones
        return None


def period_of(request: Request, default: str) -> Period:
    """Return the period that a request asks for."""
    return period.parse_period(request.query_params, default, now(), zone_of(request))


def now() -> int:
    """Return the current time in microseconds since the epoch."""
    return time.time_ns() // 1000


def carried_period(query: Mapping[str, str]) -> str:
    """Return the part of an address that takes the period along to another page: ``?period=7d``, or nothing."""
    return with_parameters("", {key: query[key] for key in period.KEYS if query.get(key)})


def with_parameters(path: str, parameters: Mapping[str, str]) -> str:
    """Return an address: ``/``, ``{"user": "ada"}`` → ``/?user=ada``. Empty parameters are left out."""
    given = {key: value for key, value in parameters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form. `BoundedBody` has read the body."""
    text = request.scope["gati.body"].decode("utf-8", "replace")
    return {key: values[-1] for key, values in parse_qs(text, keep_blank_values=True).items()}
