"""Rows of conversations for several requests: found or created at once, and changed at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from gati.store import failures, labels, message_requests, sums
from gati.store.message_columns import sum_known

if TYPE_CHECKING:
    from gati.store.rollups import Rollup
    from gati.team_store.connection import PostgresConnection
    from gati.team_store.prepared_requests import PreparedRequest

_Key = tuple[str, str]
"""Product and external id."""


def find_or_create(db: PostgresConnection, requests: Sequence[PreparedRequest]) -> None:
    """Set `conversation` of each request to its row, one object for each row. Leave None if it is unknown or sampled out."""
    by_uid = _find_by_uid(db, {request.body["conversationId"].lower() for request in requests if _uid(request)})
    keys = {key for request in requests if (key := _key(request)) is not None}
    by_key = _find_by_key(db, keys)
    created: list[tuple[PreparedRequest, _Key | None, tuple[Any, ...]]] = []
    pending: dict[_Key, list[PreparedRequest]] = {}
    for request in requests:
        if _uid(request):
            request.conversation = by_uid.get(request.body["conversationId"].lower())
            continue
        key = _key(request)
        if key is not None and key in by_key:
            request.conversation = by_key[key]
        elif key is not None and key in pending:
            pending[key].append(request)
        elif message_requests.is_sampled(request.body, *_names(request)):
            created.append((request, key, _new_row(request)))
            if key is not None:
                pending[key] = []
    for (request, key, _), row in zip(created, _insert(db, [row for _, _, row in created]), strict=True):
        request.conversation = row
        for other in pending.get(key, []) if key is not None else []:
            other.conversation = row


def _uid(request: PreparedRequest) -> bool:
    return bool(request.body.get("conversationId"))


def _names(request: PreparedRequest) -> tuple[str, str | None]:
    return request.body.get("productId") or "", request.body.get("externalConversationId")


def _key(request: PreparedRequest) -> _Key | None:
    product, external = _names(request)
    return None if external is None or _uid(request) else (product, external)


def _new_row(request: PreparedRequest) -> tuple[Any, ...]:
    product, external = _names(request)
    organization = request.body.get("externalOrganizationId")
    now = time.time_ns() // 1000
    return str(uuid.uuid4()), product, external, request.body["externalUserId"], organization, now


def _find_by_uid(db: PostgresConnection, uids: set[str]) -> dict[str, dict[str, Any]]:
    if not uids:
        return {}
    rows = db.run("SELECT * FROM conversations WHERE uid = ANY(%s)", (sorted(uids),))
    return {row["uid"]: dict(row) for row in rows}


def _find_by_key(db: PostgresConnection, keys: set[_Key]) -> dict[_Key, dict[str, Any]]:
    if not keys:
        return {}
    rows = db.run(
        "SELECT c.* FROM unnest(%s::text[], %s::text[]) AS k(product, external_id)"
        " JOIN conversations c ON c.product = k.product AND c.external_id = k.external_id",
        [*map(list, zip(*keys, strict=True))],
    )
    return {(row["product"], row["external_id"]): dict(row) for row in rows}


def _insert(db: PostgresConnection, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    if not rows:
        return []
    inserted = db.run(
        'INSERT INTO conversations (uid, product, external_id, "user", organization, first_at, last_at)'
        " SELECT u, p, e, n, o, f, 0 FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])"
        " AS r(u, p, e, n, o, f) RETURNING *",
        [*map(list, zip(*rows, strict=True))],
    )
    by_uid = {row["uid"]: dict(row) for row in inserted}
    return [by_uid[row[0]] for row in rows]


_SUMMED = ("turns", "messages", "calls", "unpriced")
_KNOWN = ("tokens_in", "tokens_out", "cost")
_COLUMNS = {
    "id": "bigint", "agent": "text", "status": "text", "title": "text", "preview": "text", "properties": "text",
    "user": "text", "organization": "text", "first": "bigint", "last": "bigint", "newest": "bigint", "turns": "bigint",
    "messages": "bigint", "errors": "bigint", "slowest": "double precision", "calls": "bigint", "unpriced": "bigint",
    "tokens_in": "bigint", "tokens_out": "bigint", "cost": "double precision",
}  # fmt: skip
"""The values of `Rollup` → types, in the order in which they are passed."""

_UPDATE = f"""
UPDATE conversations c SET
  agent = coalesce(c.agent, v.agent), status = coalesce(v.status, c.status), title = coalesce(c.title, v.title),
  preview = coalesce(v.preview, c.preview), properties = v.properties,
  "user" = v."user", organization = coalesce(v.organization, c.organization),
  first_at = CASE WHEN c.messages = 0 THEN v.first ELSE least(c.first_at, v.first) END,
  last_at = greatest(c.last_at, v.last), last_message = v.newest, turns = c.turns + v.turns,
  messages = c.messages + v.messages, errors = coalesce(v.errors, c.errors),
  slowest_ms = greatest(c.slowest_ms, v.slowest), model_calls = c.model_calls + v.calls,
  unpriced = c.unpriced + v.unpriced,
  tokens_in = CASE WHEN v.tokens_in IS NULL THEN c.tokens_in ELSE coalesce(c.tokens_in, 0) + v.tokens_in END,
  tokens_out = CASE WHEN v.tokens_out IS NULL THEN c.tokens_out ELSE coalesce(c.tokens_out, 0) + v.tokens_out END,
  cost = CASE WHEN v.cost IS NULL THEN c.cost ELSE coalesce(c.cost, 0) + v.cost END
