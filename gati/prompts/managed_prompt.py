"""A managed prompt as programs use it: an unchanging version of a text, with methods that render it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from gati.events import ManagedVersion
from gati.pipeline import internal_errors
from gati.trace.managed_prompts import ManagedTemplate, managed_prompts, without_escaping

if TYPE_CHECKING:
    from langchain_core.prompts import ChatPromptTemplate

_VARIABLE = re.compile(r"\{\{\{\s*([\w.]+)\s*\}\}\}|\{\{&?\s*([\w.]+)\s*\}\}")
FALLBACK_SUFFIX = ":fallback"
"""The fallback is reported under a name of its own. Under the prompt's name it would become a version of it."""


def variables_of(content: str) -> tuple[str, ...]:
    """Return the names of the placeholders in a text, in the order of their first use."""
    return tuple(dict.fromkeys(mark[1] or mark[2] for mark in _VARIABLE.finditer(content)))


@dataclass(frozen=True)
class ManagedPrompt:
    """One version of a prompt.

    Attributes:
        name: its external id.
        content: its text with placeholders, in mustache format.
        source: `greenflash`, `store` (the embedded store), `disk` (fetched earlier, by this or another process) or
            `fallback`.
        id: Greenflash's id of this version; None for the fallback.
        variant: the label of the variant that was chosen.
    """

    name: str
    content: str
    source: Literal["greenflash", "store", "disk", "fallback"]
    id: str | None = None
    variant: str | None = None
    _is_pinned: bool = field(default=False, repr=False)
    _fallback_variables: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def is_fallback(self) -> bool:
        """True if this is the program's own text."""
        return self.source == "fallback"

    @cached_property
    def version(self) -> str:
        """A short hash of `content`, as `prompt_version` of reported model calls."""
        return hashlib.sha256(self.content.encode(errors="replace")).hexdigest()[:12]

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The names of the placeholders, in the order of their first use."""
        return variables_of(self.content)

    def text(self, /, **variables: Any) -> str:
        """Return the text with values for its placeholders.

        A placeholder without a value becomes empty, as in mustache, and one line is logged: a text that somebody edits
        in Greenflash must not break the program.
        """
        try:
            rendered, values = self._render(variables)
        except Exception as error:  # noqa: BLE001 - a value may raise anything
            internal_errors.report("prompts.text", error)
            return self.content
        managed_prompts.add_text(rendered, self._template(), values)
        return rendered

    def template(self) -> ChatPromptTemplate:
        """Return a chat prompt template with one system message, in mustache format.

        If the prompt has a placeholder that the fallback does not have, it may be left out, and is empty then.
        """
        from gati.langchain.managed_template import chat_template  # late: it loads LangChain

        self._template()
        return chat_template(without_escaping(self.content), optional=self._optional)

    @property
    def _optional(self) -> list[str]:
        """The placeholders that the program may not know."""
        known = self._fallback_variables
        if known is None:
            return []
        return [name for name in self.variables if "." not in name and name not in known]

    def _render(self, variables: dict[str, Any]) -> tuple[str, dict[str, str]]:
        values = {name: _value_of(name, variables) for name in self.variables}
        if "{{" in _VARIABLE.sub("", self.content):  # sections, comments
            from gati.langchain.managed_template import render_mustache  # late: it loads LangChain

            rendered = render_mustache(without_escaping(self.content), variables)
            if rendered is not None:
                return rendered, {name: text for name, text in values.items() if text}
        elif missing := [name for name in self.variables if name.partition(".")[0] not in variables]:
            internal_errors.log.emit(
                f"prompts.variables.{self.name}", "the prompt %r got no value for %s", self.name, ", ".join(missing)
            )
        return _VARIABLE.sub(lambda mark: values[mark[1] or mark[2]], self.content), values

    def _template(self) -> ManagedTemplate:
        """Make the version known to the recorder, and return it."""
        if self.is_fallback:
            template = ManagedTemplate(self.name + FALLBACK_SUFFIX, self.content)
        else:
            version = ManagedVersion(self.id if self._is_pinned else None, self.variant)
            template = ManagedTemplate(self.name, self.content, version)
        managed_prompts.add_template(template)
        return template


def _value_of(name: str, variables: dict[str, Any]) -> str:
    """Return the text of a value. ``user.name`` is the entry or attribute `name` of the value `user`."""
    value: Any = variables
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return "" if value is None else str(value)
