"""System prompts as Greenflash takes them: a text, or parts with a name that stays.

Pure. A `Wire` is made once per prompt and shared by all requests under it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

from gati import contract
from gati.exporters import sanitize

if TYPE_CHECKING:
    from gati.events import Prompt, PromptComponent

_TYPES = frozenset(contract.COMPONENT_TYPES)
_SOURCES = frozenset(contract.COMPONENT_SOURCES[1:])  # the default is left out
_MOST = 256
"""Prompts that a `Wires` remembers from one round to the next."""


class Wire(NamedTuple):
    """A prompt ready for requests.

    Attributes:
        value: what `systemPrompt` takes; None for a prompt that says nothing.
        size: bytes of `value`, about.
        id: the lineage's name, for the properties of model calls.
        version: changes with the template's text and with nothing else.
    """

    value: str | dict[str, Any] | None
    size: int
    id: str | None
    version: str | None


NONE = Wire(None, 0, None, None)


def key(prompt: Prompt) -> Hashable:
    """What makes two prompts one request's: equal keys mean an equal `systemPrompt`."""
    if not prompt.components and not prompt.variables:
        return (prompt.external_id, prompt.text)
    parts = tuple((c.content, c.name, c.type, c.source, c.is_dynamic, c.external_id) for c in prompt.components)
    return (prompt.external_id, parts or prompt.text, tuple((k, str(v)) for k, v in prompt.variables.items()))


class Wires:
    """Prompts by their keys, the latest few: a prompt of thousands of calls is made ready once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[Hashable, Wire] = {}

    def of(self, prompt: Prompt) -> tuple[Hashable, Wire]:
        """The prompt's key and what is sent for it."""
        known = key(prompt)
        wire = self._known.get(known)
        if wire is None:
            wire = self._known[known] = to_wire(prompt, self._limit)
        return known, wire

    def trim(self) -> None:
        """Forget the older ones. Not while a turn is under way that needs them."""
        sanitize.forget(self._known, _MOST)

    def by_key(self, known: Hashable) -> Wire:
        """A prompt seen before; `NONE` if it is forgotten."""
        return self._known.get(known, NONE)


def to_wire(prompt: Prompt, limit: int) -> Wire:
    """The prompt as `systemPrompt`, its texts shortened so that they sum up to about `limit` bytes."""
    room = _Room(limit)
    if not prompt.components and not prompt.external_id and not prompt.variables:
        value: str | dict[str, Any] | None = room.text(prompt.text) or None
        return Wire(value, limit - room.left, None, _version(prompt)) if value else NONE
    value = {}
    if prompt.external_id:
        value["externalPromptId"] = sanitize.identifier(prompt.external_id)
    if prompt.components:
        value["components"] = [_component(part, room) for part in prompt.components if room.left > 0]
    elif prompt.text:
        value["content"] = room.text(prompt.text)
    variables = {room.text(k): room.text(v) for k, v in prompt.variables.items() if room.left > 0}
    if variables:
        value["variables"] = variables
    return Wire(value, limit - room.left, value.get("externalPromptId"), _version(prompt))


class _Room:
    """What is left of a prompt's bytes."""

    __slots__ = ("left",)

    def __init__(self, limit: int) -> None:
        self.left = limit

    def text(self, value: object) -> str:
        short = sanitize.text(value if isinstance(value, str) else str(value), max(self.left, 0))
        self.left -= len(short.encode()) + 8
        return short


def _component(part: PromptComponent, room: _Room) -> dict[str, Any]:
    wire: dict[str, Any] = {"content": room.text(part.content), "type": part.type if part.type in _TYPES else "other"}
    room.left -= 40
    if part.name:
        wire["name"] = room.text(part.name)
    if part.source in _SOURCES:
        wire["source"] = part.source
    if part.is_dynamic:
        wire["isDynamic"] = True
    if part.external_id:
        wire["externalComponentId"] = sanitize.identifier(part.external_id)
    return wire


def _version(prompt: Prompt) -> str:
    """A short hash of the template: variables' values and dynamic parts make no version."""
    texts = [c.content for c in prompt.components if not c.is_dynamic] or [prompt.text]
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:12]
