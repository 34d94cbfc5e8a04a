"""Each example runs as a program, offline, and delivers the expected conversation."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gati.store import message_columns, queries
from gati.store.store import Store
from tests.docs.blocks import read_blocks

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


class Expectation(NamedTuple):
    """The number of conversations in the store, and transcript and message types of the last printed one."""

    conversations: int
    transcript: list[tuple[str, str]]
    kinds: set[str]
    needs: str = "langchain_core"


EXPECTATIONS = {
    "chain_auto_injection": Expectation(
        1, [("user", "Hello, everybody!"), ("agent", "Bonjour, tout le monde!")], {"chain_start", "llm", "chain_end"}
    ),
    "explicit_callbacks": Expectation(
        1, [("user", "What is 2 + 2? Answer with the number only."), ("agent", "4")], {"llm"}
    ),
    "several_system_messages": Expectation(
        1, [("user", "What is the square root of 144?"), ("agent", "Ahoy! Twelve, me hearty.")], {"llm"}
    ),
    "agent_with_tools": Expectation(
        1,
        [("user", "What is the square root of 144?"), ("agent", "The square root of 144 is 12.")],
        {"chain_start", "task", "llm", "thought", "tool_call", "observation", "chain_end"},
        needs="langchain.agents",
    ),
    "personal_data": Expectation(
        1,
        [
            ("user", "Please write to [EMAIL_1], my card is [CREDIT_CARD_1]."),
            ("agent", "I have noted [EMAIL_1] and will write to you."),
        ],
        {"llm"},
        needs="datafog",
    ),
    "classic_agent_executor": Expectation(
        1,
        [("user", "What is the square root of 2?"), ("agent", "About 1.414.")],
        {"chain_start", "llm", "tool_call", "observation", "chain_end"},
        needs="langchain_classic",
    ),
    "langgraph_system_prompts": Expectation(
        1,
        [
            ("user", "Where do I find my invoice?"), ("agent", "Your invoice is in the account's menu."),
            ("user", "And how do I restart the router?"), ("agent", "Hold the button for ten seconds."),
        ],
        {"chain_start", "task", "llm", "chain_end"},
    ),
    "async_service": Expectation(
        5, [("user", "I am user 3."), ("agent", "You said: I am user 3.")], {"chain_start", "llm", "chain_end"}
    ),
}  # fmt: skip


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def transcript(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    names = {"user_message": "user", "assistant_message": "agent", "final_response": "agent"}
    kinds = [(message_columns.message_type(message), message) for message in messages]
    return [(names[kind], message["content"]) for kind, message in kinds if kind in names]


def test_every_example_has_an_expectation():
    assert {path.stem for path in EXAMPLES} == set(EXPECTATIONS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_delivers_its_conversation(path: Path, tmp_path: Path):
    expected = EXPECTATIONS[path.stem]
    if not installed(expected.needs):
        pytest.skip(f"{expected.needs} is not installed")
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
    assert len(by_conversation) == expected.conversations
    printed = [
        messages_of_conversation for name, messages_of_conversation in by_conversation.items() if name in done.stdout
    ]
    assert [transcript(messages_of_conversation) for messages_of_conversation in printed] == [expected.transcript]
    assert {message_columns.message_type(message) for message in printed[0]} - {
        "user_message",
        "assistant_message",
        "final_response",
    } == expected.kinds
    assert f"{len(messages)} messages delivered" in done.stdout
    assert all(text in done.stdout for _, text in expected.transcript)


MODULES = {
    "gati-greenflash": "gati",
    "cli": "rich",
    "langchain": "langchain",
    "classic": "langchain_classic",
    "privacy": "datafog",
}
"""A module of each requirement or extra that the first line of an example can name."""

WITHOUT = """
import runpy, sys
sys.modules[sys.argv[1]] = None
runpy.run_path(sys.argv[2], run_name="__main__")
"""
"""Runs an example as if a module were not installed."""


def requirements_of(path: Path) -> list[str]:
    first = path.read_text("utf-8").splitlines()[0].removeprefix('"""Requires: ').partition(";")[0]
    return re.findall(r"[\w-]+", first)


@pytest.mark.parametrize(
    ("path", "requirement"), [pytest.param(p, r, id=f"{p.stem}-{r}") for p in EXAMPLES for r in requirements_of(p)]
)
def test_an_example_without_a_requirement_exits_with_its_first_line(path: Path, requirement: str, tmp_path: Path):
    assert exit_without(path, MODULES[requirement], tmp_path) == path.read_text("utf-8").splitlines()[0].removeprefix(
        '"""'
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_with_a_key_requires_the_provider(path: Path, tmp_path: Path):
    first = path.read_text("utf-8").splitlines()[0].removeprefix('"""')
    assert first.endswith("with OPENAI_API_KEY also langchain-openai")
    assert exit_without(path, "langchain_openai", tmp_path, OPENAI_API_KEY="sk-none") == first


def exit_without(path: Path, module: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "GATI_LOCAL": str(folder / "store.db"), **environment},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.strip()


@pytest.mark.parametrize("name", ["langgraph.json", "access.py", "web.py"])
def test_the_guide_for_langgraph_server_shows_the_files_of_its_example(name: str):
    shown = {block.comments.get("file"): block.code for block in read_blocks(ROOT / "docs/guides/langgraph-server.md")}
    assert shown[name] == (ROOT / "examples" / "langgraph_server" / name).read_text("utf-8")
