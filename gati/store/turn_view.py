"""Arrange the messages of a conversation as turns: inputs, answers, and the steps between them as a tree. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gati import contract
from gati.store.failures import count_failures, failed_step
from gati.store.message_columns import NO_METRICS, MessageMetrics, extract_metrics, sum_known
from gati.store.queries import StoredMessage
from gati.store.sums import is_unpriced

_RESULT_TYPES = ("observation", "tool_error")

DEEPEST_SHOWN = 24
"""Levels of nested steps that are shown as such. Browsers and terminals cannot show any number of them."""


@dataclass
class StepView:
    """A step of a turn. `result` is the outcome of a tool call. Times are microseconds since the epoch."""

    message: StoredMessage
    depth: int = 0
    children: list[StepView] = field(default_factory=list)
    result: StoredMessage | None = None

    @property
    def kind(self) -> str:
        """The message's type."""
        return self.message.type

    @property
    def properties(self) -> dict[str, Any]:
        """The message's properties."""
        return self.message.body.get("properties") or {}

    @property
    def metrics(self) -> MessageMetrics:
        """Tokens, cost and times."""
        return extract_metrics(self.message.body, None)

    @property
    def name(self) -> str:
        """The name of the node, tool or model; by default the kind of step."""
        body, properties = self.message.body, self.properties
        if self.kind == "tool_call":
            return str(body.get("toolName"))
        if self.kind == "llm":
            return str(self.message.model or properties.get("name") or "unknown model")
        output = body.get("output")
        if self.kind == "callback" and isinstance(output, dict) and output.get("name"):
            return str(output["name"])
        return str(properties.get("node") or properties.get("name") or self.kind.replace("_", " "))

    @property
    def latency_ms(self) -> float | None:
        """The duration. For a tool call it comes from the result."""
        latency = self.metrics.latency_ms
        if latency is None and self.result is not None:
            latency = extract_metrics(self.result.body, None).latency_ms
            # A client that reports a call and its result with one time does not know how long it took.
            if latency is None and self.message.has_time and self.result.has_time and self.result.at > self.message.at:
                return (self.result.at - self.message.at) / 1000
        return latency

    @property
    def status(self) -> str:
        """The outcome; empty if unknown."""
        if self.result is not None and self.result.type == "tool_error":
            return "handled" if (self.result.body.get("properties") or {}).get("handled") else "error"
        return self.message.status or ""

    @property
    def end(self) -> int:
        """When the step itself had ended, as far as known."""
        return self.message.at + int((self.latency_ms or 0) * 1000)

    @property
    def shown_depth(self) -> int:
        """The level at which the step is shown: from `DEEPEST_SHOWN` on, deeper ones are shown beside their parents."""
        return min(self.depth, DEEPEST_SHOWN)

    def walk(self) -> Iterator[StepView]:
        """Yield this step and all its descendants, parents first, however deep they are."""
        stack = [self]
        while stack:
            step = stack.pop()
            yield step
            stack.extend(reversed(step.children))


class OutlineRow(NamedTuple):
    """A step of an outline of nested lists, with what to write after it.

    Attributes:
        step: The step.
        opens: A nested list begins below the step.
        closes: Number of lists that end after it.
    """

    step: StepView
    opens: bool
    closes: int


@dataclass
class TurnView:
    """One turn of a conversation.

    Attributes:
        id: Key of the turn's root message.
        inputs: User and system messages that started the turn.
        steps: The root steps.
        answers: Messages that the user saw in response.
        start: The `chain_start` message, if there is one.
        end: The `chain_end` message, if there is one.
    """

    id: str
    inputs: list[StoredMessage] = field(default_factory=list)
    steps: list[StepView] = field(default_factory=list)
    answers: list[StoredMessage] = field(default_factory=list)
    start: StoredMessage | None = None
    end: StoredMessage | None = None

    @property
    def all_steps(self) -> list[StepView]:
        """All steps, parents before children."""
        return [step for root in self.steps for step in root.walk()]

    @property
    def outline(self) -> list[OutlineRow]:
        """All steps as rows of nested lists. The outermost list is not counted in `closes`."""
        steps = self.all_steps
        depths = [step.shown_depth for step in steps] + [0]
        return [
            OutlineRow(step, depths[n + 1] > depths[n], max(0, depths[n] - depths[n + 1]))
            for n, step in enumerate(steps)
        ]

    @property
    def time_range(self) -> tuple[int, int]:
        """Start and end of the turn's steps in microseconds, at least one microsecond apart."""
        steps = self.all_steps
        edges = [edge.at for edge in (self.start, self.end) if edge is not None]
        begin = min([step.message.at for step in steps] + edges, default=0)
        return begin, max([step.end for step in steps] + edges + [begin + 1])

    @property
    def status(self) -> str:
        """The outcome; "running" while a started turn has no end, empty for turns without start and end."""
        if self.end is not None:
            return self.end.status or "completed"
        last = self.answers[-1] if self.answers else None
        if last is not None and last.status:
            return last.status
        return "running" if self.start is not None and not self.answers else ""

    @property
    def failures(self) -> int:
        """The number of failures, each counted once however many steps it passed through."""
        results = [step.result for step in self.all_steps if step.result is not None]
        edges = [edge for edge in (self.start, self.end) if edge is not None]
        messages = [step.message for step in self.all_steps] + results + edges + self.answers
        parents = {message.key: message.body.get("parentExternalMessageId") for message in messages}
        failed = (failed_step(message.body, message.key, message.type, message.status) for message in messages)
        return count_failures((key for key in failed if key is not None), parents.get)

    @property
    def totals(self) -> dict[str, Any]:
        """Tokens, cost and time of the turn; None means unknown."""
        steps = self.all_steps
        calls = [step.metrics for step in steps if step.kind == "llm"]
        reported = extract_metrics(self.end.body, None) if self.end else NO_METRICS
        begin, end = self.time_range
        timed = [edge for edge in (self.start, self.end, *(step.message for step in steps)) if edge is not None]
        has_times = bool(timed) and all(message.has_time for message in timed)
        cost = _coalesce(reported.cost, sum_known(call.cost for call in calls))
        return {
            "tokens_in": _coalesce(reported.tokens_in, sum_known(call.tokens_in for call in calls)),
            "tokens_out": _coalesce(reported.tokens_out, sum_known(call.tokens_out for call in calls)),
            "cost_usd": cost,
            "partly_unpriced": cost is not None and any(is_unpriced(call.status, call.cost) for call in calls),
            "model_calls": len(calls),
            "tool_calls": sum(step.kind == "tool_call" for step in steps),
            "errors": self.failures,
            "latency_ms": _coalesce(reported.latency_ms, (end - begin) / 1000 if has_times else None),
        }


