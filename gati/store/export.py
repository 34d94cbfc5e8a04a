"""Export conversations: JSON Lines with all data, Markdown for reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gati.store import marks, prompt_versions, queries
from gati.store.attachments import stored_attachments
from gati.store.filters import Filter
from gati.store.message_columns import format_timestamp
from gati.store.plain_text import escape_json, markdown_code, markdown_line, markdown_text
from gati.store.queries import ConversationSummary, StoredMessage
from gati.store.store import Store
from gati.store.turn_outcome import has_content, missing_answer
from gati.store.turn_view import StepView, arrange_turns
from gati.store.value_text import outline


def iter_conversations(store: Store, conditions: Filter | None = None) -> Iterator[ConversationSummary]:
    """Yield all matching conversations, newest first, reading page by page."""
    after: tuple[float, int] | None = None
    while True:
        page = queries.list_conversations(store, conditions, after, limit=200)
        yield from page.conversations
        after = page.more
        if after is None:
            return


def export_jsonl(store: Store, summary: ConversationSummary) -> str:
    """Return one conversation as a line of JSON.

    Messages appear as received, plus the key of their system prompt in `systemPrompts` under `call`. `marks` are the
    verdict, tags and notes made in the studio, `ratings` those of users and of the studio.
    """
    conversation = {
        "conversationId": summary.uid,
        "externalConversationId": summary.external_id,
        "productId": summary.product or None,
        "externalUserId": summary.user,
        "externalOrganizationId": summary.organization,
        "agent": summary.agent,
        "status": summary.status,
        "firstAt": format_timestamp(summary.first_at),
        "lastAt": format_timestamp(summary.last_at),
        "tokensIn": summary.tokens_in,
        "tokensOut": summary.tokens_out,
        "costUsd": summary.cost,
        "properties": json.loads(summary.properties) if summary.properties else {},
        "systemPrompts": _system_prompts(store, summary.id),
        "messages": [{**message.body, "call": message.call} for message in all_messages(store, summary)],
        "marks": _export_marks(marks.marks_of(store, summary.id)),
        "ratings": _export_ratings(store, summary.id),
    }
    return escape_json(json.dumps(conversation, ensure_ascii=False)) + "\n"


def _export_marks(made: marks.Marks) -> list[dict[str, Any]]:
    """Return the verdict, tags and notes. Ratings are exported with those of users."""
    chosen = ((made.verdict,) if made.verdict else ()) + made.tags + made.notes
    return [
        {"kind": mark.kind, "value": mark.value, "author": mark.author, "at": format_timestamp(mark.at)}
        for mark in chosen
    ]


def _export_ratings(store: Store, conversation: int) -> list[dict[str, Any]]:
    """Return the ratings as received, with the authors of those made in the studio."""
    authors = {mark.action: mark.author for mark in marks.marks_of(store, conversation).ratings}
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT id, created_at, body FROM actions WHERE conversation = ? AND endpoint = 'ratings' ORDER BY id",
            (conversation,),
        ).fetchall()
    return [
        {
            "ratedAt": format_timestamp(row["created_at"]),
            **json.loads(row["body"]),
            **({"author": authors[row["id"]]} if row["id"] in authors else {}),
        }
        for row in rows
    ]


def _system_prompts(store: Store, conversation: int) -> dict[str, Any]:
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT k.id, k.envelope, v.body FROM calls k JOIN prompt_versions v ON v.id = k.version"
            " WHERE k.conversation = ? ORDER BY k.id",
            (conversation,),
        ).fetchall()
    return {
        str(row["id"]): prompt_versions.join_prompt(row["body"], json.loads(row["envelope"]).get("prompt", {}))
        for row in rows
    }


def all_messages(store: Store, summary: ConversationSummary) -> list[StoredMessage]:
    """Return the messages of a conversation in reading order."""
    messages: list[StoredMessage] = []
    before: tuple[int, int] | None = None
    while True:
        page, before = queries.conversation_messages(store, summary.id, before, turns=500)
        messages[:0] = page
        if before is None:
            return messages


def export_markdown(store: Store, summary: ConversationSummary) -> str:
    """Return one conversation as Markdown: chat messages in full, each step as one line."""
    made = marks.marks_of(store, summary.id)
    parts = [f"# {markdown_line(summary.title or summary.external_id or summary.uid)}\n"]
    facts = {
        "Conversation": summary.external_id or summary.uid, "User": summary.user, "Agent": summary.agent,
        "Status": summary.status, "From": format_timestamp(summary.first_at), "To": format_timestamp(summary.last_at),
        "Tokens": f"{_or_unknown(summary.tokens_in)} in, {_or_unknown(summary.tokens_out)} out",
        "Cost": "unknown" if summary.cost is None else f"${summary.cost:.6f}",
        **_markdown_facts(made),
    }  # fmt: skip
    parts.append("\n".join(f"- {name}: {markdown_line(str(value))}" for name, value in facts.items() if value) + "\n")
    parts += [_markdown_note(note) for note in made.notes]
    for turn in arrange_turns(all_messages(store, summary)):
        parts += [_markdown_message(message) for message in turn.inputs]
        if turn.steps:
            parts.append("\n".join(_markdown_step(step) for step in turn.all_steps) + "\n")
        parts += [_markdown_message(message) for message in turn.answers if has_content(message)]
        if missing := missing_answer(turn):
            parts.append(f"*{missing.text}* {markdown_line(missing.error)}".rstrip() + "\n")
    return "\n".join(parts)


def _markdown_facts(made: marks.Marks) -> dict[str, str]:
    return {
        "Marked": f"{made.verdict.value}, by {made.verdict.author or 'unknown'}" if made.verdict else "",
        "Rated": ", ".join(f"{mark.value} of {marks.HIGHEST} by {mark.author or 'unknown'}" for mark in made.ratings),
        "Tags": ", ".join(mark.value for mark in made.tags),
    }


def _markdown_note(note: marks.Mark) -> str:
    lines = "\n".join(f"> {line}".rstrip() for line in markdown_text(note.value).split("\n"))
    return f"**Note** by {markdown_line(note.author or 'unknown')}, {format_timestamp(note.at)}\n\n{lines}\n"


_SPEAKERS = {"user_message": "User", "system_message": "System"}


def _markdown_message(message: StoredMessage) -> str:
    text = message.body.get("content") or outline(message.body.get("output") or "", "text", 20_000)
    lines = markdown_text(str(text)).split("\n") if text else []
    lines += [f"[{markdown_line(str(attachment))}]" for attachment in stored_attachments(message.body)]
    quoted = "\n".join(f"> {line}".rstrip() for line in lines)
    time = f", {format_timestamp(message.at)}" if message.has_time else ""
    return f"**{_SPEAKERS.get(message.type, 'Assistant')}**{time}\n\n{quoted}\n"


def _markdown_step(step: StepView) -> str:
    properties = step.properties
    facts = [markdown_line(step.kind.replace("_", " "))]
    if step.status:
        facts.append(markdown_line(step.status))
    if step.latency_ms is not None:
        facts.append(f"{step.latency_ms:.0f} ms")
    if step.kind == "llm":
        facts.append(f"{_or_unknown(properties.get('tokens_in'))} + {_or_unknown(properties.get('tokens_out'))} tokens")
    output = (step.result.body if step.result else step.message.body).get("output")
    texts = [markdown_line(outline(value, limit=200)) for value in (step.message.body.get("input"), output) if value]
    heading = f"{'  ' * step.shown_depth}- {markdown_code(step.name)} ({', '.join(facts)})"
    return heading + "".join(f" · {text}" for text in texts)


def _or_unknown(value: Any) -> str:
    return "unknown" if value is None else markdown_line(str(value))
