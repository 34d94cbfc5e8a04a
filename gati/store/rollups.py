"""Sums and labels kept in each conversation's row, so that lists do not have to aggregate its messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from gati import contract
from gati.store import failures, labels, message_columns, sums
from gati.store.message_columns import sum_known


class InsertedMessage(NamedTuple):
    """A message that was just inserted."""

    row_id: int
    message: dict[str, Any]
    at: int


class _Row(NamedTuple):
    """An inserted message with its type and metrics."""

    type: str
    metrics: message_columns.MessageMetrics
    inserted: InsertedMessage


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
    """What inserted messages change: the values for `_UPDATE`, the facets, and the facts for the sums."""

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
    in_sums: bool = True,
) -> None:
    """Add the inserted messages to the conversation's row, facets and labels, and to the sums unless not `in_sums`."""
    rollup = roll_up(db, conversation, body, inserted, version)
    errors = failures.count_stored(db, conversation["id"]) if rollup.failed else None
    db.execute(_UPDATE, {**rollup.values, "errors": errors})
    db.executemany(
        "INSERT OR IGNORE INTO facets VALUES (?, ?, ?)", [(*facet, conversation["id"]) for facet in rollup.facets]
    )
    if in_sums:
        sums.add_all(db, rollup.facts)
    labels.add_for_conversation(db, conversation, body, rollup.values["user"], rollup.values["organization"])


def roll_up(
    db: sqlite3.Connection,
    conversation: Any,
    body: dict[str, Any],
    inserted: list[InsertedMessage],
    version: int | None,
) -> Rollup:
    """Return what the inserted messages change in the conversation's row, in its facets and in the sums."""
    rows = [
        _Row(message_columns.message_type(i.message), message_columns.extract_metrics(i.message, body.get("model")), i)
        for i in inserted
    ]
    facts = list(_facts(db, conversation["id"], body, rows, version))
    agents = {fact.agent for fact in facts if fact.agent}
    calls = [row.metrics for row in rows if row.type == "llm"]
    known = json.loads(conversation["properties"]) if conversation["properties"] else {}
    properties = {**known, **(body.get("properties") or {})}
    values = {
        **_labels(rows),
        "id": conversation["id"],
        "agent": min(agents, default=None),
        "properties": message_columns.compact_json(properties) if properties else None,
        "user": body["externalUserId"],
        "organization": body.get("externalOrganizationId"),
        "first": min(i.at for i in inserted),
        "last": max(i.at for i in inserted),
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
    failed = any(row.metrics.status == "error" for row in rows)
    return Rollup(values, facets, [fact for fact in facts if fact.type in sums.TYPES], failed)


def _facts(
    db: sqlite3.Connection, conversation: int, body: dict[str, Any], rows: list[_Row], version: int | None
) -> Iterator[sums.Fact]:
    calls: dict[str, tuple[int, str]] = {}

    def find_call(external_id: str) -> tuple[int, str] | None:
        return calls.get(external_id) or sums.stored_tool_call(db, conversation, external_id)

    for row in rows:
        message, at = row.inserted.message, row.inserted.at
        agent = message_columns.agent_name_of(message) or message_columns.agent_name_of(body)
        if row.type not in sums.TOOL_TYPES:
            yield sums.Fact(row.type, at, agent, row.metrics, version)
            continue
        fact = sums.tool_fact(message, at, agent, find_call)
        if row.type == "tool_call":
            calls[str(message.get("externalMessageId"))] = at, fact.tool
        yield fact


def _labels(rows: list[_Row]) -> dict[str, Any]:
    """Return status, title, preview, number of turns and longest duration of the inserted messages."""
    chat = [row.inserted.message.get("content") or "" for row in rows if row.type in contract.CHAT_TYPES]
    inputs = [row.inserted.message.get("content") or "" for row in rows if row.type == "user_message"]
    final_types = ("chain_end", *contract.ANSWER_TYPES)
    statuses = [row.metrics.status for row in rows if row.type in final_types and row.metrics.status]
    durations = [row.metrics.latency_ms for row in rows if row.type in (*final_types, "llm")]
    return {
        "slowest": max((duration for duration in durations if duration is not None), default=None),
        "status": statuses[-1] if statuses else None,
        "title": inputs[0][:200] if inputs else None,
        "preview": chat[-1][:300] if chat else None,
        "turns": len(inputs),
    }
