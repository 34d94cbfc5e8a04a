"""Stores the bodies of many `POST /messages` requests in one transaction, with a fixed number of statements.

The result is that of `Store.ingest_within`, called with one body after the other. Messages are written by `COPY`; what
several of them change together (a conversation's row, sums, facets, labels) is added up before it is written.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, cast

from gati.store import message_requests, rollups, sums, tombstones
from gati.store.actions import UnknownConversationError
from gati.store.rollups import InsertedMessage
from gati.team_store import conversation_rows, prompt_calls
from gati.team_store.connection import PostgresConnection
from gati.team_store.prepared_requests import PreparedRequest

_COPY = (
    "COPY messages (id, conversation, call, external_id, type, at, agent, model, status, latency_ms, first_token_ms,"
    " tokens_in, tokens_out, cost, body, terms) FROM STDIN"
)


def ingest(db: PostgresConnection, requests: Sequence[PreparedRequest]) -> list[dict[str, Any] | Exception]:
    """Store requests inside the caller's transaction. Return each one's response, or why it cannot be stored."""
    _leave_out_deleted(db, requests)
    conversation_rows.find_or_create(db, [request for request in requests if request.messages])
    sampled = [request for request in requests if request.conversation is not None]
    known = _stored_ids(db, sampled)
    prompts = prompt_calls.PromptCalls(db, sampled)
    row_ids = iter(_next_ids(db, "messages", _count_new(sampled, known)))
    rows: list[tuple[Any, ...]] = []
    for request in sampled:
        rows += _assign_rows(request, known, prompts, row_ids)
    prompts.write()
    _copy(db, rows)
    _write_rollups(db, sampled)
    return [_response(request, prompts) for request in requests]


def _leave_out_deleted(db: PostgresConnection, requests: Sequence[PreparedRequest]) -> None:
    """Take out the messages that were deleted before they arrived; see `tombstones`."""
    if not tombstones.Tombstones(cast(Any, db)).exist:
        return
    for request in requests:
        timed = [(prepared.message, prepared.at) for prepared in request.messages]
        kept, deleted = tombstones.split_deleted(cast(Any, db), request.body, timed)
        left = {id(message) for message, _ in kept}
        request.messages = [prepared for prepared in request.messages if id(prepared.message) in left]
        request.results = [
            message_requests.message_result(str(uuid.uuid4()), 0, message, "deduplicated") for message in deleted
        ]


def _assign_rows(
    request: PreparedRequest, known: dict[tuple[int, str], int], prompts: prompt_calls.PromptCalls, row_ids: Any
) -> list[tuple[Any, ...]]:
    """Give the new messages of a request their row ids; return their rows for `_COPY`."""
    conversation = cast("dict[str, Any]", request.conversation)
    request.version = prompts.version(request)
    rows: list[tuple[Any, ...]] = []
    agents: list[str] = []
    for prepared in request.messages:
        key = (conversation["id"], prepared.external_id or "")
        existing = known.get(key) if prepared.external_id is not None else None
        if existing is None:
            if request.call is None:
                request.call = prompts.call(request)
            existing = next(row_ids)
            if prepared.external_id is not None:
                known[key] = existing
            request.inserted.append(InsertedMessage(existing, prepared.message, prepared.at))
            rows.append((existing, conversation["id"], request.call, *prepared.columns))
            agents += [prepared.columns[3]] if prepared.columns[3] else []
            status = "created"
        else:
            status = "deduplicated"
        request.results.append(message_requests.message_result(conversation["uid"], existing, prepared.message, status))
    # The next request of the conversation names a prompt without a name after its agent.
    conversation["agent"] = conversation["agent"] or min(agents, default=None)
    return rows


def _stored_ids(db: PostgresConnection, requests: list[PreparedRequest]) -> dict[tuple[int, str], int]:
    """Return (conversation, external id) → row id of the messages that are stored already."""
    given = [
        (request.conversation["id"], prepared.external_id)
        for request in requests
        for prepared in request.messages
        if prepared.external_id is not None and request.conversation is not None
    ]
    if not given:
        return {}
    rows = db.run(
        "SELECT m.conversation, m.external_id, m.id FROM unnest(%s::bigint[], %s::text[]) AS k(conversation, external_id)"
        " JOIN messages m ON m.external_id = k.external_id AND m.conversation = k.conversation",
        [*map(list, zip(*given, strict=True))],
    )
    return {(row[0], row[1]): row[2] for row in rows}


def _count_new(requests: list[PreparedRequest], known: dict[tuple[int, str], int]) -> int:
    """Return the number of messages that are not stored yet."""
    keyed: set[tuple[int, str]] = set()
    without_id = 0
    for request in requests:
        conversation = cast("dict[str, Any]", request.conversation)
        for prepared in request.messages:
            if prepared.external_id is None:
                without_id += 1
            else:
                keyed.add((conversation["id"], prepared.external_id))
    return without_id + len(keyed - known.keys())


def _next_ids(db: PostgresConnection, table: str, count: int) -> list[int]:
    rows = db.run(f"SELECT nextval('{table}_id_seq') FROM generate_series(1, %s)", (count,))  # noqa: S608  # our own names
    return sorted(row[0] for row in rows)


def _copy(db: PostgresConnection, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    with db.copying(_COPY) as copy:
        for row in rows:
            copy.write_row(row)


def _write_rollups(db: PostgresConnection, requests: list[PreparedRequest]) -> None:
    batch = sums.SumsBatch()
    changes = conversation_rows.Changes()
    for request in requests:
        if not request.inserted or request.conversation is None:
            continue
        rollup = rollups.roll_up(cast(Any, db), request.conversation, request.body, request.inserted, request.version)
        request.conversation["properties"] = rollup.values["properties"]
        changes.add(request.conversation, request.body, rollup)
        for fact in rollup.facts:
            batch.add(fact)
    changes.write(db)
    conversation_rows.write_sums(db, batch)


def _response(request: PreparedRequest, prompts: prompt_calls.PromptCalls) -> dict[str, Any] | Exception:
    conversation = request.conversation
    if conversation is None:
        uid = request.body.get("conversationId")
        if uid and request.messages:
            return UnknownConversationError(uid)
        return message_requests.ingest_response(
            str(uuid.uuid4()), request.results, "", []
        )  # all deleted, or sampled out
    prompt_uid, components = prompts.greenflash_ids(request.version)
    return message_requests.ingest_response(conversation["uid"], request.results, prompt_uid, components)
