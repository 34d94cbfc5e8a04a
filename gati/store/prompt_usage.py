"""State and usage of prompt versions, for the pages of prompts: managed, active, and the sums over their model calls."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gati.store.prompt_versions import component_texts
from gati.store.store import Store


@dataclass(frozen=True)
class ManagedState:
    """State of a prompt.

    Attributes:
        managed: A version was created through the prompts API, so it is not only recovered from messages.
        active: Number of the active version; None if no version is active.
    """

    managed: bool
    active: int | None


@dataclass(frozen=True)
class VersionUsage:
    """A version's state, and the sums over the model calls that used it. None is unknown.

    Attributes:
        uid: Its id in the prompts API.
        digest: Short hash of its text, as `prompt_version` of reported model calls.
        managed: It was created through the prompts API.
        active: It is the one that programs get.
        archived: It is not used any more.
        conversations: Conversations with a call of it.
        calls: Model calls.
        tokens_in: Their input tokens.
        tokens_out: Their output tokens.
        cost: Their cost in US dollars; None if the cost of none is known.
        unpriced: Completed calls without a known cost.
    """

    uid: str
    digest: str
    managed: bool
    active: bool
    archived: bool
    conversations: int = 0
    calls: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    unpriced: int = 0


def managed_states(store: Store) -> dict[str, ManagedState]:
    """Return the state of each prompt by its id."""
    query = (
        "SELECT p.uid, max(v.managed) AS managed, max(CASE WHEN v.active = 1 THEN v.number END) AS active"
        " FROM prompts p JOIN prompt_versions v ON v.prompt = p.id GROUP BY p.id"
    )
    with store.connections.reading() as db:
        rows = db.execute(query).fetchall()
    return {row["uid"]: ManagedState(bool(row["managed"]), row["active"]) for row in rows}


_USAGE_QUERY = """
SELECT k.version, count(DISTINCT m.conversation), count(*), sum(m.tokens_in), sum(m.tokens_out), sum(m.cost),
  sum(CASE WHEN m.cost IS NULL AND coalesce(m.status, 'completed') = 'completed' THEN 1 ELSE 0 END)
FROM prompts p JOIN prompt_versions v ON v.prompt = p.id JOIN calls k ON k.version = v.id
JOIN messages m ON m.conversation = k.conversation AND m.call = k.id AND m.type = 'llm'
WHERE p.uid = ? GROUP BY k.version
"""


def version_usage(store: Store, prompt_uid: str) -> dict[int, VersionUsage]:
    """Return the usage of each version of a prompt, by the version's row id."""
    query = (
        "SELECT v.id, v.uid, v.body, v.managed, v.active, v.archived_at FROM prompts p"
        " JOIN prompt_versions v ON v.prompt = p.id WHERE p.uid = ?"
    )
    with store.connections.snapshot() as db:
        versions = db.execute(query, (prompt_uid,)).fetchall()
        sums = {row[0]: tuple(row)[1:] for row in db.execute(_USAGE_QUERY, (prompt_uid,))}
    return {
        row["id"]: VersionUsage(
            row["uid"],
            _reported_version(row["body"]),
            bool(row["managed"]),
            bool(row["active"]),
            row["archived_at"] is not None,
            *sums.get(row["id"], ()),
        )
        for row in versions
    }


def _reported_version(body: str) -> str:
    """Return the hash that programs report. Dynamic components have no text in a version's body."""
    texts = [text for _, text in component_texts(body) if text]
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:12]
