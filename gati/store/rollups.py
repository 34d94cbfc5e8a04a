"""Sums and labels kept in each conversation's row, so that lists do not have to aggregate its messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from gati import contract
from gati.store import failures, labels, message_columns, sums
from gati.store.message_columns import MessageColumns, sum_known


class InsertedMessage(NamedTuple):
    """A message that was just inserted."""

    row_id: int
    message: dict[str, Any]
    columns: MessageColumns


_UPDATE = """
UPDATE conversations SET
  agent = coalesce(agent, :agent), status = coalesce(:status, status), title = coalesce(title, :title),
  preview = coalesce(:preview, preview), properties = :properties,
  user = :user, organization = coalesce(:organization, organization),
  first_at = CASE messages WHEN 0 THEN :first ELSE min(first_at, :first) END, last_at = max(last_at, :last),
  last_message = :newest, turns = turns + :turns, messages = messages + :messages, errors = coalesce(:errors, errors),
  slowest_ms = CASE WHEN :slowest IS NULL THEN slowest_ms ELSE max(coalesce(slowest_ms, 0), :slowest) END,
  model_calls = model_calls + :calls, unpriced = unpriced + :unpriced,
  tokens_in = CASE WHEN :tokens_in IS NULL THEN tokens_in ELSE coalesce(tokens_in, 0) + :tokens_in END,
  tokens_out = CASE WHEN :tokens_out IS NULL THEN tokens_out ELSE coalesce(tokens_out, 0) + :tokens_out END,
  cost = CASE WHEN :cost IS NULL THEN cost ELSE coalesce(cost, 0) + :cost END
WHERE id = :id
"""


class Rollup(NamedTuple):
    """The changes that inserted messages make: the values for `_UPDATE`, the facets, and the facts for the sums."""

    values: dict[str, Any]
    facets: set[tuple[str, str]]
    facts: list[sums.Fact]
    failed: bool
    """A message reports a failure, so that the failures must be counted again."""


def update_conversation(
    db: sqlite3.Connection,
    conversation: sqlite3.Row,
    body: dict[str, Any],
    inserted: list[InsertedMessage],
    version: int | None,
    *,
    batch: sums.SumsBatch | None = None,
) -> None:
    """Add the inserted messages to the conversation's row, facets and labels, and to a batch of sums."""
    rollup = roll_up(db, conversation, body, inserted, version)
    errors = failures.count_stored(db, conversation["id"]) if rollup.failed else None
    db.execute(_UPDATE, {**rollup.values, "errors": errors})
    db.executemany(
        "INSERT OR IGNORE INTO facets VALUES (?, ?, ?)", [(*facet, conversation["id"]) for facet in rollup.facets]
    )
    if batch is not None:
        for fact in rollup.facts:
            batch.add(fact)
    labels.add_for_conversation(db, conversation, body, rollup.values["user"], rollup.values["organization"])


def roll_up(
    db: sqlite3.Connection,
    conversation: Any,
    body: dict[str, Any],
    inserted: list[InsertedMessage],
    version: int | None,
) -> Rollup:
    """Return what the inserted messages change in the conversation's row, in its facets and in the sums."""
    facts = list(_facts(db, conversation["id"], inserted, version))
    agents = {fact.agent for fact in facts if fact.agent}
    calls = [fact.metrics for fact in facts if fact.type == "llm"]
    times = [fact.at for fact in facts]
    known = json.loads(conversation["properties"]) if conversation["properties"] else {}
    properties = {**known, **(body.get("properties") or {})}
    values = {
        **_labels(inserted),
        "id": conversation["id"],
        "agent": min(agents, default=None),
        "properties": message_columns.compact_json(properties) if properties else None,
        "user": body["externalUserId"],
        "organization": body.get("externalOrganizationId"),
        "first": min(times),
        "last": max(times),
        "newest": inserted[-1].row_id,
        "messages": len(inserted),
        "calls": len(calls),
        "unpriced": sum(sums.is_unpriced(call.status, call.cost) for call in calls),
        "tokens_in": sum_known(call.tokens_in for call in calls),
        "tokens_out": sum_known(call.tokens_out for call in calls),
        "cost": sum_known(call.cost for call in calls),
    }
    facets = {("model", call.model) for call in calls if call.model} | {("agent", name) for name in agents}
    facets |= {("tool", fact.tool) for fact in facts if fact.tool}
    failed = any(message.columns.metrics.status == "error" for message in inserted)
    return Rollup(values, facets, [fact for fact in facts if fact.type in sums.TYPES], failed)


def _facts(
    db: sqlite3.Connection, conversation: int, inserted: list[InsertedMessage], version: int | None
) -> Iterator[sums.Fact]:
    calls: dict[str, tuple[int, str]] = {}

    def find_call(external_id: str) -> tuple[int, str] | None:
        return calls.get(external_id) or sums.stored_tool_call(db, conversation, external_id)

    for _, message, columns in inserted:
        if columns.type not in sums.TOOL_TYPES:
            yield sums.Fact(columns.type, columns.at, columns.agent, columns.metrics, version)
            continue
        fact = sums.tool_fact(message, columns, find_call)
        if columns.type == "tool_call":
            calls[str(columns.external_id)] = columns.at, fact.tool
        yield fact


_FINAL_TYPES = frozenset({"chain_end", *contract.ANSWER_TYPES})
_TIMED_TYPES = _FINAL_TYPES | {"llm"}


def _labels(inserted: list[InsertedMessage]) -> dict[str, Any]:
    """Return status, title, preview, number of turns and longest duration of the inserted messages."""
    rows = [(message, columns.type, columns.metrics) for _, message, columns in inserted]
    chat = [message.get("content") or "" for message, kind, _ in rows if kind in contract.CHAT_TYPES]
    inputs = [message.get("content") or "" for message, kind, _ in rows if kind == "user_message"]
    statuses = [metrics.status for _, kind, metrics in rows if kind in _FINAL_TYPES and metrics.status]
    durations = [metrics.latency_ms for _, kind, metrics in rows if kind in _TIMED_TYPES]
    return {
        "slowest": max((duration for duration in durations if duration is not None), default=None),
        "status": statuses[-1] if statuses else None,
        "title": inputs[0][:200] if inputs else None,
        "preview": chat[-1][:300] if chat else None,
        "turns": len(inputs),
    }
