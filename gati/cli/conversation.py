"""A conversation as a person would want to read it in a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from gati.studio import columns

_LONG = 160
"""Characters of an input, result or document that are shown."""

_HIDDEN = frozenset({"chain_start", "chain_end"})

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but tab and line feed."""

Message = dict[str, Any]
"""A wire message, as `gati.studio.reading.messages` gives it."""


@dataclass
class Turn:
    """What was said and done from one message of the user's to the next."""

    messages: list[Message] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Message]:
        """The messages of these kinds, in order."""
        return [message for message in self.messages if columns.message_type(message) in kinds]


def turns(messages: Iterable[Message]) -> list[Turn]:
    """Divide a conversation's messages, given in order, into turns."""
    found: list[Turn] = []
    for message in messages:
        asks = columns.message_type(message) == "user_message"
        if not found or (asks and any(columns.message_type(m) != "user_message" for m in found[-1].messages)):
            found.append(Turn())
        found[-1].messages.append(message)
    return found


def render(messages: Iterable[Message]) -> RenderableType:
    """The whole conversation: who said what, and under it what was done and spent."""
    parts: list[RenderableType] = []
    messages = _with_new_prompts(_plain(message) for message in messages)
    for turn in turns(messages):
        parts += [_said(message, "user", "bold cyan") for message in turn.of("user_message")]
        steps = _tree(turn)
        if steps.children:
            parts.append(_indented(steps))
        agents = [known["agent_name"] for m in turn.messages if (known := m.get("properties") or {}).get("agent_name")]
        agent = str(agents[0]) if agents else "assistant"
        parts += [_said(message, agent, "bold green") for message in turn.of("assistant_message", "final_response")]
        parts += _footer(turn)
    return Group(*parts)


def _plain(value: Any) -> Any:
    """The value without control characters: a text must not steer the terminal."""
    if isinstance(value, str):
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _with_new_prompts(messages: Iterable[Message]) -> list[Message]:
    """The messages, each model call with its system prompt as `_prompt` where that is another than before."""
    marked, last = [], ""
    for message in messages:
        prompt = _prompt(message.get("prompt"))
        if columns.message_type(message) == "llm" and prompt != last:
            message, last = {**message, "_prompt": prompt}, prompt
        marked.append(message)
    return marked


def _prompt(prompt: Any) -> str:
    if not isinstance(prompt, dict):
        return short(prompt or "")
    return short(" ".join(str(part.get("content")) for part in prompt.get("components") or [prompt]))


def _indented(part: RenderableType, below: int = 1) -> Padding:
    return Padding(part, (0, 0, below, 2), expand=False)


def _said(message: Message, who: str, style: str) -> RenderableType:
    head = Text.assemble((who, style), (f"  {_clock(message)}", "dim"))
    status = (message.get("properties") or {}).get("status")
    if status and status != "completed":
        head.append(f"  {status}", "yellow")
    return Group(head, _indented(Text(str(message.get("content") or ""))))


def _clock(message: Message) -> str:
    return str(message.get("createdAt") or "")[11:19]


def _footer(turn: Turn) -> Iterator[RenderableType]:
    for end in turn.of("chain_end"):
        known = end.get("properties") or {}
        parts = [_tokens(known), _cost(known), _milliseconds(known.get("latency_ms"))]
        status = (end.get("output") or {}).get("status") or known.get("status")
        if status and status != "completed":
            parts.insert(0, str(status))
        run = str(end.get("externalMessageId") or "").removesuffix(":end")
        yield _indented(Text(" · ".join([*filter(None, parts), f"run {run}"]), "dim"))


def _tree(turn: Turn) -> Tree:
    """The steps of a turn, each under the nearest one above it that is shown."""
    steps = [m for m in turn.messages if columns.message_type(m) not in columns.SPOKEN]
    known = {_id(message): message for message in steps}
    kinds = {_id(message): columns.message_type(message) for message in steps}
    root = Tree(Text("steps", "dim"), hide_root=True, guide_style="dim")
    nodes: dict[str, Tree] = {}

    def place(message: Message) -> Tree:
        identity, above = _id(message), _parent(message)
        if identity not in nodes:
            nodes[identity] = root  # until it has its place: parents in a circle end here
            hidden = kinds[identity] in _HIDDEN
            parent = place(known[above]) if above in known else root
            nodes[identity] = parent if hidden else parent.add(_line(message))
        return nodes[identity]

    for message in steps:
        place(message)
    return root


