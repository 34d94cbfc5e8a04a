"""The value of the option `--store`: a file, or the address of a database."""

from __future__ import annotations

from pathlib import Path

import typer

StorePlace = Path | str
"""The file of an embedded store, or the address of a team's store."""


def is_address(text: str) -> bool:
    """Return True for the address of a PostgreSQL database."""
    return text.startswith(("postgresql://", "postgres://"))


def parse_place(text: str) -> StorePlace:
    """Read the value of `--store`. Raises `typer.BadParameter` for an address of something else."""
    if is_address(text):
        return text
    from gati.options import hide_in_address, is_url  # late: pydantic is slow, and the help does not need it

    if is_url(text):
        raise typer.BadParameter(f"{hide_in_address(text)} is neither a file nor postgresql://…")
    return Path(text)
