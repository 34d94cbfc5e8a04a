"""System prompts in the store: a prompt keeps its name while its text changes, and each text is a version.

Parts that differ between conversations (values of variables, dynamic components) are stored with the call, so they
do not create versions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sqlite3
import uuid
from typing import Any

from gati.store import message_columns

_PLACEHOLDER = re.compile(r"\{\{([^{}]+)\}\}")
_CALL_FIELDS = (
    "externalUserId", "externalOrganizationId", "model", "properties", "sampleRate", "forceSample", "voiceCall",
)  # fmt: skip


_ADD_REQUEST = """
UPDATE calls SET requests = requests + 1,
  first_at = CASE WHEN first_at < ? THEN first_at ELSE ? END, last_at = CASE WHEN last_at > ? THEN last_at ELSE ? END
WHERE id = ?
"""


def record_version(
    db: sqlite3.Connection, body: dict[str, Any], product: str, agent: str | None, at: int
) -> int | None:
    """Find or create the version of the request's system prompt; return None if the request has no prompt."""
    prompt = body.get("systemPrompt")
    if prompt is None:
        return None
    if (referred := referred_version(db, prompt)) is not None:
        return referred
    text, _ = split_prompt(prompt)
    named = _explicit_prompt_name(prompt) is not None
    prompt_id = find_or_create_prompt(db, product, prompt_name(body, agent), named=named)
    version = find_version(db, prompt_id, prompt)
    if version is None:
        return add_version(db, prompt_id, text, at, at)
    db.execute(
        "UPDATE prompt_versions SET first_at = min(first_at, ?), last_at = max(last_at, ?) WHERE id = ?",
        (at, at, version),
    )
    return version


def prompt_name(body: dict[str, Any], agent: str | None) -> str:
    """Return the name of a request's prompt: its own, else that of the agent that uses it."""
    return _explicit_prompt_name(body["systemPrompt"]) or agent or _agent_label(body)


def find_or_create_prompt(db: sqlite3.Connection, product: str, name: str, *, named: bool) -> int:
    """Return the row id of a prompt."""
    db.execute(
        "INSERT INTO prompts (uid, product, name, named) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (str(uuid.uuid4()), product, name, int(named)),
    )
    return int(db.execute("SELECT id FROM prompts WHERE product = ? AND name = ?", (product, name)).fetchone()["id"])


def find_version(db: sqlite3.Connection, prompt_id: int, prompt: str | dict[str, Any]) -> int | None:
    """Return the row id of a prompt's version with the same text; None if there is none.

    Versions that were created through the API are compared by the texts of their components, because programs repeat
    only these.
    """
    text, _ = split_prompt(prompt)
    query = "SELECT id FROM prompt_versions WHERE prompt = ? AND digest = ?"
    if (row := db.execute(query, (prompt_id, text_digest(text))).fetchone()) is not None:
        return int(row["id"])
    texts = component_texts(text)
    rows = db.execute("SELECT id, body FROM prompt_versions WHERE prompt = ? AND managed = 1", (prompt_id,)).fetchall()
    return next((int(row["id"]) for row in rows if component_texts(row["body"]) == texts), None)


def add_version(db: sqlite3.Connection, prompt_id: int, text: str, first_at: int, last_at: int) -> int:
    """Insert a version, and return its row id."""
    uid = str(uuid.uuid5(uuid.UUID(_prompt_uid(db, prompt_id)), text_digest(text)))
    cursor = db.execute(
        "INSERT INTO prompt_versions (prompt, number, digest, body, first_at, last_at, uid)"
        " SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ?, ?, ? FROM prompt_versions WHERE prompt = ?",
        (prompt_id, text_digest(text), text, first_at, last_at, uid, prompt_id),
    )
    return int(cursor.lastrowid or 0)


def referred_version(db: sqlite3.Connection, prompt: str | dict[str, Any]) -> int | None:
    """Return the version that a reference without text means; None if the prompt has a text, or is not known."""
    if isinstance(prompt, str) or prompt.get("components") or prompt.get("content"):
        return None
    if uid := prompt.get("promptId"):
        row = db.execute("SELECT id FROM prompt_versions WHERE uid = ?", (str(uid).lower(),)).fetchone()
    else:
        row = db.execute(
            "SELECT v.id FROM prompt_versions v JOIN prompts p ON p.id = v.prompt WHERE p.name = ? AND v.managed = 1"
            " ORDER BY v.active DESC, v.number DESC LIMIT 1",
            (prompt.get("externalPromptId"),),
        ).fetchone()
    return int(row["id"]) if row is not None else None


def component_texts(body: str) -> list[tuple[str, str]]:
    """Return type and text of the components of a version's body. Dynamic ones have no text."""
    prompt = json.loads(body)
    if isinstance(prompt, str):
        return [("system", prompt)]
    parts = prompt.get("components") or [{"content": prompt.get("content", "")}]
    return [(part.get("type", "system"), part.get("content", "")) for part in parts]


