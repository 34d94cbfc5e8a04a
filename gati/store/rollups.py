"""Sums and labels kept in each conversation's row, so that lists do not have to aggregate its messages."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, NamedTuple

from gati import contract
from gati.store import message_columns
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
  last_message = :newest, turns = turns + :turns, messages = messages + :messages, errors = errors + :errors,
  model_calls = model_calls + :calls, unpriced = unpriced + :unpriced,
  tokens_in = CASE WHEN :tokens_in IS NULL THEN tokens_in ELSE coalesce(tokens_in, 0) + :tokens_in END,
  tokens_out = CASE WHEN :tokens_out IS NULL THEN tokens_out ELSE coalesce(tokens_out, 0) + :tokens_out END,
  cost = CASE WHEN :cost IS NULL THEN cost ELSE coalesce(cost, 0) + :cost END
WHERE id = :id
"""


def update_conversation(
    db: sqlite3.Connection, conversation: sqlite3.Row, body: dict[str, Any], inserted: list[InsertedMessage]
) -> None:
    """Add the inserted messages to the conversation's row and facets."""
    rows = [
        _Row(message_columns.message_type(i.message), message_columns.extract_metrics(i.message, body.get("model")), i)
        for i in inserted
    ]
    calls = [row.metrics for row in rows if row.type == "llm"]
    agents = {
        name
        for i in inserted
        if (name := message_columns.agent_name_of(i.message) or message_columns.agent_name_of(body))
    }
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
        "errors": sum(row.metrics.status == "error" for row in rows if row.type in ("tool_error", "llm")),
        "calls": len(calls),
        "unpriced": sum(call.cost is None for call in calls),
        "tokens_in": sum_known(call.tokens_in for call in calls),
        "tokens_out": sum_known(call.tokens_out for call in calls),
        "cost": sum_known(call.cost for call in calls),
    }
    db.execute(_UPDATE, values)
    facets = {("model", call.model) for call in calls if call.model} | {("agent", name) for name in agents}
    db.executemany("INSERT OR IGNORE INTO facets VALUES (?, ?, ?)", [(*facet, conversation["id"]) for facet in facets])


def _labels(rows: list[_Row]) -> dict[str, Any]:
    """Return status, title, preview and number of turns of the inserted messages."""
    chat = [row.inserted.message.get("content") or "" for row in rows if row.type in contract.CHAT_TYPES]
    inputs = [row.inserted.message.get("content") or "" for row in rows if row.type == "user_message"]
    final_types = ("chain_end", *contract.ANSWER_TYPES)
    statuses = [row.metrics.status for row in rows if row.type in final_types and row.metrics.status]
    return {
        "status": statuses[-1] if statuses else None,
        "title": inputs[0][:200] if inputs else None,
        "preview": chat[-1][:300] if chat else None,
        "turns": len(inputs),
    }
