"""System prompts as prompts: templates with variables where they can be recovered.

Pure. Greenflash keeps versions of a prompt by its name and text, so what differs from call to
call is kept out of the text: short values stand in `variables`, long and retrieved ones in
parts of their own, which are marked as dynamic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gati.errors import ConfigurationError
from gati.events import Prompt, PromptComponent
from gati.trace.templates import FilledPiece, fill_pieces, parse

if TYPE_CHECKING:
    from gati.trace.records import Template, TemplateText

LONG_VALUE_CHARS = 500
"""Characters above which a variable's value is a part of its own."""
_MIN_RETRIEVED_CHARS = 8
"""Shortest retrieved text that is looked for inside a value."""
_MARK = re.compile(r"\{\{([^{}]{1,200})\}\}")


def lineage_of(template: Template | None, metadata: Any, default: str | None = None) -> str | None:
    """The name that a prompt keeps when its text changes: its own, its hub repository's, `default`."""
    if template is not None and template.name:
        return template.name
    metadata = metadata if isinstance(metadata, Mapping) else {}
    owner, repo = metadata.get("lc_hub_owner"), metadata.get("lc_hub_repo")
    if repo:
        return f"{owner}/{repo}" if owner and owner != "-" else str(repo)
    return (template.hub if template is not None else None) or default


def prompt_of(
    template: Template, variables: Any, rendered: Sequence[str], name: str | None = None, retrieved: Iterable[str] = ()
) -> Prompt:
    """The prompt that `template` made.

    Args:
        template: as read from the prompt run.
        variables: the run's inputs; a bare value where the template has one variable.
        rendered: the system texts that came out, one a message.
        name: the prompt's lineage.
        retrieved: texts of this turn's retrievals.
    """
    writer = _ComponentWriter(retrieved)
    values = _values(template, variables)
    waiting = list(template.system)
    for text in rendered:
        # Messages without a template of theirs came through a placeholder.
        for index, blocks in enumerate(waiting):
            if writer.add(blocks, values, text):
                del waiting[: index + 1]
                break
        else:
            writer.add_rendered(text)
    prompt = Prompt("\n\n".join(rendered), name, writer.components, writer.variables)
    if len(prompt.components) == 1 and not prompt.variables and not prompt.components[0].is_dynamic:
        prompt.components = []
    return prompt


def _values(template: Template, variables: Any) -> dict[str, Any]:
    partials = template.partials or {}
    if isinstance(variables, Mapping):
        return {**partials, **variables}
    own = [name for name in template.variables if name not in partials]
    return {**partials, own[0]: variables} if len(own) == 1 and variables is not None else partials


class _ComponentWriter:
    """The components and variables of one prompt in the making."""

    def __init__(self, retrieved: Iterable[str]) -> None:
        self.components: list[PromptComponent] = []
        self.variables: dict[str, str] = {}
        self._retrieved = [text for text in map(str.strip, retrieved) if text]

    def add(self, blocks: tuple[TemplateText, ...], values: dict[str, Any], text: str) -> bool:
        """One system message by its template; False if the template cannot have given it."""
        pieces = parse(blocks)
        filled = fill_pieces(pieces, values, text) if pieces is not None else None
        if filled is None:
            return False
        components, variables = self.components[:], dict(self.variables)
        start = len(components)
        self._write(filled)
        if _render(self.components[start:], self.variables) != text:
            # Braces of the template's own next to a mark; the text says it without doubt.
            self.components, self.variables = components, variables
            self.add_rendered(text)
        return True

    def add_rendered(self, text: str) -> None:
        """A text whose template is not known or has logic."""
        self.components.append(PromptComponent(self._literal(text), is_dynamic=True))

    def _write(self, filled: list[FilledPiece]) -> None:
        content = ""
        for name, text in filled:
            kind = self._component_type(text) if name else None
            if kind is None:
                content += "{{" + self._variable(name, text) + "}}" if name else self._literal(text)
                continue
            if content:
                self.components.append(PromptComponent(content))
            content = ""
            self.components.append(PromptComponent(self._literal(text), name, kind, is_dynamic=True))
        if content or not filled:
            self.components.append(PromptComponent(content))

    def _component_type(self, text: str) -> str | None:
        """The type of the part that a value is by itself; None if it is a mark in the text."""
        stripped = text.strip()
        for found in self._retrieved:
            if found == stripped or (len(found) >= _MIN_RETRIEVED_CHARS and found in text):
                return "rag"
        return "other" if len(text) > LONG_VALUE_CHARS else None

    def _variable(self, name: str, value: str) -> str:
        """Notes a value; another value under the same name (another format) gets a number."""
        number, own = 1, name
        while self.variables.setdefault(own, value) != value:
            number += 1
            own = f"{name}_{number}"
        return own

    def _literal(self, text: str) -> str:
        """A text that is no template: what looks like a mark in it becomes a variable of that text."""
        return _MARK.sub(lambda mark: "{{" + self._variable("literal", mark[0]) + "}}", text) if "{{" in text else text