FROM unnest({", ".join(f"%s::{kind}[]" for kind in _COLUMNS.values())})
  AS v({", ".join(f'"{name}"' for name in _COLUMNS)})
WHERE c.id = v.id
"""  # noqa: S608  # our own names


class Changes:
    """Changes of conversations, added up before they are written."""

    def __init__(self) -> None:
        self._values: dict[int, dict[str, Any]] = {}
        self._failed: set[int] = set()
        self._facets: set[tuple[str, str, int]] = set()
        self._labels: list[labels.Row] = []

    def add(self, conversation: dict[str, Any], body: dict[str, Any], rollup: Rollup) -> None:
        """Add what the messages of one request change."""
        row_id, values = conversation["id"], rollup.values
        known = self._values.get(row_id)
        self._values[row_id] = values if known is None else _merged(known, values)
        if rollup.failed:
            self._failed.add(row_id)
        self._facets |= {(kind, value, row_id) for kind, value in rollup.facets}
        self._labels += labels.rows_of_request(conversation, body, values["user"], values["organization"])

    def write(self, db: PostgresConnection) -> None:
        """Write the rows, facets and labels."""
        if not self._values:
            return
        rows = [
            {**values, "errors": failures.count_stored(cast(Any, db), row_id) if row_id in self._failed else None}
            for row_id, values in sorted(self._values.items())
        ]
        db.run(_UPDATE, [_column((row[name] for row in rows), kind) for name, kind in _COLUMNS.items()])
        if self._facets:
            db.run(
                "INSERT INTO facets SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[]) ON CONFLICT DO NOTHING",
                [*map(list, zip(*sorted(self._facets), strict=True))],
            )
        db.engine.add_labels(self._labels)


def _column(values: Iterable[Any], kind: str) -> list[Any]:
    """Return the values of an array, which must have one type."""
    if kind == "double precision":
        return [None if value is None else float(value) for value in values]
    return list(values)


def _merged(known: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return the values of two requests of one conversation as those of one."""
    return {
        "id": known["id"],
        **{name: _first(known[name], later[name]) for name in ("agent", "title")},
        **{name: _first(later[name], known[name]) for name in ("status", "preview", "organization")},
        **{name: later[name] for name in ("properties", "user", "newest")},
        **{name: known[name] + later[name] for name in _SUMMED},
        **{name: sum_known((known[name], later[name])) for name in _KNOWN},
        "first": min(known["first"], later["first"]),
        "last": max(known["last"], later["last"]),
        "slowest": max((v for v in (known["slowest"], later["slowest"]) if v is not None), default=None),
    }


def _first(value: Any, other: Any) -> Any:
    return other if value is None else value


_SUM_TYPES = (
    "text", "bigint", "bigint", "text", *("bigint" for _ in range(5)), "double precision", "double precision",
    "double precision", "bigint",
)  # fmt: skip
_DURATION_TYPES = ("text", "bigint", "bigint", "text", "bigint", "bigint", "double precision")


def write_sums(db: PostgresConnection, batch: sums.SumsBatch) -> None:
    """Add a batch to the tables of sums."""
    if long_rows := sorted(batch.long_rows()):
        db.run(
            "DELETE FROM long_sums s USING unnest(%s::bigint[], %s::bigint[]) AS k(length, start)"
            " WHERE s.length = k.length AND s.start = k.start",
            [*map(list, zip(*long_rows, strict=True))],
        )
    _add(db, "sums", batch.count_rows(), _SUM_TYPES, sums.ADD_COUNTS)
    _add(db, "durations", batch.duration_rows(), _DURATION_TYPES, sums.ADD_DURATIONS)


def _add(db: PostgresConnection, table: str, rows: list[tuple[Any, ...]], types: tuple[str, ...], end: str) -> None:
    if rows:
        arrays = ", ".join(f"%s::{kind}[]" for kind in types)
        columns = [_column(values, kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
        db.run(f"INSERT INTO {table} SELECT * FROM unnest({arrays}) {end}", columns)  # noqa: S608  # our own names
