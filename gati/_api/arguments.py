"""Checks the arguments of the functions of `observe`, which never raise: an invalid call is logged, counted and ignored."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ParamSpec
from uuid import UUID

from gati.pipeline import internal_errors

P = ParamSpec("P")

MAX_TIMEOUT = 1e8
"""Longest timeout in seconds; more does not fit into a wait of the operating system."""


class InvalidArgumentError(Exception):
    """An argument of a function of `observe` is invalid. Never leaves gati."""

    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(f"`{name}` must be {allowed}")


def report_call(place: str, error: Exception) -> None:
    """Count and log a call that failed. The text of an `InvalidArgumentError` contains no values."""
    if isinstance(error, InvalidArgumentError):
        reason = str(error)
    elif isinstance(error, TypeError):  # a missing or unknown argument
        reason = "the arguments do not fit"
    else:
        internal_errors.report(f"observe.{place}", error)
        return
    internal_errors.count(f"arguments.{place}")
    internal_errors.log.emit(f"arguments.{place}", "observe.%s is ignored: %s", place, reason)


def checked(function: Callable[P, bool]) -> Callable[P, bool]:
    """Let a function return False instead of raising."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever was passed, the program must not be affected
            report_call(function.__name__, error)
            return False

    return call


def to_timeout(value: Any) -> float:
    """Return a timeout in seconds, at least 0."""
    return float(min(max(0, to_number("timeout", value)), MAX_TIMEOUT))  # an int may be too large for a float


def to_id(name: str, value: Any) -> str:
    """Return an id as text."""
    if isinstance(value, str) and str.__len__(value):
        return str.__str__(value)
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return str(value)
    raise InvalidArgumentError(name, "a text that is not empty, a whole number or a UUID")


def to_text(name: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise InvalidArgumentError(name, "a text")
    return str.__str__(value)


def to_choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed values."""
    if value not in allowed:
        raise InvalidArgumentError(name, "one of " + ", ".join(allowed))
    return str(value)


def to_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a number between two bounds; not infinite, unless for a timeout."""
    try:
        number = value if type(value) in (int, float) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, str) or not low <= number <= high:  # neither is NaN
        bounds = "" if math.isinf(low) else f" from {low:g} to {high:g}"
        raise InvalidArgumentError(name, f"a number{bounds}")
    return number


def to_properties(value: Any) -> dict[str, Any]:
    """Return a copy of plain values; other objects are described by their type."""
    from gati.langchain.snapshot import take_snapshot  # late: it loads pydantic

    if not isinstance(value, Mapping):
        raise InvalidArgumentError("properties", "a dict")
    copied = take_snapshot(value if isinstance(value, dict) else dict(value))
    return copied if isinstance(copied, dict) else {}


def to_time(name: str, value: Any) -> datetime:
    """Return a time."""
    if not isinstance(value, datetime):
        raise InvalidArgumentError(name, "a datetime")
    return value
