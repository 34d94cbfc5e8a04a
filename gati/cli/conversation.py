"""Render a conversation for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from gati.store import message_columns
from gati.store.attachments import stored_attachments
from gati.store.plain_text import escape_controls, escape_value
from gati.store.queries import StoredMessage
from gati.store.turn_outcome import has_content, missing_answer
from gati.store.turn_view import StepView, TurnView, arrange_turns

_MAX_LENGTH = 160
"""Maximum length in characters of a printed input, result or document."""

WireMessage = dict[str, Any]
"""A message in the form that `gati.store.queries.wire_messages` returns."""


def render(messages: Iterable[WireMessage]) -> RenderableType:
    """Render user messages and answers, with the steps between them, and tokens, cost and time of each turn."""
    stored = _mark_new_prompts(escape_value(message) for message in messages)
    return Group(*(part for turn in arrange_turns(stored) for part in _render_turn(turn)))


def format_one_line(value: Any) -> str:
    """Format a value as one line of limited length.

    An object with the single key `input` or `output` is shown as its value: ``{"output": "4"}`` becomes ``4``.
    """
    if isinstance(value, dict) and set(value) in ({"output"}, {"input"}):
        (value,) = value.values()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"


def _mark_new_prompts(messages: Iterable[WireMessage]) -> list[StoredMessage]:
    """Add `_prompt` to each model call whose system prompt differs from that of the call before it."""
    stored, last_prompt = [], ""
    for number, message in enumerate(messages):
        kind, prompt = message_columns.message_type(message), _prompt_text(message.get("prompt"))
        if kind == "llm" and prompt != last_prompt:
            message, last_prompt = {**message, "_prompt": prompt}, prompt
        metrics = message_columns.extract_metrics(message, None)
        at = message_columns.parse_timestamp(message["createdAt"]) if message.get("createdAt") else 0
        stored.append(StoredMessage(number, 0, at, kind, metrics.model, metrics.status, message, None))
    return stored


def _prompt_text(prompt: Any) -> str:
    if not isinstance(prompt, dict):
        return format_one_line(prompt or "")
    return format_one_line(" ".join(str(part.get("content")) for part in prompt.get("components") or [prompt]))


def _render_turn(turn: TurnView) -> Iterator[RenderableType]:
    for message in turn.inputs:
        yield from _render_message(message, "user" if message.type == "user_message" else "system", "bold cyan")
    tree = Tree("", hide_root=True, guide_style="dim")
    for step in turn.steps:
        _add_step(tree, step)
    if turn.steps:
        yield _indent(tree)
    agent = (turn.start.body.get("properties") or {}).get("agent_name") if turn.start else None
    for message in filter(has_content, turn.answers):
        yield from _render_message(message, str(agent or "assistant"), "bold green")
    if missing := missing_answer(turn):
        yield _indent(Text.assemble((missing.text, "yellow"), f" {missing.error}".rstrip()))
    if turn.end is not None:
        totals = turn.totals
        facts = [
            _format_tokens(totals),
            _format_cost(totals),
            _format_milliseconds(totals["latency_ms"]),
            f"run {turn.end.key.removesuffix(':end')}",
        ]
        if turn.status != "completed":
            facts.insert(0, turn.status)
        yield _indent(Text(" · ".join(filter(None, facts)), "dim"))


def _render_message(message: StoredMessage, author: str, style: str) -> Iterator[RenderableType]:
    head = Text(author, style)
    if message.has_time:
        head.append(f"  {message_columns.format_timestamp(message.at)[11:19]}", "dim")
    if message.status not in (None, "completed"):
        head.append(f"  {message.status}", "yellow")
    yield head
    text = message.body.get("content") or message.body.get("output")
    lines = [text if isinstance(text, str) else format_one_line(text)] if text else []
    lines += [f"[{escape_controls(str(attachment))}]" for attachment in stored_attachments(message.body)]
    yield _indent(Text("\n".join(lines)))


def _indent(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 1, 2), expand=False)


def _add_step(tree: Tree, step: StepView) -> None:
    """Add a step and its descendants. Steps below the deepest level that is shown appear at their parents' level."""
    branches = [tree]
    for descendant in step.walk():
        del branches[descendant.shown_depth + 1 :]
        branches.append(branches[-1].add(Group(_step_line(descendant), *_step_details(descendant))))


