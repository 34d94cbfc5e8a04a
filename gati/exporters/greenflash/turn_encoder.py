"""Encodes one turn as pending Greenflash messages: ids, parents, times, content (`docs/mapping.md`). Pure.

A pending message knows its time, its size and its system prompt. `GreenflashEncoder` sorts pending messages, sets
their timestamps and packs them into requests.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gati import contract, events
from gati.exporters import sanitize
from gati.exporters.greenflash.message_fields import MessageFields, error_fields, message_fields, total_fields

if TYPE_CHECKING:
    from gati.exporters.greenflash.prompt_encoder import PromptCache

MAIN: Final = "main"
"""`PendingMessage.prompt` of user-visible messages: the prompt of the call that produced the answer."""

NO_PROMPT: Final = "none"
"""`TurnEncoder.main` if the call that produced the answer has no prompt while other calls of the turn have one."""

_CONVERSATION = contract.CONVERSATION_TYPES
_STRUCTURE = contract.names_without_text(contract.PROPERTIES)
"""Properties kept with `capture_content=False`: ids, enumerations, and names defined by the program."""

_OUTCOME = ("status", "finish_reason")
"""Entries of an output that `capture_content=False` keeps, as properties."""

_AGENTIC = (events.NodeExecutionEvent, events.ToolCallEvent)
"""A turn with one of these events, or with a nested graph, is an agent's or a graph's; otherwise a plain chain's."""

_Texts: TypeAlias = "tuple[tuple[str, str], ...]"


class PendingMessage:
    """A message that has no timestamp and no request yet.

    Attributes:
        message: The message in the API's form; `createdAt` is still None.
        ns: When it happened, nanoseconds since the epoch.
        prompt: A key of `PromptCache`; `MAIN`; or None for the prompt of its parent.
    """

    __slots__ = ("message", "ns", "prompt")

    def __init__(self, message: dict[str, Any], ns: int, prompt: Hashable) -> None:
        self.message = message
        self.ns = ns
        self.prompt = prompt


@dataclass(slots=True)
class EncodingContext:
    """Options of the encoding, and state that earlier turns leave for later ones.

    Attributes:
        full: Encode everything, not only user-visible messages, tool calls and retrievals.
        capture_content: Include texts.
        max_field_bytes: Limit of one field.
        environment: The program's deployment environment.
        prompts: Encoded system prompts.
        message_ids: Id of each recent event → id of the message that its children get as parent.
        open_agents: Unfinished turns, delivered in parts, that belong to agents or graphs.
    """

    full: bool
    capture_content: bool
    max_field_bytes: int
    environment: str | None
    prompts: PromptCache
    message_ids: dict[str, str | None]
    open_agents: dict[str, None]


def encode_turn(turn: events.Turn, context: EncodingContext, manual: bool) -> tuple[list[PendingMessage], Hashable]:
    """Return the turn's messages, parents before children, and the key of its main prompt (None: it has none).

    Args:
        turn: The turn.
        context: Options and state; updated.
        manual: The turn only wraps an event from `observe.track_event`.
    """
    encoder = TurnEncoder(turn, context, manual)
    encoder.encode()
    return encoder.messages, encoder.main


