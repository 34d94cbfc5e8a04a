"""Labels: the short texts by which a conversation is found apart from its messages.

Ids, names, organizations, tags, property values, feedback and names of events. A label belongs to a conversation, a user
or an organization; a user's labels find all conversations of this user. `labels` holds them, `search_labels` is their
full-text index.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gati import contract
from gati.store import words
from gati.store.engine import engine_of
from gati.store.words import Word

_MAX_CHARACTERS = 500
"""Characters of a label. Longer values are cut."""

_MAX_VALUES = 100
"""Values of one request's properties that become labels."""

CONVERSATION, USER, ORGANIZATION = "conversation", "user", "organization"
"""What a label belongs to."""

_OWNER_COLUMNS = {CONVERSATION: "id", USER: "user", ORGANIZATION: "organization"}

SCHEMA = """
CREATE TABLE labels (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  owner_kind TEXT NOT NULL,
  owner NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  UNIQUE (owner_kind, owner, kind, name, value)
);
CREATE INDEX labels_value ON labels (kind, value, owner)
"""


class Label(NamedTuple):
    """A text that finds a conversation. `kind`: "id", "name", "tag", "property", "feedback", "event" or "note".

    `name` is the key of a property, the type of an event, or empty.
    """

    kind: str
    value: str
    name: str = ""


def create_label_index(db: sqlite3.Connection) -> None:
    """Create the full-text index if this SQLite supports FTS5."""
    try:
        db.execute(f"CREATE VIRTUAL TABLE search_labels USING fts5(text, content='', tokenize='{words.TOKENIZER}')")
    except sqlite3.OperationalError as error:
        if "fts5" not in str(error):
            raise


def has_label_index(db: sqlite3.Connection) -> bool:
    """Return True if this store has an index of labels. Stores of earlier versions have none."""
    if engine_of(db) is not None:
        return True
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'search_labels'").fetchone() is not None


def add(db: sqlite3.Connection, owner_kind: str, owner: int | str, labels: Iterable[Label]) -> None:
    """Add labels to a conversation (its row id), a user or an organization (their external ids)."""
    _add_rows(db, _label_rows(owner_kind, owner, labels))


Row = tuple[str, "int | str", str, str, str]
"""Owner's kind and id, kind, name and value of a label."""


def _label_rows(owner_kind: str, owner: int | str, labels: Iterable[Label]) -> list[Row]:
    return [(owner_kind, owner, *stored_values(label)) for label in labels if label.value and not label.value.isspace()]


def stored_values(label: Label) -> tuple[str, str, str]:
    """Return kind, name and value of a label as they are stored."""
    return label.kind, label.name[:_MAX_CHARACTERS], label.value[:_MAX_CHARACTERS]


def _add_rows(db: sqlite3.Connection, rows: list[Row]) -> None:
    if (engine := engine_of(db)) is not None:
        engine.add_labels(rows)
        return
    last = _last_row_id(db)
    db.executemany("INSERT OR IGNORE INTO labels (owner_kind, owner, kind, name, value) VALUES (?, ?, ?, ?, ?)", rows)
    if _last_row_id(db) > last and has_label_index(db):
        _index(db, db.execute("SELECT id, name || ' ' || value FROM labels WHERE id > ?", (last,)).fetchall())


