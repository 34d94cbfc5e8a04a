"""Build prompts from templates and their rendered system texts.

Greenflash keeps versions of a prompt by name and text, so values that differ from call to call are
kept out of the text: short ones become `variables`, long and retrieved ones dynamic components.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from gati.events import VARIABLE_MARK, Prompt, PromptComponent
from gati.trace.templates import FilledPiece, fill_pieces, parse

if TYPE_CHECKING:
    from gati.trace.records import Template, TemplateText

UserText: TypeAlias = "tuple[str, list[FilledPiece]]"
"""A rendered user message, and its pieces."""

LONG_VALUE_CHARS = 500
"""A variable's value with more characters becomes a component of its own."""
_MIN_RETRIEVED_CHARS = 8
"""Shortest retrieved text that is searched for inside a value."""


def lineage_of(template: Template | None, metadata: Any, default: str | None = None) -> str | None:
    """Return the name that a prompt keeps when its text changes: its own, its hub repository's, else `default`."""
    if template is not None and template.name:
        return template.name
    metadata = metadata if isinstance(metadata, Mapping) else {}
    owner, repo = metadata.get("lc_hub_owner"), metadata.get("lc_hub_repo")
    if repo:
        return f"{owner}/{repo}" if owner and owner != "-" else str(repo)
    return (template.hub if template is not None else None) or default


def prompt_of(
    template: Template,
    variables: Any,
    rendered: Sequence[str],
    name: str | None = None,
    retrieved: Iterable[str] = (),
    user: Sequence[UserText] = (),
) -> Prompt:
    """Build the prompt that `template` rendered.

    Args:
        template: as read from the prompt run.
        variables: the run's inputs; a bare value if the template has one variable.
        rendered: the rendered system texts, one per message.
        name: the prompt's lineage.
        retrieved: texts of this turn's retrievals.
        user: the user messages that the template rendered.
    """
    writer = _ComponentWriter(retrieved)
    values = variable_values(template, variables)
    messages = list(template.system)
    for text in rendered:
        # A text that no message template fits was inserted through a placeholder.
        for index, blocks in enumerate(messages):
            if writer.add(blocks, values, text):
                del messages[: index + 1]
                break
        else:
            writer.add_rendered(text)
    writer.type = "user"
    for text, pieces in user:
        writer.add_filled(pieces, text)
    return _prompt("\n\n".join([*rendered, *(text for text, _ in user)]), name, writer)


def plain_prompt(
    text: str, name: str | None, pieces: list[FilledPiece] | None, retrieved: Iterable[str] = ()
) -> Prompt:
    """Build the prompt of a text without a template; `pieces` are the values that were found in it."""
    writer = _ComponentWriter(retrieved)
    if pieces is None or not writer.add_filled(pieces, text):
        return Prompt(text, name)
    return _prompt(text, name, writer)


def _prompt(text: str, name: str | None, writer: _ComponentWriter) -> Prompt:
    prompt = Prompt(text, name, writer.components, writer.variables)
    if len(prompt.components) == 1 and not prompt.variables and not prompt.components[0].is_dynamic:
        prompt.components = [] if prompt.components[0].type == "system" else prompt.components
    return prompt


def variable_values(template: Template, variables: Any) -> dict[str, Any]:
    """Return the values by name. Example: a template with the one variable ``how`` and ``"brief"`` → ``{"how": "brief"}``."""
    partials = template.partials or {}
    if isinstance(variables, Mapping):
        return {**partials, **variables}
    free = [name for name in template.variables if name not in partials]
    return {**partials, free[0]: variables} if len(free) == 1 and variables is not None else partials


class _ComponentWriter:
    """Collects the components and variables of one prompt. `type` is the type of the components to come."""

    def __init__(self, retrieved: Iterable[str]) -> None:
        self.type = "system"
        self.components: list[PromptComponent] = []
        self.variables: dict[str, str] = {}
        self._retrieved = [text for text in map(str.strip, retrieved) if text]

    def add(self, blocks: tuple[TemplateText, ...], values: dict[str, Any], text: str) -> bool:
        """Add a system message by its template; return False if the template cannot have rendered `text`."""
        pieces = parse(blocks)
        filled = fill_pieces(pieces, values, text) if pieces is not None else None
        if filled is None:
            return False
        if not self.add_filled(filled, text):
            self.add_rendered(text)
        return True

    def add_filled(self, filled: list[FilledPiece], text: str) -> bool:
        """Add a text by its pieces; return False if they would be read as another text.

        Braces next to a mark would be read differently by the destination.
        """
        components, variables = self.components[:], dict(self.variables)
        start = len(components)
        self._write(filled)
        if "".join(part.render(self.variables) for part in self.components[start:]) == text:
            return True
        self.components, self.variables = components, variables
        return False

    def add_rendered(self, text: str) -> None:
        """Add a text whose template is not known or has logic."""
        self.components.append(PromptComponent(self._literal(text), type=self.type, is_dynamic=True))

    def _write(self, filled: list[FilledPiece]) -> None:
        content = ""
        for name, text in filled:
            kind = self._component_type(text) if name else None
            if kind is None:
                content += "{{" + self._variable(name, text) + "}}" if name else self._literal(text)
                continue
            if content:
                self.components.append(PromptComponent(content, type=self.type))
            content = ""
            self.components.append(PromptComponent(self._literal(text), name, kind, is_dynamic=True))
        if content or not filled:
            self.components.append(PromptComponent(content, type=self.type))

    def _component_type(self, text: str) -> str | None:
        """Return the type of a value's own component; None if the value stays a variable."""
        stripped = text.strip()
        for retrieved in self._retrieved:
            if retrieved == stripped or (len(retrieved) >= _MIN_RETRIEVED_CHARS and retrieved in text):
                return "rag"
        return "other" if len(text) > LONG_VALUE_CHARS else None

    def _variable(self, name: str, value: str) -> str:
        """Store a variable's value and return its name, with a number if the name has another value already.

        Example: ``price`` rendered as "3" and as "3.00" → ``price`` and ``price_2``.
        """
        number, unique = 1, name
        while self.variables.setdefault(unique, value) != value:
            number += 1
            unique = f"{name}_{number}"
        return unique

    def _literal(self, text: str) -> str:
        """Escape marks in literal text: each becomes a variable that renders to the mark itself.

        Example: ``"Write {{x}}"`` → ``"Write {{literal}}"`` with ``literal = "{{x}}"``.
        """
        if "{{" not in text:
            return text
        return VARIABLE_MARK.sub(lambda mark: "{{" + self._variable("literal", mark[0]) + "}}", text)
