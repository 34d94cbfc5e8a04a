"""Reading system prompts: lineages, their versions, and what a call made of one."""

from __future__ import annotations

import difflib
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gati.studio import prompts
from gati.studio.store import Store

_VARIABLE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Lineage:
    """A prompt that keeps its name while its text changes. `named`: the name is the prompt's, not its agent's."""

    uid: str
    name: str
    named: int
    product: str
    versions: int
    uses: int
    last_at: int


@dataclass(frozen=True)
class Version:
    """One text of a prompt. `uses`: requests that stood under it."""

    id: int
    number: int
    body: str
    first_at: int
    last_at: int
    uses: int

    @property
    def text(self) -> str:
        """The prompt with its marks, dynamic parts by their names."""
        return "\n\n".join(part.text for part in parts(json.loads(self.body)))


class Piece(NamedTuple):
    """A piece of text. `kind`: "" plain, "variable" a filled mark, "same", "old" or "new" in a diff."""

    kind: str
    text: str


class Part(NamedTuple):
    """A component of a prompt. `dynamic`: its text differs from call to call."""

    name: str
    type: str
    dynamic: bool
    text: str


class Line(NamedTuple):
    """A line of a diff; `pieces` mark the words that differ."""

    kind: Literal["same", "old", "new", "gap"]
    pieces: list[Piece]


_LINEAGE = (
    "SELECT p.uid, p.name, p.named, p.product, count(v.id) AS versions, coalesce(sum(v.uses), 0) AS uses,"
    " coalesce(max(v.last_at), 0) AS last_at FROM prompts p JOIN prompt_versions v ON v.prompt = p.id"
)


def lineages(store: Store, limit: int = 100, offset: int = 0) -> list[Lineage]:
    """All prompts, the last used first."""
    with store.connections.reading() as db:
        rows = db.execute(f"{_LINEAGE} GROUP BY p.id ORDER BY last_at DESC, p.id LIMIT ? OFFSET ?", (limit, offset))
        return [Lineage(*row) for row in rows]


def lineage(store: Store, uid: str) -> tuple[Lineage, list[Version]] | None:
    """One prompt and its latest 200 versions, newest first; None if there is none."""
    with store.connections.snapshot() as db:
        row = db.execute(f"{_LINEAGE} WHERE p.uid = ? GROUP BY p.id", (uid,)).fetchone()
        if row is None:
            return None
        versions = db.execute(
            f"SELECT {_VERSION} FROM prompt_versions v JOIN prompts p ON p.id = v.prompt WHERE p.uid = ?"  # noqa: S608  # our own names
            " ORDER BY v.number DESC LIMIT 200",
            (uid,),
        ).fetchall()
    return Lineage(*row), [Version(*version) for version in versions]


_VERSION = "v.id, v.number, v.body, v.first_at, v.last_at, v.uses"


def names(store: Store, versions: set[int]) -> dict[int, tuple[str, str, int]]:
    """(uid, name, version number) of the prompts behind rows of versions."""
    with store.connections.reading() as db:
        rows = db.execute(
            "SELECT v.id, p.uid, p.name, v.number FROM prompt_versions v JOIN prompts p ON p.id = v.prompt"
            " WHERE v.id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(versions)),),
        ).fetchall()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


@dataclass(frozen=True)
class Filled:
    """The system prompt of one request: its version, the one before it, and the text with its values."""

    lineage: Lineage
    version: Version
    before: Version | None
    parts: list[Part]
    pieces: list[list[Piece]]
    variables: dict[str, str]


def of_call(store: Store, call: int) -> Filled | None:
    """The prompt of a request; None when it had none."""
    with store.connections.snapshot() as db:
        row = db.execute(
            f"SELECT k.envelope, p.uid, p.id AS prompt, {_VERSION} FROM calls k"  # noqa: S608  # our own names
            " JOIN prompt_versions v ON v.id = k.version JOIN prompts p ON p.id = v.prompt WHERE k.id = ?",
            (call,),
        ).fetchone()
        if row is None:
            return None
        line = Lineage(*db.execute(f"{_LINEAGE} WHERE p.uid = ? GROUP BY p.id", (row["uid"],)).fetchone())
        before = _before(db, row["prompt"], row["number"])
    version = Version(*(row[name] for name in ("id", "number", "body", "first_at", "last_at", "uses")))
    sent = prompts.put_together(version.body, json.loads(row["envelope"]).get("prompt", {}))
    variables = sent.get("variables", {}) if isinstance(sent, dict) else {}
    shown = list(parts(sent))
    return Filled(line, version, before, shown, [list(fill(part.text, variables)) for part in shown], variables)


def _before(db: sqlite3.Connection, prompt: int, number: int) -> Version | None:
    row = db.execute(
        f"SELECT {_VERSION} FROM prompt_versions v WHERE v.prompt = ? AND v.number < ? ORDER BY v.number DESC LIMIT 1",  # noqa: S608  # our own names
        (prompt, number),
    ).fetchone()
    return Version(*row) if row else None


def parts(prompt: Any) -> Iterator[Part]:
    """A prompt's components; a text is one component."""
    if isinstance(prompt, str):
        yield Part("", "system", False, prompt)
        return
    for index, part in enumerate(prompt.get("components") or [{"content": prompt.get("content", "")}]):
        dynamic = bool(part.get("isDynamic"))
        name = part.get("name") or part.get("externalComponentId") or (f"part {index + 1}" if dynamic else "")
        text = part["content"] or (f"[{name}: differs from call to call]" if dynamic else "")
        yield Part(name, part.get("type", "system"), dynamic, text)


def fill(text: str, variables: dict[str, str]) -> Iterator[Piece]:
    """The text with its ``{{marks}}`` filled; what filled them is marked. A mark without a value stays."""
    end = 0
    for mark in _VARIABLE.finditer(text):
        if mark[1] not in variables:
            continue
        if mark.start() > end:
            yield Piece("", text[end : mark.start()])
        yield Piece("variable", str(variables[mark[1]]))
        end = mark.end()
    if end < len(text):
        yield Piece("", text[end:])


def compare(old: str, new: str, context: int = 3) -> list[Line]:
    """A diff by lines, and by words inside a changed line; long stretches that are the same become a gap."""
    before, after = old.splitlines(), new.splitlines()
    lines: list[Line] = []
    groups = list(difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(context))
    for index, group in enumerate(groups):
        if index or group[0][1] > 0:
            lines.append(Line("gap", []))
        for kind, i1, i2, j1, j2 in group:
            if kind == "equal":
                lines += [Line("same", [Piece("same", line)]) for line in before[i1:i2]]
            else:
                lines += _changed(before[i1:i2], after[j1:j2])
    if groups and groups[-1][-1][2] < len(before):
        lines.append(Line("gap", []))
    return lines


def _changed(old: list[str], new: list[str]) -> list[Line]:
    if len(old) != len(new):
        return [
            *(Line("old", [Piece("old", line)]) for line in old),
            *(Line("new", [Piece("new", line)]) for line in new),
        ]
    gone: list[Line] = []
    come: list[Line] = []
    for before, after in zip(old, new, strict=True):
        a, b = _WORDS.findall(before), _WORDS.findall(after)
        left: list[Piece] = []
        right: list[Piece] = []
        for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            left.append(Piece("same" if kind == "equal" else "old", "".join(a[i1:i2])))
            right.append(Piece("same" if kind == "equal" else "new", "".join(b[j1:j2])))
        gone.append(Line("old", [piece for piece in left if piece.text]))
        come.append(Line("new", [piece for piece in right if piece.text]))
    return gone + come
