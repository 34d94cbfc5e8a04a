"""Turns of a thread that several processes serve, with a checkpointer that they share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from gati._api.runtime import runtime
from tests.optional import import_optional
from tests.scenarios.harness import Config, Watch

import_optional("langgraph.checkpoint.sqlite", "SqliteSaver")

SCRIPT = """
import sys
from typing import Any
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from gati import observe
from gati.testing.scripted_model import ScriptedChatModel

url, key, product, path, turn = sys.argv[1:]
thread: Any = {"configurable": {"thread_id": "c-1"}}


@tool
def pick_date(label: str) -> str:
    "Picks a date."
    return "2027-01-01"


def answer(messages):
    last = messages[-1]
    if last.type == "human" and "room" in last.text:
        return AIMessage("", tool_calls=[{"name": "pick_date", "args": {"label": "arrival"}, "id": "k1"}])
    return AIMessage(f"Answer to {last.text}")


observe.init(api_key=key, base_url=url, product_id=product, agent_name="agent")
with SqliteSaver.from_conn_string(path) as saver:
    model = ScriptedChatModel(respond=answer)
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "model")
    if turn.startswith("approve:"):
        builder.add_node("tools", ToolNode([pick_date])).add_edge("tools", "model")
        builder.add_conditional_edges("model", tools_condition)
        turn = turn[8:]
        graph = builder.compile(checkpointer=saver, name="graph", interrupt_before=["tools"])
    else:
        graph = builder.compile(checkpointer=saver, name="graph")
    if turn == "continue":
        graph.invoke(None, thread)
    elif turn.startswith("update:"):
        graph.update_state(thread, {"messages": [HumanMessage(turn[7:])]}, as_node="__start__")
        graph.invoke(None, thread)
    elif turn.startswith("result:"):
        graph.invoke({"messages": [ToolMessage(turn[7:], tool_call_id="k1", name="pick_date")]}, thread)
    else:
        graph.invoke({"messages": [("user", turn)]}, thread)
observe.flush(20)
observe.shutdown(20)
"""


def served_by_processes(watch: Watch, path: Path, *turns: str) -> Any:
    def program(config: Config) -> Any:
        settings = runtime.settings
        for turn in turns:
            given = (watch.server.url, watch.server.api_key, settings.product_id, str(path), turn)
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, *given], capture_output=True, text=True, timeout=100, check=False
            )
            assert done.returncode == 0, done.stderr

    return watch.trace(program)


def test_results_of_tools_that_the_program_runs_are_reported_by_another_process(watch: Watch, tmp_path: Path) -> None:
    traced = served_by_processes(watch, tmp_path / "threads.db", "Book a room", "result:2027-01-01")
    (call,) = traced.of_type("tool_call")
    assert (call["toolName"], call["input"]) == ("pick_date", {"label": "arrival"})
    assert [m["output"] for m in traced.of_type("observation")] == [{"output": "2027-01-01"}]
    assert traced.transcript() == [("user", "Book a room"), ("assistant", "Answer to 2027-01-01")]


def test_a_question_in_the_thread_is_reported_by_another_process(watch: Watch, tmp_path: Path) -> None:
    traced = served_by_processes(watch, tmp_path / "threads.db", "First?", "update:Second?", "Third?")
    assert traced.transcript() == [
        ("user", "First?"), ("assistant", "Answer to First?"), ("user", "Second?"), ("assistant", "Answer to Second?"),
        ("user", "Third?"), ("assistant", "Answer to Third?"),
    ]  # fmt: skip


def test_a_pause_before_tools_is_continued_by_another_process_without_the_question(
    watch: Watch, tmp_path: Path
) -> None:
    traced = served_by_processes(watch, tmp_path / "threads.db", "approve:Book a room", "approve:continue")
    assert traced.transcript() == [("user", "Book a room"), ("assistant", "Answer to 2027-01-01")]
    assert [call["toolName"] for call in traced.of_type("tool_call")] == ["pick_date"]


def test_tool_calls_of_earlier_turns_are_not_repeated_by_another_process(watch: Watch, tmp_path: Path) -> None:
    turns = ("approve:Book a room", "approve:continue", "approve:And now?")
    traced = served_by_processes(watch, tmp_path / "threads.db", *turns)
    assert traced.transcript()[2:] == [("user", "And now?"), ("assistant", "Answer to And now?")]
    assert "messages" not in (traced.of_type("llm")[-1].get("input") or {})
