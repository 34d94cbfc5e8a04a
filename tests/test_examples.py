"""Each example runs as its own program, offline, and delivers what its story says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gati.store import message_columns, queries
from gati.store.store import Store

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


class Story(NamedTuple):
    """What is expected of an example: conversations in the store, and what the last printed one says."""

    conversations: int
    said: list[tuple[str, str]]
    kinds: set[str]
    needs: str = "langchain_core"


STORIES = {
    "chain_auto_injection": Story(
        1, [("user", "Hello, everybody!"), ("agent", "Bonjour, tout le monde!")], {"chain_start", "llm", "chain_end"}
    ),
    "explicit_callbacks": Story(
        1, [("user", "What is 2 + 2? Answer with the number only."), ("agent", "4")], {"llm"}
    ),
    "several_system_messages": Story(
        1, [("user", "What is the square root of 144?"), ("agent", "Ahoy! Twelve, me hearty.")], {"llm"}
    ),
    "agent_with_tools": Story(
        1,
        [("user", "What is the square root of 144?"), ("agent", "The square root of 144 is 12.")],
        {"chain_start", "task", "llm", "thought", "tool_call", "observation", "chain_end"},
        needs="langchain.agents",
    ),
    "personal_data": Story(
        1,
        [
            ("user", "Please write to [EMAIL_1], my card is [CREDIT_CARD_1]."),
            ("agent", "I have noted [EMAIL_1] and will write to you."),
        ],
        {"llm"},
        needs="datafog",
    ),
    "classic_agent_executor": Story(
        1,
        [("user", "What is the square root of 2?"), ("agent", "About 1.414.")],
        {"chain_start", "llm", "tool_call", "observation", "chain_end"},
        needs="langchain_classic",
    ),
    "langgraph_system_prompts": Story(
        1,
        [
            ("user", "Where do I find my invoice?"), ("agent", "Your invoice is in the account's menu."),
            ("user", "And how do I restart the router?"), ("agent", "Hold the button for ten seconds."),
        ],
        {"chain_start", "task", "llm", "chain_end"},
    ),
    "async_service": Story(
        5, [("user", "I am user 3."), ("agent", "You said: I am user 3.")], {"chain_start", "llm", "chain_end"}
    ),
}  # fmt: skip


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def told(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    names = {"user_message": "user", "assistant_message": "agent", "final_response": "agent"}
    kinds = [(message_columns.message_type(message), message) for message in messages]
    return [(names[kind], message["content"]) for kind, message in kinds if kind in names]


def test_every_example_has_an_expectation():
    assert {path.stem for path in EXAMPLES} == set(STORIES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_delivers_its_conversation(path: Path, tmp_path: Path):
    story = STORIES[path.stem]
    if not installed(story.needs):
        pytest.skip(f"{story.needs} is not installed")
    file = tmp_path / "store.db"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "GATI_LOCAL": str(file)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    store = Store(file)
    messages = queries.wire_messages(store)
    store.close()
    by_conversation: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        by_conversation.setdefault(message["conversation"], []).append(message)
    assert len(by_conversation) == story.conversations
    shown = [found for name, found in by_conversation.items() if name in done.stdout]
    assert [told(found) for found in shown] == [story.said]
    assert {message_columns.message_type(message) for message in shown[0]} - {
        "user_message",
        "assistant_message",
        "final_response",
    } == story.kinds
    assert f"{len(messages)} messages delivered" in done.stdout
    assert all(text in done.stdout for _, text in story.said)
