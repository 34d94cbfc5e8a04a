"""Exported conversations."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gati.store import export, marks, queries
from gati.store.store import Store
from tests.store.bodies import body, said, step
from tests.store.test_plain_text import HOSTILE, live_tokens

_numbers = count()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path: Path = tmp_path_factory.mktemp("export") / "s.db"
    return Store(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HOSTILE.map(lambda text: text or "a"), min_size=7, max_size=7))
def test_nothing_that_was_recorded_is_live_in_an_exported_conversation(store: Store, texts: list[str]) -> None:
    question, answer, thought, tool, error, note, user = texts
    key = f"c-{next(_numbers)}"
    store.ingest(
        body(
            key,
            said(f"{key}:user", question),
            step(key, "chain_start", f"{key}:user", 1, properties={"name": tool, "agent_name": user}),
            step(f"{key}-t", "tool_call", key, 2, toolName=tool, input={"a": thought}, properties={"status": error}),
            step(f"{key}-o", "observation", f"{key}-t", 3, output={"error": error}, properties={"latency_ms": 1.0}),
            said(f"{key}:answer", answer, 4, "final_response", parentExternalMessageId=key),
            step(f"{key}:end", "chain_end", key, 5, output={"status": "error", "error": error}),
            user=user,
        )
    )
    summary = queries.find_conversation(store, key)
    assert summary is not None
    if note.strip():
        marks.write_note(store, summary.id, note, None, marks.new_key())
    exported = export.export_markdown(store, summary)
    assert "**User**" in exported
    assert not live_tokens(exported)
