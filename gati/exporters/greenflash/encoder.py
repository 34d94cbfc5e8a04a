"""Turns, events and actions as requests of the Greenflash API. Pure: no clock, no network, no SDK.

A request's body holds the SDK's snake_case arguments, its `messages` and `system_prompt` in
the camelCase wire form, which spares the SDK's slow transform; `wire` makes the rest of it so.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gati import events
from gati.exporters import sanitize
from gati.exporters.base import Request
from gati.exporters.greenflash import prompt_encoder
from gati.exporters.greenflash.actions import action_request
from gati.exporters.greenflash.turn_encoder import MAIN, Draft, View, drafts, numbers

if TYPE_CHECKING:
    from gati.settings import Settings

MOST_MESSAGES = 100
"""What one request of Greenflash may hold."""

_ANONYMOUS = "anonymous"
_REMEMBERED = 4096
_SHOWN = 16_384
_BY_TIME = attrgetter("ns")
_SNAKE = re.compile("_([a-z])")


class _State:
    """What is remembered of a conversation: the last time given, its prompt, and whose it is."""

    __slots__ = ("last_ms", "prompt", "whose")

    def __init__(self) -> None:
        self.last_ms = 0
        self.prompt: Hashable = None
        self.whose: events.Conversation | None = None


class _Like(NamedTuple):
    """What a turn says of its request beside its messages; turns of a conversation that say the same may share one."""

    user_id: str
    organization_id: str
    agent_name: str
    model: str
    properties: dict[str, Any]
    prompt: Hashable


class _Open:
    """A request that may still take whole turns of its conversation, if they are `like` those in it."""

    __slots__ = ("like", "request", "size")

    def __init__(self, request: Request, like: _Like, size: int) -> None:
        self.request = request
        self.like = like
        self.size = size


class Encoder:
    """Makes requests of finished items. Used by one thread at a time.

    Several turns of one conversation share a request while they fit, always whole; messages
    that stand under different system prompts go in separate requests, a parent's first.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._most = min(settings.batch_size, MOST_MESSAGES)
        self._largest = settings.max_request_bytes
        # A message has five fields and shares its request with prompt and properties: all must fit.
        limit = min(settings.max_field_bytes, settings.max_request_bytes // 8)
        self._limit = limit
        self._wires = prompt_encoder.Wires(limit)
        self._view = View(
            settings.detail == "full", settings.capture_content, limit, settings.environment, self._wires, {}, {}
        )
        self._states: dict[str, _State] = {}
        self._conversations: dict[str, str] = {}
        self._open: dict[str, _Open] = {}
        self._requests: list[Request] = []
        self._second = -1
        self._prefix = ""

    def encode(self, items: Sequence[events.Item]) -> list[Request]:
        """Requests for the items; those of one lane are in order."""
        self._requests, self._open = [], {}
        for item in items:
            if isinstance(item, events.Turn):
                self._turn(item)
            elif isinstance(item, events.Action):
                request = action_request(item, self._settings, self._limit, self._conversations)
                self._open.pop(request.ordering_key, None)
                self._requests.append(request)
            else:
                self._turn(self._around(item), by_hand=True)
        requests, self._requests, self._open = self._requests, [], {}
        self._wires.trim()
        sanitize.forget(self._view.shown, _SHOWN)
        sanitize.forget(self._view.agents, _REMEMBERED)
        sanitize.forget(self._conversations, _REMEMBERED)
        sanitize.forget(self._states, _REMEMBERED)
        return requests

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """Halves of a request that was too large or holds a bad message; None if it holds one."""
        messages = request.body.get("messages", ())
        if request.endpoint != "messages" or len(messages) < 2:
            return None
        middle = len(messages) // 2
        first, second = messages[:middle], messages[middle:]
        return _with(request, first), _with(request, second)

    def _around(self, event: events.Event) -> events.Turn:
        """The conversation of an event that was made by hand."""
        settings = self._settings
        run = event.run_id or event.event_id
        named = event.conversation_id if event.conversation_id != run else None
        id_ = named or self._conversations.get(run) or settings.conversation_id or run
        state = self._states.get(sanitize.identifier(id_))
        known = state.whose if state is not None else None
        user = event.user_id if event.user_id != _ANONYMOUS else None
        conversation = events.Conversation(
            id=id_,
            user_id=user or (known.user_id if known else settings.user_id) or _ANONYMOUS,
            organization_id=event.organization_id or (known.organization_id if known else settings.organization_id),
            properties=known.properties if known else settings.properties,
        )
        return events.Turn(run, conversation, event.name, event.agent_name, events=[event])

    def _turn(self, turn: events.Turn, by_hand: bool = False) -> None:
        found, main = drafts(turn, self._view, by_hand)
        if not found:
            return
        conversation = turn.conversation
        lane = sanitize.identifier(conversation.id)
        state = self._states.pop(lane, None) or _State()
        self._states[lane] = state  # last in the order of use
        if not by_hand:
            self._conversations[turn.run_id] = lane
            state.whose = conversation
        found.sort(key=_BY_TIME)
        self._stamp(found, state)
        if main is None:
            main = state.prompt
        elif not by_hand:
            state.prompt = main
        groups = _by_prompt(found, main)
        if len(groups) == 1 and self._join(lane, turn, groups[0]):
            return
        self._open.pop(lane, None)
        for group in groups:
            self._pack(lane, turn, group, joinable=len(groups) == 1)

    def _stamp(self, found: list[Draft], state: _State) -> None:
        last = state.last_ms
        for draft in found:
            ms = min(draft.ns // 1_000_000, sanitize.LAST_MS)
            last = ms if ms > last else last + 1
            second, rest = divmod(last, 1000)
            if second != self._second:
                self._second, self._prefix = second, sanitize.second(second)
            draft.message["createdAt"] = f"{self._prefix}.{rest:03d}Z"
        state.last_ms = last

    def _like(self, turn: events.Turn, prompt: Hashable) -> _Like:
        whose = turn.conversation
        own = whose.properties if self._view.content else numbers(whose.properties)
        # Values as they are sent: the user's own objects are not compared.
        return _Like(
            sanitize.identifier(whose.user_id),
            sanitize.identifier(whose.organization_id),
            sanitize.identifier(turn.agent_name or self._settings.agent_name),
            sanitize.identifier(turn.model),
            sanitize.plain(own, self._limit)[0] if own else {},
            prompt,
        )

    def _envelope(self, lane: str, like: _Like) -> tuple[dict[str, Any], int]:
        """A request's arguments beside its messages, and their size."""
        settings = self._settings
        envelope: dict[str, Any] = {
            "external_user_id": like.user_id or _ANONYMOUS,
            "external_conversation_id": lane,
        }
        if like.organization_id:
            envelope["external_organization_id"] = like.organization_id
        if settings.product_id:
            envelope["product_id"] = settings.product_id
        if like.model:
            envelope["model"] = like.model
        own = {**like.properties, "agent_name": like.agent_name}
        if settings.environment:
            own["environment"] = settings.environment
        envelope["properties"], size = sanitize.plain(own, self._limit)
        if settings.sample_rate is not None:
            envelope["sample_rate"] = settings.sample_rate
        if settings.force_sample is not None:
            envelope["force_sample"] = settings.force_sample
        wire = self._wires.by_key(like.prompt)
        if wire.value is not None:
            envelope["system_prompt"] = wire.value
        return envelope, size + wire.size + 4 * sanitize.LONGEST_ID

    def _join(self, lane: str, turn: events.Turn, group: tuple[Hashable, list[Draft]]) -> bool:
        """Put a whole turn into the request that its conversation has open, if it fits there."""
        opened = self._open.get(lane)
        if opened is None:
            return False
        prompt, found = group
        size = opened.size + sum(draft.size for draft in found)
        # Below a sixth of the limit no escaping of its texts can make the request too large.
        if opened.request.items + len(found) > self._most or size > self._largest // 6:
            return False
        if opened.like != self._like(turn, prompt):
            return False
        opened.request.body["messages"] += [draft.message for draft in found]
        opened.request.items += len(found)
        opened.size = size
        return True

    def _pack(self, lane: str, turn: events.Turn, group: tuple[Hashable, list[Draft]], joinable: bool) -> None:
        prompt, found = group
        like = self._like(turn, prompt)
        envelope, base = self._envelope(lane, like)
        size, start = base, 0
        for index, draft in enumerate(found):
            if index - start == self._most or (size + draft.size > self._largest and index > start):
                self._add(lane, turn, envelope, found[start:index], size)
                size, start = base, index
            size += draft.size
        whole = start == 0
        self._add(lane, turn, envelope, found[start:], size)
        if whole and joinable:
            self._open[lane] = _Open(self._requests[-1], like, size)

    def _add(self, lane: str, turn: events.Turn, envelope: dict[str, Any], found: list[Draft], size: int) -> None:
        messages = [draft.message for draft in found]
        body = {**envelope, "messages": messages}
        if size > self._largest // 6 and len(orjson.dumps(body)) > self._largest:
            if len(found) > 1:
                middle = len(found) // 2
                self._add(lane, turn, envelope, found[:middle], size)
                self._add(lane, turn, envelope, found[middle:], size)
                return
            body["messages"] = [shorten(messages[0], self._largest - len(orjson.dumps(envelope)) - 20)]
        self._requests.append(Request(ordering_key=lane, body=body, items=len(messages), turn_id=turn.run_id))


def wire(body: dict[str, Any]) -> dict[str, Any]:
    """The body as the SDK puts it on the wire: top-level names in camelCase."""
    return {_SNAKE.sub(lambda m: m[1].upper(), name): value for name, value in body.items()}


def shorten(message: dict[str, Any], limit: int) -> dict[str, Any]:
    """The message with its fields shortened until it has at most `limit` bytes, or cannot be shorter."""
    size = limit
    while size > 64 and len(orjson.dumps(message)) > limit:
        size //= 2
        message = {
            name: sanitize.plain(value, size)[0]
            if name in ("content", "context", "input", "output", "properties")
            else value
            for name, value in message.items()
        }
    return message


def _by_prompt(found: list[Draft], main: Hashable) -> list[tuple[Hashable, list[Draft]]]:
    """The drafts by the prompt they stand under, each parent's group before its children's or the same.

    What is no model call stands under the prompt of the message it hangs on, so there are as many
    groups as prompt_encoder, mostly one.
    """
    if all(draft.prompt in (None, MAIN, main) for draft in found):
        return [(main, found)]
    groups: list[tuple[Hashable, list[Draft]]] = []
    place: dict[str | None, int] = {}
    for draft in found:
        above = place.get(draft.message.get("parentExternalMessageId"))
        prompt = main if draft.prompt is MAIN else draft.prompt
        if prompt is None:
            prompt = main if above is None else groups[above][0]
        for index in range(above or 0, len(groups)):
            if groups[index][0] == prompt:
                break
        else:
            index = len(groups)
            groups.append((prompt, []))
        groups[index][1].append(draft)
        place[draft.message["externalMessageId"]] = index
    return groups


def _with(request: Request, messages: list[dict[str, Any]]) -> Request:
    body = {**request.body, "messages": messages}
    return Request(ordering_key=request.ordering_key, body=body, items=len(messages), turn_id=request.turn_id)