def _last_row_id(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'labels'").fetchone()
    return int(row[0]) if row else 0


def _index(db: sqlite3.Connection, rows: Iterable[tuple[int, str]]) -> None:
    db.executemany(
        "INSERT INTO search_labels (rowid, text) VALUES (?, ?)", ((row, words.index_text(text)) for row, text in rows)
    )


def remove(db: sqlite3.Connection, owner_kind: str, owner: int | str, kind: str | None = None) -> None:
    """Remove the labels of an owner, or those of one kind. The index keeps them until `rebuild_sparse_index`."""
    db.execute(
        "DELETE FROM labels WHERE owner_kind = ? AND owner = ? AND kind = coalesce(?, kind)", (owner_kind, owner, kind)
    )


def replace_named(
    db: sqlite3.Connection, owner_kind: str, owner: int | str, name: str, labels: Iterable[Label]
) -> None:
    """Replace the labels of an owner that have this name, and leave the others. All of `labels` have it."""
    wanted = _label_rows(owner_kind, owner, labels)
    rows = db.execute(
        "SELECT id, kind, value FROM labels WHERE owner_kind = ? AND owner = ? AND name = ?", (owner_kind, owner, name)
    ).fetchall()
    kept = {(kind, value) for _, _, kind, _, value in wanted}
    removed = [(row["id"],) for row in rows if (row["kind"], row["value"]) not in kept]
    db.executemany("DELETE FROM labels WHERE id = ?", removed)
    _add_rows(db, wanted)


def remove_unused(db: sqlite3.Connection) -> None:
    """Remove the labels of users and organizations that have no conversation and no record any more."""
    for kind in (USER, ORGANIZATION):
        db.execute(f"DELETE FROM labels WHERE {unused_condition(kind)}")  # noqa: S608  # our own names


def unused_condition(kind: str) -> str:
    """Return the SQL condition of labels of users or organizations that have no conversation and no record any more."""
    return (
        f"owner_kind = '{kind}' AND NOT EXISTS (SELECT 1 FROM conversations c"  # noqa: S608  # our own names
        f" WHERE c.{_OWNER_COLUMNS[kind]} = owner) AND NOT EXISTS (SELECT 1 FROM actions a WHERE a.endpoint = '{kind}s'"
        " AND a.key = owner)"
    )


def rebuild_sparse_index(db: sqlite3.Connection) -> None:
    """Build the index again if more than half of its labels were removed. A contentless index cannot delete."""
    if engine_of(db) is not None or not has_label_index(db):
        return
    indexed = db.execute("SELECT count(*) FROM search_labels_docsize").fetchone()[0]
    if indexed > 1000 and db.execute("SELECT count(*) FROM labels").fetchone()[0] * 2 < indexed:
        rebuild_index(db)


def rebuild_index(db: sqlite3.Connection) -> None:
    """Build the index again."""
    db.execute("DROP TABLE search_labels")
    create_label_index(db)
    _index(db, db.execute("SELECT id, name || ' ' || value FROM labels").fetchall())


def add_for_conversation(
    db: sqlite3.Connection, conversation: sqlite3.Row, body: dict[str, Any], user: str, organization: str | None
) -> None:
    """Add the labels that a `POST /messages` request gives its conversation, its user and its organization."""
    _add_rows(db, rows_of_request(conversation, body, user, organization))


def rows_of_request(conversation: Any, body: dict[str, Any], user: str, organization: str | None) -> list[Row]:
    """Return the labels that a `POST /messages` request gives its conversation, its user and its organization."""
    rows = _label_rows(CONVERSATION, conversation["id"], labels_of_request(body, conversation))
    rows += _label_rows(USER, user, [Label("id", user)])
    if organization:
        rows += _label_rows(ORGANIZATION, organization, [Label("id", organization)])
    return rows


def add_for_action(db: sqlite3.Connection, endpoint: str, body: dict[str, Any], conversation: int | None) -> None:
    """Add the labels of a user, an organization, a rating or an event. Those of a user or an organization are replaced."""
    found = labels_of_action(endpoint, body)
    if endpoint == "users":
        remove(db, USER, body["externalUserId"])
        add(db, USER, body["externalUserId"], found)
    elif endpoint == "organizations":
        remove(db, ORGANIZATION, body["externalOrganizationId"])
        add(db, ORGANIZATION, body["externalOrganizationId"], found)
    elif conversation is not None:
        add(db, CONVERSATION, conversation, found)
    elif user := body.get("externalUserId"):
        add(db, USER, user, found)


def labels_of_request(body: dict[str, Any], conversation: Any) -> set[Label]:
    """Return the labels that a `POST /messages` request gives its conversation."""
    labels = {Label("id", conversation["uid"])}
    if conversation["external_id"]:
        labels.add(Label("id", conversation["external_id"]))
    labels |= labels_of_properties(body.get("properties") or {})
    for message in body["messages"]:
        if properties := message.get("properties"):
            labels |= labels_of_properties(properties)
    return labels


def labels_of_properties(properties: dict[str, Any]) -> set[Label]:
    """Return the tags of a message, and the values of its metadata and of the program's own properties."""
    labels = {Label("tag", tag) for tag in _tags(properties)} if "tags" in properties else set()
    own = {key: value for key, value in properties.items() if key not in contract.PROPERTIES}
    if own or "metadata" in properties:
        metadata = properties.get("metadata")
        for values in (own, metadata if isinstance(metadata, dict) else {}):
            labels |= {Label("property", value, name) for name, value in _values("", values)}
    return labels


def _tags(properties: dict[str, Any]) -> list[str]:
    tags = properties.get("tags")
    return [tag for tag in tags[:_MAX_VALUES] if isinstance(tag, str)] if isinstance(tags, list) else []


def _values(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts and numbers in a JSON value with the names of their keys: ``{"plan": {"seats": 5}}`` → plan.seats."""
    stack, found = [(name, value)], 0
    while stack and found < _MAX_VALUES:
        name, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{name}.{key}" if name else str(key), item) for key, item in reversed(list(value.items()))]
        elif isinstance(value, list):
            stack += [(name, item) for item in reversed(value[:_MAX_VALUES])]
        elif isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            found += 1
            yield name, str(value)


def labels_of_action(endpoint: str, body: dict[str, Any]) -> set[Label]:
    """Return the labels of a user, an organization, a rating or an event."""
    if endpoint == "ratings":
        return {Label("feedback", body["feedback"])} if body.get("feedback") else set()
    if endpoint == "events":
        event = Label("event", str(body.get("value") or body["eventType"]), body["eventType"])
        return {event} | {Label("property", value, name) for name, value in _values("", body.get("properties"))}
    identity = body.get("externalUserId") if endpoint == "users" else body.get("externalOrganizationId")
    labels = {Label("name", body[key]) for key in ("name", "email", "phone") if body.get(key)}
    labels |= {Label("id", str(identity))}
    return labels | {Label("property", value, name) for name, value in _values("", body.get("properties"))}


def find_labels(db: sqlite3.Connection, found: list[Word], prefix: list[Word], limit: int) -> list[int]:
    """Return the row ids of the newest labels that contain all words. Those in `prefix` may be prefixes."""
    if (engine := engine_of(db)) is not None:
        return engine.find_labels(found, prefix, limit)
    rows = db.execute(
        "SELECT rowid FROM search_labels WHERE search_labels MATCH ? ORDER BY rowid DESC LIMIT ?",
        (words.match_expression(found, prefix), limit),
    )
    return [row[0] for row in rows]


def conversations_of(db: sqlite3.Connection, row_ids: list[int]) -> dict[int, int]:
    """Return conversation → label for the conversations that have one of these labels, at most 5,000 for each kind."""
    found: dict[int, int] = {}
    given = json.dumps(row_ids)
    for kind, column in _OWNER_COLUMNS.items() if row_ids else ():
        owner = "CAST(l.owner AS INTEGER)" if kind == CONVERSATION else "l.owner"
        rows = db.execute(
            "SELECT c.id, l.id FROM json_each(?) j CROSS JOIN labels l ON l.id = j.value"  # noqa: S608  # our own names
            f" CROSS JOIN conversations c ON c.{column} = {owner} WHERE l.owner_kind = ? LIMIT 5000",
            (given, kind),
        )
        for conversation, label in rows:
            found.setdefault(conversation, label)
    return found


def read(db: sqlite3.Connection, row_ids: Iterable[int]) -> dict[int, Label]:
    """Return labels by row id."""
    rows = db.execute(
        "SELECT id, kind, value, name FROM labels WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(row_ids)),),
    )
    return {row["id"]: Label(row["kind"], row["value"], row["name"]) for row in rows}
