"""The run markers of LangChain and LangGraph still exist, and a missing one loses only its own feature."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from gati.events import LLMCallEvent, NodeExecutionEvent
from gati.langchain._compat import RUN_MARKERS
from gati.langchain.callback import GatiLangChainCallback
from gati.testing import ScriptedChatModel, capture
from tests.optional import LANGGRAPH

PACKAGE = Path(observe.__file__).parent
MARKER = re.compile(r"(langgraph_|lc_|ls_|graph:|langsmith:)\w+:?|load_history")

WHOLE = {
    "said": [("user", "graph"), ("assistant", "certainly")],
    "nodes": [("answer", 1)],
    "prompts": ["agent/answer"],
    "models": [("gpt-4o-mini", "openai")],
    "tasks": [("double", 0)],
}
"""Result of `talk` if no marker is missing."""

LOST: dict[tuple[str, ...], dict[str, Any]] = {
    # Without the tag and, before LangGraph 1.1.4, without `ls_integration`, a graph is not recognized, nor are its tasks.
    ("graph:step:",): {"nodes": []} | ({"tasks": []} if LANGGRAPH < (1, 1, 4) else {}),
    ("langgraph_node",): {"tasks": []},
    ("langgraph_step",): {"tasks": [("double", None)]},
    ("langgraph_checkpoint_ns",): {"tasks": []},
    ("ls_provider",): {"models": [("gpt-4o-mini", None)]},
    ("ls_model_name",): {},
    ("ls_integration",): {},
    tuple(RUN_MARKERS): {"nodes": [], "models": [("gpt-4o-mini", None)], "tasks": []},
}
"""Markers, and the changes to `WHOLE` if they are missing."""


class HandlerWithoutMarkers(GatiLangChainCallback):
    """A handler that removes these markers before it records."""

    def __init__(self, markers: tuple[str, ...]) -> None:
        super().__init__()
        self.markers = markers

    def _without_markers(self, more: dict[str, Any]) -> dict[str, Any]:
        tags = [tag for tag in more.get("tags") or [] if not (self.markers and tag.startswith(self.markers))]
        return more | {
            "tags": tags, "metadata": {k: v for k, v in (more.get("metadata") or {}).items() if k not in self.markers},
        }  # fmt: skip

    def on_chain_start(self, *given: Any, **more: Any) -> None:
        super().on_chain_start(*given, **self._without_markers(more))

    def on_chat_model_start(self, *given: Any, **more: Any) -> None:
        super().on_chat_model_start(*given, **self._without_markers(more))


@task
def double(number: int) -> int:
    return 2 * number


@entrypoint()
def flow(number: int) -> int:
    return double(number).result()


def talk(*markers: str) -> dict[str, Any]:
    model = ScriptedChatModel(replies=["certainly"])
    builder = StateGraph(MessagesState)
    builder.add_node(
        "answer", lambda state: {"messages": [model.invoke([SystemMessage("Be brief."), *state["messages"]])]}
    )
    builder.add_edge(START, "answer")
    with capture(auto_inject=False) as captured:
        builder.compile().invoke({"messages": [("user", "graph")]}, {"callbacks": [HandlerWithoutMarkers(markers)]})
    with capture(auto_inject=False) as tasks:
        flow.invoke(2, {"callbacks": [HandlerWithoutMarkers(markers)]})
    calls = [event for event in captured.turns[0].events if isinstance(event, LLMCallEvent)]
    return {
        "said": captured.transcript(),
        "nodes": steps(captured),
        "prompts": [call.structured_prompt.external_id if call.structured_prompt else None for call in calls],
        "models": [(call.model, call.provider) for call in calls],
        "tasks": [step for step in steps(tasks) if step[0] == "double"],
    }


def steps(captured: Any) -> list[tuple[str, int | None]]:
    events = [event for turn in captured.turns for event in turn.events]
    return [(event.node_name, event.step) for event in events if isinstance(event, NodeExecutionEvent)]


def test_run_markers_still_exist() -> None:
    assert talk() == WHOLE, "a marker no longer exists; gati/langchain/_compat.py says what is lost"


@pytest.mark.parametrize(("markers", "lost"), LOST.items(), ids=["-".join(markers[:2]) for markers in LOST])
def test_a_missing_marker_loses_only_its_own_feature(markers: tuple[str, ...], lost: dict[str, Any]) -> None:
    assert talk(*markers) == {**WHOLE, **lost}


def test_every_marker_that_is_read_is_listed() -> None:
    read = {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MARKER.fullmatch(node.value)
    }
    assert read == set(RUN_MARKERS)
