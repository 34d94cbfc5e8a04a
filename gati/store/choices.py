"""Values that complete a filter while it is typed."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from gati.store import labels, words
from gati.store.store import Store

_DISTINCT = 500
"""Distinct values that are looked through."""


class Choice(NamedTuple):
    """A value of a filter, and what it means to people if that is something else, such as a user's name."""

    value: str
    meaning: str = ""


_COLUMNS = {
    "agent": ("facets", "value", "kind = 'agent'"), "model": ("facets", "value", "kind = 'model'"),
    "tool": ("facets", "value", "kind = 'tool'"), "status": ("conversations", "status", "1 = 1"),
    "organization": ("conversations", "organization", "organization IS NOT NULL"), "tag": ("labels", "value", "kind = 'tag'"),
}  # fmt: skip
"""Filter → table, column and condition of its values. An index begins with these columns."""

FIELDS = (*_COLUMNS, "user", "version")
"""The filters that can be completed."""


def complete(store: Store, name: str, typed: str, limit: int = 20) -> list[Choice]:
    """Return values of one of `FIELDS` that contain what was typed."""
    with store.connections.snapshot() as db:
        if name == "user":
            found = _users(db, typed, limit)
        elif name == "version":
            found = _known_versions(db)
        else:
            found = [Choice(value) for value in _distinct(db, *_COLUMNS[name])]
    if name == "user":
        return found
    wanted = typed.casefold().strip()
    matching = [choice for choice in found if wanted in choice.value.casefold()]
    return sorted(matching, key=lambda choice: not choice.value.casefold().startswith(wanted))[:limit]


def _distinct(db: sqlite3.Connection, table: str, column: str, condition: str) -> list[str]:
    """Return distinct values by jumping through the index, in time independent of the number of conversations."""
    least = f"SELECT min({column}) FROM {table} WHERE {condition}"  # noqa: S608  # our own names
    rows = db.execute(
        f"WITH RECURSIVE t(v) AS ({least} UNION ALL SELECT ({least} AND {column} > v) FROM t WHERE v IS NOT NULL)"  # noqa: S608  # our own names
        f" SELECT v FROM t WHERE v IS NOT NULL LIMIT {_DISTINCT}"
    )
    return [row[0] for row in rows]


def _users(db: sqlite3.Connection, typed: str, limit: int) -> list[Choice]:
    """Return users whose id, name or e-mail address contains the words; without words, those seen last."""
    found = words.parse_words(typed)
    if found and labels.has_label_index(db):
        matching = [_user_of(db, row_id) for row_id in labels.find_labels(db, found, found[-1:], limit * 5)]
        users = list(dict.fromkeys(user for user in matching if user is not None))[:limit]
    else:
        rows = db.execute("SELECT user FROM conversations ORDER BY last_at DESC LIMIT 200")
        users = list(dict.fromkeys(row[0] for row in rows))[:limit]
    return [Choice(user, _name_of(db, user)) for user in users]


def _user_of(db: sqlite3.Connection, label: int) -> str | None:
    row = db.execute("SELECT owner FROM labels WHERE id = ? AND owner_kind = 'user'", (label,)).fetchone()
    return row and str(row[0])


def _name_of(db: sqlite3.Connection, user: str) -> str:
    row = db.execute(
        "SELECT json_extract(body, '$.name') FROM actions WHERE endpoint = 'users' AND key = ?", (user,)
    ).fetchone()
    return str(row[0] or "") if row else ""


def _known_versions(db: sqlite3.Connection) -> list[Choice]:
    rows = db.execute(
        "SELECT p.name, v.number FROM prompt_versions v JOIN prompts p ON p.id = v.prompt ORDER BY v.last_at DESC LIMIT ?",
        (_DISTINCT,),
    )
    return [Choice(f"{row[0]} v{row[1]}") for row in rows]
