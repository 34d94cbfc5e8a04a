"""Sums that stand with a conversation, so that lists need not add up its messages."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from gati.studio import columns


def add(db: sqlite3.Connection, row: sqlite3.Row, body: dict[str, Any], kept: list[Any]) -> None:
    """Bring the conversation's row up to date with its new messages (number, message, time)."""
    facts = [columns.numbers(message, body.get("model")) for _, message, _ in kept]
    kinds = [columns.message_type(message) for _, message, _ in kept]
    calls = [fact for fact, kind in zip(facts, kinds, strict=True) if kind == "llm"]
    said = [
        message.get("content") or ""
        for (_, message, _), kind in zip(kept, kinds, strict=True)
        if kind in columns.SPOKEN
    ]
    asked = [
        message.get("content") or ""
        for (_, message, _), kind in zip(kept, kinds, strict=True)
        if kind == "user_message"
    ]
    ends = [
        fact.status
        for fact, kind in zip(facts, kinds, strict=True)
        if kind in ("chain_end", *columns.ANSWERS) and fact.status
    ]
    known = {**(json.loads(row["properties"]) if row["properties"] else {}), **(body.get("properties") or {})}
    agents = {name for _, message, _ in kept if (name := columns.agent(message))} | (
        {known["agent_name"]} if isinstance(known.get("agent_name"), str) else set()
    )
    db.execute(
        "UPDATE conversations SET agent = coalesce(agent, :agent), status = coalesce(:status, status),"
        " title = coalesce(title, :title), preview = coalesce(:preview, preview), properties = :properties,"
        " user = :user, organization = coalesce(:organization, organization),"
        " first_at = CASE messages WHEN 0 THEN :first ELSE min(first_at, :first) END, last_at = max(last_at, :last),"
        " last_message = :newest, turns = turns + :turns, messages = messages + :messages, errors = errors + :errors,"
        " model_calls = model_calls + :calls, unpriced = unpriced + :unpriced,"
        " tokens_in = CASE WHEN :tokens_in IS NULL THEN tokens_in ELSE coalesce(tokens_in, 0) + :tokens_in END,"
        " tokens_out = CASE WHEN :tokens_out IS NULL THEN tokens_out ELSE coalesce(tokens_out, 0) + :tokens_out END,"
        " cost = CASE WHEN :cost IS NULL THEN cost ELSE coalesce(cost, 0) + :cost END WHERE id = :id",
        {
            "id": row["id"], "agent": min(agents, default=None), "status": ends[-1] if ends else None,
            "title": asked[0][:200] if asked else None, "preview": said[-1][:300] if said else None,
            "properties": columns.compact(known) if known else None, "user": body["externalUserId"],
            "organization": body.get("externalOrganizationId"), "first": min(at for *_, at in kept),
            "last": max(at for *_, at in kept), "newest": kept[-1][0], "turns": len(asked), "messages": len(kept),
            "errors": sum(fact.status == "error" for fact, kind in zip(facts, kinds, strict=True) if kind in ("tool_error", "llm")),
            "calls": len(calls), "unpriced": sum(fact.cost is None for fact in calls),
            "tokens_in": _sum(fact.tokens_in for fact in calls), "tokens_out": _sum(fact.tokens_out for fact in calls),
            "cost": _sum(fact.cost for fact in calls),
        },
    )  # fmt: skip
    pairs = {("model", fact.model) for fact in calls if fact.model} | {("agent", name) for name in agents}
    db.executemany("INSERT OR IGNORE INTO facets VALUES (?, ?, ?)", [(*pair, row["id"]) for pair in pairs])


def _sum(values: Any) -> Any:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
