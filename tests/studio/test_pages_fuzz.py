"""Whatever the contract allows can be stored, and whatever is stored can be shown, exported and pushed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gati import push_requests
from gati.store import export, queries
from gati.store.store import Store
from gati.studio.api import validation
from tests.servers import studio_client
from tests.store.bodies import at

TYPES = validation.request_schemas()["messages"]["properties"]["messages"]["items"]["properties"]["messageType"]["enum"]
KNOWN = [
    "name", "agent_name", "node", "status", "latency_ms", "time_to_first_token_ms", "tokens_in", "tokens_out", "cost_usd",
    "provider", "cached", "handled", "documents", "output", "error", "data", "mime", "bytes", "sha256", "text", "metadata", "score",
]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN) | TEXT, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(KNOWN) | TEXT, VALUES, max_size=6)
NUMBERS = st.fixed_dictionaries(
    {}, optional={name: st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), VALUES)
                  for name in KNOWN[4:9]}
)  # fmt: skip
IDS = st.sampled_from(["a", "b", "c", "d", "e", "f"])
MESSAGES = st.fixed_dictionaries(
    {"messageType": st.sampled_from(TYPES), "toolName": TEXT},
    optional={
        "externalMessageId": IDS, "parentExternalMessageId": IDS, "content": TEXT, "input": OBJECTS | TEXT, "context": st.none() | TEXT,
        "output": OBJECTS | TEXT, "properties": OBJECTS | NUMBERS, "model": TEXT, "createdAt": st.none() | st.integers(0, 9).map(at),
    },
)  # fmt: skip
PARTS = st.fixed_dictionaries(
    {"content": TEXT}, optional={"name": TEXT, "isDynamic": st.booleans(), "type": st.just("rag")}
)
PROMPTS = TEXT | st.fixed_dictionaries(
    {}, optional={"externalPromptId": TEXT, "components": st.lists(PARTS, max_size=3), "variables": st.dictionaries(TEXT, TEXT, max_size=2)}
)  # fmt: skip
BODIES = st.fixed_dictionaries(
    {"externalUserId": TEXT.filter(bool), "messages": st.lists(MESSAGES, min_size=1, max_size=8)},
    optional={"externalConversationId": TEXT, "properties": OBJECTS, "systemPrompt": PROMPTS, "model": TEXT},
).map(lambda body: {"productId": "11111111-1111-4111-8111-111111111111", **body})


@given(st.lists(BODIES, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_stored_message_can_be_shown_exported_and_pushed(bodies: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store.db")
        pages = studio_client(store)
        for body in bodies:
            assert validation.find_error("messages", body) is None
            answer = pages.post("/api/v1/messages", json=body)
            assert answer.status_code == 201, answer.text
        for summary in queries.list_conversations(store).conversations:
            for address in ("", "/export.md", "/export.jsonl"):
                assert pages.get(f"/conversations/{summary.uid}{address}").status_code == 200
        with store.connections.reading() as db:
            calls = [row[0] for row in db.execute("SELECT id FROM calls WHERE version IS NOT NULL")]
            lineages = [row[0] for row in db.execute("SELECT uid FROM prompts")]
            stored = db.execute("SELECT * FROM messages ORDER BY id").fetchall()
        addresses = [*(f"/calls/{call}" for call in calls), *(f"/prompts/{uid}" for uid in lineages)]
        for address in ("/", "/prompts", "/overview?period=1y", "/messages/1", "/api/v1/interactions", *addresses):
            assert pages.get(address).status_code == 200, address
        assert all(json.loads(export.export_jsonl(store, summary)) for summary in export.iter_conversations(store))
        with store.connections.reading() as db:
            waiting = push_requests.next_messages(db, "any account")
        groups = push_requests.group_messages(waiting)
        requests = [push_requests.stored_messages_request(group, None) for group in groups]
        assert sum(request.items for request in requests) == len(stored)
        store.close()
