"""Limits of the numbers in arguments, so that none of them is too large for a database, a clock or a queue."""

from __future__ import annotations

import math

import typer

MAX_ROWS = 1_000_000
"""Largest number of rows that a command may be told to list."""

MAX_SECONDS = 31_536_000
"""Longest time for which a command may be told to run: a year."""

MAX_RATE = 1_000_000
"""Largest number of requests per second."""


def refuse_nan(value: float | None) -> float | None:
    """Return the value of an option, unless it is "nan", which typer takes for a number between any limits."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number")
    return value
