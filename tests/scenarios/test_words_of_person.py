"""What a person said, beside the values, prompts and requests of the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph, add_messages
from langgraph.types import Command, interrupt

from gati import observe
from gati.testing import ScriptedChatModel, capture
from tests.scenarios.reading import READERS, asked
from tests.scenarios.scripts import call, model, tool_request

QUESTION = "Which city should I see first?"


def told(program: Callable[[], Any], role: str | None = None) -> list[Any]:
    """Return what is told of a program in a conversation: the texts of a role, or all messages."""
    with capture() as captured, observe.conversation("c"):
        program()
    return [text for by, text in captured.transcript() if by == role] if role else captured.transcript()


@READERS
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"language": "English"}, [QUESTION]),
        ({"language": "English", "temperature": 1}, [QUESTION]),
        ({"request": "I will be in Japan."}, ["I will be in Japan."]),
    ],
)
def test_the_only_text_of_an_input_is_no_setting_of_the_prompt(read: Any, given: Any, words: list[str]) -> None:
    prompt = ChatPromptTemplate.from_messages(
        [("system", f"You are told: {{{next(iter(given))}}}"), HumanMessage(QUESTION)]
    )
    assert told(lambda: read(prompt | model("Tokyo."), given), "user") == words


@READERS
@pytest.mark.parametrize(
    ("template", "words"), [("Tell me of {city}.", ["Oslo"]), ("{city}", ["Oslo"]), ("Tell me.", ["Oslo"])]
)
def test_a_word_that_is_no_setting_of_the_prompt_is_the_persons(read: Any, template: str, words: list[str]) -> None:
    chain = ChatPromptTemplate.from_template(template) | model("A city.")
    assert told(lambda: read(chain, {"city": "Oslo"}), "user") == words


class _Phased(TypedDict):
    messages: Annotated[list[Any], add_messages]
    phase: str


@READERS
@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"phase": "reflection"}, []),
        ({"phase": "I am done with this."}, ["I am done with this."]),
        ({"phase": "reflection", "messages": [("user", "Next")]}, ["Next"]),
    ],
)
def test_a_value_of_the_frontend_beside_the_thread_is_not_the_persons(
    read: Any, written: Any, words: list[str]
) -> None:
    builder = StateGraph(_Phased)
    builder.add_node("say", lambda s: {} if s.get("phase") else {"messages": [model("Hello!").invoke(s["messages"])]})
    graph = builder.add_edge(START, "say").compile(checkpointer=InMemorySaver())
    with capture() as captured:
        read(graph, asked("Hi"))
        read(graph, written)
    assert [text for role, text in captured.transcript() if role == "user"] == ["Hi", *words]


class _Trip(TypedDict, total=False):
    start: str | None
    stops: list[str]
    done: bool


@READERS
@pytest.mark.parametrize("given", [{"start": None}, {"done": False}, {"start": "", "stops": []}])
def test_the_programs_prompt_is_nobodys_message_if_the_input_says_nothing(read: Any, given: Any) -> None:
    def ask(state: _Trip) -> Any:
        return {"start": interrupt(model("Where do you start?").invoke("Ask the user where the trip starts.").text)}

    graph = StateGraph(_Trip).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=InMemorySaver())
    with capture() as captured:
        read(graph, given)
        read(graph, Command(resume="In Pune"))
    assert captured.transcript()[:2] == [("assistant", "Where do you start?"), ("user", "In Pune")]


class _Request:
    """What a web framework passes to a handler."""

    def __init__(self, text: str) -> None:
        self.text = text


def routed(answer: Any) -> Callable[[str], Any]:
    def route(state: Any) -> Any:
        model("orders").invoke("Classify the message of the customer: " + state["messages"][-1].text)

    builder = StateGraph(MessagesState).add_node("route", route)
    builder.add_node("answer", lambda state: {"messages": [answer.invoke(state["messages"])]})
    graph = builder.add_edge(START, "route").add_edge("route", "answer").compile()
    return lambda text: graph.invoke(asked(text))["messages"][-1].text


def templated(answer: Any) -> Callable[[str], Any]:
    chain = PromptTemplate.from_template("You are kind.\nQuestion: {input}\nAnswer:") | answer | StrOutputParser()
    return lambda text: chain.invoke({"input": text})


def in_a_step_of_its_own(answer: Any) -> Callable[[str], Any]:
    @observe.step
    def reply(question: str, limit: int) -> str:
        return str(answer.invoke(f"Answer in {limit} words: {question}").text)

    return lambda text: reply(text, 9)


@pytest.mark.parametrize("program", [routed, templated, in_a_step_of_its_own])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_words_in_a_request_are_those_that_its_program_was_given(program: Any, wrapped: bool) -> None:
    answer = program(model("Tomorrow."))

    def handle(request: _Request) -> Any:
        return answer(request.text)

    handler = observe.step(handle) if wrapped else handle
    assert told(lambda: handler(_Request(QUESTION))) == [("user", QUESTION), ("assistant", "Tomorrow.")]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_question_is_told_once_if_a_loop_appends_the_results_to_its_prompt(streamed: bool) -> None:
    def reply(messages: Any) -> Any:
        return "It has no memory." if messages[-1].type == "tool" else tool_request(call("pods", id="t1"))

    def program() -> None:
        bot = ScriptedChatModel(respond=reply)
        for question in ("Why does my pod crash?", "And why is it slow?"):
            prompt = ChatPromptTemplate.from_messages([("system", "You help. {version}"), ("human", "{query}")])
            given = {"query": question, "version": "4.16"}
            while True:
                chain = prompt | bot
                made = sum_of(chain.stream(given)) if streamed else chain.invoke(given)
                if not made.tool_calls:
                    break
                prompt.append(AIMessage("", tool_calls=made.tool_calls))
                prompt.append(ToolMessage("pod-a", tool_call_id="t1"))

    assert told(program, "user") == ["Why does my pod crash?", "And why is it slow?"]


def sum_of(chunks: Any) -> Any:
    first, *others = chunks
    for chunk in others:
        first += chunk
    return first
