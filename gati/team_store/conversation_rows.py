"""Rows of conversations for several requests: found or created at once, and changed at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from gati.store import failures, labels, message_requests, sums
from gati.store.message_columns import sum_known
from gati.team_store.literals import array, arrays
from gati.team_store.text_index import label_part

if TYPE_CHECKING:
    from gati.store.rollups import Rollup
    from gati.team_store.connection import PostgresConnection
    from gati.team_store.prepared_requests import PreparedRequest
    from gati.team_store.translation import Values

_Key = tuple[str, str]
"""Product and external id."""

Part = tuple[str, list[str]]
"""A part of a statement that writes to several tables, and the arrays of its rows."""


_NAMES = ("id", "uid", "product", "external_id", "agent", "properties")
_COLUMNS = ", ".join(f"c.{name}" for name in _NAMES)

_BY_UID = f"SELECT {_COLUMNS} FROM conversations c WHERE c.uid = ANY(%s::text[])"  # noqa: S608  # our own names
_BY_KEY = (
    f"SELECT {_COLUMNS} FROM unnest(%s::text[], %s::text[]) AS k(product, external_id)"  # noqa: S608  # as above
    " JOIN conversations c ON c.product = k.product AND c.external_id = k.external_id"
)
_INSERT = (
    'INSERT INTO conversations (uid, product, external_id, "user", organization, first_at, last_at)'
    " SELECT u, p, e, n, o, f, 0 FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])"
    " AS r(u, p, e, n, o, f) RETURNING id, uid"
)


def queries(requests: Sequence[PreparedRequest]) -> list[tuple[str, Values]]:
    """Return the statements whose rows `find_or_create` takes."""
    uids = sorted({request.body["conversationId"].lower() for request in requests if _has_uid(request)})
    keys = sorted({key for request in requests if (key := _key(request)) is not None})
    return [(_BY_UID, (array(uids),)), (_BY_KEY, arrays(keys, 2))]


def find_or_create(
    db: PostgresConnection, requests: Sequence[PreparedRequest], by_uid: list[Any], by_key: list[Any]
) -> set[int]:
    """Set `conversation` of each request to its row, one object for each row. Leave None if it is unknown or sampled out.

    Return the row ids of those that are not new.
    """
    of_uid = {row[1]: dict(zip(_NAMES, row, strict=True)) for row in by_uid}
    of_key = {(row[2], row[3]): dict(zip(_NAMES, row, strict=True)) for row in by_key}
    created: list[tuple[PreparedRequest, _Key | None, tuple[Any, ...]]] = []
    pending: dict[_Key, list[PreparedRequest]] = {}
    for request in requests:
        if _has_uid(request):
            request.conversation = of_uid.get(request.body["conversationId"].lower())
            continue
        key = _key(request)
        if key is not None and key in of_key:
            request.conversation = of_key[key]
        elif key is not None and key in pending:
            pending[key].append(request)
        elif message_requests.is_sampled(request.body, *_names_of(request)):
            created.append((request, key, _new_row(request)))
            if key is not None:
                pending[key] = []
    for (request, key, _), row in zip(created, _insert_conversations(db, [row for _, _, row in created]), strict=True):
        request.conversation = row
        for other in pending.get(key, []) if key is not None else []:
            other.conversation = row
    return {row["id"] for row in (*of_uid.values(), *of_key.values())}


def _has_uid(request: PreparedRequest) -> bool:
    return bool(request.body.get("conversationId"))


def _names_of(request: PreparedRequest) -> tuple[str, str | None]:
    return request.body.get("productId") or "", request.body.get("externalConversationId")


def _key(request: PreparedRequest) -> _Key | None:
    product, external = _names_of(request)
    return None if external is None or _has_uid(request) else (product, external)


def _new_row(request: PreparedRequest) -> tuple[Any, ...]:
    product, external = _names_of(request)
    organization = request.body.get("externalOrganizationId")
    now = time.time_ns() // 1000
    return str(uuid.uuid4()), product, external, request.body["externalUserId"], organization, now


def _insert_conversations(db: PostgresConnection, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    if not rows:
        return []
    (inserted,) = db.read_all([(_INSERT, arrays(rows, 6))])
    ids = {uid: row_id for row_id, uid in inserted}
    return [
        dict(zip(_NAMES, (ids[uid], uid, product, external, None, None), strict=True))
        for uid, product, external, *_ in rows
    ]


_SUMMED = ("turns", "messages", "calls", "unpriced")
_KNOWN = ("tokens_in", "tokens_out", "cost")
_CHANGED = {
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
FROM unnest({", ".join(f"%s::{kind}[]" for kind in _CHANGED.values())})
  AS v({", ".join(f'"{name}"' for name in _CHANGED)})
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

    def parts(self, db: PostgresConnection) -> list[Part]:
        """Return the parts of a statement that write the rows, facets and labels, after the messages were written."""
        rows = []
        for row_id, values in sorted(self._values.items()):
            errors = failures.count_stored(cast(Any, db), row_id) if row_id in self._failed else None
            rows.append([errors if name == "errors" else values[name] for name in _CHANGED])
        return [
            (_UPDATE, arrays(rows, len(_CHANGED))),
            (_INSERT_FACETS, arrays(sorted(self._facets), 3)),
            label_part(self._labels),
        ]


_INSERT_FACETS = "INSERT INTO facets SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[]) ON CONFLICT DO NOTHING"


def _merged(known: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return the values of two requests of one conversation as those of one."""
    return {
        "id": known["id"],
        **{name: _first_known(known[name], later[name]) for name in ("agent", "title")},
        **{name: _first_known(later[name], known[name]) for name in ("status", "preview", "organization")},
        **{name: later[name] for name in ("properties", "user", "newest")},
        **{name: known[name] + later[name] for name in _SUMMED},
        **{name: sum_known((known[name], later[name])) for name in _KNOWN},
        "first": min(known["first"], later["first"]),
        "last": max(known["last"], later["last"]),
        "slowest": max((v for v in (known["slowest"], later["slowest"]) if v is not None), default=None),
    }


def _first_known(value: Any, other: Any) -> Any:
    return other if value is None else value


_SUM_TYPES = (
    "text", "bigint", "bigint", "text", *("bigint" for _ in range(5)), "double precision", "double precision",
    "double precision", "bigint",
)  # fmt: skip
_DURATION_TYPES = ("text", "bigint", "bigint", "text", "bigint", "bigint", "double precision")


_DELETE_LONG_SUMS = (
    "DELETE FROM long_sums s USING unnest(%s::bigint[], %s::bigint[]) AS k(length, start)"
    " WHERE s.length = k.length AND s.start = k.start"
)


def sum_parts(batch: sums.SumsBatch) -> list[Part]:
    """Return the parts of a statement that add a batch to the tables of sums."""
    return [
        (_DELETE_LONG_SUMS, arrays(sorted(batch.long_rows()), 2)),
        (_ADD_COUNTS, arrays(batch.count_rows(), len(_SUM_TYPES))),
        (_ADD_DURATIONS, arrays(batch.duration_rows(), len(_DURATION_TYPES))),
    ]


def _insert_or_add(table: str, types: tuple[str, ...], end: str) -> str:
    return f"INSERT INTO {table} SELECT * FROM unnest({', '.join(f'%s::{kind}[]' for kind in types)}) {end}"  # noqa: S608  # our own names


_ADD_COUNTS = _insert_or_add("sums", _SUM_TYPES, sums.ADD_COUNTS)
_ADD_DURATIONS = _insert_or_add("durations", _DURATION_TYPES, sums.ADD_DURATIONS)
