"""A conversation as a person would want to read it in a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from gati.store import message_columns
from gati.store.queries import StoredMessage
from gati.store.turn_view import StepView, TurnView, arrange_turns

_LONG = 160
"""Characters of an input, result or document that are shown."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but tab and line feed."""

Message = dict[str, Any]
"""A wire message, as `gati.store.queries.wire_messages` gives it."""


def render(messages: Iterable[Message]) -> RenderableType:
    """The whole conversation: who said what, and between it what was done and spent."""
    shown = _with_new_prompts(_plain(message) for message in messages)
    return Group(*(part for turn in arrange_turns(shown) for part in _turn(turn)))


def short(value: Any) -> str:
    """One line of a text or of a JSON value; an object with one entry `input` or `output` stands for its value."""
    if isinstance(value, dict) and set(value) in ({"output"}, {"input"}):
        (value,) = value.values()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _plain(value: Any) -> Any:
    """The value without control characters: a text must not steer the terminal."""
    if isinstance(value, str):
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _with_new_prompts(messages: Iterable[Message]) -> list[StoredMessage]:
    """The messages, each model call with its system prompt as `_prompt` where that is another than before."""
    stored, last = [], ""
    for number, message in enumerate(messages):
        kind, prompt = message_columns.message_type(message), _prompt(message.get("prompt"))
        if kind == "llm" and prompt != last:
            message, last = {**message, "_prompt": prompt}, prompt
        known = message_columns.extract_metrics(message, None)
        at = message_columns.parse_timestamp(message["createdAt"]) if message.get("createdAt") else 0
        stored.append(StoredMessage(number, 0, at, kind, known.model, known.status, message, None))
    return stored


def _prompt(prompt: Any) -> str:
    if not isinstance(prompt, dict):
        return short(prompt or "")
    return short(" ".join(str(part.get("content")) for part in prompt.get("components") or [prompt]))


def _turn(turn: TurnView) -> Iterator[RenderableType]:
    for message in turn.inputs:
        yield from _said(message, "user" if message.type == "user_message" else "system", "bold cyan")
    tree = Tree("", hide_root=True, guide_style="dim")
    for step in turn.steps:
        _grow(tree, step)
    if turn.steps:
        yield _indented(tree)
    agent = (turn.start.body.get("properties") or {}).get("agent_name") if turn.start else None
    for message in turn.answers:
        yield from _said(message, str(agent or "assistant"), "bold green")
    if turn.end is not None:
        known = turn.totals
        facts = [
            _tokens(known),
            _cost(known),
            _milliseconds(known["latency_ms"]),
            f"run {turn.end.key.removesuffix(':end')}",
        ]
        if turn.status != "completed":
            facts.insert(0, turn.status)
        yield _indented(Text(" · ".join(filter(None, facts)), "dim"))


def _said(message: StoredMessage, who: str, style: str) -> Iterator[RenderableType]:
    head = Text.assemble((who, style), (f"  {message_columns.format_timestamp(message.at)[11:19]}", "dim"))
    if message.status not in (None, "completed"):
        head.append(f"  {message.status}", "yellow")
    yield head
    yield _indented(Text(str(message.body.get("content") or short(message.body.get("output") or ""))))


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 1, 2), expand=False)


def _grow(tree: Tree, step: StepView) -> None:
    branch = tree.add(Group(_line(step), *_below(step)))
    for child in step.children:
        _grow(branch, child)


_STYLES = {"llm": "magenta", "tool_call": "yellow", "retrieval": "yellow", "thought": "italic"}


def _line(step: StepView) -> Text:
    """A step in a line: what it was, with what, how long, and the end of its id."""
    known, body = step.properties, step.message.body
    if step.kind == "thought":
        return Text(f"“{short((body.get('output') or {}).get('text') or '')}”", "italic")
    line = Text(step.name, _STYLES.get(step.kind, "bold"))
    facts = []
    if step.kind == "llm":
        facts = [_tokens(known), _cost(known)]
    elif step.kind == "retrieval":
        found = len((body.get("output") or {}).get("documents") or [])
        facts = [short((body.get("input") or {}).get("query") or ""), f"→ {found} document{'s' * (found != 1)}"]
    elif step.kind == "tool_call":
        facts = [short(body.get("input"))]
    elif step.kind not in ("task", "workflow"):
        facts = [short(body[key]) for key in ("input", "output") if body.get(key)]
    line.append("".join(f"  {fact}" for fact in facts))
    if step.status not in ("", "completed") and step.result is None:
        line.append(f"  {step.status}", "red" if step.status == "error" else "yellow")
    if step.latency_ms is not None:
        line.append(f"  {_milliseconds(step.latency_ms)}", "dim")
    if (first := known.get("time_to_first_token_ms")) is not None:
        line.append(f" (first token {_milliseconds(first)})", "dim")
    return line.append(f"  {step.message.key[-8:]}", "dim blue")


def _below(step: StepView) -> Iterator[Text]:
    """What came out of a step, and the system prompt that a model call stood under, if it is a new one."""
    body = step.message.body
    output = body.get("output") or {}
    if body.get("_prompt"):
        yield Text(f"  system prompt: {body['_prompt']}", "dim")
    if step.kind == "llm" and output.get("text"):
        yield Text(f"  {short(output['text'])}", "italic")
    if step.kind == "retrieval":
        for document in output.get("documents") or []:
            yield Text(f"  · {short(document.get('text') if isinstance(document, dict) else document)}", "dim")
    if step.result is not None:
        gave = step.result.body.get("output") or {}
        if step.result.type == "tool_error":
            handled = "  handled" if step.status == "handled" else ""
            yield Text(f"  ✗ {gave.get('type', 'error')}: {short(gave.get('message') or '')}{handled}", "red")
        else:
            yield Text(f"  → {short(gave)}")


def _tokens(known: dict[str, Any]) -> str:
    given, made = known.get("tokens_in"), known.get("tokens_out")
    if given is None and made is None:
        return "tokens unknown"
    cached = f" ({known['cache_read_tokens']} cached)" if known.get("cache_read_tokens") else ""
    return f"{'?' if given is None else given}{cached} → {'?' if made is None else made} tokens"


def _cost(known: dict[str, Any]) -> str:
    if known.get("cached"):
        return "from cache"
    cost = known.get("cost_usd")
    return "cost unknown" if cost is None else f"${cost:.6f}".rstrip("0").rstrip(".")


def _milliseconds(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
