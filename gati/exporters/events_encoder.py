"""Encodes turns and events as batches for an existing GATI backend. Pure: no clock, no network.

Each root run becomes one backend run. User messages go into the input of its `agent_start`, the answer into the
output of its `agent_end`; all other events are their descendants by `parent_event_id`. The backend has no users,
organizations, ratings and product events, so those items produce no request.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from gati import contract, events
from gati.exporters import sanitize
from gati.exporters.base import OpenRequests, PackedRequest, Request
from gati.exporters.packing import pack_items

if TYPE_CHECKING:
    from gati.settings import Settings

_ENVELOPE = frozenset((*events.ENVELOPE, "data"))
_TOOL_NAMES = frozenset({"tool_input", "tool_output"})

_CONVERSATION = tuple(
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind.kind in contract.CONVERSATION_EVENTS
)
"""Classes of events that ``detail="conversation"`` delivers."""

_STRUCTURE = contract.names_without_text(contract.EVENT_FIELDS)
"""Fields kept with `capture_content=False`: ids, enumerations, and names defined by the program."""

MAX_EVENTS = 10_000
"""Events that the backend accepts in one batch."""

_MAX_REMEMBERED = 16_384
_MAX_NAME_CHARS = 255
_BATCH_BYTES = 20
"""Bytes of a batch without its events."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class EventsEncoder:
    """Encodes finished items as batches of events. Not thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._agent_name = _backend_name(settings.agent_name)
        self._max_events = min(settings.batch_size, MAX_EVENTS)
        self._max_bytes = settings.max_request_bytes
        self._max_field_bytes = settings.max_field_bytes
        self._full = settings.detail == "full"
        self._content = settings.capture_content
        self._parent_ids: dict[tuple[str, str], str | None] = {}
        """Run and id of each recent event → id of the event that its children get as parent."""
        self._run_names: dict[str, tuple[str, str]] = {}
        """Run → its agent's name and its own name at the backend."""

    def encode(self, items: Sequence[events.Item]) -> list[Request]:
        """Return batches. Turns of one conversation share a batch while they fit, whole turns only."""
        requests: list[Request] = []
        open_batches = OpenRequests()
        for item in items:
            if isinstance(item, events.Action):
                continue
            turn = item if isinstance(item, events.Turn) else turn_of_event(item)
            encoded = list(self._encode_events(turn, item is not turn))
            if not encoded:
                continue
            ordering_key = sanitize.identifier(turn.conversation.id)
            packed = pack_items(encoded, self._max_events, self._max_bytes, _BATCH_BYTES)
            open_to = self._max_events if len(packed) == 1 else 0
            for group, _ in packed:
                request = PackedRequest.of(
                    ordering_key, turn.run_id, "events", "events", b"", group, open_to, self._max_bytes
                )
                if not open_batches.add(request):
                    requests.append(request)
        sanitize.trim_cache(self._parent_ids, _MAX_REMEMBERED)
        sanitize.trim_cache(self._run_names, _MAX_REMEMBERED)
        return requests

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Return both halves of a batch; None if it holds one event."""
        batch = request.body["events"]
        if len(batch) < 2:
            return None
        first, second = (
            Request(request.ordering_key, {"events": half}, len(half), request.turn_id, request.endpoint)
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :])
        )
        return first, second

    def _encode_events(self, turn: events.Turn, manual: bool) -> Iterator[tuple[bytes, int]]:
        """Yield the turn's events as JSON with their sizes, parents before children."""
        run = turn.run_id
        root_id = (
            self._parent_ids.get((run, run)) if manual else _backend_id(run, run if turn.agentic else f"{run}:start")
        )
        run_id = run if 0 < len(run) <= 36 and run.isascii() else _backend_id("", run)
        # A run keeps its first names, because the backend rejects a run with two agents. A name with the prefix
        # "temp_" tells the backend to number the run.
        agent_name, run_name = self._run_names.setdefault(
            run,
            (_backend_name(turn.agent_name) or self._agent_name, f"temp_{_backend_name(turn.name) or 'run'}_{run_id}"),
        )
        for event in turn.events if manual or turn.partial else _with_start_and_end(turn):
            is_start = type(event) is events.AgentStartEvent and not manual
            id_ = root_id if is_start and root_id else _backend_id(run, event.event_id)
            given_parent = event.parent_event_id
            known = given_parent is None or (run, given_parent) in self._parent_ids
            parent = self._parent_ids.get((run, given_parent or ""), root_id)
            if not self._full and not isinstance(event, _CONVERSATION):
                self._parent_ids.setdefault((run, event.event_id), parent)
                continue
            self._parent_ids[run, event.event_id] = id_
            envelope = {
                "event_type": sanitize.replace_unencodable(str(event.event_type))[:50],
                "run_id": run_id,
                "run_name": run_name,
                "agent_name": agent_name,
                "timestamp": _event_timestamp(event),
                "event_id": id_,
                "parent_event_id": parent if parent != id_ else None,
            }
            more = {} if known or not manual else {"parent_id": sanitize.identifier(given_parent)}
            if is_start and turn.active_span is not None:
                more |= {"trace_id": turn.active_span.trace_id, "span_id": turn.active_span.span_id}
            yield self._fit_event(event, turn, envelope, more)

    def _fit_event(
        self, event: events.Event, turn: events.Turn, envelope: dict[str, Any], more: dict[str, Any]
    ) -> tuple[bytes, int]:
        """Return the complete event as JSON and its size, with fields truncated until it fits into a batch."""
        fields = event.to_dict()
        if type(event) is events.AgentStartEvent:
            fields["data"]["input"] = _input_with_messages(event.input, turn)
        elif type(event) is events.AgentEndEvent and turn.answer is not None:
            fields["data"]["output"] = {**event.output, "output": turn.answer.text}
        limit = self._max_field_bytes
        while True:
            data = self._data_fields(fields, turn, limit) | more
            class_fields = {name: data[name] for name in fields if name in data and name not in _ENVELOPE}
            encoded = orjson.dumps({**envelope, **class_fields, "data": data})
            size = len(encoded) + 1
            if size + _BATCH_BYTES <= self._max_bytes or limit < 64:
                return encoded, size
            limit //= 4

    def _data_fields(self, fields: dict[str, Any], turn: events.Turn, limit: int) -> dict[str, Any]:
        """Return the event's `data`: fields of its class, each truncated, and the user's values, truncated together."""
        data: dict[str, Any] = {
            "conversation_id": sanitize.identifier(turn.conversation.id),
            "user_id": sanitize.identifier(turn.conversation.user_id),
        }
        if self._content and (small := sanitize.small_json(fields["data"], limit)) is not None:
            return {**data, **small[0]}
        user_values: dict[str, Any] = {}
        for name, value in fields["data"].items():
            if self._content or name in _STRUCTURE or isinstance(value, (bool, int, float)):
                if name in fields or name in _TOOL_NAMES:
                    data[name] = sanitize.bounded_json(value, limit)[0]
                else:
                    user_values[name] = value
            elif name in fields and isinstance(value, (str, dict)):  # clients of the backend expect all class fields
                data[name] = type(value)()
        return {**sanitize.bounded_json(user_values, limit)[0], **data} if user_values else data


