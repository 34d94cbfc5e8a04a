"""The value of the option `--store`: a file, or the address of a database."""

from __future__ import annotations

from pathlib import Path

StorePlace = Path | str
"""The file of an embedded store, or the address of a team's store."""


def is_address(text: str) -> bool:
    """Return True for the address of a PostgreSQL database."""
    return text.startswith(("postgresql://", "postgres://"))


def parse_place(text: str) -> StorePlace:
    """Read the value of `--store`."""
    return text if is_address(text) else Path(text)
