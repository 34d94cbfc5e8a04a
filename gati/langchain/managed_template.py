"""LangChain templates of managed prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.prompts import ChatPromptTemplate
from langchain_core.prompts.string import mustache_formatter

if TYPE_CHECKING:
    from collections.abc import Sequence


def chat_template(text: str, optional: Sequence[str]) -> ChatPromptTemplate:
    """Return a template with one system message. The variables in `optional` are empty by default."""
    template = ChatPromptTemplate.from_messages([("system", text)], template_format="mustache")
    return template.partial(**dict.fromkeys(optional, "")) if optional else template


def render_mustache(text: str, variables: dict[str, Any]) -> str | None:
    """Render a text that has sections; None if it is not valid mustache."""
    try:
        return mustache_formatter(text, **variables)
    except Exception:  # noqa: BLE001 - LangChain raises errors of several classes; the caller goes on without sections
        return None
