"""The answer of graphs and chains whose state has several texts, or that write messages of every role themselves."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt

from gati.events import CustomEvent
from gati.testing import capture
from tests.optional import create_agent
from tests.scenarios.reading import READERS, THREAD, answers, asked, astream, invoke, stream, written
from tests.scenarios.scripts import call, model, tool_request

PARTS = ["This report is about cats.", "Cats sleep all day.", "In short, they purr."]


# -- joined reports


@READERS
@pytest.mark.parametrize("key", ["body", "content", "text", "result"])
def test_a_report_that_a_node_joined_of_parts_is_the_answer_whatever_a_part_is_called(read: Any, key: str) -> None:
    state: Any = TypedDict("state", {"topic": str, "intro": str, key: str, "end": str, "report": str})
    builder = StateGraph(state)
    for name, text in zip(("intro", key, "end"), PARTS, strict=True):
        builder.add_node(f"write {name}", written(name, text))
        builder.add_edge(START, f"write {name}")
    builder.add_node("join", lambda s: {"report": f"{s['intro']}\n\n{s[key]}\n\n{s['end']}"})
    builder.add_edge([f"write {name}" for name in ("intro", key, "end")], "join")
    assert answers(read, builder.compile(), {"topic": "cats"}) == ["\n\n".join(PARTS)]


class _Report(TypedDict):
    topic: str
    sections: Annotated[list[str], operator.add]
    gathered: str
    report: str


@READERS
def test_a_report_is_the_answer_although_an_entry_holds_one_of_its_parts(read: Any) -> None:
    builder = StateGraph(_Report)
    builder.add_node("body", lambda state: {"sections": [model(PARTS[1]).invoke("Write.").text]})
    builder.add_node("gather", lambda state: {"gathered": "\n".join(state["sections"])})
    builder.add_node("intro", lambda state: {"sections": [model(PARTS[0]).invoke("Write.").text]})
    builder.add_node("join", lambda state: {"report": "\n\n".join(reversed(state["sections"]))})
    for first, second in zip((START, "body", "gather", "intro"), ("body", "gather", "intro", "join"), strict=True):
        builder.add_edge(first, second)
    assert answers(read, builder.compile(), {"topic": "cats"}) == [f"{PARTS[0]}\n\n{PARTS[1]}"]


@READERS
def test_material_beside_the_content_that_a_model_wrote_last_is_not_the_answer(read: Any) -> None:
    state: Any = TypedDict("state", {"topic": str, "draft": str, "content": str})
    builder = StateGraph(state)
    builder.add_node("draft", written("draft", PARTS[0]))
    builder.add_node("final", written("content", "A better text than the draft."))
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "final")
    assert answers(read, builder.compile(), {"topic": "cats"}) == ["A better text than the draft."]


# -- messages that nodes write


class _Routed(MessagesState):
    next_node: str


@READERS
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("by_model", [False, True])
def test_words_that_a_node_puts_into_the_users_mouth_do_not_hide_the_answer(
    read: Any, conditional: bool, by_model: bool
) -> None:
    def search(state: _Routed) -> Any:
        found = model("Here are two cats.").invoke(state["messages"]) if by_model else AIMessage("Here are two cats.")
        return {"messages": [found, HumanMessage("END")], "next_node": "done"}

    builder = StateGraph(_Routed)
    builder.add_node("search", search)
    builder.add_edge(START, "search")
    if conditional:
        builder.add_conditional_edges("search", lambda state: state["next_node"], {"done": END})
    graph = builder.compile(checkpointer=InMemorySaver())
    with capture() as captured:
        read(graph, asked("Find cats."))
        read(graph, asked("Find more."))
    assert captured.transcript() == [
        ("user", "Find cats."),
        ("assistant", "Here are two cats."),
        ("user", "Find more."),
        ("assistant", "Here are two cats."),
    ]


class _Appended(TypedDict):
    messages: Annotated[list[Any], operator.add]
    result: str


@READERS
@pytest.mark.parametrize("nested", [False, True])
def test_messages_that_a_node_appends_as_one_list_are_messages(read: Any, nested: bool) -> None:
    def talk(state: _Appended) -> Any:
        said = [HumanMessage("Where were you?"), model("In the kitchen.").invoke("Where were you?")]
        return {"messages": [said] if nested else said}

    builder = StateGraph(_Appended)
    builder.add_node("talk", talk)
    builder.add_node("tell", lambda state: {"messages": [model("A dark night.").invoke("Tell a story.")]})
    builder.add_node("guess", lambda state: {"result": "end"})
    builder.add_edge(START, "tell")
    builder.add_edge("tell", "talk")
    builder.add_edge("talk", "guess")
    assert answers(read, builder.compile(), {"result": ""}) == ["In the kitchen."]


# -- tool messages


class _Found(TypedDict):
    topic: str
    info: dict[str, Any]
    messages: Annotated[list[Any], operator.add]


@READERS
def test_a_tool_message_that_a_node_wrote_instead_of_a_tool_is_not_the_answer(read: Any) -> None:
    def find(state: _Found) -> Any:
        request = model(tool_request(call("Info", city="Rome"))).invoke("Research " + state["topic"])
        return {"messages": [request], "info": request.tool_calls[0]["args"]}

    builder = StateGraph(_Found)
    builder.add_node("find", find)
    builder.add_node("review", lambda state: {"messages": [ToolMessage("Complete.", name="Info", tool_call_id="c1")]})
    builder.add_edge(START, "find")
    builder.add_edge("find", "review")
    assert answers(read, builder.compile(), {"topic": "the Pope"}) == ['{"city":"Rome"}']


@tool
def count(word: str) -> int:
    """Count letters."""
    return len(word)


@READERS
@pytest.mark.parametrize("by_call", [False, True])
def test_the_result_of_a_tool_that_ran_last_is_the_answer(read: Any, by_call: bool) -> None:
    def run(state: MessagesState) -> Any:
        request = state["messages"][-1].tool_calls[0]  # type: ignore[union-attr]  # the model's answer
        if by_call:
            return {"messages": [count.invoke(request)]}
        return {"messages": [ToolMessage(str(count.invoke(request["args"])), tool_call_id=request["id"])]}

    builder = StateGraph(MessagesState)
    builder.add_node(
        "ask", lambda s: {"messages": [model(tool_request(call("count", word="cat"))).invoke(s["messages"])]}
    )
    builder.add_node("run", run)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "run")
    assert answers(read, builder.compile(), asked("How long is cat?")) == ["3"]


@tool(return_direct=True)
def price(item: str) -> int:
    """Return a price."""
    return 12


@pytest.mark.parametrize("by_tool", [False, True], ids=["from a cache", "from the tool"])
def test_a_result_that_returns_directly_is_the_answer_wherever_the_tool_ran(by_tool: bool) -> None:
    def run(state: MessagesState) -> Any:
        found = price.invoke({"item": "bike"}) if by_tool else 12
        return {"messages": [ToolMessage(f"It costs {found}", tool_call_id="c1")]}

    builder = StateGraph(MessagesState)
    builder.add_node(
        "ask", lambda s: {"messages": [model(tool_request(call("price", item="bike"))).invoke(s["messages"])]}
    )
    builder.add_node("run", run)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "run")
    assert answers(invoke, builder.compile(), asked("What does it cost?")) == ["It costs 12"]


# -- waiting


@pytest.mark.parametrize("structured", [False, True])
def test_a_field_of_a_structured_answer_is_said_before_the_graph_waits(structured: bool) -> None:
    schema = {
        "title": "Reply",
        "description": "A reply.",
        "type": "object",
        "properties": {"text": {"type": "string"}, "goto": {"type": "string"}},
        "required": ["text", "goto"],
    }

    def agent(state: MessagesState) -> Any:
        if structured:
            chat = model(tool_request(call("Reply", text="Rome is warm.", goto="finish")))
            said: Any = chat.with_structured_output(schema).invoke(state["messages"])
            return {"messages": [{"role": "ai", "content": said["text"], "name": "advisor"}]}
        return {"messages": [model("Rome is warm.").invoke(state["messages"])]}

    def human(state: MessagesState) -> Any:
        return Command(update=asked(interrupt("Anything else?")), goto="agent")

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("human", human, destinations=("agent",))
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "human")
    graph = builder.compile(checkpointer=InMemorySaver())
    said = "Rome is warm.\n\nAnything else?"
    assert answers(invoke, graph, asked("Somewhere warm"), Command(resume="A hotel")) == [said, said]


def test_the_words_of_a_decision_in_an_agent_inbox_are_the_users() -> None:
    def send(state: MessagesState) -> Any:
        decision = interrupt([{"action_request": {"action": "send", "args": {"to": "Ann"}}}])[0]
        return {"messages": [AIMessage(f"I did: {decision['args']}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("send", send)
    builder.add_edge(START, "send")
    graph = builder.compile(checkpointer=InMemorySaver())
    with capture() as captured:
        graph.invoke(asked("Write to Ann."), THREAD)
        graph.invoke(Command(resume=[{"type": "response", "args": "Make it shorter."}]), THREAD)
    assert captured.transcript() == [
        ("user", "Write to Ann."),
        ("user", "Make it shorter."),
        ("assistant", "I did: Make it shorter."),
    ]


class _Interviews(TypedDict):
    topic: str
    feedback: str
    sections: Annotated[list[str], operator.add]
    report: str


@pytest.mark.parametrize("updated", [False, True])
@pytest.mark.parametrize("inner", [False, True], ids=["the node asks", "a graph in the node asks"])
def test_what_a_program_sends_to_a_node_after_a_pause_is_not_the_users(updated: bool, inner: bool) -> None:
    ask = StateGraph(MessagesState)
    ask.add_node("ask", lambda state: {"messages": [model("Agents are nice.").invoke(state["messages"])]})
    ask.add_edge(START, "ask")
    interview_graph: Any = ask.compile()

    def interview(state: Any) -> Any:
        said = (
            interview_graph.invoke(state)["messages"][-1]
            if inner
            else model("Agents are nice.").invoke(state["messages"])
        )
        return {"sections": [said.text]}

    builder = StateGraph(_Interviews)
    builder.add_node("feedback", lambda state: None)
    builder.add_node("interview", interview)
    builder.add_node("finish", lambda state: {"report": "Report: " + " ".join(state["sections"])})
    builder.add_edge(START, "feedback")
    builder.add_conditional_edges(
        "feedback", lambda state: [Send("interview", asked(f"So you write about {state['topic']}?"))], ["interview"]
    )
    builder.add_edge("interview", "finish")
    graph = builder.compile(checkpointer=InMemorySaver(), interrupt_before=["feedback"])
    with capture() as captured:
        graph.invoke({"topic": "the use of agents"}, THREAD)
        if updated:
            graph.update_state(THREAD, {"feedback": "fine"}, as_node="feedback")
        graph.invoke(None, THREAD)
    assert [text for role, text in captured.transcript() if role == "user"] == ["the use of agents"]
    events = [event for turn in captured.turns for event in turn.events if isinstance(event, CustomEvent)]
    assert [event.name for event in events] == ["resume"]


# -- chains that end with a graph


@tool
def look(place: str) -> str:
    """Look out of the window."""
    return f"sun in {place}"


def agent() -> Any:
    return create_agent(model(tool_request(call("look", place="Rome")), "It is sunny."), [look])


def two_nodes() -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("think", lambda state: {"messages": [AIMessage("Let me see.")]})
    builder.add_node("say", lambda state: {"messages": [model("It is sunny.").invoke(state["messages"])]})
    builder.add_edge(START, "think")
    builder.add_edge("think", "say")
    return builder.compile()


def without_messages() -> Any:
    state: Any = TypedDict("state", {"messages": list[Any], "weather": str})
    builder = StateGraph(state)
    builder.add_node("say", written("weather", "It is sunny."))
    builder.add_edge(START, "say")
    return builder.compile()


@pytest.mark.parametrize("read", [invoke, stream, astream])
@pytest.mark.parametrize("make", [agent, two_nodes, without_messages])
@pytest.mark.parametrize("nested", [False, True])
def test_a_chain_that_ends_with_a_graph_has_the_answer_of_the_graph(read: Any, make: Any, nested: bool) -> None:
    graph = make()
    if nested:
        graph = RunnableLambda(lambda value: value) | graph
    chain = RunnableLambda(lambda value: asked(value["question"])) | graph
    assert answers(read, chain, {"question": "How is the weather?"}) == ["It is sunny."]


@pytest.mark.parametrize("read", [invoke, stream, astream])
def test_a_chain_that_reads_the_output_of_a_graph_has_its_own_answer(read: Any) -> None:
    chain = two_nodes() | RunnableLambda(lambda value: "Weather: fine") | StrOutputParser()
    assert answers(read, chain, asked("How is the weather?")) == ["Weather: fine"]