def turn_of_event(event: events.Event) -> events.Turn:
    """Wrap a manual event in a turn of its run."""
    run = event.run_id or event.event_id
    conversation = events.Conversation(event.conversation_id or run, event.user_id or "anonymous")
    return events.Turn(run, conversation, event.run_name or event.name, event.agent_name, events=[event])


def _with_start_and_end(turn: events.Turn) -> list[events.Event]:
    """Return the turn's events, with a start and an end added for a bare model or tool call."""
    complete = list(turn.events)
    run = turn.run_id
    if not any(type(event) is events.AgentStartEvent for event in complete):
        complete.insert(0, events.AgentStartEvent(event_id=f"{run}:start", name=turn.name, started_ns=turn.started_ns))
    if not any(type(event) is events.AgentEndEvent for event in complete):
        complete.append(_end_of_turn(turn))
    return complete


def _end_of_turn(turn: events.Turn) -> events.AgentEndEvent:
    calls = [event for event in turn.events if isinstance(event, events.LLMCallEvent)]
    root = next((event for event in turn.events if event.event_id == turn.run_id), None)
    return events.AgentEndEvent(
        event_id=f"{turn.run_id}:end",
        name=turn.name,
        status=turn.status,
        error_type=root.error_type if root else None,
        error_message=root.error_message if root else None,
        total_duration_ms=(turn.ended_ns - turn.started_ns) / 1e6,
        total_cost=_total_of_known([call.cost for call in calls]),
        tokens_in=_total_of_known([call.tokens_in for call in calls]),
        tokens_out=_total_of_known([call.tokens_out for call in calls]),
        model_calls=len(calls),
        tool_calls=sum(isinstance(event, events.ToolCallEvent) for event in turn.events),
        started_ns=turn.ended_ns,
        ended_ns=turn.ended_ns,
    )


def _input_with_messages(run_input: dict[str, Any], turn: events.Turn) -> dict[str, Any]:
    """Add the user's messages to a start's input, under the key that clients of the backend look for first, if free.

    One message "Hi" and the input `{"topic": "roots"}` → `{"topic": "roots", "input": "Hi"}`. Several messages, or
    an input that has the key already, also add `"messages": [{"role": "user", "content": "Hi"}, …]`.
    """
    if not turn.messages:
        return run_input
    texts = [chat.text for chat in turn.messages if chat.role == "user" and "imported" not in chat.properties]
    combined = dict(run_input)
    if texts:
        combined.setdefault("input", "\n\n".join(texts))
    if len(texts) != 1 or len(turn.messages) != 1 or combined["input"] is not texts[0]:
        combined["messages"] = [{"role": chat.role, "content": chat.text} for chat in turn.messages]
    media = [item for chat in turn.messages if chat.role == "user" for item in chat.properties.get("attachments", ())]
    if media and "imported" not in turn.messages[-1].properties:
        combined.setdefault("attachments", media)
    return combined


def _total_of_known(values: list[Any]) -> Any:
    """Return the sum of the known values; None if all are unknown. `[1, None, 2]` → `3`."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _event_timestamp(event: events.Event) -> str:
    at = event.ended_ns if type(event) is events.AgentEndEvent else event.started_ns
    return events.iso(at or sanitize.parse_nanoseconds(event.timestamp))


def _backend_id(run: str, id_: str) -> str:
    """Return an id of at most 36 characters, always the same for the same event of the same run."""
    if _UUID.fullmatch(id_):
        return id_
    return str(uuid.uuid5(uuid.NAMESPACE_OID, sanitize.replace_unencodable(f"{run}/{id_}")))


def _backend_name(name: str) -> str:
    return sanitize.replace_unencodable(name)[: _MAX_NAME_CHARS - len("temp_") - 37]