def version_text(body: str) -> str:
    """Return the text of a version's body, with its placeholders."""
    return "\n\n".join(text for _, text in component_texts(body))


def fill_placeholders_in(text: str, variables: dict[str, str]) -> str:
    """Fill the ``{{placeholders}}`` for which there are values."""
    return _PLACEHOLDER.sub(lambda mark: str(variables.get(mark[1].strip(), mark[0])), text)


def text_digest(text: str) -> str:
    """Return what identifies a version of a prompt: a hash of its text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _prompt_uid(db: sqlite3.Connection, prompt_id: int) -> str:
    return str(db.execute("SELECT uid FROM prompts WHERE id = ?", (prompt_id,)).fetchone()["uid"])


def record_call(db: sqlite3.Connection, conversation: int, version: int | None, body: dict[str, Any], at: int) -> int:
    """Store a request's fields other than its messages. Reuse the conversation's last call if it has the same ones.

    `at` is the time of the request's first message.
    """
    if version is not None:
        db.execute("UPDATE prompt_versions SET uses = uses + 1 WHERE id = ?", (version,))
    prompt = body.get("systemPrompt")
    text = call_envelope(body, None if prompt is None else split_prompt(prompt)[1])
    last = db.execute("SELECT * FROM calls WHERE conversation = ? ORDER BY id DESC LIMIT 1", (conversation,)).fetchone()
    if last is not None and last["version"] == version and last["envelope"] == text:
        db.execute(_ADD_REQUEST, (at, at, at, at, last["id"]))
        return int(last["id"])
    cursor = db.execute(
        "INSERT INTO calls (conversation, version, envelope, first_at, last_at) VALUES (?, ?, ?, ?, ?)",
        (conversation, version, text, at, at),
    )
    return int(cursor.lastrowid or 0)


_encode_envelope = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
_encode_text = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


def call_envelope(body: dict[str, Any], values: dict[str, Any] | None) -> str:
    """Return a request's fields other than its messages as JSON, with the values of its prompt if it has one."""
    envelope = {key: body[key] for key in _CALL_FIELDS if body.get(key) is not None}
    if values is not None:
        envelope["prompt"] = values
    return _encode_envelope(envelope)


def split_prompt(prompt: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split a prompt into its version's text (canonical JSON) and the values of one call.

    ``{"content": "Hi {{name}}", "variables": {"name": "Ada"}}`` →
    ``('{"content": "Hi {{name}}"}', {"variables": {"name": "Ada"}})``
    """
    if isinstance(prompt, str):
        return _encode_text(prompt), {}
    call_values: dict[str, Any] = {}
    fixed = {key: value for key, value in prompt.items() if key != "variables"}
    if "variables" in prompt:
        call_values["variables"] = prompt["variables"]
    if components := prompt.get("components"):
        fixed["components"] = [{**part, "content": ""} if part.get("isDynamic") else part for part in components]
        dynamic = {str(i): part["content"] for i, part in enumerate(components) if part.get("isDynamic")}
        if dynamic:
            call_values["dynamic"] = dynamic
    return _encode_text(fixed), call_values


def join_prompt(text: str, call_values: dict[str, Any]) -> str | dict[str, Any]:
    """Rebuild the prompt as it was sent: the inverse of `split_prompt`."""
    prompt: str | dict[str, Any] = json.loads(text)
    if isinstance(prompt, str):
        return prompt
    for index, content in call_values.get("dynamic", {}).items():
        prompt["components"][int(index)]["content"] = content
    if "variables" in call_values:
        prompt["variables"] = call_values["variables"]
    return prompt


def greenflash_ids(db: sqlite3.Connection, version: int | None) -> tuple[str, list[str]]:
    """Return the ids of a version's prompt and of its components, as the API returns them."""
    if version is None:
        return "", []
    row = db.execute(
        "SELECT p.uid, v.digest, v.body FROM prompt_versions v JOIN prompts p ON p.id = v.prompt WHERE v.id = ?",
        (version,),
    ).fetchone()
    return row["uid"], list(component_ids(row["uid"], row["digest"], row["body"]))


@functools.lru_cache(maxsize=256)
def component_ids(prompt_uid: str, digest: str, body: str) -> tuple[str, ...]:
    """Return the ids of a version's components, as the API returns them."""
    prompt = json.loads(body)
    count = len(prompt.get("components", [])) if isinstance(prompt, dict) else 1
    return tuple(str(uuid.uuid5(uuid.UUID(prompt_uid), f"{digest}/{i}")) for i in range(count or 1))


def _agent_label(body: dict[str, Any]) -> str:
    """Return the name for a prompt that has none: that of the agent that uses it."""
    name = message_columns.agent_name_of(body)
    return "(no name)" if name is None else name


def _explicit_prompt_name(prompt: str | dict[str, Any]) -> str | None:
    if isinstance(prompt, str):
        return None
    name = prompt.get("externalPromptId") or prompt.get("promptId")
    return str(name) if name else None
