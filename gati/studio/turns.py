"""The messages of a conversation as turns: what was said, and the steps between as a tree. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gati.studio import columns
from gati.studio.reading import Stored

_RESULTS = ("observation", "tool_error")
_EDGES = ("chain_start", "chain_end")


@dataclass
class Step:
    """Something that was done. `result` is what a tool gave or how it failed; times are microseconds."""

    message: Stored
    depth: int = 0
    children: list[Step] = field(default_factory=list)
    result: Stored | None = None

    @property
    def kind(self) -> str:
        """The message's type."""
        return self.message.type

    @property
    def properties(self) -> dict[str, Any]:
        """What is known beside what was given and what came out."""
        return self.message.body.get("properties") or {}

    @property
    def numbers(self) -> columns.Numbers:
        """Tokens, cost and times, as far as they are numbers."""
        return columns.numbers(self.message.body, None)

    @property
    def name(self) -> str:
        """What it is called: the node, tool or model, else its kind."""
        body, known = self.message.body, self.properties
        if self.kind == "tool_call":
            return str(body.get("toolName"))
        if self.kind == "llm":
            return str(self.message.model or known.get("name") or "unknown model")
        output = body.get("output")
        if self.kind == "callback" and isinstance(output, dict) and output.get("name"):
            return str(output["name"])
        return str(known.get("node") or known.get("name") or self.kind.replace("_", " "))

    @property
    def latency_ms(self) -> float | None:
        """How long it took; a tool's time stands with its result."""
        known = self.numbers.latency_ms
        if known is None and self.result is not None:
            known = columns.numbers(self.result.body, None).latency_ms
            return (self.result.at - self.message.at) / 1000 if known is None else known
        return known

    @property
    def status(self) -> str:
        """How it ended; empty when nothing is said of it."""
        if self.result is not None and self.result.type == "tool_error":
            return "handled" if (self.result.body.get("properties") or {}).get("handled") else "error"
        return self.message.status or ""

    @property
    def end(self) -> int:
        """When it was over, as far as known."""
        own = self.message.at + int((self.latency_ms or 0) * 1000)
        return max([own, *(child.end for child in self.children)])

    def walk(self) -> Iterator[Step]:
        """This step and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass
class Turn:
    """What a person said, what was done, what they were answered.

    Attributes:
        asked: texts of the user (and of the system) that began it.
        steps: what was done, as trees.
        said: what the person saw in answer.
        start, end: the messages at its edges (`chain_start`, `chain_end`), where known.
    """

    id: str
    asked: list[Stored] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    said: list[Stored] = field(default_factory=list)
    start: Stored | None = None
    end: Stored | None = None

    @property
    def all_steps(self) -> list[Step]:
        """Every step, parents before children."""
        return [step for root in self.steps for step in root.walk()]

    @property
    def span(self) -> tuple[int, int]:
        """From the first to the last moment of the turn's steps, at least a microsecond long."""
        steps = self.all_steps
        edges = [edge.at for edge in (self.start, self.end) if edge is not None]
        begin = min([step.message.at for step in steps] + edges, default=0)
        return begin, max([step.end for step in steps] + edges + [begin + 1])

    @property
    def status(self) -> str:
        """How the turn ended; "running" while its end is missing, empty if it has no such thing as an end."""
        if self.end is not None:
            return self.end.status or "completed"
        last = self.said[-1] if self.said else None
        if last is not None and last.status:
            return last.status
        return "running" if self.start is not None and not self.said else ""

    @property
    def totals(self) -> dict[str, Any]:
        """Tokens, cost and time of the turn; None is unknown."""
        steps = self.all_steps
        calls = [step.numbers for step in steps if step.kind == "llm"]
        told = columns.numbers(self.end.body, None) if self.end else columns.Numbers(*[None] * 7)
        begin, end = self.span
        cost = _first(told.cost, _sum(call.cost for call in calls))
        return {
            "tokens_in": _first(told.tokens_in, _sum(call.tokens_in for call in calls)),
            "tokens_out": _first(told.tokens_out, _sum(call.tokens_out for call in calls)),
            "cost_usd": cost,
            "partly_unpriced": cost is not None and any(call.cost is None for call in calls),
            "model_calls": len(calls),
            "tool_calls": sum(step.kind == "tool_call" for step in steps),
            "errors": sum(step.status == "error" for step in steps),
            "latency_ms": _first(told.latency_ms, (end - begin) / 1000 if steps or self.start else None),
        }


def _first(value: Any, other: Any) -> Any:
    return other if value is None else value


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def turns(stored: list[Stored]) -> list[Turn]:
    """Messages in reading order as turns."""
    by_key = {message.key: message for message in stored}
    found: dict[str, Turn] = {}
    steps: dict[str, Step] = {}
    for message in stored:
        root = _root(message, by_key)
        turn = found.setdefault(root.key, Turn(root.key))
        _place(message, turn, steps)
    return _joined(list(found.values()))


def _root(message: Stored, by_key: dict[str, Stored]) -> Stored:
    seen = {message.key}
    while True:
        parent = by_key.get(message.body.get("parentExternalMessageId") or "")
        # A loop of parents is no tree; whoever made it sees its messages as they stand.
        if parent is None or parent.key in seen:
            return message
        message = parent
        seen.add(message.key)


def _place(message: Stored, turn: Turn, steps: dict[str, Step]) -> None:
    parent = steps.get(message.body.get("parentExternalMessageId") or "")
    if message.type in ("user_message", "system_message"):
        turn.asked.append(message)
    elif message.type in columns.ANSWERS:
        turn.said.append(message)
    elif message.type == "chain_start" and turn.start is None:
        turn.start = message
    elif message.type == "chain_end" and turn.end is None:
        turn.end = message
    elif message.type in _RESULTS and parent is not None and parent.result is None:
        parent.result = message
    else:
        step = Step(message, parent.depth + 1 if parent else 0)
        steps[message.key] = step
        (parent.children if parent else turn.steps).append(step)


def _joined(found: list[Turn]) -> list[Turn]:
    """Texts that a user sent in a row, before anything was done, belong to the turn that follows."""
    joined: list[Turn] = []
    for turn in found:
        last = joined[-1] if joined else None
        waiting = last is not None and not last.steps and not last.said and last.start is None
        if last is not None and waiting and last.asked[-1:] and last.asked[-1].type == "user_message":
            last.asked += turn.asked
            last.steps, last.said, last.start, last.end = turn.steps, turn.said, turn.start, turn.end
        else:
            joined.append(turn)
    return joined


def pretty(value: Any) -> str:
    """A value as a person reads it: texts as they are, media by what they are, all else as indented JSON."""
    try:
        value = _media(value)
        if isinstance(value, str):
            return value
        if isinstance(value, dict) and len(value) == 1 and isinstance(only := next(iter(value.values())), str):
            return only
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return "[nested too deeply to be shown]"


def _media(value: Any) -> Any:
    """The value with pictures and sounds, of which only kind and size were kept, as a few words."""
    if isinstance(value, list):
        return [_media(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(size := value.get("bytes"), int) and "sha256" in value and "mime" in value:
        return f"[{value['mime'] or 'media'}, {size:,} bytes, sha256 {str(value['sha256'])[:12]}]"
    return {key: _media(item) for key, item in value.items()}
