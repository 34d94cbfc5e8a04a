"""Encodes system prompts: a text, or components under a stable id. Pure.

A prompt is encoded once and shared by all requests that use it.
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
_MAX_PROMPTS = 256
"""Prompts that a `PromptCache` keeps between calls of `GreenflashEncoder.encode`."""


class EncodedPrompt(NamedTuple):
    """A prompt in the API's form.

    Attributes:
        value: The value of `systemPrompt`; None for an empty prompt.
        size: Its size in bytes, approximately.
        id: The prompt's external id, for the properties of model calls.
        version: A hash of the template's text; independent of variables' values.
    """

    value: str | dict[str, Any] | None
    size: int
    id: str | None
    version: str | None


EMPTY_PROMPT = EncodedPrompt(None, 0, None, None)


def prompt_key(prompt: Prompt) -> Hashable:
    """Return a hashable key. Prompts with equal keys have an equal `systemPrompt`."""
    if not prompt.components and not prompt.variables:
        return (prompt.external_id, prompt.text)
    managed = (prompt.managed,) if prompt.managed is not None else ()
    components = tuple((c.content, c.name, c.type, c.source, c.is_dynamic, c.external_id) for c in prompt.components)
    return (
        prompt.external_id,
        components or prompt.text,
        tuple((k, str(v)) for k, v in prompt.variables.items()),
        *managed,
    )


class PromptCache:
    """Caches recently encoded prompts, because the same prompt usually has many calls.

    Args:
        limit: bytes of a prompt's texts.
        references: refer to managed prompts instead of sending their components.
    """

    def __init__(self, limit: int, *, references: bool = True) -> None:
        self._limit = limit
        self._references = references
        self._by_key: dict[Hashable, EncodedPrompt] = {}

    def encode(self, prompt: Prompt) -> tuple[Hashable, EncodedPrompt]:
        """Return the prompt's key and its encoded form."""
        key = prompt_key(prompt)
        encoded = self._by_key.get(key)
        if encoded is None:
            encoded = self._by_key[key] = encode_prompt(prompt, self._limit, references=self._references)
        return key, encoded

    def trim(self) -> None:
        """Drop older prompts. Must not be called while a turn is being encoded."""
        sanitize.trim_cache(self._by_key, _MAX_PROMPTS)

    def by_key(self, key: Hashable) -> EncodedPrompt:
        """Return a prompt encoded before; `EMPTY_PROMPT` if it is not cached."""
        return self._by_key.get(key, EMPTY_PROMPT)


def encode_prompt(prompt: Prompt, limit: int, *, references: bool = True) -> EncodedPrompt:
    """Encode a prompt, with its texts truncated to about `limit` bytes in all.

    With `references`, a managed prompt is not repeated: its components would make a new version.
    """
    budget = _ByteBudget(limit)
    if not prompt.components and not prompt.external_id and not prompt.variables:
        value: str | dict[str, Any] | None = budget.text(prompt.text) or None
        return EncodedPrompt(value, limit - budget.left, None, _template_version(prompt)) if value else EMPTY_PROMPT
    name = sanitize.identifier(prompt.external_id) if prompt.external_id else None
    value = {"externalPromptId": name} if name is not None else {}
    if references and prompt.managed is not None:
        if prompt.managed.prompt_id is not None:
            value = {"promptId": prompt.managed.prompt_id}
    elif prompt.components:
        value["components"] = [_encode_component(part, budget) for part in prompt.components if budget.left > 0]
    elif prompt.text:
        value["content"] = budget.text(prompt.text)
    variables = {budget.text(k): budget.text(v) for k, v in prompt.variables.items() if budget.left > 0}
    if variables:
        value["variables"] = variables
    return EncodedPrompt(value, limit - budget.left, name, _template_version(prompt))


class _ByteBudget:
    """The remaining bytes of a prompt."""

    __slots__ = ("left",)

    def __init__(self, limit: int) -> None:
        self.left = limit

    def text(self, value: object) -> str:
        short = sanitize.text(value if isinstance(value, str) else str(value), max(self.left, 0))
        self.left -= len(short.encode()) + 8
        return short


def _encode_component(component: PromptComponent, budget: _ByteBudget) -> dict[str, Any]:
    encoded: dict[str, Any] = {
        "content": budget.text(component.content),
        "type": component.type if component.type in _TYPES else "other",
    }
    budget.left -= 40
    if component.name:
        encoded["name"] = budget.text(component.name)
    if component.source in _SOURCES:
        encoded["source"] = component.source
    if component.is_dynamic:
        encoded["isDynamic"] = True
    if component.external_id:
        encoded["externalComponentId"] = sanitize.identifier(component.external_id)
    return encoded


def _template_version(prompt: Prompt) -> str:
    """Return a short hash of the template, without variables' values and dynamic components."""
    texts = [c.content for c in prompt.components if not c.is_dynamic] or [prompt.text]
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:12]
