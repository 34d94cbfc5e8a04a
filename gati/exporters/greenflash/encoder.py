"""Encodes turns, events and actions as requests of the Greenflash API. Pure: no clock, no network, no SDK.

A request's body has the SDK's snake_case arguments. Its `messages` and `system_prompt` are already in the API's
camelCase form, which avoids the SDK's slow transformation; `to_wire_names` converts the remaining names.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gati import events
from gati.exporters import sanitize
from gati.exporters.base import JSON_BYTES, OpenRequests, PackedRequest, Request
from gati.exporters.greenflash.actions import action_request
from gati.exporters.greenflash.prompt_encoder import PromptCache
from gati.exporters.greenflash.turn_encoder import MAIN, EncodingContext, PendingMessage, encode_turn, numeric_values
from gati.exporters.packing import pack_items

if TYPE_CHECKING:
    from gati.settings import Settings

MAX_MESSAGES = 100
"""Messages that Greenflash accepts in one request."""

_ANONYMOUS = "anonymous"
_MAX_CONVERSATIONS = 4096
_MAX_EVENT_IDS = 16_384
_BY_TIME = attrgetter("ns")
_SNAKE = re.compile("_([a-z])")


class _ConversationMemory:
    """State kept between turns of a conversation: its latest timestamp, its prompt, its participants, and the fields of
    its last request, in two forms."""

    __slots__ = ("conversation", "envelope", "fields", "last_ms", "prompt")

    def __init__(self) -> None:
        self.last_ms = 0
        self.fields: RequestFields | None = None
        self.envelope = b""
        self.prompt: Hashable = None
        self.conversation: events.Conversation | None = None


class RequestFields(NamedTuple):
    """A turn's contribution to its request besides messages. Turns with equal fields may share a request."""

    user_id: str
    organization_id: str
    product_id: str | None
    agent_name: str
    model: str
    properties: dict[str, Any]
    prompt: Hashable


