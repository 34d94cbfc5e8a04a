"""Programs side by side: the branches of a `RunnableParallel`, and `map()`."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import orjson
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langgraph.graph import START, MessagesState, StateGraph
from typing_extensions import TypedDict

from gati.testing import ScriptedChatModel
from gati.trace.chat_output import json_text
from tests.scenarios.harness import Watch
from tests.scenarios.scripts import call, model, tool_request


def _agent(text: str) -> Runnable[Any, Any]:
    return _agent_of(model(text))


def _agent_of(speaker: Any) -> Runnable[Any, Any]:
    graph = StateGraph(MessagesState).add_node("speak", lambda state: {"messages": [speaker.invoke(state["messages"])]})
    return graph.add_edge(START, "speak").compile()


def _joined(first: Any, second: Any) -> Runnable[Any, Any]:
    return RunnableParallel(critic=first, fan=second)


def test_agents_and_models_side_by_side_are_answered_as_json_of_their_texts(watch: Watch) -> None:
    asked = {"messages": [("user", "What is art?")]}
    programs: list[tuple[Any, Any]] = [
        (lambda: _joined(_agent("A gift."), _agent("A trade.")), asked),
        (lambda: _joined(_agent("A gift.").with_fallbacks([_agent("?")]), _agent("A trade.")), asked),
        (lambda: _joined(RunnableLambda(lambda given: given) | _agent("A gift."), _agent("A trade.")), asked),
        (lambda: _joined(model("A gift."), model("A trade.")), "What is art?"),
        (lambda: _joined(model("A gift."), model("A trade.") | StrOutputParser()), "What is art?"),
    ]
    for make, given in programs:
        traced = watch.trace(lambda config, make=make, given=given: make().invoke(given, config))
        answer = '{"critic":"A gift.","fan":"A trade."}'
        assert traced.transcript() == [("user", "What is art?"), ("assistant", answer)]
        assert ["internal" in call["properties"] for call in traced.of_type("llm")] == [False, False]


def test_parallels_inside_parallels_are_answered_in_their_shape(watch: Watch) -> None:
    inner = RunnableParallel(first=_agent("One."), second=_agent("Two."))
    program = RunnableParallel(inner=inner, outer=_agent("Three."))
    traced = watch.trace(lambda config: program.invoke({"messages": [("user", "Count.")]}, config))
    (_, answer) = traced.transcript()
    assert orjson.loads(answer[1]) == {"inner": {"first": "One.", "second": "Two."}, "outer": "Three."}


def test_models_side_by_side_that_only_request_tools_have_no_answer(watch: Watch) -> None:
    program = _joined(model(tool_request(call("a"))), model(tool_request(call("b"))))
    assert watch.trace(lambda config: program.invoke("Go", config)).transcript() == [("user", "Go")]


def test_a_map_of_a_model_reports_each_question_and_all_answers(watch: Watch) -> None:
    def echo() -> Any:
        return ScriptedChatModel(respond=lambda messages: f"Re {messages[-1].text}")

    texts, lists = ["a1", "b2"], [[("user", "a1")], [("user", "b2")]]
    programs: list[tuple[Any, Any]] = [
        (lambda: echo().map(), texts),
        (lambda: echo().map(), lists),
        (lambda: echo().map().with_config(run_name="each"), texts),
        (lambda: (echo() | StrOutputParser()).map(), texts),
    ]
    for make, given in programs:
        traced = watch.trace(lambda config, make=make, given=given: make().invoke(given, config))
        assert traced.transcript() == [("user", "a1"), ("user", "b2"), ("assistant", '["Re a1","Re b2"]')]
        assert ["internal" in call["properties"] for call in traced.of_type("llm")] == [False, False]


class Reversed(BaseCallbackHandler):
    """Lets the programs of a `map()` start one after the other, the last one first."""

    def __init__(self, entries: list[str]) -> None:
        self.ended = {entry: threading.Event() for entry in entries}
        self.entries = entries
        self.programs: dict[UUID, str] = {}
        self.root: UUID | None = None

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: Any = None, **_: Any
    ) -> None:
        if parent_run_id is None:
            self.root = run_id
        elif parent_run_id == self.root:
            self.programs[run_id] = entry = next(entry for entry in self.entries if entry in str(inputs))
            for later in self.entries[self.entries.index(entry) + 1 :]:
                self.ended[later].wait(10)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        if run_id in self.programs:
            self.ended[self.programs[run_id]].set()


def _clerk() -> Any:
    """Return a graph that answers a mail."""

    class State(TypedDict, total=False):
        mail: str
        reply: str

    echo = ScriptedChatModel(respond=lambda messages: f"Re {messages[-1].text}")
    graph = StateGraph(State).add_node("write", lambda state: {"reply": echo.invoke(state["mail"]).text})
    return graph.add_edge(START, "write").compile()


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("kind", ["graph", "agent", "function"])
def test_the_programs_of_a_map_may_start_in_any_order(number: int, kind: str, watch: Watch) -> None:
    echo = ScriptedChatModel(respond=lambda messages: f"Re {messages[-1].text}")
    prompt = ChatPromptTemplate([("human", "{mail}")]) | echo | StrOutputParser()
    mails = [f"mail {index} has come" for index in range(number)]
    programs: dict[str, tuple[Any, list[Any]]] = {
        "graph": (_clerk(), [{"mail": mail} for mail in mails]),
        "agent": (_agent_of(echo), [{"messages": [("user", mail)]} for mail in mails]),
        "function": (
            RunnableLambda(lambda given: prompt.invoke(given)),
            [{"mail": mail} for mail in mails],
        ),
    }
    program, given = programs[kind]
    traced = watch.trace(
        lambda config: program.map().invoke(given, {**config, "callbacks": [Reversed(mails)]}), auto_inject=True
    )
    answers = json_text([f"Re {mail}" for mail in mails])
    assert traced.transcript() == [*(("user", mail) for mail in mails), ("assistant", answers)]


def test_a_map_after_another_step_has_all_answers(watch: Watch) -> None:
    program = RunnableLambda(lambda text: text.split()) | ScriptedChatModel(respond=lambda m: m[-1].text * 2).map()
    traced = watch.trace(lambda config: program.invoke("x y", config))
    assert traced.transcript() == [("user", "x y"), ("assistant", '["xx","yy"]')]


def test_the_text_of_a_function_around_an_agent_is_its_answer(watch: Watch) -> None:
    program = RunnableLambda(lambda given: {"reply": _agent("Hi.").invoke(given)["messages"][-1].text})
    traced = watch.trace(lambda config: program.invoke({"messages": [("user", "Hello")]}, config))
    assert traced.transcript() == [("user", "Hello"), ("assistant", "Hi.")]


def test_a_parallel_whose_stream_is_closed_is_aborted(watch: Watch) -> None:
    def program(config: Any, chunks: int) -> Any:
        slow = {"seconds_per_word": 0.05}
        joined = _joined(model("one two three", **slow) | StrOutputParser(), model("one two three", **slow))
        stream = joined.stream("Count.", config)
        for _ in range(chunks):
            next(stream)
        stream.close()

    for chunks in (1, 3):
        traced = watch.trace(lambda config, chunks=chunks: program(config, chunks))
        (end,) = traced.of_type("chain_end")
        assert end["output"]["status"] == "aborted"
        assert "three" not in str(traced.transcript())
