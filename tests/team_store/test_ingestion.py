"""Batched ingestion into PostgreSQL stores what the embedded store stores, whatever arrives together."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gati.store.actions import UnknownConversationError
from gati.store.store import Store, TooLargeError
from gati.team_store.store import PostgresStore
from tests.store.bodies import at, body, said, step, turn

TABLES = {
    "conversations": "product, external_id, agent, status, title, preview, properties, first_at, last_at, last_message,"
    " turns, messages, errors, model_calls, tokens_in, tokens_out, cost, unpriced, slowest_ms, c.user, organization",
    "messages": "conversation, (SELECT envelope FROM calls k WHERE k.id = c.call), external_id, type, at, agent, model, status, latency_ms, first_token_ms, tokens_in,"
    " tokens_out, cost, body",
    "calls": "conversation, version, envelope, requests, first_at, last_at",
    "prompt_versions": "(SELECT name FROM prompts p WHERE p.id = c.prompt), number, digest, body, first_at, last_at, uses",
    "prompts": "product, name, named",
    "facets": "kind, value, conversation",
    "labels": "owner_kind, owner, kind, name, value",
    "sums": "*",
    "durations": "*",
}


def contents(store: Store) -> dict[str, list[str]]:
    """What the tables hold, without ids that are random. Row ids are the same if rows were inserted in the same order."""
    with store.connections.reading() as db:
        found = {name: db.execute(f"SELECT {columns} FROM {name} c").fetchall() for name, columns in TABLES.items()}
    return {name: sorted(json.dumps([_plain(value) for value in row]) for row in rows) for name, rows in found.items()}


def _plain(value: Any) -> Any:
    """A value without differences of type and of the last digit; a random id by its length."""
    if isinstance(value, (int, float)):
        return f"{value:.9g}"
    return "uid" if isinstance(value, str) and len(value) == 36 and value.count("-") == 4 else value


def some_bodies(chance: random.Random) -> list[dict[str, Any]]:
    prompts: list[Any] = [
        None, "Be kind.", {"externalPromptId": "p", "content": "Hi {{name}}", "variables": {"name": "Ada"}},
        {"externalPromptId": "p", "content": "Hello {{name}}", "variables": {"name": "Bob"}},
    ]  # fmt: skip
    bodies = []
    for number in range(24):
        when = chance.randrange(10**7)
        messages = turn(f"r{chance.randrange(16)}", "Wie viel Übermaß? 東京都", when=when)
        if chance.random() < 0.3:
            messages.append(
                step(f"e{number}", "tool_error", messages[6]["externalMessageId"], when + 9, output={"x": 1})
            )
        if chance.random() < 0.3:
            messages = [
                said(f"u{number}", "hello", when),
                {"messageType": "llm", "model": "m", "createdAt": at(when), "properties": {"status": "error"}},
            ]
        more: dict[str, Any] = {
            "properties": {"agent_name": chance.choice(["a", "b"]), "plan": chance.choice(["x", "y"])}
        }
        if (prompt := chance.choice(prompts)) is not None:
            more["systemPrompt"] = prompt
        if chance.random() < 0.2:
            more["externalOrganizationId"] = "acme"
        bodies.append(body(f"c{chance.randrange(6)}", *messages, user=f"u{chance.randrange(3)}", **more))
    return bodies


@pytest.mark.parametrize("size", [1, 5, 24])
def test_any_division_into_batches_stores_the_same_as_the_embedded_store(
    size: int, team_database: str, tmp_path: Path
) -> None:
    bodies = some_bodies(random.Random(size))
    embedded, team = Store(tmp_path / "store.db"), PostgresStore(team_database)
    expected = [embedded.ingest(given) for given in bodies]
    found = [result for i in range(0, len(bodies), size) for result in team.ingest_many(bodies[i : i + size])]
    statuses = [[message["status"] for message in answer["messages"]] for answer in expected]
    assert [[message["status"] for message in answer["messages"]] for answer in found] == statuses  # type: ignore[call-overload, index]  # none is an error
    assert contents(team) == contents(embedded)
    embedded.close()
    team.close()


def test_a_request_that_cannot_be_stored_does_not_keep_others_of_its_batch_out(team_database: str) -> None:
    team = PostgresStore(team_database)
    unknown = {**body("c", said("a", "x")), "conversationId": "33333333-3333-4333-8333-333333333333"}
    noise = random.Random(3)
    endless = body("".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(5000)), said("a", "x"))
    results = team.ingest_many([body("one", said("a", "1")), unknown, endless, body("two", said("a", "2"))])
    assert [type(result) for result in results] == [dict, UnknownConversationError, TooLargeError, dict]
    with pytest.raises(TooLargeError):
        team.ingest(endless)
    with team.connections.reading() as db:
        assert [row[0] for row in db.execute("SELECT external_id FROM conversations ORDER BY id")] == ["one", "two"]
    team.close()


ODD_TEXTS = [
    "tab\tand\nline\r",
    "back\\slash \\N \\t",
    '"quoted" {a,b}',
    "NULL",
    r"\N",
    "",
    " ",
    "x" * 3000,
    "\x01\x7f\u2028😀",
    "İ",
]


def test_texts_with_characters_that_have_a_meaning_in_rows_and_arrays_are_stored_as_they_are(
    team_database: str, tmp_path: Path
) -> None:
    bodies = []
    for number, text in enumerate(ODD_TEXTS):
        short = f"{number}{text[:100]}"
        named = {
            "externalMessageId": f"m{short}", "messageType": "llm", "model": short, "createdAt": at(number),
            "output": {text: [text, 0.1, -1, True, None]}, "toolName": short,
            "properties": {"agent_name": short, "tags": [short], "plan": text, "status": text, "latency_ms": 0.001},
        }  # fmt: skip
        prompt = {"externalPromptId": short, "content": f"{text}{{{{x}}}}", "variables": {"x": text}}
        more = {"systemPrompt": prompt, "externalOrganizationId": short, "properties": {text: text}}
        bodies.append(body(f"c{short}", said(f"u{short}", text, number), named, user=f"u{short}", **more))
    embedded, team = Store(tmp_path / "store.db"), PostgresStore(team_database)
    for _ in range(2):
        for given in bodies:
            embedded.ingest(given)
        assert not [result for result in team.ingest_many(bodies) if isinstance(result, Exception)]
    assert contents(team) == contents(embedded)
    embedded.close()
    team.close()


def test_characters_that_postgresql_does_not_store_are_replaced(team_database: str) -> None:
    team = PostgresStore(team_database)
    team.ingest(body("c\0d", said("a\0", "nul \0 here", properties={"tags": ["t\0"]}), user="u\0"))
    team.record_action("users", {"externalUserId": "u\0", "name": "Ada\0"})
    team.ingest(body("c\0d", said("a\0", "again")))
    with team.connections.reading() as db:
        rows = db.execute(
            "SELECT c.external_id, c.user, m.body FROM conversations c JOIN messages m ON m.conversation = c.id"
        )
        assert [(row[0], row["user"], json.loads(row[2])["content"]) for row in rows] == [
            ("c\ufffdd", "u\ufffd", "nul \ufffd here")
        ]
        assert (
            db.execute("SELECT json_extract(body, '$.name') FROM actions WHERE key = ?", ("u\0",)).fetchone()[0]
            == "Ada\ufffd"
        )
    team.close()
