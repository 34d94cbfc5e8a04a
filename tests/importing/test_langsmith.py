"""Runs as LangChain's own tracer serializes them for LangSmith, compared with what gati records of the same program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langsmith.run_trees import RunTree

from gati.events import LLMCallEvent, ToolCallEvent, Turn
from gati.importing.importer import import_turns
from gati.importing.langsmith import read_langsmith
from gati.settings import load
from gati.testing import ScriptedChatModel, capture
from tests.importing.kit import Collector


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fail(a: int) -> int:
    """Fail."""
    raise ValueError("no numbers left")


class ChatCollector(RunCollectorCallbackHandler):
    """Collects runs with chat messages, as the tracer that sends them to LangSmith does."""

    def __init__(self) -> None:
        super().__init__()
        self._schema_format = "original+chat"


def rows_of(run: Any) -> Iterator[dict[str, Any]]:
    """Return a run and those below it as LangSmith's client sends them."""
    assert isinstance(run, RunTree)
    dumped = json.loads(run.model_dump_json(exclude={"child_runs", "parent_run", "ls_client", "client"}, fallback=str))
    yield dumped
    for child in run.child_runs:
        yield from rows_of(child)


def run_program(collector: RunCollectorCallbackHandler) -> None:
    usage = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}
    call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "c1"}], usage_metadata=usage)
    model = ScriptedChatModel(replies=[call, "It is 3", "You are welcome"])
    agent = create_agent(model, [add], system_prompt="You calculate.")
    history: list[Any] = []
    for text in ("What is 1 + 2?", "Thanks"):
        config: Any = {"callbacks": [collector], "metadata": {"thread_id": "t1", "user_id": "ada"}}
        history = agent.invoke({"messages": [*history, ("user", text)]}, config)["messages"]


def imported(rows: list[dict[str, Any]]) -> list[Turn]:
    collector = Collector()
    result = import_turns(read_langsmith(rows), "langsmith", load(spool=False), [collector])
    assert result.lost == 0
    return collector.turns


def test_imported_turns_equal_recorded_ones():
    collector = ChatCollector()
    with capture() as live:
        run_program(collector)
    rows = [row for run in collector.traced_runs for row in rows_of(run)]
    turns = imported(rows)
    assert [turn.run_id for turn in turns] == [turn.run_id for turn in live.turns]
    for turn, recorded in zip(turns, live.turns, strict=True):
        assert turn.conversation.id == recorded.conversation.id == "t1"
        assert turn.conversation.user_id == "ada"
        assert [(m.role, m.text) for m in turn.messages] == [(m.role, m.text) for m in recorded.messages]
        assert turn.answer is not None
        assert recorded.answer is not None
        assert (turn.answer.id, turn.answer.text) == (recorded.answer.id, recorded.answer.text)
        for kind in (LLMCallEvent, ToolCallEvent):
            mine = [event for event in turn.events if isinstance(event, kind)]
            theirs = [event for event in recorded.events if isinstance(event, kind)]
            assert [event.event_id for event in mine] == [event.event_id for event in theirs]
        for mine, theirs in zip(turn.events, recorded.events, strict=False):
            if isinstance(mine, LLMCallEvent) and isinstance(theirs, LLMCallEvent):
                assert mine.completion == theirs.completion
                assert mine.system_prompt == theirs.system_prompt == "You calculate."
                assert (mine.tokens_in, mine.tokens_out) == (theirs.tokens_in, theirs.tokens_out)
                assert mine.latency_ms == pytest.approx(theirs.latency_ms, abs=20)
            if isinstance(mine, ToolCallEvent) and isinstance(theirs, ToolCallEvent):
                assert (mine.tool_name, mine.input, mine.output) == (theirs.tool_name, theirs.input, theirs.output)
                assert mine.requested_by == theirs.requested_by


def test_a_failed_run_keeps_its_error():
    collector = ChatCollector()
    call = AIMessage("", tool_calls=[{"name": "fail", "args": {"a": 1}, "id": "c1"}])
    agent = create_agent(ScriptedChatModel(replies=[call]), [fail])
    with capture(), pytest.raises(ValueError, match="no numbers left"):
        agent.invoke({"messages": [("user", "Go")]}, {"callbacks": [collector]})
    (turn,) = imported([row for run in collector.traced_runs for row in rows_of(run)])
    assert turn.status == "error"
    (tool,) = (event for event in turn.events if isinstance(event, ToolCallEvent))
    assert (tool.status, tool.error_type, tool.error_message) == ("error", "ValueError", "no numbers left")


def test_rows_that_are_no_runs_are_left_out():
    assert imported([{}, {"id": "x"}, {"id": None, "start_time": "2026-01-01T00:00:00Z"}]) == []


def test_calls_of_openai_through_langsmith_are_conversations():
    row = {
        "id": "11111111-1111-4111-8111-111111111111", "run_type": "llm", "name": "ChatOpenAI",
        "start_time": "2026-01-31T10:00:00.000000", "end_time": "2026-01-31T10:00:01.500000",
        "inputs": {"model": "gpt-4o", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]},
        "prompt_tokens": 9, "completion_tokens": 2,
        "extra": {"metadata": {"session_id": "s1", "ls_model_name": "gpt-4o", "ls_provider": "openai"}},
    }  # fmt: skip
    (turn,) = imported([row])
    assert turn.conversation.id == "s1"
    assert [(message.role, message.text) for message in turn.messages] == [("user", "Hi")]
    assert turn.answer is not None
    assert turn.answer.text == "Hello"
    (call,) = (event for event in turn.events if isinstance(event, LLMCallEvent))
    assert (call.system_prompt, call.tokens_in, call.tokens_out, call.latency_ms) == ("Be brief.", 9, 2, 1500.0)