_STYLES = {"llm": "magenta", "tool_call": "yellow", "retrieval": "yellow", "thought": "italic"}


def _step_line(step: StepView) -> Text:
    """Summarize a step in one line: name, input, status, duration and the end of its ID."""
    properties, body = step.properties, step.message.body
    if step.kind == "thought":
        return Text(f"“{format_one_line((body.get('output') or {}).get('text') or '')}”", "italic")
    line = Text(step.name, _STYLES.get(step.kind, "bold"))
    facts = []
    if step.kind == "llm":
        facts = [_format_tokens(properties), _format_cost(properties)]
    elif step.kind == "retrieval":
        count = len((body.get("output") or {}).get("documents") or [])
        facts = [
            format_one_line((body.get("input") or {}).get("query") or ""),
            f"→ {count} document{'s' * (count != 1)}",
        ]
    elif step.kind == "tool_call":
        facts = [format_one_line(body.get("input"))]
    elif step.kind not in ("task", "workflow"):
        facts = [format_one_line(body[key]) for key in ("input", "output") if body.get(key)]
    line.append("".join(f"  {fact}" for fact in facts))
    if step.status not in ("", "completed") and step.result is None:
        line.append(f"  {step.status}", "red" if step.status == "error" else "yellow")
    if step.latency_ms is not None:
        line.append(f"  {_format_milliseconds(step.latency_ms)}", "dim")
    if (first_token_ms := properties.get("time_to_first_token_ms")) is not None:
        line.append(f" (first token {_format_milliseconds(first_token_ms)})", "dim")
    return line.append(f"  {step.message.key[-8:]}", "dim blue")


def _step_details(step: StepView) -> Iterator[Text]:
    """Yield the output of a step, after the system prompt of a model call if it has changed."""
    body = step.message.body
    output = body.get("output") or {}
    if body.get("_prompt"):
        yield Text(f"  system prompt: {body['_prompt']}", "dim")
    if step.kind == "llm" and output.get("text"):
        yield Text(f"  {format_one_line(output['text'])}", "italic")
    if step.kind == "retrieval":
        for document in output.get("documents") or []:
            yield Text(
                f"  · {format_one_line(document.get('text') if isinstance(document, dict) else document)}", "dim"
            )
    if step.result is not None:
        result = step.result.body.get("output") or {}
        if step.result.type == "tool_error":
            handled = "  handled" if step.status == "handled" else ""
            yield Text(
                f"  ✗ {result.get('type', 'error')}: {format_one_line(result.get('message') or '')}{handled}", "red"
            )
        else:
            yield Text(f"  → {format_one_line(result)}")


def _format_tokens(properties: dict[str, Any]) -> str:
    """Return for example ``61 (40 cached) → 17 tokens``."""
    tokens_in, tokens_out = properties.get("tokens_in"), properties.get("tokens_out")
    if tokens_in is None and tokens_out is None:
        return "tokens unknown"
    cached = f" ({properties['cache_read_tokens']} cached)" if properties.get("cache_read_tokens") else ""
    return f"{'?' if tokens_in is None else tokens_in}{cached} → {'?' if tokens_out is None else tokens_out} tokens"


def _format_cost(properties: dict[str, Any]) -> str:
    if properties.get("cached"):
        return "from cache"
    cost = properties.get("cost_usd")
    return "cost unknown" if cost is None else f"${cost:.6f}".rstrip("0").rstrip(".")


def _format_milliseconds(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
