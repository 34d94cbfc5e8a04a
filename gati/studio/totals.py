"""Sums that stand with a conversation, so that lists need not add up its messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from gati.studio import columns


class Kept(NamedTuple):
    """A new message in its row."""

    number: int
    message: dict[str, Any]
    at: int


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


def add(db: sqlite3.Connection, row: sqlite3.Row, body: dict[str, Any], kept: list[Kept]) -> None:
    """Bring the conversation's row up to date with its new messages."""
    known = [(columns.message_type(k.message), columns.numbers(k.message, body.get("model")), k) for k in kept]
    calls = [numbers for kind, numbers, _ in known if kind == "llm"]
    agents = {name for k in kept if (name := columns.agent(k.message) or columns.agent(body))}
    properties = {**(json.loads(row["properties"]) if row["properties"] else {}), **(body.get("properties") or {})}
    values = {
        **_texts(known),
        "id": row["id"],
        "agent": min(agents, default=None),
        "properties": columns.compact(properties) if properties else None,
        "user": body["externalUserId"],
        "organization": body.get("externalOrganizationId"),
        "first": min(k.at for k in kept),
        "last": max(k.at for k in kept),
        "newest": kept[-1].number,
        "messages": len(kept),
        "errors": sum(numbers.status == "error" for kind, numbers, _ in known if kind in ("tool_error", "llm")),
        "calls": len(calls),
        "unpriced": sum(call.cost is None for call in calls),
        "tokens_in": _sum(call.tokens_in for call in calls),
        "tokens_out": _sum(call.tokens_out for call in calls),
        "cost": _sum(call.cost for call in calls),
    }
    db.execute(_UPDATE, values)
    facets = {("model", call.model) for call in calls if call.model} | {("agent", name) for name in agents}
    db.executemany("INSERT OR IGNORE INTO facets VALUES (?, ?, ?)", [(*facet, row["id"]) for facet in facets])


def _texts(known: list[tuple[str, columns.Numbers, Kept]]) -> dict[str, Any]:
    said = [k.message.get("content") or "" for kind, _, k in known if kind in columns.SPOKEN]
    asked = [k.message.get("content") or "" for kind, _, k in known if kind == "user_message"]
    ends = [numbers.status for kind, numbers, _ in known if kind in ("chain_end", *columns.ANSWERS) and numbers.status]
    return {
        "status": ends[-1] if ends else None,
        "title": asked[0][:200] if asked else None,
        "preview": said[-1][:300] if said else None,
        "turns": len(asked),
    }


def _sum(values: Iterable[Any]) -> Any:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