def _id(message: Message) -> str:
    return str(message.get("externalMessageId") or message.get("messageId") or id(message))


def _parent(message: Message) -> str:
    return str(message.get("parentExternalMessageId") or message.get("parentMessageId") or "")


def _line(message: Message) -> RenderableType:
    kind = columns.message_type(message)
    known = message.get("properties") or {}
    describe = _LINES.get(kind, _other)
    line = describe(message, known)
    if took := _milliseconds(known.get("latency_ms")):
        line.append(f"  {took}", "dim")
    if (first := known.get("time_to_first_token_ms")) is not None:
        line.append(f" (first token {_milliseconds(first)})", "dim")
    if kind in ("task", "llm", "tool_call", "retrieval", "workflow"):
        line.append(f"  {_id(message)[-8:]}", "dim blue")
    return Group(line, *_below(message))


def _task(message: Message, known: dict[str, Any]) -> Text:
    return Text(str(known.get("node") or known.get("name") or columns.message_type(message)), "bold")


def _llm(message: Message, known: dict[str, Any]) -> Text:
    line = Text.assemble((str(message.get("model") or "unknown model"), "magenta"), f"  {_tokens(known)}")
    line.append(f"  {_cost(known)}")
    if known.get("status") not in (None, "completed"):
        line.append(f"  {known['status']}", "red")
    if text := (message.get("output") or {}).get("text"):
        line.append(f"\n{short(text)}", "italic")
    return line


def _thought(message: Message, known: dict[str, Any]) -> Text:
    return Text(f"“{short((message.get('output') or {}).get('text') or '')}”", "italic")


def _tool(message: Message, known: dict[str, Any]) -> Text:
    return Text.assemble((str(message.get("toolName")), "yellow"), f"  {short(message.get('input'))}")


def _result(message: Message, known: dict[str, Any]) -> Text:
    return Text(f"→ {short(message.get('output'))}")


def _error(message: Message, known: dict[str, Any]) -> Text:
    output = message.get("output") or {}
    text = Text(f"✗ {output.get('type', 'error')}: {short(output.get('message') or '')}", "red")
    return text.append("  handled", "dim") if known.get("handled") else text


def _retrieval(message: Message, known: dict[str, Any]) -> Text:
    found = (message.get("output") or {}).get("documents") or []
    name = known.get("name") or "retrieval"
    line = Text.assemble((str(name), "yellow"), f"  {short((message.get('input') or {}).get('query') or '')}")
    return line.append(f"  → {len(found)} document{'s' * (len(found) != 1)}")


def _below(message: Message) -> Iterator[Text]:
    if message.get("_prompt"):
        yield Text(f"  system prompt: {message['_prompt']}", "dim")
    if columns.message_type(message) != "retrieval":
        return
    for document in (message.get("output") or {}).get("documents") or []:
        text = document.get("text") if isinstance(document, dict) else document
        yield Text(f"  · {short(text)}", "dim")


def _other(message: Message, known: dict[str, Any]) -> Text:
    line = Text.assemble((columns.message_type(message), "bold"))
    for key in ("input", "output"):
        if message.get(key):
            line.append(f"  {short(message[key])}")
    return line


_LINES = {
    "task": _task,
    "workflow": _task,
    "llm": _llm,
    "thought": _thought,
    "tool_call": _tool,
    "observation": _result,
    "tool_error": _error,
    "retrieval": _retrieval,
}


def short(value: Any) -> str:
    """One line of a text or of a JSON value; an object with one entry stands for its value."""
    if isinstance(value, dict) and set(value) in ({"output"}, {"input"}):
        (value,) = value.values()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


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