def _render(components: Iterable[PromptComponent], variables: Mapping[str, str]) -> str:
    """What the destination shows: every mark filled, once."""
    return "".join(_MARK.sub(lambda mark: variables.get(mark[1].strip(), mark[0]), part.content) for part in components)


# -- prompts given by the user ------------------------------------------------------------

_ID_KEYS = ("external_prompt_id", "externalPromptId", "external_template_id", "externalTemplateId")
_TYPES = ("system", "user", "tool", "guardrail", "rag", "agent", "other")
_SOURCES = ("customer", "participant", "greenflash", "agent")
_COMPONENT_KEYS = {
    "content": "content",
    "name": "name",
    "type": "type",
    "source": "source",
    "is_dynamic": "is_dynamic",
    "isDynamic": "is_dynamic",
    "external_id": "external_id",
    "external_component_id": "external_id",
    "externalComponentId": "external_id",
}


def explicit_prompt(value: Any) -> Prompt:
    """Reads the option `system_prompt`.

    Takes a text, or a dict with a name (`external_prompt_id`, `external_template_id`, or either in
    camel case), `content` or `components`, and `variables`. A dict with a name and no text refers
    to the prompt that the destination has under that name.

    Raises:
        ConfigurationError: something in it cannot be used; says what.
    """
    if isinstance(value, Prompt):
        return value
    if isinstance(value, str):
        return Prompt(_text("system_prompt", value))
    if not isinstance(value, Mapping):
        raise ConfigurationError("system_prompt", _kind(value), "a text or a dict")
    _known_keys("system_prompt", value, (*_ID_KEYS, "content", "components", "variables"))
    ids = {_text(f"system_prompt.{key}", value[key]) for key in _ID_KEYS if value.get(key) is not None}
    if len(ids) > 1:
        raise ConfigurationError("system_prompt", sorted(ids), "one external_prompt_id")
    content, parts = value.get("content"), value.get("components")
    if content is not None and parts is not None:
        raise ConfigurationError("system_prompt", "content and components", "one of the two")
    if content is None and parts is None and not ids:
        raise ConfigurationError("system_prompt", sorted(map(str, value)), "external_prompt_id, content or components")
    variables = _variables(value.get("variables"))
    components = [] if parts is None else _components(parts)
    if content is not None:
        text = _render([PromptComponent(_text("system_prompt.content", content))], variables)
        components = [PromptComponent(content)] if variables else []
    else:
        text = "\n\n".join(_render([part], variables) for part in components)
    return Prompt(text, next(iter(ids), None), components, variables)


def given_prompt(*values: Any) -> Prompt | None:
    """The first of `values` that is a prompt: for those given while the program runs, where one
    that cannot be used counts as none. Never raises.
    """
    for value in values:
        try:
            if value is not None:
                return explicit_prompt(value)
        except Exception:  # noqa: BLE001 - metadata may hold anything under this name
            continue
    return None


def _components(parts: Any) -> list[PromptComponent]:
    if not isinstance(parts, Sequence) or isinstance(parts, (str, bytes)) or not parts:
        raise ConfigurationError("system_prompt.components", _kind(parts), "a list of texts or dicts, not empty")
    return [_component(f"system_prompt.components[{index}]", part) for index, part in enumerate(parts)]


def _component(place: str, part: Any) -> PromptComponent:
    if isinstance(part, PromptComponent):
        return part
    if isinstance(part, str):
        return PromptComponent(_text(place, part))
    if not isinstance(part, Mapping):
        raise ConfigurationError(place, _kind(part), "a text or a dict")
    _known_keys(place, part, tuple(_COMPONENT_KEYS))
    given = {_COMPONENT_KEYS[key]: value for key, value in part.items() if value is not None}
    for key in {"name", "external_id"} & given.keys():
        _text(f"{place}.{key}", given[key])
    for key, allowed in (("type", _TYPES), ("source", _SOURCES)):
        if key in given and given[key] not in allowed:
            raise ConfigurationError(f"{place}.{key}", str(given[key])[:50], ", ".join(allowed))
    if not isinstance(given.get("is_dynamic", False), bool):
        raise ConfigurationError(f"{place}.is_dynamic", _kind(given["is_dynamic"]), "true or false")
    return PromptComponent(**{**given, "content": _text(f"{place}.content", given.get("content"))})


def _variables(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ConfigurationError("system_prompt.variables", _kind(given), "a dict with texts as keys")
    try:
        return {key: value if isinstance(value, str) else str(value) for key, value in given.items()}
    except Exception as error:
        raise ConfigurationError("system_prompt.variables", _kind(error), "values that have a text") from error


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(place, value if isinstance(value, str) else _kind(value), "a text that is not empty")
    return value


def _kind(value: object) -> str:
    return type(value).__name__


def _known_keys(place: str, given: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise ConfigurationError(f"{place}.{key}", _kind(given[key]), f"only {', '.join(known)}")
