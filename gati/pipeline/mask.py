"""Applies the user's `mask` to finished turns, events and actions, before they are encoded.

There the contract (`gati.contract`) knows the kind of each field: texts and the user's own keys are
masked; ids, enumerations, numbers, gati's own keys and the program's names are not. Each item is
masked once, however many destinations there are.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gati import contract
from gati.contract import TEXT, Field, Kind
from gati.events import Action, ChatMessage, Conversation, Event, Prompt, PromptComponent, StepEvent, Turn, Usage
from gati.limits import marker, split_marker
from gati.pipeline.internal_errors import report

if TYPE_CHECKING:
    from gati.events import Item
    from gati.settings import Mask

MARKER = "[masked: the mask failed]"
"""Replaces a text on which the mask failed."""

_DEEPEST = 100
"""Nesting up to which values are masked; snapshots are far flatter. Deeper values are replaced by `MARKER`."""

_VARIABLE = re.compile(r"(\{\{[^{}]{1,200}\}\})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INTERRUPT = re.compile(r"[0-9a-f]{32}|interrupt_(before|after)")


class Masking:
    """Masks one item. `failures` counts the texts on which the mask raised or returned no text."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self.failures = 0

    def item(self, item: Item) -> Item:
        """Return a masked copy; the item itself is not changed."""
        if isinstance(item, Turn):
            return self._turn(item)
        if isinstance(item, Action):
            return self._action(item)
        return self._event(item)

    def _turn(self, turn: Turn) -> Turn:
        masked = copy.copy(turn)
        masked.conversation = self._conversation(turn.conversation)
        masked.messages = [self._chat_message(message) for message in turn.messages]
        masked.events = [self._event(event) for event in turn.events]
        if turn.answer is not None:
            masked.answer = self._chat_message(turn.answer)
        if turn.context is not None:
            masked.context = self._text(turn.context, "context", contract.ROLES["assistant"])
        return masked

    def _conversation(self, conversation: Conversation) -> Conversation:
        known = Field(Kind.TEXT, fields=contract.CONVERSATION_PROPERTIES)
        properties = self._value(conversation.properties, known, "properties", "conversation")
        prompt = self._prompt(conversation.prompt) if conversation.prompt is not None else None
        return replace(conversation, properties=properties, prompt=prompt)

    def _chat_message(self, message: ChatMessage) -> ChatMessage:
        kind = contract.ROLES[message.role]
        known = Field(Kind.TEXT, fields=contract.CHAT_MESSAGE_PROPERTIES)
        properties = self._value(message.properties, known, "properties", kind)
        return replace(message, text=self._text(message.text, "text", kind), properties=properties)

    def _event(self, event: Event) -> Event:
        masked = copy.copy(event)
        kind = _message_type(event)
        known = contract.fields_of_event(event.kind, kind)
        for item in fields(event):
            value = getattr(event, item.name)
            if isinstance(value, Prompt):
                value = self._prompt(value)
            elif isinstance(value, Usage):
                value = replace(value, raw=self._counts(value.raw, "usage.raw", kind))
            elif value is not None:
                # A field that the contract does not know belongs to a subclass of the user's: it is masked.
                rule = known.get(item.name, TEXT)
                if item.name == "payload" and value.keys() != rule.fields.keys():
                    rule = TEXT  # made by hand; gati's own payloads are {name, data}
                value = self._value(value, rule, item.name, kind)
            setattr(masked, item.name, value)
        return masked

    def _action(self, action: Action) -> Action:
        known = contract.ACTIONS[action.endpoint]
        body = {}
        for name, value in action.body.items():
            as_text = name != "value" or action.body.get("value_type", "text") == "text"
            body[name] = self._value(value, known.get(name, TEXT), name, action.endpoint) if as_text else value
        return replace(action, body=body)

    def _prompt(self, prompt: Prompt) -> Prompt:
        """Mask texts and values of variables. The variables' names are names of the program."""
        return replace(
            prompt,
            text=self._text(prompt.text, "text", "system_prompt"),
            components=[self._component(part, n) for n, part in enumerate(prompt.components)],
            variables={
                name: self._text(str(value), f"variables.{name}", "system_prompt")
                for name, value in prompt.variables.items()
            },
        )

    def _component(self, part: PromptComponent, number: int) -> PromptComponent:
        path = f"components.{number}.content"
        # The marks of variables are gati's own: without them the values would find no place.
        pieces = _VARIABLE.split(part.content)
        content = [
            piece if n % 2 or not piece else self._text(piece, path, "system_prompt") for n, piece in enumerate(pieces)
        ]
        return replace(part, content="".join(content))

    # -- Values -------------------------------------------------------------------------------

    def _value(self, value: Any, known: Field, path: str, kind: str, depth: int = 0) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            # A text where the contract expects a number was made by hand: it is masked.
            return value if known.kind in _PLAIN else self._text(value, path, kind)
        if depth > _DEEPEST:
            self.failures += 1
            return MARKER
        if isinstance(value, Mapping):
            return value if _is_replaced_media(value) else self._mapping(value, known, path, kind, depth + 1)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._value(item, known, f"{path}.{n}", kind, depth + 1) for n, item in enumerate(value)]
        if isinstance(value, Enum):
            return self._value(value.value, known, path, kind, depth + 1)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return value  # only their length is sent
        if isinstance(value, (UUID, Decimal, PurePath, date, time)):
            return self._value(str(value), known, path, kind, depth + 1)
        # Only events made by hand hold other objects. What an encoder would make of them is not known here.
        return f"<{type(value).__name__}>"

    def _mapping(self, value: Mapping[Any, Any], known: Field, path: str, kind: str, depth: int) -> dict[str, Any]:
        masked: dict[str, Any] = {}
        for key, item in list(value.items()):
            name = key if isinstance(key, str) else str(key)
            below = f"{path}.{name}"
            own = known.fields.get(name)
            if own is None:
                masked[self._free_key(name, path, kind, masked, known)] = self._value(item, TEXT, below, kind, depth)
            else:
                # Custom events share these keys with interrupts, so the value has to look like LangGraph's.
                foreign = known is contract.INTERRUPT and not _is_langgraphs(item)
                masked[name] = self._value(item, TEXT if foreign else own, below, kind, depth)
        return masked

    def _free_key(self, key: str, path: str, kind: str, taken: Mapping[str, Any], known: Field) -> str:
        """Return the masked key; keys that become equal to another get ``~2``, ``~3`` …"""
        masked = unique = self._text(key, path, kind)
        number = 1
        while unique in taken or unique in known.fields:
            number += 1
            unique = f"{masked}~{number}"
        return unique

    def _counts(self, value: Any, path: str, kind: str) -> Any:
        """Mask the texts among a provider's token counts; the keys are the provider's."""
        if isinstance(value, Mapping):
            return {key: self._counts(item, f"{path}.{key}", kind) for key, item in value.items()}
        return self._value(value, TEXT, path, kind)

    def _text(self, text: str, path: str, kind: str) -> str:
        if not text:
            return text
        end = ""
        if (shortened := split_marker(text)) is not None:  # the user's function sees only the user's text
            text, end = shortened[0], marker(shortened[1])
        try:
            masked: object = self._mask(text, path, kind)
        except BaseException as error:  # noqa: BLE001 - the user's function may raise anything, SystemExit too; the text must not leave
            report("mask", error)
            self.failures += 1
            return MARKER
        if not isinstance(masked, str):
            self.failures += 1
            return MARKER
        return masked + end


_PLAIN = frozenset({Kind.ID, Kind.ENUM, Kind.NAME})
"""Kinds whose texts the mask does not see."""


def _message_type(event: Event) -> str:
    """Return the message type that an event becomes: the `kind` that the mask receives."""
    if isinstance(event, StepEvent) and event.workflow:
        return "workflow"
    if event.kind == "memory" and getattr(event, "write", False):
        return "memory_write"
    return contract.MESSAGE_TYPE_OF_EVENT.get(event.kind, "callback")


def _is_replaced_media(value: Mapping[Any, Any]) -> bool:
    """Return whether this object is gati's replacement of a picture, a sound or a file."""
    return (
        value.keys() == contract.MEDIA.keys()
        and isinstance(value["bytes"], int)
        and isinstance(value["sha256"], str)
        and _SHA256.fullmatch(value["sha256"]) is not None
    )


def _is_langgraphs(value: Any) -> bool:
    """Return whether this is the id of an interrupt, or LangGraph's name of a static one."""
    return isinstance(value, str) and _INTERRUPT.fullmatch(value) is not None
