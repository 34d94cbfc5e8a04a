"""Queries of system prompts: prompts, their versions, diffs, and the prompt of one call with its values filled in."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gati.store import prompt_versions
from gati.store.store import Store

_PLACEHOLDER = re.compile(r"\{\{([^{}]+)\}\}")


@dataclass(frozen=True)
class PromptSummary:
    """A prompt with its number of versions. `named`: the name is the prompt's own rather than its agent's."""

    uid: str
    name: str
    named: int
    product: str
    versions: int
    uses: int
    last_at: int


@dataclass(frozen=True)
class PromptVersion:
    """One text of a prompt. `uses` counts the requests that used it."""

    id: int
    number: int
    body: str
    first_at: int
    last_at: int
    uses: int

    @property
    def text(self) -> str:
        """The prompt with its placeholders; dynamic components appear by name."""
        return "\n\n".join(component.text for component in prompt_components(json.loads(self.body)))


class TextSpan(NamedTuple):
    """A span of text. `kind`: "" plain, "variable" a filled placeholder."""

    kind: str
    text: str


class ComponentText(NamedTuple):
    """A component of a prompt. The text of a `dynamic` component differs between calls."""

    name: str
    type: str
    dynamic: bool
    text: str


_SUMMARY_QUERY = (
    "SELECT p.uid, p.name, p.named, p.product, count(v.id) AS versions, coalesce(sum(v.uses), 0) AS uses,"
    " coalesce(max(v.last_at), 0) AS last_at FROM prompts p JOIN prompt_versions v ON v.prompt = p.id"
)
_VERSION_COLUMNS = "v.id, v.number, v.body, v.first_at, v.last_at, v.uses"


def list_prompts(
    store: Store, limit: int = 100, offset: int = 0, since: int | None = None, until: int | None = None
) -> list[PromptSummary]:
    """Return the prompts with a version that was used in a period, most recently used first."""
    with store.connections.reading() as db:
        rows = db.execute(
            f"{_SUMMARY_QUERY} WHERE v.last_at >= ? AND v.first_at < ? GROUP BY p.id"
            " ORDER BY last_at DESC, p.id LIMIT ? OFFSET ?",
            (-(2**62) if since is None else since, 2**62 if until is None else until, limit, offset),
        )
        return [PromptSummary(*row) for row in rows]


def find_prompt(store: Store, uid: str) -> tuple[PromptSummary, list[PromptVersion]] | None:
    """Return a prompt and its latest 200 versions, newest first; None if it does not exist."""
    with store.connections.snapshot() as db:
        row = db.execute(f"{_SUMMARY_QUERY} WHERE p.uid = ? GROUP BY p.id", (uid,)).fetchone()
        if row is None:
            return None
        versions = db.execute(
            f"SELECT {_VERSION_COLUMNS} FROM prompt_versions v JOIN prompts p ON p.id = v.prompt WHERE p.uid = ?"  # noqa: S608  # our own names
            " ORDER BY v.number DESC LIMIT 200",
            (uid,),
        ).fetchall()
    return PromptSummary(*row), [PromptVersion(*version) for version in versions]


def prompt_names(store: Store, versions: set[int]) -> dict[int, tuple[str, str, int]]:
    """Return (uid, name, version number) for each given row of a version."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT v.id, p.uid, p.name, v.number FROM prompt_versions v JOIN prompts p ON p.id = v.prompt"
            " WHERE v.id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(versions)),),
        ).fetchall()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


@dataclass(frozen=True)
class CallPrompt:
    """The system prompt of one request.

    Attributes:
        prompt: The prompt.
        version: The version that was used.
        previous: The version before it, if any.
        components: The components as they were sent.
        texts: For each component, its text with the placeholders filled.
        variables: The values of the placeholders.
    """

    prompt: PromptSummary
    version: PromptVersion
    previous: PromptVersion | None
    components: list[ComponentText]
    texts: list[list[TextSpan]]
    variables: dict[str, str]


def prompt_of_call(store: Store, call: int) -> CallPrompt | None:
    """Return the prompt of a request; None if it had none."""
    with store.connections.snapshot() as db:
        row = db.execute(
            f"SELECT k.envelope, p.uid, p.id AS prompt, {_VERSION_COLUMNS} FROM calls k"  # noqa: S608  # our own names
            " JOIN prompt_versions v ON v.id = k.version JOIN prompts p ON p.id = v.prompt WHERE k.id = ?",
            (call,),
        ).fetchone()
        if row is None:
            return None
        summary = db.execute(f"{_SUMMARY_QUERY} WHERE p.uid = ? GROUP BY p.id", (row["uid"],)).fetchone()
        previous = _previous_version(db, row["prompt"], row["number"])
    version = PromptVersion(*(row[name] for name in ("id", "number", "body", "first_at", "last_at", "uses")))
    sent = prompt_versions.join_prompt(version.body, json.loads(row["envelope"]).get("prompt", {}))
    variables = sent.get("variables", {}) if isinstance(sent, dict) else {}
    components = list(prompt_components(sent))
    texts = [list(fill_placeholders(component.text, variables)) for component in components]
    return CallPrompt(PromptSummary(*summary), version, previous, components, texts, variables)


def prompt_text(store: Store, call: int) -> str:
    """Return the system prompt of a request with the placeholders filled, "" if it had none."""
    with store.connections.reading() as db:
        query = "SELECT k.envelope, v.body FROM calls k JOIN prompt_versions v ON v.id = k.version WHERE k.id = ?"
        row = db.execute(query, (call,)).fetchone()
    if row is None:
        return ""
    sent = prompt_versions.join_prompt(row["body"], json.loads(row["envelope"]).get("prompt", {}))
    variables = sent.get("variables", {}) if isinstance(sent, dict) else {}
    components = [fill_placeholders(component.text, variables) for component in prompt_components(sent)]
    return "\n\n".join("".join(span.text for span in spans) for spans in components)


def _previous_version(db: sqlite3.Connection, prompt: int, number: int) -> PromptVersion | None:
    row = db.execute(
        f"SELECT {_VERSION_COLUMNS} FROM prompt_versions v WHERE v.prompt = ? AND v.number < ?"  # noqa: S608  # our own names
        " ORDER BY v.number DESC LIMIT 1",
        (prompt, number),
    ).fetchone()
    return PromptVersion(*row) if row else None


def prompt_components(prompt: Any) -> Iterator[ComponentText]:
    """Yield a prompt's components. A plain string is one component."""
    if isinstance(prompt, str):
        yield ComponentText("", "system", False, prompt)
        return
    for index, part in enumerate(prompt.get("components") or [{"content": prompt.get("content", "")}]):
        dynamic = bool(part.get("isDynamic"))
        name = part.get("name") or part.get("externalComponentId") or (f"part {index + 1}" if dynamic else "")
        text = part["content"] or (f"[{name}: differs from call to call]" if dynamic else "")
        yield ComponentText(name, part.get("type", "system"), dynamic, text)


def fill_placeholders(text: str, variables: dict[str, str]) -> Iterator[TextSpan]:
    """Fill the ``{{placeholders}}`` and mark the values. A placeholder without a value stays.

    ``fill_placeholders("Hi {{name}}", {"name": "Ada"})`` → ``("", "Hi "), ("variable", "Ada")``
    """
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        if (name := match[1].strip()) not in variables:
            continue
        if match.start() > end:
            yield TextSpan("", text[end : match.start()])
        yield TextSpan("variable", str(variables[name]))
        end = match.end()
    if end < len(text):
        yield TextSpan("", text[end:])
