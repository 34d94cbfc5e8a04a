"""The answer of a graph whose state holds objects or lists instead of a text, and of one that waits or ends with a critic."""

from __future__ import annotations

import json
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from gati.events import LLMCallEvent, NodeExecutionEvent
from gati.testing import ScriptedChatModel, capture
from tests.optional import create_agent

THREAD: Any = {"configurable": {"thread_id": "t"}}
REPLY = '{"answer":"Paris it is","sources":["a"]}'


class Sourced(BaseModel):
    answer: str
    sources: list[str]


def state(**entries: Any) -> Any:
    make: Any = TypedDict
    return make("State", {"question": str, **entries}, total=False)


def one_node(schema: Any, node: Any) -> Any:
    return StateGraph(schema).add_node("n", node).add_edge(START, "n").compile(checkpointer=InMemorySaver())


def answers(program: Any) -> list[str]:
    """Return the answers that a program gives; fail if one of its model calls is internal although it made one."""
    with capture(local=False) as captured:
        program()
    models = [event for turn in captured.turns for event in turn.events if isinstance(event, LLMCallEvent)]
    assert not any(model.internal for model in models if model.made_answer)
    assert any(model.made_answer for model in models) or not models
    return [text for role, text in captured.transcript() if role == "assistant"]


@pytest.mark.parametrize("key", ["answer", "itinerary"])
@pytest.mark.parametrize(
    ("kind", "parser"), [(dict, JsonOutputParser()), (Sourced, PydanticOutputParser(pydantic_object=Sourced))]
)
def test_an_object_in_a_graph_s_state_is_the_answer_as_json(kind: Any, parser: Any, key: str) -> None:
    chain = ScriptedChatModel(replies=[REPLY]) | parser
    graph = one_node(state(**{key: kind}), lambda s: {key: chain.invoke(s["question"])})
    assert answers(lambda: graph.invoke({"question": "Capital?"}, THREAD)) == [REPLY]


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("sections", [{"type": "intro", "content": "Bicycles are old."}, {"type": "end", "content": "Ride one."}]),
        ("scores", [["clarity", 4], ["tone", 5]]),
        ("faq", [["What is it?", "A bicycle."]]),
    ],
)
def test_items_with_a_type_or_in_pairs_are_an_answer_and_no_messages(key: str, entry: list[Any]) -> None:
    model = ScriptedChatModel(replies=[json.dumps({key: entry})]) | JsonOutputParser()
    graph = one_node(state(**{key: list}), lambda s: model.invoke(s["question"]))
    with capture(local=False) as captured:
        graph.invoke({"question": "What is a bicycle?"}, THREAD)
    (user, answer) = captured.transcript()
    assert user == ("user", "What is a bicycle?")
    assert json.loads(answer[1]) == entry
    nodes = [event for event in captured.turns[0].events if isinstance(event, NodeExecutionEvent)]
    assert [node.state_after for node in nodes] == [{key: entry}]


def test_an_object_that_no_model_of_the_turn_made_is_no_answer() -> None:
    graph = one_node(state(answer=dict), lambda s: {"answer": {"rows": 3}})
    assert answers(lambda: graph.invoke({"question": "How many?"}, THREAD)) == []


def test_of_a_list_in_a_graph_s_state_the_new_texts_are_the_answer() -> None:
    model = ScriptedChatModel(respond=lambda messages: f"Re {messages[-1].text}")
    graph = one_node(
        state(answer=Annotated[list, operator.add]), lambda s: {"answer": [model.invoke(s["question"]).text]}
    )
    told = answers(lambda: [graph.invoke({"question": text}, THREAD) for text in ("one", "two")])
    assert told == ["Re one", "Re two"]


def test_the_texts_of_nodes_side_by_side_are_the_answer_as_a_list() -> None:
    model = ScriptedChatModel(respond=lambda messages: f"A joke on {messages[-1].text}")
    builder = StateGraph(state(jokes=Annotated[list, operator.add]))
    builder.add_node("joke", lambda s: {"jokes": [model.invoke(s["subject"]).text]})
    builder.add_conditional_edges(START, lambda s: [Send("joke", {"subject": x}) for x in ("lions", "cats")], ["joke"])
    graph = builder.compile()
    assert answers(lambda: graph.invoke({"question": "animals"}, THREAD)) == ['["A joke on lions","A joke on cats"]']


@pytest.mark.parametrize("footer", ["", " -- Your shop"])
def test_a_node_with_an_agent_in_it_may_write_the_same_answer_in_two_turns(footer: str) -> None:
    agent = create_agent(ScriptedChatModel(replies=["We open at nine."]), [])

    def node(values: Any) -> Any:
        said = agent.invoke({"messages": [("user", values["question"])]})["messages"][-1].text
        return {"answer": said + footer}

    graph = one_node(state(answer=str), node)
    told = answers(lambda: [graph.invoke({"question": text}, THREAD) for text in ("When?", "When exactly?")])
    assert told == [f"We open at nine.{footer}"] * 2


def test_a_graph_as_a_node_that_repeats_its_state_makes_no_answer() -> None:
    asked: list[str] = []

    def inner(values: Any) -> Any:
        asked.append(values["question"])
        return {"answer": "First."} if len(asked) == 1 else {}

    builder = StateGraph(state(answer=str)).add_node("inner", inner).add_edge(START, "inner")
    graph = StateGraph(state(answer=str)).add_node("n", builder.compile()).add_edge(START, "n")
    compiled = graph.compile(checkpointer=InMemorySaver())
    assert answers(lambda: [compiled.invoke({"question": text}, THREAD) for text in ("one", "two")]) == ["First."]