def _coalesce(value: Any, default: Any) -> Any:
    return default if value is None else value


def arrange_turns(messages: list[StoredMessage]) -> list[TurnView]:
    """Arrange messages in reading order as turns."""
    by_key = {message.key: message for message in messages}
    turns: dict[str, TurnView] = {}
    steps: dict[str, StepView] = {}
    roots: dict[str, StoredMessage] = {}
    for message in messages:
        root = roots[message.key] = _root_message(message, by_key, roots)
        turn = turns.setdefault(root.key, TurnView(root.key))
        _add_to_turn(message, turn, steps)
    return _merge_consecutive_inputs(list(turns.values()))


def _root_message(
    message: StoredMessage, by_key: dict[str, StoredMessage], roots: dict[str, StoredMessage]
) -> StoredMessage:
    """Return the topmost ancestor. `roots` holds those of messages that were looked at before."""
    visited = {message.key}
    while True:
        if message.key in roots:
            return roots[message.key]
        parent = by_key.get(message.body.get("parentExternalMessageId") or "")
        # Clients can send parents that form a cycle. Such messages are shown without their tree.
        if parent is None or parent.key in visited:
            return message
        message = parent
        visited.add(message.key)


def _add_to_turn(message: StoredMessage, turn: TurnView, steps: dict[str, StepView]) -> None:
    parent = steps.get(message.body.get("parentExternalMessageId") or "")
    if message.type in ("user_message", "system_message"):
        turn.inputs.append(message)
    elif message.type in contract.ANSWER_TYPES:
        turn.answers.append(message)
    elif message.type == "chain_start" and turn.start is None:
        turn.start = message
    elif message.type == "chain_end" and turn.end is None:
        turn.end = message
    elif message.type in _RESULT_TYPES and parent is not None and parent.result is None:
        parent.result = message
    else:
        step = StepView(message, parent.depth + 1 if parent else 0)
        steps[message.key] = step
        (parent.children if parent else turn.steps).append(step)


def _is_continued(last: TurnView, turn: TurnView) -> bool:
    """Return True if `turn` is a part of `last`, for clients that name no parents: ``user, llm, assistant``."""
    is_open = bool(last.inputs) and not last.answers and last.end is None
    failed = any(step.status == "error" for step in last.steps)
    return is_open and not failed and not turn.inputs and turn.start is None and turn.end is None


def _merge_consecutive_inputs(turns: list[TurnView]) -> list[TurnView]:
    """Merge user messages sent in a row, before any step or answer, into the turn that follows them.

    Steps and answers without a parent become a part of the turn before them.
    """
    merged: list[TurnView] = []
    for turn in turns:
        last = merged[-1] if merged else None
        pending = last is not None and not last.steps and not last.answers and last.start is None
        if last is not None and pending and last.inputs[-1:] and last.inputs[-1].type == "user_message":
            last.inputs += turn.inputs
            last.steps, last.answers, last.start, last.end = turn.steps, turn.answers, turn.start, turn.end
        elif last is not None and _is_continued(last, turn):
            last.steps += turn.steps
            last.answers += turn.answers
        else:
            merged.append(turn)
    return merged


def pretty_value(value: Any) -> str:
    """Format a value for people: strings unchanged, media as a description, anything else as indented JSON."""
    try:
        value = _describe_media(value)
        if isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return "[nested too deeply to be shown]"


def _describe_media(value: Any) -> Any:
    """Replace media, of which only type, size and hash were kept, by a description such as ``[image/png, 12 bytes, …]``."""
    if isinstance(value, list):
        return [_describe_media(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(size := value.get("bytes"), int) and "sha256" in value and "mime" in value:
        return f"[{value['mime'] or 'media'}, {size:,} bytes, sha256 {str(value['sha256'])[:12]}]"
    return {key: _describe_media(item) for key, item in value.items()}
