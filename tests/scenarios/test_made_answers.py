"""The answer of a turn is the text that the turn made, whatever its state is called and wherever other texts come from."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph, add_messages
from pydantic import create_model

from gati.events import LLMCallEvent
from gati.testing import ScriptedChatModel, capture
from gati.trace.chat_input import INPUT_KEYS
from gati.trace.chat_output import AMBIGUOUS_KEYS, OUTPUT_KEYS

MADE = "Made in this turn."
TEXT_KEYS = sorted({*INPUT_KEYS, *OUTPUT_KEYS, "summary", "reply", "notes", "structured_response"})
LISTS: dict[str, list[Any]] = {
    "ends with an answer": [HumanMessage("Old question."), AIMessage("Old reply.")],
    "ends with a question": [HumanMessage("Old question."), AIMessage("Old reply."), HumanMessage("A new question.")],
    "as dicts": [{"role": "user", "content": "Old question."}, {"role": "assistant", "content": "Old reply."}],
    "as pairs": [("user", "Old question."), ("assistant", "Old reply.")],
}
PROFILE = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_numbers = itertools.count()


@st.composite
def inputs(draw: st.DrawFn) -> dict[str, Any]:
    """The input of a program: texts under usual and other keys, and a list of messages."""
    keys = draw(st.lists(st.sampled_from(TEXT_KEYS), min_size=1, max_size=3, unique=True))
    values: dict[str, Any] = {key: f"Given as {key}." for key in keys}
    if draw(st.booleans()):
        values[draw(st.sampled_from(["messages", "chat_history", "history"]))] = draw(
            st.sampled_from(list(LISTS.values()))
        )
    return values


def state_class(kind: str, keys: set[str]) -> Any:
    make_typed_dict: Any = TypedDict
    make_model: Any = create_model
    if kind == "TypedDict":
        return make_typed_dict("State", dict.fromkeys(keys, Any), total=False)
    if kind == "dataclass":
        return dataclasses.make_dataclass("State", [(key, Any, dataclasses.field(default=None)) for key in keys])
    return make_model("State", **dict.fromkeys(keys, (Any, None)))


def as_dict(state: Any) -> dict[str, Any]:
    return dict(state) if isinstance(state, dict) else dict(vars(state))


def maker(by_model: bool) -> Any:
    """Return a function that makes the text, with a model or without."""
    model = ScriptedChatModel(replies=[MADE])
    return lambda _: model.invoke("Please.").text if by_model else MADE


def graph(kind: str, values: dict[str, Any], made: str, whole: bool, make: Any, **more: Any) -> Any:
    """Return a graph with a node that adds one entry, before and after nodes that add nothing."""
    builder = StateGraph(state_class(kind, {*values, made, "stale", "answer"}))

    def write(state: Any) -> dict[str, Any]:
        return {**(as_dict(state) if whole else {}), made: make(state)}

    def pass_on(state: Any) -> dict[str, Any]:
        return as_dict(state) if whole else {}

    builder.add_node("before", pass_on).add_node("write", write).add_node("after", pass_on)
    return builder.add_edge(START, "before").add_edge("before", "write").add_edge("write", "after").compile(**more)


def answers(program: Runnable[Any, Any], values: dict[str, Any], config: dict[str, Any]) -> list[str]:
    with capture(local=False) as captured:
        program.invoke(values, config)
    return [turn.answer.text for turn in captured.turns if turn.answer is not None]


@PROFILE
@given(
    inputs(),
    st.sampled_from(TEXT_KEYS),
    st.sampled_from(["TypedDict", "dataclass", "pydantic"]),
    st.booleans(),
    st.booleans(),
)
def test_a_graph_answers_what_it_made(
    values: dict[str, Any], made: str, kind: str, whole: bool, by_model: bool
) -> None:
    program = graph(kind, values, made, whole, maker(by_model))
    assert answers(program, values, {}) == [MADE]


@example(
    {"summary": "Given as summary.", "history": LISTS["ends with a question"]}, "prompt", "dataclass", True, True,
    "answer",
)  # fmt: skip
@PROFILE
@given(
    inputs(), st.sampled_from(TEXT_KEYS), st.sampled_from(["TypedDict", "dataclass", "pydantic"]), st.booleans(),
    st.booleans(), st.sampled_from(["answer", "stale", "structured_response"]),
)  # fmt: skip
def test_a_graph_does_not_answer_what_its_checkpoint_brought(
    values: dict[str, Any], made: str, kind: str, whole: bool, by_model: bool, stale: str
) -> None:
    saver, config = InMemorySaver(), {"configurable": {"thread_id": f"t-{next(_numbers)}"}}
    keys = {**values, "structured_response": None}
    earlier = graph(kind, keys, stale, whole, lambda _: "An earlier answer.", checkpointer=saver)
    earlier.invoke({"messages": LISTS["as dicts"]} if "messages" in values else {"answer": "Asked before."}, config)
    program = graph(kind, keys, made, whole, maker(by_model), checkpointer=saver)
    assert answers(program, values, config) == [MADE]


@PROFILE
@given(inputs(), st.sampled_from(TEXT_KEYS), st.booleans(), st.booleans())
def test_a_chain_answers_what_it_made(values: dict[str, Any], made: str, assign: bool, by_model: bool) -> None:
    make = maker(by_model)
    program: Runnable[Any, Any] = (
        RunnablePassthrough.assign(**{made: make})
        if assign
        else RunnableLambda(lambda given: {**given, made: make(given)})
    )
    assert answers(program, values, {"metadata": {"conversation_id": "c"}}) == [MADE]


@PROFILE
@given(inputs(), st.booleans())
def test_a_program_that_makes_nothing_has_no_answer(values: dict[str, Any], is_graph: bool) -> None:
    program: Runnable[Any, Any] = RunnablePassthrough()
    if is_graph:
        program = graph("TypedDict", values, "unused", True, lambda _: None)
    assert answers(program, values, {"metadata": {"conversation_id": "c"}}) == []


@pytest.mark.parametrize("kind", ["TypedDict", "dataclass", "pydantic"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("key", sorted(AMBIGUOUS_KEYS))
def test_a_page_that_a_node_fetched_is_not_the_answer_but_a_reply_after_a_model_is(
    kind: str, whole: bool, key: str
) -> None:
    def write(entry: str, make: Any) -> Any:
        return lambda state: {**(as_dict(state) if whole else {}), entry: make(state)}

    def answers_of(*nodes: Any) -> list[str]:
        builder, before = StateGraph(state_class(kind, {"url", key, "summary"})), START
        for number, node in enumerate(nodes):
            builder.add_node(f"n{number}", node).add_edge(before, f"n{number}")
            before = f"n{number}"
        return answers(builder.compile(), {"url": "https://example.com"}, {})

    fetch, summarize = write(key, lambda _: "The text of a page."), write("summary", maker(True))
    assert answers_of(fetch, summarize) == [MADE]
    subgraph = StateGraph(state_class(kind, {"url", key, "summary"})).add_sequence([("f", fetch), ("s", summarize)])
    assert answers_of(subgraph.add_edge(START, "f").compile()) == [MADE]
    assert answers_of(summarize, fetch) == ["The text of a page."]
    footer = write(key, lambda state: f"{as_dict(state)['summary']} Checked by nobody.")
    assert answers_of(summarize, footer) == [f"{MADE} Checked by nobody."]


@pytest.mark.parametrize("channels", [("scratch", "chat"), ("chat", "scratch")])
@pytest.mark.parametrize("thinks_last", [True, False])
def test_the_answer_is_in_the_list_of_the_users_messages(channels: tuple[str, str], thinks_last: bool) -> None:
    def say(channel: str, text: str) -> Any:
        model = ScriptedChatModel(replies=[text])
        return lambda state: {channel: [model.invoke(state["chat"])]}

    make_class: Any = TypedDict
    builder = StateGraph(make_class("Talk", dict.fromkeys(channels, Annotated[list[Any], add_messages])))
    order = ["answer", "think"] if thinks_last else ["think", "answer"]
    builder.add_node("answer", say("chat", MADE)).add_node("think", say("scratch", "Is that right?"))
    program = builder.add_edge(START, order[0]).add_edge(*order).compile(checkpointer=InMemorySaver())
    for _ in range(2):
        thread: dict[str, Any] = {"configurable": {"thread_id": "t"}}
        assert answers(program, {"chat": [("user", "A question.")]}, thread) == [MADE]


JOKE = "Two cats walk into a bar."


def sequence(**nodes: Any) -> Any:
    """Return a graph of nodes that each write the entry with their name."""
    builder, before = StateGraph(state_class("TypedDict", {"subject", *nodes})), START
    for key, make in nodes.items():
        builder.add_node(f"{key}_node", lambda state, key=key, make=make: {key: make(state)})
        builder.add_edge(before, f"{key}_node")
        before = f"{key}_node"
    return builder.compile()


def asks(reply: str, question: str) -> Any:
    model = ScriptedChatModel(replies=[reply])
    return lambda state: model.invoke(question.format(**state)).text


@pytest.mark.parametrize("verdict", ["funny", "8", "8/10", "YES"])
@pytest.mark.parametrize("as_chain", [False, True])
def test_the_verdict_of_a_judge_is_not_the_answer(verdict: str, as_chain: bool) -> None:
    nodes = {"joke": asks(JOKE, "A joke on {subject}."), "grade": asks(verdict, "Grade this joke: {joke}")}
    chain: Any = RunnablePassthrough.assign(joke=RunnableLambda(nodes["joke"])).assign(
        grade=RunnableLambda(nodes["grade"])
    )
    assert answers(chain if as_chain else sequence(**nodes), {"subject": "cats"}, {}) == [JOKE]


def test_a_word_that_answers_the_question_is_the_answer() -> None:
    nodes = {"steps": asks("First, multiply.", "Think about {subject}."), "solution": asks("42", "Solve {subject}.")}
    assert answers(sequence(**nodes), {"subject": "6 * 7"}, {}) == ["42"]


def test_a_text_that_a_node_joins_of_models_texts_is_the_answer_and_made_of_all() -> None:
    def join(state: Any) -> str:
        return f"On {state['subject']}:\n\n{state['story']}\n\n{state['joke']}"

    story = "Once upon a time there was a cat."
    nodes = {"story": asks(story, "A story on {subject}."), "joke": asks(JOKE, "A joke on {subject}.")}
    with capture(local=False) as captured:
        sequence(**nodes, combined=join).invoke({"subject": "cats"})
        sequence(**nodes, log=lambda state: f"Told: {state['joke']}").invoke({"subject": "cats"})
    joined, logged = captured.turns
    assert joined.answer is not None
    assert joined.answer.text == f"On cats:\n\n{story}\n\n{JOKE}"
    assert [event.internal for event in joined.events if isinstance(event, LLMCallEvent)] == [False, False]
    assert logged.answer is not None
    assert logged.answer.text == JOKE


@pytest.mark.parametrize("in_dict", [True, False])
@pytest.mark.parametrize("key", ["chat_history", "earlier"])
def test_a_model_that_says_the_same_as_before_has_answered(key: str, in_dict: bool) -> None:
    """The history that the program passes ends with the same answer."""
    model: Any = ScriptedChatModel(replies=["Anything else?"])
    talk = RunnableLambda(lambda given: [*given[key], HumanMessage(given["input"])]) | model
    program: Any = RunnablePassthrough.assign(reply=talk) if in_dict else talk
    given = {"input": "No.", key: [HumanMessage("Hello."), AIMessage("Anything else?")]}
    assert answers(program, given, {"metadata": {"conversation_id": "c"}}) == ["Anything else?"]
    repeating: Any = RunnableLambda(lambda given: given[key][-1])
    assert answers(repeating, given, {"metadata": {"conversation_id": "c"}}) == []


@pytest.mark.parametrize("checkpointer", [None, InMemorySaver()], ids=["no checkpoints", "checkpoints"])
def test_a_node_that_says_the_users_words_again_answers_with_them_in_each_turn(checkpointer: Any) -> None:
    class State(TypedDict):
        messages: Annotated[list[Any], add_messages]

    def echo(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage(state["messages"][-1].content)]}

    graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").compile(checkpointer=checkpointer)
    config: Any = {"configurable": {"thread_id": "c"}}
    with capture() as captured:
        for text in ("hello", "hello", "bye"):
            graph.invoke({"messages": [("user", text)]}, config)
    assert [[text for _, text in turn] for turn in _transcripts(captured.turns)] == [
        ["hello", "hello"],
        ["hello", "hello"],
        ["bye", "bye"],
    ]


def _transcripts(turns: list[Any]) -> list[list[tuple[str, str]]]:
    return [
        [(message.role, message.text) for message in (*turn.messages, turn.answer) if message is not None]
        for turn in turns
    ]
