"""Conversations of the store as files: JSON Lines with everything, Markdown to be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gati.studio import columns, prompts, reading, turns
from gati.studio.reading import Filter, Stored, Summary
from gati.studio.store import Store


def summaries(store: Store, wanted: Filter | None = None) -> Iterator[Summary]:
    """All conversations that fit, newest first, read page by page."""
    after: tuple[int, int] | None = None
    while True:
        page = reading.conversations(store, wanted, after, limit=200)
        yield from page.conversations
        after = page.more
        if after is None:
            return


def line(store: Store, summary: Summary) -> str:
    """One conversation as a line of JSON: what is known of it, its messages as they came, each with the row of its
    system prompt under `call`."""
    told = {
        "conversationId": summary.uid,
        "externalConversationId": summary.external_id,
        "productId": summary.product or None,
        "externalUserId": summary.user,
        "externalOrganizationId": summary.organization,
        "agent": summary.agent,
        "status": summary.status,
        "firstAt": columns.iso(summary.first_at),
        "lastAt": columns.iso(summary.last_at),
        "tokensIn": summary.tokens_in,
        "tokensOut": summary.tokens_out,
        "costUsd": summary.cost,
        "properties": json.loads(summary.properties) if summary.properties else {},
        "systemPrompts": _prompts(store, summary.id),
        "messages": [{**message.body, "call": message.call} for message in _all(store, summary)],
    }
    return json.dumps(told, ensure_ascii=False) + "\n"


def _prompts(store: Store, conversation: int) -> dict[str, Any]:
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT k.id, k.envelope, v.body FROM calls k JOIN prompt_versions v ON v.id = k.version"
            " WHERE k.conversation = ? ORDER BY k.id",
            (conversation,),
        ).fetchall()
    return {
        str(row["id"]): prompts.put_together(row["body"], json.loads(row["envelope"]).get("prompt", {})) for row in rows
    }


def _all(store: Store, summary: Summary) -> list[Stored]:
    stored: list[Stored] = []
    before: tuple[int, int] | None = None
    while True:
        part, before = reading.conversation(store, summary.id, before, turns=500)
        stored[:0] = part
        if before is None:
            return stored


def markdown(store: Store, summary: Summary) -> str:
    """One conversation as Markdown: what was said in full, each step in a line."""
    parts = [f"# {_line(summary.title or summary.external_id or summary.uid)}\n"]
    known = {
        "Conversation": summary.external_id or summary.uid, "User": summary.user, "Agent": summary.agent,
        "Status": summary.status, "From": columns.iso(summary.first_at), "To": columns.iso(summary.last_at),
        "Tokens": f"{_or_unknown(summary.tokens_in)} in, {_or_unknown(summary.tokens_out)} out",
        "Cost": "unknown" if summary.cost is None else f"${summary.cost:.6f}",
    }  # fmt: skip
    parts.append("\n".join(f"- {name}: {_line(str(value))}" for name, value in known.items() if value) + "\n")
    for turn in turns.turns(_all(store, summary)):
        parts += [_said(message) for message in turn.asked]
        if turn.steps:
            parts.append("\n".join(_step(step) for step in turn.all_steps) + "\n")
        parts += [_said(message) for message in turn.said]
    return "\n".join(parts)


_SPEAKERS = {"user_message": "User", "system_message": "System"}


def _said(message: Stored) -> str:
    text = message.body.get("content") or turns.pretty(message.body.get("output") or "")
    quoted = "\n".join(f"> {line}".rstrip() for line in text.splitlines() or [""])
    return f"**{_SPEAKERS.get(message.type, 'Assistant')}**, {columns.iso(message.at)}\n\n{quoted}\n"


def _step(step: turns.Step) -> str:
    known = step.properties
    facts = [step.kind.replace("_", " ")]
    if step.status:
        facts.append(step.status)
    if step.latency_ms is not None:
        facts.append(f"{step.latency_ms:.0f} ms")
    if step.kind == "llm":
        facts.append(f"{_or_unknown(known.get('tokens_in'))} + {_or_unknown(known.get('tokens_out'))} tokens")
    given, gave = step.message.body.get("input"), (step.result.body if step.result else step.message.body).get("output")
    texts = [_line(turns.pretty(value))[:200] for value in (given, gave) if value]
    return f"{'  ' * step.depth}- `{_line(step.name)}` ({', '.join(facts)})" + "".join(f" · {text}" for text in texts)


def _line(text: str) -> str:
    return " ".join(text.split())


def _or_unknown(value: Any) -> str:
    return "unknown" if value is None else str(value)
