"""Stores the bodies of many `POST /messages` requests in one transaction, with a fixed number of statements.

The result is that of `Store.ingest_within`, called with one body after the other. Messages are written by `COPY`; what
several of them change together (a conversation's row, sums, facets, labels) is added up before it is written.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, cast

from gati.store import message_requests, rollups, sums, tombstones
from gati.store.actions import UnknownConversationError
from gati.store.rollups import InsertedMessage
from gati.team_store import conversation_rows, prompt_calls
from gati.team_store.connection import PostgresConnection
from gati.team_store.literals import arrays
from gati.team_store.prepared_requests import PreparedRequest

_COPY = (
    "COPY messages (id, conversation, call, external_id, type, at, agent, model, status, latency_ms, first_token_ms,"
    " tokens_in, tokens_out, cost, body, terms) FROM STDIN"
)
_PLANS = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)"
    for name, value in {
        "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off",
        "enable_mergejoin": "off",
    }.items()
)  # fmt: skip
"""Makes plans of prepared statements that use the indexes, and keeps them: a few rows are looked up in tables that grow."""

_TOMBSTONES = (
    "SELECT t.kind, t.digest, t.at FROM unnest(%s::text[], %s::text[]) AS k(kind, digest)"
    " JOIN tombstones t ON t.kind = k.kind AND t.digest = k.digest"
)
_STORED_IDS = (
    "SELECT m.conversation, m.external_id, m.id FROM unnest(%s::bigint[], %s::text[]) AS k(conversation, external_id)"
    " JOIN messages m ON m.external_id = k.external_id AND m.conversation = k.conversation"
)
_NEXT_IDS = (
    "SELECT setval('messages_id_seq', nextval('messages_id_seq') + %s - 1),"
    " setval('calls_id_seq', nextval('calls_id_seq') + %s - 1)"
)
"""Reserves row ids. Only the transaction that holds the lock of writers uses the sequences."""


def ingest(db: PostgresConnection, requests: Sequence[PreparedRequest]) -> list[dict[str, Any] | Exception]:
    """Store requests inside the caller's transaction. Return each one's response, or why it cannot be stored."""
    _, deletions, by_uid, by_key = db.read_all(
        [(_PLANS, ()), (tombstones.SELECT_KEY, ()), *conversation_rows.queries(requests)]
    )
    if deletions:
        _leave_out_deleted(db, requests, deletions[0][0])
    given = [request for request in requests if request.messages]
    known = conversation_rows.find_or_create(db, given, by_uid, by_key)
    sampled = [request for request in given if request.conversation is not None]
    prompts = prompt_calls.PromptCalls(db, sampled)
    keys = [key for request in sampled for key in _keys(request) if key[0] in known]
    found, *of_prompts = db.read_all([(_STORED_IDS, arrays(keys, 2)), *prompts.queries(known)])
    prompts.read(*of_prompts)
    stored = {(row[0], row[1]): row[2] for row in found}
    row_ids, prompts.ids = _next_ids(db, _count_new(sampled, stored), len(sampled))
    rows = [row for request in sampled for row in _assign_rows(request, stored, prompts, row_ids)]
    _copy(db, rows)
    _write_parts(db, [*prompts.parts(), *_rollup_parts(db, sampled)])
    return [_response(request, prompts) for request in requests]


def _leave_out_deleted(db: PostgresConnection, requests: Sequence[PreparedRequest], key: str) -> None:
    """Take out the messages that were deleted before they arrived; see `tombstones`."""
    wanted = tombstones.rows_of(key, [request.body for request in requests])
    (rows,) = db.read_all([(_TOMBSTONES, arrays(wanted, 2))])
    times = {(kind, digest): at for kind, digest, at in rows}
    found = tombstones.Tombstones(key, lambda kind, digest: times.get((kind, digest), 0))
    subjects: dict[str, int] = {}
    for request in requests:
        timed = [(prepared.message, prepared.columns.at) for prepared in request.messages]
        kept, deleted, more = tombstones.split_deleted(found, request.body, timed)
        subjects |= {subject: max(at, subjects.get(subject, 0)) for subject, at in more.items()}
        left = {id(message) for message, _ in kept}
        request.messages = [prepared for prepared in request.messages if id(prepared.message) in left]
        request.results = [
            message_requests.message_result(str(uuid.uuid4()), 0, message, "deduplicated") for message in deleted
        ]
    tombstones.add_subjects(cast(Any, db), subjects)


def _assign_rows(
    request: PreparedRequest, known: dict[tuple[int, str], int], prompts: prompt_calls.PromptCalls, row_ids: Any
) -> list[str]:
    """Give the new messages of a request their row ids; return their rows for `_COPY`."""
    conversation = cast("dict[str, Any]", request.conversation)
    request.version = prompts.version(request)
    rows: list[str] = []
    agents: list[str] = []
    for prepared in request.messages:
        columns = prepared.columns
        key = (conversation["id"], columns.external_id or "")
        existing = known.get(key) if columns.external_id is not None else None
        if existing is None:
            if request.call is None:
                request.call = prompts.call(request)
            existing = next(row_ids)
            if columns.external_id is not None:
                known[key] = existing
            request.inserted.append(InsertedMessage(existing, prepared.message, columns))
            rows.append(f"{existing}\t{conversation['id']}\t{request.call}\t{prepared.row}")
            agents += [columns.agent] if columns.agent else []
            status = "created"
        else:
            status = "deduplicated"
        request.results.append(message_requests.message_result(conversation["uid"], existing, prepared.message, status))
    # The next request of the conversation names a prompt without a name after its agent.
    conversation["agent"] = conversation["agent"] or min(agents, default=None)
    return rows


def _keys(request: PreparedRequest) -> Iterator[tuple[int, str]]:
    """Yield conversation and external id of the messages that have one."""
    conversation = cast("dict[str, Any]", request.conversation)["id"]
    for prepared in request.messages:
        if prepared.columns.external_id is not None:
            yield conversation, prepared.columns.external_id


def _count_new(requests: list[PreparedRequest], known: dict[tuple[int, str], int]) -> int:
    """Return the number of messages that are not stored yet."""
    keys = [key for request in requests for key in _keys(request)]
    without_id = sum(len(request.messages) for request in requests) - len(keys)
    return without_id + len(set(keys) - known.keys())


def _next_ids(db: PostgresConnection, messages: int, calls: int) -> tuple[Iterator[int], Iterator[int]]:
    """Return row ids for new messages and calls."""
    if not messages:
        return iter(()), iter(())
    (((last, last_call),),) = db.read_all([(_NEXT_IDS, (messages, calls))])
    return iter(range(last - messages + 1, last + 1)), iter(range(last_call - calls + 1, last_call + 1))


def _copy(db: PostgresConnection, rows: list[str]) -> None:
    if rows:
        with db.copying(_COPY) as copy:
            copy.write("".join(rows))


def _write_parts(db: PostgresConnection, parts: Sequence[conversation_rows.Part]) -> None:
    """Write to several tables with one statement. None of its parts depends on another one."""
    names = [f"part{number} AS ({part})" for number, (part, _) in enumerate(parts)]
    db.write(f"WITH {', '.join(names)} SELECT 1", list(itertools.chain.from_iterable(values for _, values in parts)))


def _rollup_parts(db: PostgresConnection, requests: list[PreparedRequest]) -> list[conversation_rows.Part]:
    """Return the parts of a statement that write what the new messages change in conversations and sums."""
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
    return [*changes.parts(db), *conversation_rows.sum_parts(batch)]


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
