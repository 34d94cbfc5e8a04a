"""The texts that managed prompts rendered, to recognize them in model calls.

`gati.prompts` adds texts in the program's threads; the assembler looks them up in its own. Equal text links a model call
to its prompt, whatever the text went through: a subclass of `str` or a mark inside would be lost in
`create_agent(system_prompt=…)` and in middleware.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.events import ManagedVersion, Prompt, PromptComponent
from gati.trace.prompt_builder import variable_values
from gati.trace.records import TemplateText
from gati.trace.templates import fill_pieces, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gati.events import Conversation
    from gati.trace.answer_source import ModelEvents
    from gati.trace.records import Template

MAX_TEXTS = 1024
"""Rendered texts that are remembered; the least recently used ones are forgotten."""
MAX_TEMPLATES = 256
"""Versions of prompts that are remembered."""
_MAX_VARIABLES_CHARS = 8_000
"""Longer values are not remembered with their text, but found again in it."""
_MIN_LITERAL_CHARS = 20
"""Fewer characters besides variables do not identify a template."""

_MAX_PARAGRAPHS = 200
"""Blank lines of a system text at which a managed text may end or begin."""
_BLANK_LINE = re.compile(r"\n\s*\n|\n(?=\S)")
_ESCAPING = re.compile(r"(?<!\{)\{\{\s*([\w.]+)\s*\}\}(?!\})")


class ManagedTemplate(NamedTuple):
    """A version of a managed prompt.

    Attributes:
        external_id: the prompt's name, or that of its fallback.
        text: the template in mustache format.
        managed: None for the fallback of the program, which Greenflash does not have.
    """

    external_id: str
    text: str
    managed: ManagedVersion | None = None


def without_escaping(text: str) -> str:
    """Return the template with variables that are inserted as they are. Mustache would escape them for HTML.

    ``"Hi {{name}}"`` → ``"Hi {{{name}}}"``
    """
    return _ESCAPING.sub(r"{{{\1}}}", text)


class ManagedPromptIndex:
    """Rendered texts and templates of managed prompts, both bounded. Used by several threads without a lock."""

    def __init__(self) -> None:
        self._templates: dict[str, ManagedTemplate] = {}
        self._texts: dict[bytes, tuple[ManagedTemplate, dict[str, str] | None]] = {}

    def add_template(self, template: ManagedTemplate) -> None:
        """Remember a version. If two prompts have the same text, it is that of the one that was added last."""
        key = without_escaping(template.text)
        known = self._templates.get(key)
        if known == template:
            return
        self._templates[key] = template
        _trim(self._templates, MAX_TEMPLATES)

    def add_text(self, rendered: str, template: ManagedTemplate, variables: Mapping[str, str]) -> None:
        """Remember a text that a version rendered."""
        small = sum(map(len, variables.values())) <= _MAX_VARIABLES_CHARS
        self._texts[_rendered_key(rendered)] = template, dict(variables) if small else None
        _trim(self._texts, MAX_TEXTS)

    def prompt_of_text(self, system: str) -> Prompt | None:
        """Return the managed prompt that rendered the system text of a model call; None if there is none.

        A text that is not remembered, because another process rendered it or too many came after it, is recognized if
        one template fits.
        """
        if not self._texts and not self._templates:
            return None
        found = self._texts.pop(key := _rendered_key(system), None)
        if found is not None:
            self._texts[key] = found  # inserted last, so that it is forgotten last
            template, variables = found
            if variables is None:
                variables = _variables_in(template, {}, system) or {}
            return _managed_prompt(template, system, variables)
        for template in reversed(list(self._templates.values())):
            inferred = _variables_in(template, {}, system)
            if inferred is not None and _identifies(template, inferred):
                return _managed_prompt(template, system, inferred)
        return None

    def prompt_around(self, system: str) -> Prompt | None:
        """Return the prompt of a system text that begins or ends with a managed one; None if it does not.

        Middleware adds text to a prompt, separated by a blank line. Such a text is a prompt of its own, which has no name yet.
        The managed part is a component with the name of its prompt and with its variables, so that values make no versions.
        """
        if not self._texts:
            return None
        ends = [found.start() for found in itertools.islice(_BLANK_LINE.finditer(system), _MAX_PARAGRAPHS)]
        for start, end in [*((0, end) for end in reversed(ends)), *((end, len(system)) for end in ends)]:
            part = system[start:end]
            found = self._texts.get(_rendered_key(part)) if part.strip() else None
            if found is None:
                continue
            template, variables = found[0], found[1] or _variables_in(found[0], {}, part) or {}
            before, _, after = part.partition(part.strip())
            managed = PromptComponent(f"{before}{template.text.strip()}{after}", template.external_id)
            rest = system[end:] if start == 0 else system[:start]
            if "{{" in rest or managed.render(variables) != part:
                return None  # the destination would read it differently
            components = [managed, PromptComponent(rest)] if start == 0 else [PromptComponent(rest), managed]
            return Prompt(system, None, components, dict(variables))
        return None

    def prompt_of_template(self, template: Template, inputs: Any, system: str) -> Prompt | None:
        """Return the managed prompt whose `template()` a prompt run used; None if it used another template."""
        if not self._templates or len(template.system) != 1 or len(template.system[0]) != 1:
            return None
        block = template.system[0][0]
        found = self._templates.get(block.text) if block.format == "mustache" else None
        if found is None:
            return None
        values = variable_values(template, inputs)
        variables = _variables_in(found, values, system)
        if variables is None:  # a template with sections
            variables = {name: str(value) for name, value in values.items() if isinstance(value, (str, int, float))}
        return _managed_prompt(found, system, variables)

    def clear(self) -> None:
        """Forget everything."""
        self._texts.clear()
        self._templates.clear()


def with_variants(conversation: Conversation, models: ModelEvents) -> Conversation:
    """Return the conversation with the variants of managed prompts that its model calls used, if there are any."""
    prompts = [event.structured_prompt for _, event in models]
    used = [
        f"{prompt.external_id}={prompt.managed.variant}"
        for prompt in prompts
        if prompt is not None and prompt.managed is not None and prompt.managed.variant is not None
    ]
    if not used:
        return conversation
    return replace(conversation, properties={**conversation.properties, "prompt_variants": sorted(set(used))})


managed_prompts = ManagedPromptIndex()
"""The index of this process. A forked child has a copy of it."""


def _rendered_key(text: str) -> bytes:
    """Return a key for a text. Programs strip texts, so white space around it does not count."""
    return hashlib.blake2b(text.strip().encode(errors="surrogatepass"), digest_size=16).digest()


def _managed_prompt(template: ManagedTemplate, system: str, variables: dict[str, str]) -> Prompt:
    components = [PromptComponent(template.text)]
    return Prompt(system, template.external_id, components, dict(variables), template.managed)


def _variables_in(template: ManagedTemplate, values: dict[str, Any], system: str) -> dict[str, str] | None:
    """Return the values of the template's variables in a text; None if the template cannot have rendered it."""
    pieces = parse((TemplateText(template.text.strip(), "mustache"),))
    if pieces is None:
        return None
    filled = fill_pieces(pieces, values, system.strip())
    return None if filled is None else {piece.name: piece.text for piece in filled if piece.name}


def _identifies(template: ManagedTemplate, variables: dict[str, str]) -> bool:
    """Return whether the template has enough text of its own to be recognized by it."""
    if not variables:
        return True
    pieces = parse((TemplateText(template.text.strip(), "mustache"),)) or ()
    return sum(len(piece.text.strip()) for piece in pieces) >= _MIN_LITERAL_CHARS


def _trim(container: dict[Any, Any], limit: int) -> None:
    """Remove the oldest entries above the limit. Several threads may do so at the same time."""
    if len(container) > limit:
        for old in list(container)[: limit // 4]:
            container.pop(old, None)
