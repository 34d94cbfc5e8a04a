"""A step that streams has the answer of the program in it, however it encodes what it yields."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.output_parsers import StrOutputParser
from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from gati.events import LLMCallEvent
from gati.testing import ScriptedChatModel, capture
from gati.trace.answer_below_step import answer_below, is_frame
from gati.trace.records import RunStarted
from gati.trace.run_tree import Run, appended

ANSWER = 'It is "fine", and\nwarm today.'


def graph() -> Any:
    model = ScriptedChatModel(replies=[ANSWER])
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "model")
    return builder.compile()


def question(text: str) -> Any:
    return {"messages": [("user", text)]}


def tokens(text: str) -> Iterator[str]:
    yield from (chunk.text for chunk, _ in graph().stream(question(text), stream_mode="messages"))


def plain(text: str) -> Iterator[str]:
    yield from tokens(text)


def growing(text: str) -> Iterator[str]:
    so_far = ""
    for token in tokens(text):
        so_far += token
        yield so_far


def server_sent(text: str) -> Iterator[str]:
    for token in tokens(text):
        yield f"data: {json.dumps({'token': token})}\n\n"
    yield "data: [DONE]\n\n"


def server_sent_whole(text: str) -> Iterator[str]:
    yield f"event: answer\ndata: {json.dumps(''.join(tokens(text)))}\n\n"


def server_sent_of_a_chain(text: str) -> Iterator[str]:
    for token in (ScriptedChatModel(replies=[ANSWER]) | StrOutputParser()).stream(text):
        yield f"data: {token}\n\n"


def vercel(text: str) -> Iterator[str]:
    yield from (f"0:{json.dumps(token)}\n" for token in tokens(text))


def html(text: str) -> Iterator[str]:
    yield from (f"<span>{token}</span>" for token in tokens(text))


def chunks(text: str) -> Iterator[Any]:
    yield from ScriptedChatModel(replies=[ANSWER]).stream(text)


def pairs(text: str) -> Iterator[Any]:
    yield from graph().stream(question(text), stream_mode="messages")


def updates(text: str) -> Iterator[Any]:
    yield from graph().stream(question(text), stream_mode="updates")


def states(text: str) -> Iterator[Any]:
    yield from graph().stream(question(text), stream_mode="values")


def objects(text: str) -> Iterator[Any]:
    yield from ({"event": "token", "data": token} for token in tokens(text))


def many_objects(text: str) -> Iterator[Any]:
    yield from ({"event": "progress", "data": number} for number in range(3_000))
    yield from objects(text)


def inner_step(text: str) -> Iterator[str]:
    for token in observe.step(tokens)(text):
        yield f"data: {token}\n\n"


STREAMS = (
    plain, growing, server_sent, server_sent_whole, server_sent_of_a_chain, vercel, html, chunks, pairs, updates, states,
    objects, many_objects, inner_step,
)  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS)
def test_a_step_that_streams_an_answer_has_that_answer_in_whatever_form_it_yields_it(
    stream: Callable[[str], Iterator[Any]],
) -> None:
    with capture(conversation_id="c") as captured:
        list(observe.step(stream)("How is it?"))
    assert captured.transcript() == [("user", "How is it?"), ("assistant", ANSWER)]
    models = [event for event in captured.turns[0].events if isinstance(event, LLMCallEvent)]
    assert [model.internal for model in models] == [False]


def test_an_asynchronous_step_that_streams_an_answer_has_that_answer() -> None:
    @observe.step
    async def stream(text: str) -> AsyncIterator[str]:
        async for chunk, _ in graph().astream(question(text), stream_mode="messages"):
            yield f"data: {chunk.text}\n\n"

    async def read() -> None:
        async for _ in stream("How is it?"):
            pass

    with capture(conversation_id="c") as captured:
        asyncio.run(read())
    assert captured.transcript() == [("user", "How is it?"), ("assistant", ANSWER)]


def test_what_a_step_adds_to_an_answer_and_what_it_writes_itself_is_the_answer_as_it_was_read() -> None:
    model = ScriptedChatModel(replies=["Fine, and warm.", "billing", "One. Two. Three."])

    @observe.step
    def with_footer(text: str) -> Iterator[str]:
        yield model.invoke(text).text
        yield "\n\nSource: the forecast"

    @observe.step
    def own(text: str) -> Iterator[str]:
        model.invoke(text)
        yield from ("We will ", "call you.")

    @observe.step
    def with_references(text: str) -> Iterator[str]:
        yield model.invoke(text).text.replace("Two.", "[1] Two.")

    with capture(conversation_id="c") as captured:
        for step in (with_footer, own, with_references):
            list(step("How is it?"))
    answers = ["Fine, and warm.\n\nSource: the forecast", "We will call you.", "One. [1] Two. Three."]
    assert [text for role, text in captured.transcript() if role == "assistant"] == answers


def test_the_stream_tells_which_of_several_programs_answered() -> None:
    answering, titling = ScriptedChatModel(replies=[ANSWER]), ScriptedChatModel(replies=["A title"])

    @observe.step
    def stream(text: str) -> Iterator[str]:
        for chunk in answering.stream(text):
            yield f"data: {json.dumps(chunk.text)}\n\n"
        titling.invoke(f"A title for: {text}")

    with capture(conversation_id="c") as captured:
        list(stream("How is it?"))
    assert captured.transcript() == [("user", "How is it?"), ("assistant", ANSWER)]


def test_a_long_answer_that_is_streamed_as_text_is_whole() -> None:
    words = [f"word{number} " for number in range(2_500)]

    @observe.step
    def stream(text: str) -> Iterator[str]:
        yield from words

    with capture(conversation_id="c") as captured:
        list(stream("Tell me."))
    assert captured.transcript()[-1] == ("assistant", "".join(words))


ANSWER = "The capital of France is Paris. It lies on the Seine."


@pytest.mark.parametrize("later", ["Capital of France", "And what about Rome?"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_title_or_a_suggestion_after_a_streamed_answer_is_not_the_answer(later: str, as_text: bool) -> None:
    @observe.step
    def handle(text: str) -> Any:
        for chunk in ScriptedChatModel(replies=[ANSWER]).stream(text):
            event = {"type": "delta", "text": chunk.text}
            yield f"data: {json.dumps(event)}\n\n" if as_text else event
        event = {"type": "more", "text": ScriptedChatModel(replies=[later]).invoke(text).text}
        yield f"data: {json.dumps(event)}\n\n" if as_text else event

    with capture() as captured:
        list(handle("Where?"))
    assert captured.transcript() == [("user", "Where?"), ("assistant", ANSWER)]


def test_the_verdict_of_a_classifier_is_not_the_answer_of_a_step_that_streams_its_own_text() -> None:
    refusal = 'data: {"text": "I am sorry, no, there is nothing that I can do about it."}\n\n'

    @observe.step
    def handle(text: str) -> Any:
        if ScriptedChatModel(replies=["no"]).invoke(f"Is it allowed? {text}").text == "no":
            yield refusal

    with capture() as captured, observe.conversation("c"):
        list(handle("Tell me a secret."))
    assert [text for role, text in captured.transcript() if role == "assistant"] == [refusal]


@pytest.mark.parametrize(
    "comment", [": ping\n\n", ":ok\n\n", ":\n\n", ": ping - 2026-01-01 10:00\r\n\r\n: keep-alive\r\n\r\n"]
)
def test_comments_may_precede_the_events_of_a_stream(comment: str) -> None:
    assert is_frame(comment + "data: {}\n\n")
    assert is_frame(comment + "event: answer\ndata: {}\n\n")


@pytest.mark.parametrize("text", [":) It is fine.", ": fine\nand warm", ":-) Fine.\n\ndata: none", "It is: fine."])
def test_a_text_that_begins_with_a_colon_is_no_stream_of_events(text: str) -> None:
    assert not is_frame(text)


class Counted(Run):
    """A run that counts comparisons with others."""

    __slots__ = ()
    comparisons = 0
    __hash__ = Run.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return self is other


def test_the_programs_of_a_step_are_not_compared_with_each_other() -> None:
    step = Run(RunStarted(uuid4(), None, "step", "step", 0), None)
    for number in range(20):
        program = Counted(RunStarted(uuid4(), step.id, "chain", "program", number), step)
        step.children = appended(step.children, program)
        if number % 2:
            node = RunStarted(uuid4(), program.id, "chain", "node", number, tags=("graph:step:1",))
            program.children = appended(program.children, Run(node, program))
    Counted.comparisons = 0
    assert answer_below(step, []) == ""
    assert Counted.comparisons == 0


POLICY = "Employees of the company accrue twenty days of leave in each calendar year, and managers may grant more after consultation."


def sent(**event: Any) -> str:
    return f"data: {json.dumps(event)}\n\n"


def openai(**delta: str) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return sent(id="chatcmpl-1", object="chat.completion.chunk", created=1, model="agent", choices=[choice])


FORMATS: dict[str, tuple[str, Callable[[str], str], str]] = {
    "sources": (
        f"data: [SOURCE] {json.dumps({'page': POLICY})}\n\n",
        lambda text: f"data: {text}\n\n",
        "data: [DONE]\n\n",
    ),
    "openai": (openai(role="assistant", content=""), lambda text: openai(content=text), openai()),
    "reasoning": (openai(reasoning_content=POLICY), lambda text: openai(content=text), "data: [DONE]\n\n"),
    "vercel": (
        f'f:{{"id":"1"}}\n2:{json.dumps([{"sources": [POLICY]}])}\n',
        lambda text: f"0:{json.dumps(text)}\n",
        "",
    ),
    "same field": (sent(type="status", text=POLICY), lambda text: sent(type="token", text=text), sent(text="Done.")),
    "objects in a row": (json.dumps({"sources": POLICY}), lambda text: json.dumps({"token": text}), ""),
    "events": (f"event: source\ndata: {POLICY}\n\n", lambda text: f"event: token\ndata: {text}\n\n", ": end\n"),
}


@pytest.mark.parametrize("as_whole", [False, True])
@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("style", FORMATS)
def test_frames_may_have_more_words_than_the_answer_that_they_carry(style: str, size: int, as_whole: bool) -> None:
    before, frame, after = FORMATS[style]
    answer = f'You have "20" days of paid leave.{" It is so." * size}'

    @observe.step
    def stream(text: str) -> Iterator[str]:
        yield before
        pieces = [chunk.text for chunk in ScriptedChatModel(replies=[answer]).stream(f"{POLICY}\n{text}")]
        yield from map(frame, ["".join(pieces)] if as_whole else pieces)
        yield after

    with capture() as captured, observe.conversation("c"):
        list(stream("What is the policy?"))
    assert captured.transcript() == [("user", "What is the policy?"), ("assistant", answer)]


def test_an_answer_is_known_after_sources_that_are_too_long_to_be_kept() -> None:
    @observe.step
    def stream(text: str) -> Iterator[str]:
        yield sent(sources=[POLICY] * 1_000)
        yield from (sent(token=chunk.text) for chunk in ScriptedChatModel(replies=[ANSWER]).stream(text))

    with capture() as captured, observe.conversation("c"):
        list(stream("Where?"))
    assert captured.transcript() == [("user", "Where?"), ("assistant", ANSWER)]