class TurnEncoder:
    """Encodes one turn; see `encode_turn`."""

    __slots__ = (
        "_answer_found",
        "_context",
        "_explicit",
        "_latest_ns",
        "_manual",
        "_message_ids",
        "_root_id",
        "_times",
        "_turn",
        "main",
        "messages",
    )

    def __init__(self, turn: events.Turn, context: EncodingContext, manual: bool) -> None:
        self._turn = turn
        self._context = context
        self._manual = manual
        self._times: dict[str, int] = {}
        self._latest_ns = 0
        self._message_ids = context.message_ids
        self._root_id = context.message_ids.get(turn.run_id)
        """Parent of messages without another one: the chain_start, else the user's message."""
        self.messages: list[PendingMessage] = []
        self._explicit = turn.conversation.prompt
        self._answer_found = False
        self.main: Hashable = None
        if self._explicit and context.capture_content:
            self.main = context.prompts.encode(self._explicit)[0]

    def encode(self) -> None:
        turn, context = self._turn, self._context
        for message in turn.messages:
            self._add_chat_message(message)
        end: events.AgentEndEvent | None = None
        agent = turn.graph or turn.run_id in context.open_agents
        for event in turn.events:
            if isinstance(event, events.AgentEndEvent) and not self._manual:
                end = event  # added after the answer
            elif isinstance(event, events.AgentStartEvent) and not turn.agentic:
                self._message_ids.setdefault(event.event_id, self._root_id)  # a bare model call is its own root
            else:
                agent = agent or isinstance(event, _AGENTIC) or getattr(event, "workflow", False)
                self._add_event(event)
        if turn.answer is not None:
            self._add_answer(turn.answer, agent and turn.agentic, end)
        if end is not None:
            context.open_agents.pop(turn.run_id, None)
            if turn.agentic:
                self._add_end(end)
        elif agent and turn.partial:
            context.open_agents[turn.run_id] = None

    def _add_chat_message(self, chat: events.ChatMessage) -> None:
        id_ = sanitize.identifier(chat.id)
        fields = MessageFields(contract.ROLES[chat.role], self._chat_properties(chat))
        if chat.role == "system":
            fields = fields._replace(output={"text": chat.text})
            self._append(fields, id_, None, chat.at_ns, MAIN)
        else:
            self._append(fields, id_, None, chat.at_ns, MAIN, (("content", chat.text),))
        self._message_ids[chat.id] = id_
        if chat.role == "user" and (self._root_id is None or not self._root_id.startswith(self._turn.run_id)):
            self._root_id = id_

    def _add_answer(self, chat: events.ChatMessage, agent: bool, end: events.AgentEndEvent | None) -> None:
        turn = self._turn
        properties = self._chat_properties(chat)
        if turn.status != "completed":
            properties["status"] = turn.status
        if end is not None and not self._context.full:
            properties |= total_fields(end)  # there will be no chain_end to hold them
        # A turn that waits for a human has not given its final response.
        message_type = "final_response" if agent and turn.status != "waiting" else "assistant_message"
        fields = MessageFields(message_type, properties, model=turn.model or None)
        id_ = sanitize.identifier(chat.id or f"{turn.run_id}:answer")
        parent = self._message_ids.get(chat.parent_id or turn.run_id, self._root_id)
        texts: _Texts = (("content", chat.text),)
        if turn.context is not None:
            texts = (*texts, ("context", turn.context))
        self._append(fields, id_, parent, max(chat.at_ns or turn.ended_ns, turn.started_ns), MAIN, texts)
        self._message_ids[chat.id] = id_

    def _chat_properties(self, chat: events.ChatMessage) -> dict[str, Any]:
        """Return the user's properties of a message; without content, their numbers and the length of the text."""
        ids = {} if "imported" in chat.properties else self._span_ids()
        if self._context.capture_content:
            return {**chat.properties, **ids}
        return {**numeric_values(chat.properties), "content_length": len(chat.text), **ids}

    def _span_ids(self) -> dict[str, str]:
        """Return the ids of the span of OpenTelemetry in which the turn began."""
        span = self._turn.active_span
        return {} if span is None else {"trace_id": span.trace_id, "span_id": span.span_id}

    def _add_end(self, event: events.AgentEndEvent) -> None:
        (fields,) = message_fields(event, False, True)
        if event.error_type or event.error_message:
            fields.output["error"] = error_fields(event)
            fields.properties["error_type"] = event.error_type
        id_ = sanitize.identifier(f"{self._turn.run_id}:end")
        self._append(fields, id_, self._root_id, max(_end_ns(event), self._latest_ns), MAIN)

    def _add_event(self, event: events.Event) -> None:
        fields, *results = message_fields(event, self._manual, self._turn.answer is not None)
        properties = fields.properties
        prompt: Hashable = None
        if isinstance(event, events.LLMCallEvent):
            prompt = self._prompt_of_call(event, properties)
        elif isinstance(event, events.AgentStartEvent):
            prompt = MAIN
            self._add_start_properties(event, properties)
        if event.event_id == self._turn.run_id:
            properties |= self._span_ids()
        fields = self._add_common_properties(event, fields, results)
        parent = self._parent_id(event, properties)
        id_ = self._message_id(event)
        kept = self._context.full or fields.message_type in _CONVERSATION
        self._message_ids[event.event_id] = id_ if kept else parent
        self._append(fields, id_, parent, _start_ns(event), prompt)
        for result in results:
            self._append(result, id_ + result.suffix, self._message_ids[event.event_id], _end_ns(event))
        if isinstance(event, events.AgentStartEvent) and not self._manual:
            self._root_id = self._message_ids[event.event_id]

    def _add_start_properties(self, event: events.AgentStartEvent, properties: dict[str, Any]) -> None:
        properties["name"] = event.name or self._turn.name
        properties["agent_name"] = event.agent_name or self._turn.agent_name
        metadata = event.metadata
        if self._context.environment:
            properties["environment"] = self._context.environment
            metadata = {k: v for k, v in metadata.items() if k != "environment"}
        if metadata:
            properties["metadata"] = metadata

    def _add_common_properties(
        self, event: events.Event, fields: MessageFields, results: list[MessageFields]
    ) -> MessageFields:
        """Add what any event can have: tags, the user's values, an error."""
        properties = fields.properties
        if event.tags:
            properties["tags"] = event.tags
        if event.data and type(event) is not events.Event:
            properties["data"] = event.data
        if self._manual and event.metadata:
            properties["metadata"] = event.metadata
        if event.error_type or event.error_message:
            failed = results[-1].properties if fields.message_type == "tool_call" and results else properties
            failed["error_type"] = event.error_type
            if fields.message_type != "tool_call":
                return fields._replace(output={**(fields.output or {}), "error": error_fields(event)})
        return fields

    def _message_id(self, event: events.Event) -> str:
        if isinstance(event, events.ToolCallEvent) and event.event_id == event.tool_call_id:
            # The tool never ran, so its event has the id of the call. Some providers number calls from 0 in each turn.
            return sanitize.identifier(f"{self._turn.run_id}:{event.event_id}")
        return sanitize.identifier(event.event_id)

    def _parent_id(self, event: events.Event, properties: dict[str, Any]) -> str | None:
        """Return the id of the nearest ancestor that has a message. Keep an unknown parent's id in `properties`."""
        parent = event.parent_event_id
        if parent is None or parent == event.event_id:
            return self._root_id
        if parent in self._message_ids:
            return self._message_ids[parent]
        if self._manual:
            properties["parent_id"] = parent
        return self._root_id

    def _prompt_of_call(self, event: events.LLMCallEvent, properties: dict[str, Any]) -> Hashable:
        """Return the key of the call's system prompt, and add the prompt's id and version to `properties`."""
        made_answer = event.made_answer or event.is_answer
        prompt = event.structured_prompt or (
            events.Prompt(event.system_prompt) if event.system_prompt else self._explicit
        )
        if prompt is None:
            if made_answer:
                self.main, self._answer_found = None if self.main is None else NO_PROMPT, True
            return None
        key, encoded = self._context.prompts.encode(prompt)
        if encoded.id:
            properties["prompt_id"] = encoded.id
        if encoded.version:
            properties["prompt_version"] = encoded.version
        if prompt.managed is not None and prompt.managed.variant is not None:
            properties["prompt_variant"] = prompt.managed.variant
        # An explicit prompt applies to every call; without content no prompt is sent.
        if self._explicit is not None or not self._context.capture_content:
            return None
        if made_answer or not (event.internal or self._answer_found):
            self.main, self._answer_found = key, made_answer
        elif self.main is None:
            self.main = NO_PROMPT
        return key

    def _append(
        self,
        fields: MessageFields,
        id_: str,
        parent: str | None,
        ns: int,
        prompt: Hashable = None,
        texts: _Texts | None = None,
    ) -> None:
        context = self._context
        if not context.full and fields.message_type not in _CONVERSATION:
            return
        message: dict[str, Any] = {"externalMessageId": id_, "messageType": fields.message_type, "createdAt": None}
        if parent is not None:
            message["parentExternalMessageId"] = parent
            ns = max(ns, self._times.get(parent, 0))
        if fields.tool_name is not None:
            message["toolName"] = sanitize.identifier(fields.tool_name)
        if fields.model is not None:
            message["model"] = sanitize.identifier(fields.model)
        if context.capture_content:
            if texts is not None:
                for name, text in texts:
                    message[name] = sanitize.text(text, context.max_field_bytes)
            if fields.input is not None:
                message["input"] = sanitize.bounded_fragment(fields.input, context.max_field_bytes)
            if fields.output is not None:
                message["output"] = sanitize.bounded_fragment(fields.output, context.max_field_bytes)
            properties = fields.properties
        else:
            properties = _structural_properties(fields)
        if properties:
            message["properties"] = sanitize.bounded_fragment(properties, context.max_field_bytes)
        self._times[id_] = ns
        self._latest_ns = max(self._latest_ns, ns)
        self.messages.append(PendingMessage(message, ns, prompt))


def numeric_values(values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries whose values are numbers or booleans."""
    return {k: v for k, v in values.items() if isinstance(v, (bool, int, float))}


def _structural_properties(fields: MessageFields) -> dict[str, Any]:
    """Return the properties without texts, except for names defined by the program."""
    kept = {k: v for k, v in fields.properties.items() if k in _STRUCTURE or v is None or isinstance(v, (int, float))}
    if isinstance(fields.output, dict):
        kept |= {k: fields.output[k] for k in _OUTCOME if k in fields.output}
    return kept


def _start_ns(event: events.Event) -> int:
    return event.started_ns or sanitize.parse_nanoseconds(event.timestamp)


def _end_ns(event: events.Event) -> int:
    return event.ended_ns or _start_ns(event) + int((getattr(event, "latency_ms", None) or 0.0) * 1e6)
