"""Turns and events as batches for an existing GATI backend. Pure: no clock, no network.

One run for each root run. The user's texts stand in the input of its `agent_start`, the answer
in the output of its `agent_end`; everything else hangs below by `parent_event_id`. The backend
knows no users, organizations, ratings and product events: those items make no request here.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from gati import contract, events
from gati.exporters import sanitize
from gati.exporters.base import Request

if TYPE_CHECKING:
    from gati.settings import Settings

MOST_EVENTS = 10_000
_REMEMBERED = 16_384
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONGEST_NAME = 255
_ENVELOPE = frozenset((*events.ENVELOPE, "data"))
_TOOL_NAMES = frozenset({"tool_input", "tool_output"})

_CONVERSATION = tuple(
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind.kind in contract.CONVERSATION_EVENTS
)
"""Classes of events that ``detail="conversation"`` delivers."""
_STRUCTURE = contract.names_without_text(contract.EVENT_FIELDS)


class Encoder:
    """Makes batches of finished items. Used by one thread at a time; pure but for what it remembers."""

    def __init__(self, settings: Settings) -> None:
        self._agent_name = _name(settings.agent_name)
        self._most = min(settings.batch_size, MOST_EVENTS)
        self._largest = settings.max_request_bytes
        self._limit = settings.max_field_bytes
        self._full = settings.detail == "full"
        self._content = settings.capture_content
        self._known: dict[tuple[str, str], str | None] = {}
        """Run and id of each event told lately → id of the event that its children hang on."""
        self._names: dict[str, tuple[str, str]] = {}

    def encode(self, items: Sequence[events.Item]) -> list[Request]:
        """Batches; whole turns of one conversation share one while they fit."""
        requests: list[Request] = []
        open_: dict[str, tuple[Request, int]] = {}
        for item in items:
            if isinstance(item, events.Action):
                continue
            turn = item if isinstance(item, events.Turn) else _around(item)
            found = list(self._events(turn, item is not turn))
            if not found:
                continue
            lane = sanitize.identifier(turn.conversation.id)
            size = sum(length for _, length in found)
            batch, used = open_.get(lane, (None, 0))
            if batch is not None and batch.items + len(found) <= self._most and used + size <= self._largest:
                batch.body["events"] += [event for event, _ in found]
                batch.items += len(found)
                open_[lane] = (batch, used + size)
                continue
            made = [Request(lane, {"events": part}, len(part), turn.run_id, "events") for part in self._parts(found)]
            requests += made
            open_.pop(lane, None)
            if len(made) == 1:
                open_[lane] = (made[0], size + 20)
        sanitize.forget(self._known, _REMEMBERED)
        sanitize.forget(self._names, _REMEMBERED)
        return requests

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Halves of a batch; None if it holds one event."""
        found = request.body["events"]
        if len(found) < 2:
            return None
        first, second = (
            Request(request.ordering_key, {"events": part}, len(part), request.turn_id, request.endpoint)
            for part in (found[: len(found) // 2], found[len(found) // 2 :])
        )
        return first, second

    def _parts(self, found: list[tuple[dict[str, Any], int]]) -> Iterator[list[dict[str, Any]]]:
        part: list[dict[str, Any]] = []
        size = 20
        for event, length in found:
            if part and (len(part) == self._most or size + length > self._largest):
                yield part
                part, size = [], 20
            part.append(event)
            size += length
        if part:
            yield part

    def _events(self, turn: events.Turn, by_hand: bool) -> Iterator[tuple[dict[str, Any], int]]:
        """The turn's events with their sizes; a parent stands before its children."""
        run = turn.run_id
        top = self._known.get((run, run)) if by_hand else _uuid(run, run if turn.agentic else f"{run}:start")
        run_id = run if 0 < len(run) <= 36 and run.isascii() else _uuid("", run)
        # A run keeps its names: the backend refuses it under two agents. It numbers runs named temp_….
        agent_name, run_name = self._names.setdefault(
            run, (_name(turn.agent_name) or self._agent_name, f"temp_{_name(turn.name) or 'run'}_{run_id}")
        )
        for event in turn.events if by_hand or turn.partial else _with_ends(turn):
            is_start = type(event) is events.AgentStartEvent and not by_hand
            id_ = top if is_start and top else _uuid(run, event.event_id)
            above = event.parent_event_id
            known = above is None or (run, above) in self._known
            parent = self._known.get((run, above or ""), top)
            if not self._full and not isinstance(event, _CONVERSATION):
                self._known.setdefault((run, event.event_id), parent)
                continue
            self._known[run, event.event_id] = id_
            envelope = {
                "event_type": sanitize.encodable(str(event.event_type))[:50],
                "run_id": run_id,
                "run_name": run_name,
                "agent_name": agent_name,
                "timestamp": _timestamp(event),
                "event_id": id_,
                "parent_event_id": parent if parent != id_ else None,
            }
            lost = {} if known or not by_hand else {"parent_id": sanitize.identifier(above)}
            yield self._fitted(event, turn, envelope, lost)

    def _fitted(
        self, event: events.Event, turn: events.Turn, envelope: dict[str, Any], lost: dict[str, Any]
    ) -> tuple[dict[str, Any], int]:
        """The whole event and its size, its fields shortened until it fits into a batch."""
        told = event.to_dict()
        if type(event) is events.AgentStartEvent:
            told["data"]["input"] = _with_said(event.input, turn)
        elif type(event) is events.AgentEndEvent and turn.answer is not None:
            told["data"]["output"] = {**event.output, "output": turn.answer.text}
        limit = self._limit
        while True:
            data = self._clean(told, turn, limit) | lost
            own = {name: data[name] for name in told if name in data and name not in _ENVELOPE}
            wire = {**envelope, **own, "data": data}
            size = len(orjson.dumps(wire)) + 1
            if size + 20 <= self._largest or limit < 64:
                return wire, size
            limit //= 4

    def _clean(self, told: dict[str, Any], turn: events.Turn, limit: int) -> dict[str, Any]:
        """What goes into `data`: the class's own fields, each bounded, and the user's values, bounded together."""
        data: dict[str, Any] = {
            "conversation_id": sanitize.identifier(turn.conversation.id),
            "user_id": sanitize.identifier(turn.conversation.user_id),
        }
        if self._content and (found := sanitize.small(told["data"], limit)) is not None:
            return {**data, **found[0]}
        theirs: dict[str, Any] = {}
        for name, value in told["data"].items():
            if self._content or name in _STRUCTURE or isinstance(value, (bool, int, float)):
                if name in told or name in _TOOL_NAMES:
                    data[name] = sanitize.plain(value, limit)[0]
                else:
                    theirs[name] = value
            elif name in told and isinstance(value, (str, dict)):  # readers expect a class's own fields
                data[name] = type(value)()
        return {**sanitize.plain(theirs, limit)[0], **data} if theirs else data


def _around(event: events.Event) -> events.Turn:
    """The run of an event that was made by hand."""
    run = event.run_id or event.event_id
    conversation = events.Conversation(event.conversation_id or run, event.user_id or "anonymous")
    return events.Turn(run, conversation, event.run_name or event.name, event.agent_name, events=[event])


def _with_ends(turn: events.Turn) -> list[events.Event]:
    """The turn's events between a start and an end, which a bare model or tool has not."""
    found = list(turn.events)
    run = turn.run_id
    if not any(type(event) is events.AgentStartEvent for event in found):
        found.insert(0, events.AgentStartEvent(event_id=f"{run}:start", name=turn.name, started_ns=turn.started_ns))
    if not any(type(event) is events.AgentEndEvent for event in found):
        found.append(_end(turn))
    return found


def _end(turn: events.Turn) -> events.AgentEndEvent:
    calls = [event for event in turn.events if isinstance(event, events.LLMCallEvent)]
    failed = next((event for event in turn.events if event.event_id == turn.run_id), None)
    return events.AgentEndEvent(
        event_id=f"{turn.run_id}:end",
        name=turn.name,
        status=turn.status,
        error_type=failed.error_type if failed else None,
        error_message=failed.error_message if failed else None,
        total_duration_ms=(turn.ended_ns - turn.started_ns) / 1e6,
        total_cost=_sum([call.cost for call in calls]),
        tokens_in=_sum([call.tokens_in for call in calls]),
        tokens_out=_sum([call.tokens_out for call in calls]),
        model_calls=len(calls),
        tool_calls=sum(isinstance(event, events.ToolCallEvent) for event in turn.events),
        started_ns=turn.ended_ns,
        ended_ns=turn.ended_ns,
    )


def _with_said(given: dict[str, Any], turn: events.Turn) -> dict[str, Any]:
    """A start's input with the user's texts, under the key that readers look for first, if it is free."""
    texts = [said.text for said in turn.messages if said.role == "user" and "imported" not in said.properties]
    if not turn.messages:
        return given
    told = dict(given)
    if texts:
        told.setdefault("input", "\n\n".join(texts))
    if len(texts) != 1 or len(turn.messages) != 1 or told["input"] is not texts[0]:
        told["messages"] = [{"role": said.role, "content": said.text} for said in turn.messages]
    return told


def _sum(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _timestamp(event: events.Event) -> str:
    at = event.ended_ns if type(event) is events.AgentEndEvent else event.started_ns
    return events.iso(at or sanitize.nanoseconds(event.timestamp))


def _uuid(run: str, id_: str) -> str:
    """An id of at most 36 characters, the same for the same event of the same run."""
    return id_ if _UUID.fullmatch(id_) else str(uuid.uuid5(uuid.NAMESPACE_OID, sanitize.encodable(f"{run}/{id_}")))


def _name(name: str) -> str:
    return sanitize.encodable(name)[: _LONGEST_NAME - len("temp_") - 37]