@pytest.mark.parametrize("payload", ["Ready for user input.", {"question": "Anything else?"}, {}, None])
def test_what_an_agent_said_before_its_graph_waits_is_told_before_the_question(payload: Any) -> None:
    model = ScriptedChatModel(respond=lambda messages: f"Re {messages[-1].text}")

    def agent(values: Any) -> Command[Any]:
        return Command(goto="human", update={"messages": [model.invoke(values["messages"])]})

    def human(values: Any) -> Command[Any]:
        return Command(goto="agent", update={"messages": [{"role": "human", "content": interrupt(payload)}]})

    builder = StateGraph(MessagesState).add_node("human", human).add_node("agent", agent).add_edge(START, "agent")
    graph = builder.compile(checkpointer=InMemorySaver())
    inputs = ({"messages": [("user", "one")]}, Command(resume="two"), Command(resume="three"))
    question = {"Ready for user input.": "\n\nReady for user input."}.get(payload) if isinstance(payload, str) else ""
    if payload and isinstance(payload, dict):
        question = "\n\nAnything else?"
    told = answers(lambda: [graph.invoke(given, THREAD) for given in inputs])
    assert told == [f"Re {text}{question}" for text in ("one", "two", "three")]


def test_a_question_that_repeats_the_draft_is_told_once() -> None:
    model = ScriptedChatModel(replies=["Dear Ann, see you soon."])

    def review(values: Any) -> Any:
        return {"messages": [("user", interrupt(f"Send this? {values['messages'][-1].text}"))]}

    builder = StateGraph(MessagesState).add_node("write", lambda s: {"messages": [model.invoke(s["messages"])]})
    builder.add_node("review", review).add_edge(START, "write").add_edge("write", "review")
    graph = builder.compile(checkpointer=InMemorySaver())
    assert answers(lambda: graph.invoke({"messages": [("user", "Write.")]}, THREAD)) == [
        "Send this? Dear Ann, see you soon."
    ]


def test_the_result_of_a_tool_before_a_question_is_not_told_as_an_answer() -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("look", lambda s: {"messages": [{"role": "tool", "content": "found it", "tool_call_id": "c1"}]})
    graph.add_node("ask", lambda s: {"messages": [("user", interrupt("Pay 5?"))]})
    graph.add_edge(START, "look").add_edge("look", "ask")
    compiled = graph.compile(checkpointer=InMemorySaver())
    assert answers(lambda: compiled.invoke({"messages": [("user", "Look.")]}, THREAD)) == ["Pay 5?"]


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_graph_that_ends_with_a_critique_answers_what_was_criticized(as_dict: bool) -> None:
    writer = ScriptedChatModel(replies=["First draft.", "Second draft.", "Another draft.", "The last draft."])
    critic = ScriptedChatModel(replies=["Make it longer, please.", "good"] * 2)

    def reflect(values: Any) -> Any:
        text = critic.invoke(values["messages"]).text
        return {"messages": [{"role": "user", "content": text} if as_dict else HumanMessage(text)]}

    builder = StateGraph(MessagesState).add_node("write", lambda s: {"messages": [writer.invoke(s["messages"])]})
    builder.add_node("reflect", reflect).add_edge(START, "write").add_edge("write", "reflect")
    builder.add_conditional_edges("reflect", lambda s: END if s["messages"][-1].content == "good" else "write")
    graph = builder.compile(checkpointer=InMemorySaver())
    with capture(local=False) as captured:
        for text in ("An essay.", "Another one."):
            graph.invoke({"messages": [("user", text)]}, THREAD)
    assert captured.transcript() == [
        ("user", "An essay."), ("assistant", "Second draft."),
        ("user", "Another one."), ("assistant", "The last draft."),
    ]  # fmt: skip


def test_documents_counters_and_lists_that_no_model_wrote_are_no_answer() -> None:
    grader = ScriptedChatModel(replies=["no"])

    def retrieve(values: Any) -> Any:
        grader.invoke(values["question"])
        return {"documents": [{"page_content": "Paris is a city."}], "found": 1}

    for schema in (state(documents=list), state(documents=list, found=int)):
        graph = one_node(schema, retrieve)
        with capture(local=False) as captured:
            graph.invoke({"question": "What is it?"}, THREAD)
        assert captured.transcript() == [("user", "What is it?")]


def test_queries_that_a_model_wrote_for_a_later_node_are_no_answer() -> None:
    model = ScriptedChatModel(replies=["cats in Paris", "dogs in Paris"])
    builder = StateGraph(state(queries=list, documents=list))
    builder.add_node("rewrite", lambda values: {"queries": [model.invoke(values["question"]).text for _ in range(2)]})
    builder.add_node("search", lambda values: {"documents": [{"page_content": "Paris is a city."}]})
    builder.add_edge(START, "rewrite")
    builder.add_edge("rewrite", "search")
    graph = builder.compile()
    with capture(local=False) as captured:
        graph.invoke({"question": "What is it?"}, THREAD)
    assert captured.transcript() == [("user", "What is it?")]


def test_of_a_list_that_nodes_side_by_side_append_to_only_the_items_of_the_turn_are_the_answer() -> None:
    model = ScriptedChatModel(respond=lambda messages: f"A joke on {messages[-1].text}")
    builder = StateGraph(state(jokes=Annotated[list, operator.add]))
    builder.add_node("joke", lambda s: {"jokes": [model.invoke(s["subject"]).text]})
    builder.add_conditional_edges(
        START, lambda s: [Send("joke", {"subject": s["question"] + x}) for x in (" one", " two")], ["joke"]
    )
    graph = builder.compile(checkpointer=InMemorySaver())
    told = answers(lambda: [graph.invoke({"question": text}, THREAD) for text in ("cats", "dogs")])
    assert told == [f'["A joke on {text} one","A joke on {text} two"]' for text in ("cats", "dogs")]
