"""System prompts in the store: a lineage keeps its name while its text changes, in versions.

What differs from conversation to conversation (values of variables, dynamic components) is
kept with the call, so that it makes no versions.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from typing import Any

_ENVELOPE = (
    "externalUserId", "externalOrganizationId", "model", "properties", "sampleRate", "forceSample", "voiceCall",
)  # fmt: skip


def keep(db: sqlite3.Connection, body: dict[str, Any], product: str, agent: str | None, at: int) -> int | None:
    """Find or make the version of the request's system prompt; None when it has none."""
    prompt = body.get("systemPrompt")
    if prompt is None:
        return None
    text, _ = take_apart(prompt)
    name = _name(prompt)
    db.execute(
        "INSERT INTO prompts (uid, product, name, named) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (str(uuid.uuid4()), product, name or agent or _agent(body), name is not None),
    )
    lineage = db.execute(
        "SELECT id FROM prompts WHERE product = ? AND name = ?", (product, name or agent or _agent(body))
    ).fetchone()["id"]
    digest = hashlib.sha256(text.encode()).hexdigest()
    db.execute(
        "INSERT INTO prompt_versions (prompt, number, digest, body, first_at, last_at) SELECT ?, coalesce(max(number), 0)"
        " + 1, ?, ?, ?, ? FROM prompt_versions WHERE prompt = ? ON CONFLICT DO UPDATE SET"
        " first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)",
        (lineage, digest, text, at, at, lineage),
    )
    found = "SELECT id FROM prompt_versions WHERE prompt = ? AND digest = ?"
    return int(db.execute(found, (lineage, digest)).fetchone()["id"])


def keep_call(db: sqlite3.Connection, conversation: int, version: int | None, body: dict[str, Any]) -> int:
    """Remember what a request said beside its messages; the same as the conversation's last is kept once."""
    envelope = {key: body[key] for key in _ENVELOPE if body.get(key) is not None}
    if version is not None:
        envelope["prompt"] = take_apart(body["systemPrompt"])[1]
        db.execute("UPDATE prompt_versions SET uses = uses + 1 WHERE id = ?", (version,))
    text = json.dumps(envelope, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    last = db.execute("SELECT * FROM calls WHERE conversation = ? ORDER BY id DESC LIMIT 1", (conversation,)).fetchone()
    if last is not None and last["version"] == version and last["envelope"] == text:
        return int(last["id"])
    cursor = db.execute(
        "INSERT INTO calls (conversation, version, envelope) VALUES (?, ?, ?)", (conversation, version, text)
    )
    return int(cursor.lastrowid or 0)


def take_apart(prompt: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The part of a prompt that is its version, as canonical JSON, and the part that is one call's own."""
    if isinstance(prompt, str):
        return json.dumps(prompt, ensure_ascii=False), {}
    own: dict[str, Any] = {}
    fixed = {key: value for key, value in prompt.items() if key != "variables"}
    if "variables" in prompt:
        own["variables"] = prompt["variables"]
    if components := prompt.get("components"):
        fixed["components"] = [{**part, "content": ""} if part.get("isDynamic") else part for part in components]
        dynamic = {str(i): part["content"] for i, part in enumerate(components) if part.get("isDynamic")}
        if dynamic:
            own["dynamic"] = dynamic
    return json.dumps(fixed, ensure_ascii=False, sort_keys=True), own


def put_together(text: str, own: dict[str, Any]) -> str | dict[str, Any]:
    """The prompt as it was sent: the reverse of `take_apart`."""
    prompt: str | dict[str, Any] = json.loads(text)
    if isinstance(prompt, str):
        return prompt
    for index, content in own.get("dynamic", {}).items():
        prompt["components"][int(index)]["content"] = content
    if "variables" in own:
        prompt["variables"] = own["variables"]
    return prompt


def ids(db: sqlite3.Connection, version: int | None) -> tuple[str, list[str]]:
    """Greenflash's ids of a version's prompt and its components."""
    if version is None:
        return "", []
    row = db.execute(
        "SELECT p.uid, v.digest, v.body FROM prompt_versions v JOIN prompts p ON p.id = v.prompt WHERE v.id = ?",
        (version,),
    ).fetchone()
    prompt = json.loads(row["body"])
    parts = len(prompt.get("components", [])) if isinstance(prompt, dict) else 1
    lineage = uuid.UUID(row["uid"])
    return row["uid"], [str(uuid.uuid5(lineage, f"{row['digest']}/{i}")) for i in range(parts or 1)]


def _name(prompt: str | dict[str, Any]) -> str | None:
    if isinstance(prompt, str):
        return None
    name = prompt.get("externalPromptId") or prompt.get("promptId")
    return str(name) if name else None


def _agent(body: dict[str, Any]) -> str:
    """Prompts without a name of their own are told apart by who uses them."""
    name = (body.get("properties") or {}).get("agent_name")
    return name if isinstance(name, str) else "(no name)"