class GreenflashEncoder:
    """Encodes finished items as requests. Not thread-safe.

    Turns of one conversation share a request while they fit, whole turns only. Messages with different system
    prompts go into separate requests, parents first.

    Args:
        settings: The options.
        prompt_references: Refer to prompts that Greenflash manages, instead of sending their text.
    """

    def __init__(self, settings: Settings, *, prompt_references: bool = True) -> None:
        self._settings = settings
        self._max_messages = min(settings.batch_size, MAX_MESSAGES)
        self._max_bytes = settings.max_request_bytes
        # A message has up to five texts and shares its request with prompt and properties: all must fit together.
        limit = min(settings.max_field_bytes, settings.max_request_bytes // 8)
        self._max_field_bytes = limit
        self._prompts = PromptCache(limit, references=prompt_references)
        self._context = EncodingContext(
            settings.detail == "full", settings.capture_content, limit, settings.environment, self._prompts, {}, {}
        )
        self._memories: dict[str, _ConversationMemory] = {}
        self._conversations: dict[str, str] = {}
        """Run id → id of its conversation."""
        self._open = OpenRequests()
        self._requests: list[Request] = []
        self._second = -1
        self._prefix = ""

    def encode(self, items: Sequence[events.Item]) -> list[Request]:
        """Return requests for the items; requests with the same ordering key are in order."""
        self._requests = []
        self._open.clear()
        for item in items:
            if isinstance(item, events.Turn):
                self._encode_turn(item)
            elif isinstance(item, events.Action):
                request = action_request(item, self._settings, self._max_field_bytes, self._conversations)
                self._add(request)
            else:
                self._encode_turn(self._turn_of_event(item), manual=True)
        requests, self._requests = self._requests, []
        self._open.clear()
        self._prompts.trim()
        sanitize.trim_cache(self._context.message_ids, _MAX_EVENT_IDS)
        sanitize.trim_cache(self._context.open_agents, _MAX_CONVERSATIONS)
        sanitize.trim_cache(self._conversations, _MAX_CONVERSATIONS)
        sanitize.trim_cache(self._memories, _MAX_CONVERSATIONS)
        return requests

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Return both halves of a request that was too large or contains an invalid message; None for one message."""
        messages = request.body.get("messages", ())
        if request.endpoint != "messages" or len(messages) < 2:
            return None
        middle = len(messages) // 2
        return _with_messages(request, messages[:middle]), _with_messages(request, messages[middle:])

    def _turn_of_event(self, event: events.Event) -> events.Turn:
        """Wrap a manual event in a turn of its conversation, with the participants of the conversation's last turn."""
        settings = self._settings
        run = event.run_id or event.event_id
        given_id = event.conversation_id if event.conversation_id != run else None
        id_ = given_id or self._conversations.get(run) or settings.conversation_id or run
        memory = self._memories.get(sanitize.identifier(id_))
        known = memory.conversation if memory is not None else None
        user = event.user_id if event.user_id != _ANONYMOUS else None
        conversation = events.Conversation(
            id=id_,
            user_id=user or (known.user_id if known else settings.user_id) or _ANONYMOUS,
            organization_id=event.organization_id or (known.organization_id if known else settings.organization_id),
            properties=known.properties if known else settings.properties,
            product_id=event.product_id or (known.product_id if known else None),
        )
        return events.Turn(run, conversation, event.name, event.agent_name, events=[event])

    def _encode_turn(self, turn: events.Turn, manual: bool = False) -> None:
        pending, main = encode_turn(turn, self._context, manual)
        if not pending:
            return
        conversation = turn.conversation
        ordering_key = sanitize.identifier(conversation.id)
        memory = self._memories.pop(ordering_key, None) or _ConversationMemory()
        self._memories[ordering_key] = memory  # inserted last, so that trimming drops the least recently used
        if not manual:
            self._conversations[turn.run_id] = ordering_key
            memory.conversation = conversation
        pending.sort(key=_BY_TIME)
        self._set_timestamps(pending, memory)
        if main is None:
            main = memory.prompt
        elif not manual:
            memory.prompt = main
        groups = _group_by_prompt(pending, main)
        for prompt, group in groups:
            self._pack(ordering_key, turn, prompt, group, memory, joinable=len(groups) == 1)

    def _set_timestamps(self, pending: list[PendingMessage], memory: _ConversationMemory) -> None:
        """Give messages strictly increasing times, also across turns, because the server sorts by time."""
        last = memory.last_ms
        for message in pending:
            ms = min(message.ns // 1_000_000, sanitize.MAX_TIMESTAMP_MS)
            last = ms if ms > last else last + 1
            second, rest = divmod(last, 1000)
            if second != self._second:
                self._second, self._prefix = second, sanitize.format_second(second)
            message.message["createdAt"] = f"{self._prefix}.{rest:03d}Z"
        memory.last_ms = last

    def _request_fields(self, turn: events.Turn, prompt: Hashable) -> RequestFields:
        conversation = turn.conversation
        given = conversation.properties if self._context.capture_content else numeric_values(conversation.properties)
        # Compare values as they are sent: comparing the user's own objects would call the user's code.
        return RequestFields(
            sanitize.identifier(conversation.user_id),
            sanitize.identifier(conversation.organization_id),
            conversation.product_id or self._settings.product_id,
            sanitize.identifier(turn.agent_name or self._settings.agent_name),
            sanitize.identifier(turn.model),
            sanitize.bounded_json(given, self._max_field_bytes)[0] if given else {},
            prompt,
        )

    def _envelope(self, ordering_key: str, fields: RequestFields) -> bytes:
        """Return a request's arguments besides its messages, as JSON without the braces."""
        settings = self._settings
        envelope: dict[str, Any] = {
            "external_user_id": fields.user_id or _ANONYMOUS,
            "external_conversation_id": ordering_key,
        }
        if fields.organization_id:
            envelope["external_organization_id"] = fields.organization_id
        if fields.product_id:
            envelope["product_id"] = fields.product_id
        if fields.model:
            envelope["model"] = fields.model
        properties = {**fields.properties, "agent_name": fields.agent_name}
        if settings.environment:
            properties["environment"] = settings.environment
        envelope["properties"] = sanitize.bounded_fragment(properties, self._max_field_bytes)
        if settings.sample_rate is not None:
            envelope["sample_rate"] = settings.sample_rate
        if settings.force_sample is not None or settings.sample_rate is not None:
            # The program has sampled already. The server must not sample the rest again.
            envelope["force_sample"] = settings.force_sample is not False
        prompt = self._prompts.by_key(fields.prompt)
        if prompt.value is not None:
            envelope["system_prompt"] = prompt.value
        return _to_json(envelope, self._max_bytes)[1:-1]

    def _pack(
        self,
        ordering_key: str,
        turn: events.Turn,
        prompt: Hashable,
        messages: list[PendingMessage],
        memory: _ConversationMemory,
        joinable: bool,
    ) -> None:
        """Add a turn's messages with one prompt to the open request, or to as many new requests as they need."""
        fields = self._request_fields(turn, prompt)
        if memory.fields != fields:
            memory.fields, memory.envelope = fields, self._envelope(ordering_key, fields)
        envelope = memory.envelope
        encoded = [_to_json(message.message, self._max_bytes) for message in messages]
        sized = [(raw, len(raw) + 1) for raw in encoded]  # with a comma, except for the last one
        packed = pack_items(sized, self._max_messages, self._max_bytes, len(envelope) + JSON_BYTES - 1)
        open_to = self._max_messages if joinable and len(packed) == 1 else 0
        for group, size in packed:
            if size > self._max_bytes:  # a single message
                shortened = shorten_message(orjson.loads(group[0]), self._max_bytes - len(envelope) - JSON_BYTES)
                group = [orjson.dumps(shortened)]
            self._add(
                PackedRequest.of(
                    ordering_key, turn.run_id, "messages", "messages", envelope, group, open_to, self._max_bytes
                )
            )

    def _add(self, request: Request) -> None:
        if not self._open.add(request):
            self._requests.append(request)


def _to_json(value: dict[str, Any], limit: int) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate among the user's own values
        return orjson.dumps(sanitize.bounded_json(value, limit)[0])


def to_wire_names(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with its top-level names in camelCase, as the SDK sends them.

    `{"external_user_id": "u", "messages": []}` → `{"externalUserId": "u", "messages": []}`.
    """
    return {_SNAKE.sub(lambda m: m[1].upper(), name): value for name, value in body.items()}


def shorten_message(message: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return the message with its texts truncated to at most `limit` bytes in all, if that is possible."""
    size = limit
    while size > 64 and len(orjson.dumps(message)) > limit:
        size //= 2
        message = {
            name: sanitize.bounded_json(value, size)[0]
            if name in ("content", "context", "input", "output", "properties")
            else value
            for name, value in message.items()
        }
    return message


def _group_by_prompt(pending: list[PendingMessage], main: Hashable) -> list[tuple[Hashable, list[PendingMessage]]]:
    """Group messages by system prompt, so that no group contains a child of a message in a later group.

    Model calls have a prompt of their own; other messages take that of their parent. There are about as many
    groups as prompts, usually one: two calls with prompts A and B → `[(A, [user, start, call 1]), (B, [call 2])]`.
    """
    if all(message.prompt in (None, MAIN, main) for message in pending):
        return [(main, pending)]
    groups: list[tuple[Hashable, list[PendingMessage]]] = []
    group_of: dict[str | None, int] = {}
    for message in pending:
        parent_group = group_of.get(message.message.get("parentExternalMessageId"))
        prompt = main if message.prompt is MAIN else message.prompt
        if prompt is None:
            prompt = main if parent_group is None else groups[parent_group][0]
        for index in range(parent_group or 0, len(groups)):
            if groups[index][0] == prompt:
                break
        else:
            index = len(groups)
            groups.append((prompt, []))
        groups[index][1].append(message)
        group_of[message.message["externalMessageId"]] = index
    return groups


def _with_messages(request: Request, messages: list[dict[str, Any]]) -> Request:
    body = {**request.body, "messages": messages}
    return Request(ordering_key=request.ordering_key, body=body, items=len(messages), turn_id=request.turn_id)
