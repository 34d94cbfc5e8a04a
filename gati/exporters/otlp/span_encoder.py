"""Encodes turns and events as spans, each turn as one trace. Pure: no clock, no network, no library.

A span is a dict of JSON values until it is sent, so that requests can be spooled, packed and split:
``{"traceId": …, "spanId": …, "parentSpanId": …, "name": …, "kind": 3, "start": …, "end": …, "attributes": {…}}``.
Ids are made from LangChain's run ids, so a span that is sent again has the same id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from gati import contract, events, semconv
from gati.exporters import sanitize
from gati.exporters.base import Request
from gati.exporters.events_encoder import turn_of_event
from gati.exporters.otlp import messages
from gati.exporters.otlp.attributes import INTERNAL, SpanFields, operation, span_fields
from gati.exporters.packing import pack_items

if TYPE_CHECKING:
    from gati.settings import Settings

Span = dict[str, Any]

_MAX_REMEMBERED = 16_384
_MAX_NAME_CHARS = 255
_ERROR = 2
"""Status code of a span that failed, as in the protocol."""

_FRAME = (events.AgentStartEvent, events.AgentEndEvent)
"""Events that the turn's own span stands for."""


class SpanEncoder:
    """Encodes finished items as requests. Not thread-safe.

    Args:
        settings: The options.
        resource: Attributes of the program, the same for all spans.
    """

    def __init__(self, settings: Settings, resource: Mapping[str, str]) -> None:
        self._resource = dict(resource)
        self._max_spans = settings.batch_size
        self._max_bytes = settings.max_request_bytes
        self._max_field_bytes = settings.max_field_bytes
        self._full = settings.detail == "full"
        self._content = settings.otlp_content and settings.capture_content
        self._base_bytes = len(orjson.dumps({"resource": self._resource, "spans": []}))
        self._first_parts: dict[str, tuple[list[events.ChatMessage], events.AgentStartEvent | None]] = {}
        """Turn that is delivered in parts → its messages and its start, which arrive with the first part."""
        self._active_spans: dict[str, events.ActiveSpan] = {}
        """Turn → the sampled span of the program in which it began, for what arrives later."""

    def encode(self, items: Sequence[events.Item]) -> list[Request]:
        """Return one request for each turn, or several if it is large. Ratings, users and other actions are no spans."""
        requests: list[Request] = []
        for item in items:
            if isinstance(item, events.Action):
                continue
            turn = item if isinstance(item, events.Turn) else turn_of_event(item)
            if turn.active_span is not None and turn.active_span.sampled:
                self._active_spans[turn.run_id] = turn.active_span
            spans = [self._fit(span) for span in self._spans(turn, is_manual=item is not turn)]
            if not spans:
                continue
            ordering_key = sanitize.identifier(turn.conversation.id)
            for group, _ in pack_items(spans, self._max_spans, self._max_bytes, self._base_bytes):
                requests.append(self._request(ordering_key, turn.run_id, group))
        sanitize.trim_cache(self._first_parts, _MAX_REMEMBERED)
        sanitize.trim_cache(self._active_spans, _MAX_REMEMBERED)
        return requests

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Return both halves of a request; None if it holds one span."""
        body = request.body
        spans = body["spans"]
        if len(spans) < 2:
            return None
        half = len(spans) // 2
        first, second = (
            Request(request.ordering_key, {**body, "spans": part}, len(part), request.turn_id, request.endpoint)
            for part in (spans[:half], spans[half:])
        )
        return first, second

    def _request(self, ordering_key: str, turn_id: str, spans: list[Span]) -> Request:
        return Request(ordering_key, {"resource": self._resource, "spans": spans}, len(spans), turn_id, "traces")

    def _spans(self, turn: events.Turn, *, is_manual: bool) -> Iterator[Span]:
        """Yield the spans of a turn, parents before children."""
        if not is_manual:
            root = self._root_span(turn)
            if root is not None:
                yield root
        skipped: dict[str, str | None] = {}
        for event in turn.events:
            if isinstance(event, _FRAME):
                continue
            if not self._full and event.kind not in contract.CONVERSATION_EVENTS:
                skipped[event.event_id] = event.parent_event_id
                continue
            parent = event.parent_event_id
            while parent in skipped:
                parent = skipped[parent]
            yield self._event_span(turn, event, parent)

    def _root_span(self, turn: events.Turn) -> Span | None:
        """Return the span of the whole turn; None for a part of it, and if one of its events is the root."""
        end = next((event for event in turn.events if isinstance(event, events.AgentEndEvent)), None)
        start = next((event for event in turn.events if isinstance(event, events.AgentStartEvent)), None)
        chat = turn.messages
        if not turn.agentic:
            return None
        if end is None:
            if turn.partial and (chat or start is not None):
                self._first_parts[turn.run_id] = chat, start
            return None
        if turn.run_id in self._first_parts:
            chat, start = self._first_parts.pop(turn.run_id)
        fields = SpanFields(
            operation("invoke_agent", turn.agent_name), INTERNAL, self._turn_attributes(turn, end),
            self._turn_content(turn, chat, start),
        )  # fmt: skip
        return self._span(turn, fields, turn.run_id, None, turn.started_ns, turn.ended_ns, end)

    def _event_span(self, turn: events.Turn, event: events.Event, parent: str | None) -> Span:
        fields = span_fields(event)
        is_root = event.event_id == turn.run_id
        if is_root and isinstance(event, events.LLMCallEvent):
            # A bare model call has no other span that could hold them.
            fields = fields._replace(attributes={**self._identity(turn), **fields.attributes})
        started = event.started_ns or sanitize.parse_nanoseconds(event.timestamp)
        parent = None if is_root else parent or turn.run_id
        return self._span(turn, fields, event.event_id, parent, started, max(event.ended_ns, started), event)

    def _span(
        self, turn: events.Turn, fields: SpanFields, id_: str, parent: str | None, started: int, ended: int,
        event: events.Event,
    ) -> Span:  # fmt: skip
        active = self._active_spans.get(turn.run_id)
        name = fields.label if fields.label and self._content else fields.name
        attributes = {
            "gen_ai.conversation.id": sanitize.identifier(turn.conversation.id),
            **{key: value for key, value in fields.attributes.items() if value is not None},
        }
        if event.status != "completed":
            attributes["gati.status"] = event.status
        span: Span = {
            "traceId": active.trace_id if active is not None else _trace_id(turn.run_id),
            "spanId": _span_id(turn.run_id, id_),
            "name": sanitize.replace_unencodable(name)[:_MAX_NAME_CHARS],
            "kind": fields.kind,
            "start": max(started, 0),
            "end": max(ended, started, 0),
            "attributes": attributes,
        }
        if parent is not None:
            span["parentSpanId"] = _span_id(turn.run_id, parent)
        elif active is not None:
            span["parentSpanId"] = active.span_id
        message = ""
        if event.status == "error" or event.error_type:
            attributes["error.type"] = event.error_type or "_OTHER"
            message = event.error_message or ""
            span["status"] = {"code": _ERROR}
        if self._content:
            span["content"] = {key: value for key, value in fields.content.items() if value is not None}
            if message:
                span["status"]["message"] = message
        return span

    def _fit(self, span: Span) -> tuple[Span, int]:
        """Return the span with its content as attributes, shortened until it fits into a request, and its size."""
        limit = self._max_field_bytes
        content = span.pop("content", {})
        structure = {key: _structure_value(value, limit) for key, value in span["attributes"].items()}
        message = span.get("status", {}).pop("message", "")
        while True:
            span["attributes"] = {**structure, **{key: _content_value(value, limit) for key, value in content.items()}}
            if message:
                span["status"]["message"] = sanitize.text(message, limit)
            size = len(orjson.dumps(span)) + 1
            if size + self._base_bytes <= self._max_bytes or limit < 64:
                return span, size
            limit //= 4

    def _identity(self, turn: events.Turn) -> dict[str, Any]:
        conversation = turn.conversation
        return {
            "gen_ai.agent.name": turn.agent_name or None,
            "user.id": None if conversation.user_id == "anonymous" else sanitize.identifier(conversation.user_id),
            "gati.organization_id": conversation.organization_id,
        }

    def _turn_attributes(self, turn: events.Turn, end: events.AgentEndEvent) -> dict[str, Any]:
        calls = [event for event in turn.events if isinstance(event, events.LLMCallEvent)]
        providers = {call.provider for call in calls if call.provider}
        return {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": semconv.provider_name(providers.pop()) if len(providers) == 1 else None,
            "gen_ai.request.model": turn.model or None,
            "gen_ai.usage.input_tokens": end.tokens_in,
            "gen_ai.usage.output_tokens": end.tokens_out,
            "gati.cost_usd": end.total_cost,
            "gati.model_calls": end.model_calls,
            "gati.tool_calls": end.tool_calls,
            "gati.run_id": turn.run_id,
            **self._identity(turn),
        }

    def _turn_content(
        self, turn: events.Turn, chat: list[events.ChatMessage], start: events.Event | None
    ) -> dict[str, Any]:
        spoken = [messages.chat_message(message) for message in chat if "imported" not in message.properties]
        answer = {**messages.chat_message(turn.answer), "finish_reason": "stop"} if turn.answer is not None else None
        prompt = turn.conversation.prompt
        return {
            "gen_ai.system_instructions": messages.system_instructions(prompt.text) if prompt is not None else None,
            "gen_ai.input.messages": spoken or None,
            "gen_ai.output.messages": [answer] if answer is not None else None,
            "gati.properties": turn.conversation.properties or None,
            "gati.metadata": (start.metadata if start is not None else None) or None,
            "gati.tags": (start.tags if start is not None else None) or None,
        }


def _trace_id(run: str) -> str:
    """Return 32 hexadecimal digits: those of a UUID, else a hash."""
    try:
        return UUID(run).hex
    except ValueError:
        return _hash_id(run, 16)


def _span_id(run: str, event: str) -> str:
    return _hash_id(f"{run}\0{event}", 8)


def _hash_id(text: str, size: int) -> str:
    return hashlib.sha256(text.encode(errors="replace")).digest()[:size].hex()


def _structure_value(value: Any, limit: int) -> Any:
    """Return a value of an attribute without text: a boolean, a number, a name or a list of names."""
    if isinstance(value, str):
        return sanitize.text(value, limit)
    if isinstance(value, list):
        return [sanitize.text(str(item), limit) for item in value]
    return sanitize.bounded_json(value, limit)[0]


def _content_value(value: Any, limit: int) -> Any:
    """Return content as a text; anything but a text or a list of texts as JSON."""
    if isinstance(value, str):
        return sanitize.text(value, limit)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [sanitize.text(item, limit) for item in value]
    return orjson.dumps(sanitize.bounded_json(value, limit)[0]).decode()
