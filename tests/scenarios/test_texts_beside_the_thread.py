"""The answer of graphs that write it beside the thread, without a role, into an object, or only stream it; greetings."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.types import Command

from gati import observe
from gati.testing import capture
from tests.scenarios.reading import READERS, THREAD, answers, asked, astream, invoke, stream, written
from tests.scenarios.scripts import call, model, tool_request


class _Research(MessagesState):
    finding: str
    final_report: str


def researcher(state: _Research) -> Any:
    found = model("Cats sleep a lot.").invoke("Find out.").text
    return {"messages": [HumanMessage(found, name="researcher")], "finding": found}


@READERS
@pytest.mark.parametrize("key", ["final_report", "answer"])
@pytest.mark.parametrize("parsed", [False, True])
def test_a_report_that_is_written_after_the_last_message_is_the_answer(read: Any, key: str, parsed: bool) -> None:
    state: Any = TypedDict("state", {"messages": Annotated[list[Any], add_messages], "finding": str, key: str})

    def reporter(values: Any) -> Any:
        text = model("Report: cats sleep all day.").invoke(values["finding"]).text
        return {key: f"# Result\n\n{text}" if parsed else text}

    builder = StateGraph(state)
    builder.add_node("researcher", researcher)
    builder.add_node("reporter", reporter)
    builder.add_edge(START, "researcher")
    builder.add_edge("researcher", "reporter")
    report = "Report: cats sleep all day."
    expected = f"# Result\n\n{report}" if parsed else report
    assert answers(read, builder.compile(), asked("What do cats do?")) == [expected]


@READERS
@pytest.mark.parametrize("name", ["summary", "title", "next_question"])
def test_what_a_node_notes_about_the_conversation_after_the_answer_is_not_the_answer(read: Any, name: str) -> None:
    state: Any = TypedDict("state", {"messages": Annotated[list[Any], add_messages], name: str})
    builder = StateGraph(state)
    builder.add_node("say", lambda s: {"messages": [model("They sleep.").invoke(s["messages"])]})
    builder.add_node("note", written(name, "A talk about cats."))
    builder.add_edge(START, "say")
    builder.add_edge("say", "note")
    assert answers(read, builder.compile(), asked("What do cats do?")) == ["They sleep."]


@READERS
def test_a_message_after_the_report_is_the_answer(read: Any) -> None:
    builder = StateGraph(_Research)
    builder.add_node("report", written("final_report", "Report: cats sleep all day."))
    builder.add_node("say", lambda s: {"messages": [model("The report is done.").invoke(s["messages"])]})
    builder.add_edge(START, "report")
    builder.add_edge("report", "say")
    assert answers(read, builder.compile(), asked("What do cats do?")) == ["The report is done."]


@READERS
@pytest.mark.parametrize("noted", [False, True], ids=["alone", "with a summary"])
def test_a_text_of_a_model_that_a_node_writes_without_a_role_is_the_answer(read: Any, noted: bool) -> None:
    state: Any = TypedDict("state", {"messages": Annotated[list[Any], add_messages], "summary": str})
    builder = StateGraph(state)
    builder.add_node("say", lambda s: {"messages": (model("They sleep.") | StrOutputParser()).invoke(s["messages"])})
    builder.add_node("note", written("summary", "A talk about cats."))
    builder.add_edge(START, "say")
    if noted:
        builder.add_edge("say", "note")
    graph = builder.compile(checkpointer=InMemorySaver())
    with capture() as captured:
        read(graph, asked("What do cats do?"))
        read(graph, asked("They sleep."))  # the person repeats it
    assert captured.transcript() == [
        ("user", "What do cats do?"),
        ("assistant", "They sleep."),
        ("user", "They sleep."),
        ("assistant", "They sleep."),
    ]


class _Mail(TypedDict):
    email: str
    queries: list[str]
    notes: str
    reply: str
    judged: str


def structured(name: str, **values: Any) -> dict[str, Any]:
    """Return what a model answers in the form of a schema with these fields."""
    fields = {key: {"type": "array" if isinstance(value, list) else "string"} for key, value in values.items()}
    schema = {"title": name, "description": name, "type": "object", "properties": fields, "required": [*fields]}
    found: Any = model(tool_request(call(name, **values))).with_structured_output(schema).invoke("Fill in the form.")
    return dict(found)


@READERS
@pytest.mark.parametrize("notes", ["", "plain", "joined"])
@pytest.mark.parametrize("form", ["text", "object"])
def test_the_only_text_of_an_object_that_a_model_wrote_last_is_the_answer(read: Any, notes: str, form: str) -> None:
    reply = "Dear Ann, it is 10 euros."

    def look(state: _Mail) -> Any:
        text = model("The plan costs 10 euros.").invoke("What does it cost?").text
        return {"notes": {"": "", "plain": text, "joined": f"{state['queries'][0]}\n{text}"}[notes]}

    def write(state: _Mail) -> Any:
        text = model(reply).invoke("Write.").text if form == "text" else structured("Mail", email=reply)["email"]
        return {"reply": text}

    builder = StateGraph(_Mail)
    builder.add_node("ask", lambda state: structured("Queries", queries=["price of plan", "cost of plan"]))
    builder.add_node("look", look)
    builder.add_node("write", write)
    for first, second in zip((START, "ask", "look"), ("ask", "look", "write"), strict=True):
        builder.add_edge(first, second)
    assert answers(read, builder.compile(), {"email": "What is the price?"}) == [reply]


@READERS
def test_a_judgement_about_a_draft_is_not_the_answer(read: Any) -> None:
    builder = StateGraph(_Mail)
    builder.add_node("write", written("reply", "Why do cats purr? Because they can."))
    builder.add_node(
        "judge",
        lambda state: {"judged": structured("Grade", grade="funny", feedback="It is short and funny.")["feedback"]},
    )
    builder.add_edge(START, "write")
    builder.add_edge("write", "judge")
    assert answers(read, builder.compile(), {"email": "A joke"}) == ["Why do cats purr? Because they can."]


def stream_messages(runnable: Any, value: Any) -> None:
    list(runnable.stream(value, THREAD, stream_mode="messages"))


def astream_events(runnable: Any, value: Any) -> None:
    async def read() -> None:
        async for _ in runnable.astream_events(value, THREAD, version="v2"):
            pass

    asyncio.run(read())


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize(("read", "streams"), [(stream_messages, True), (astream_events, True), (invoke, False)])
def test_what_was_streamed_is_the_answer_of_a_graph_that_writes_nothing(read: Any, streams: bool, writes: bool) -> None:
    state: Any = TypedDict("state", {"messages": Annotated[list[Any], add_messages], "greeted": bool})

    async def coordinate(values: Any) -> Any:
        await model("Hi, I am the coordinator.").ainvoke(values["messages"])
        return Command(goto=END, update={"greeted": True} if writes else None)

    def coordinate_now(values: Any) -> Any:
        model("Hi, I am the coordinator.").invoke(values["messages"])
        return Command(goto=END, update={"greeted": True} if writes else None)

    builder = StateGraph(state)
    builder.add_node("coordinate", RunnableLambda(coordinate_now, coordinate))
    builder.add_edge(START, "coordinate")
    expected = ["Hi, I am the coordinator."] if streams and not writes else []
    assert answers(read, builder.compile(), asked("Hi")) == expected


@pytest.mark.parametrize("read", [invoke, stream, astream])
@pytest.mark.parametrize("within", [False, True])
def test_a_greeting_is_told_although_the_question_is_in_the_history_too(read: Any, within: bool) -> None:
    history: list[Any] = [AIMessage("How can I help you?")]
    prompt = ChatPromptTemplate.from_template("History: {history}\nQuestion: {question}")
    chain = prompt | model("Hello Ann!", "You are Ann.") | StrOutputParser()
    with capture() as captured, observe.conversation("c"):
        for question, answer in (("I'm Ann", "Hello Ann!"), ("Who am I?", "You are Ann.")):
            if within:
                history.append(HumanMessage(question))
            read(chain, {"history": list(history), "question": question})
            history += [AIMessage(answer)] if within else [HumanMessage(question), AIMessage(answer)]
    assert captured.transcript() == [
        ("assistant", "How can I help you?"),
        ("user", "I'm Ann"),
        ("assistant", "Hello Ann!"),
        ("user", "Who am I?"),
        ("assistant", "You are Ann."),
    ]


def test_a_greeting_before_the_first_question_is_told_without_a_conversation_id() -> None:
    greeting = [AIMessage("How can I help you?"), HumanMessage("I'm Ann")]
    builder = StateGraph(MessagesState)
    builder.add_node("say", lambda state: {"messages": [model("Hello Ann!").invoke(state["messages"])]})
    builder.add_edge(START, "say")
    with capture() as captured:
        builder.compile().invoke({"messages": greeting})
    assert captured.transcript() == [
        ("assistant", "How can I help you?"), ("user", "I'm Ann"), ("assistant", "Hello Ann!"),
    ]  # fmt: skip
