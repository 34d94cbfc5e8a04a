"""A step belongs to the conversation that it serves. If it serves several, each program in another one is a turn of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.retrievers import BaseRetriever
from langgraph.checkpoint.memory import InMemorySaver

from gati import observe
from gati.testing import Captured, ScriptedChatModel, capture

Job = tuple[str, str]
Told = list[tuple[str, str, list[str]]]
JOBS: list[Job] = [("ann", "q1"), ("bob", "q2")]
OF_EACH: Told = [("c-ann", "ann", ["q1", "re q1"]), ("c-bob", "bob", ["q2", "re q2"])]


def model() -> ScriptedChatModel:
    return ScriptedChatModel(respond=lambda messages: f"re {messages[-1].text}")


def told(captured: Captured) -> Told:
    """Return conversation, user and texts of each turn."""
    return [
        (turn.conversation.id, turn.conversation.user_id, [*(m.text for m in turn.messages), *_answer(turn)])
        for turn in captured.turns
    ]


def _answer(turn: Any) -> list[str]:
    return [turn.answer.text] if turn.answer is not None else []


def scope(user: str) -> Any:
    return observe.conversation(f"c-{user}", user_id=user, properties={"plan": user})


def config(user: str) -> Any:
    return {"configurable": {"thread_id": f"c-{user}", "user_id": user}}


def with_scope(user: str, text: str) -> Any:
    with scope(user):
        return model().invoke(text).text


def with_thread(user: str, text: str) -> Any:
    agent: Any = create_agent(model(), [], checkpointer=InMemorySaver())
    return agent.invoke({"messages": [("user", text)]}, config(user))["messages"][-1].text


def with_metadata(user: str, text: str) -> Any:
    return model().invoke(text, {"metadata": {"session_id": f"c-{user}", "user_id": user}}).text


SERVE = [with_scope, with_thread, with_metadata]


@pytest.mark.parametrize("serve", SERVE)
def test_a_step_belongs_to_the_only_conversation_in_it(serve: Callable[[str, str], Any]) -> None:
    @observe.step
    def handle(request: str) -> Any:
        user, _, text = request.partition(": ")
        model().invoke("Is this polite?")
        return serve(user, text)

    with capture() as captured:
        handle("ann: q1")
    assert [(turn.name, turn.conversation.id, turn.conversation.user_id) for turn in captured.turns] == [
        ("handle", "c-ann", "ann")
    ]
    assert len([event for event in captured.turns[0].events if event.kind == "llm_call"]) == 2


def test_a_step_has_the_properties_of_the_scope_in_it() -> None:
    with capture() as captured:
        with observe.span("request", input={"question": "q1"}):
            with_scope("ann", "q1")
        observe.step(with_scope)("ann", "q2")
    assert [turn.conversation.properties for turn in captured.turns] == [{"plan": "ann"}] * 2
    assert told(captured)[0] == OF_EACH[0]


def test_an_asynchronous_step_that_streams_belongs_to_the_scope_in_it() -> None:
    @observe.step
    async def stream(text: str) -> Any:
        async with scope("ann"):
            async for chunk in model().astream(text):
                yield chunk.text

    async def read() -> None:
        async for _ in stream("q1"):
            pass

    with capture() as captured:
        asyncio.run(read())
    assert told(captured) == [OF_EACH[0]]


@pytest.mark.parametrize("serve", SERVE)
def test_a_step_with_several_conversations_is_a_turn_of_each(serve: Callable[[str, str], Any]) -> None:
    @observe.step
    def work(jobs: list[Job]) -> list[str]:
        return [serve(*job) for job in jobs]

    with capture() as captured:
        work(JOBS)
        work([("user", "q3"), ("human", "q4")])
    assert told(captured) == [
        *OF_EACH,
        ("c-user", "user", ["q3", "re q3"]),
        ("c-human", "human", ["q4", "re q4"]),
    ]


def test_a_step_in_a_step_that_serves_several_conversations_is_whole() -> None:
    class Notes(BaseRetriever):
        def _get_relevant_documents(self, query: str, **more: Any) -> list[Any]:
            return []

    @observe.step
    def handle(user: str, text: str) -> Any:
        Notes().invoke(text)
        return with_scope(user, text)

    @observe.step
    def work(jobs: list[Job]) -> None:
        for job in jobs:
            handle(*job)

    with capture() as captured:
        work(JOBS)
    assert [turn.name for turn in captured.turns] == ["handle", "handle"]
    assert [(c, user) for c, user, _ in told(captured)] == [("c-ann", "ann"), ("c-bob", "bob")]
    for turn in captured.turns:
        assert [event.kind for event in turn.events if event.kind == "retrieval"] == ["retrieval"]


def test_a_step_in_a_scope_keeps_its_conversation_whatever_scopes_are_in_it() -> None:
    @observe.step
    def handle(text: str) -> Any:
        answer = model().invoke(text).text
        with_scope("bob", "q2")
        return answer

    with capture() as captured, scope("ann"):
        handle("q1")
    assert told(captured) == [("c-ann", "ann", ["q1", "re q1"])]


def test_agents_of_a_step_with_threads_of_their_own_and_one_user_are_one_turn() -> None:
    @observe.step
    def handle(text: str) -> Any:
        thread: Any = {"configurable": {"thread_id": "router"}}
        agent: Any = create_agent(model(), [], checkpointer=InMemorySaver())
        agent.invoke({"messages": [("user", "Which one?")]}, thread)
        return with_thread("ann", text)

    with capture() as captured:
        handle("q1")
    assert [texts for _, _, texts in told(captured)] == [["q1", "re q1"]]


def test_conversations_that_metadata_names_in_a_step_are_kept_apart_without_users() -> None:
    @observe.step
    def evaluate() -> None:
        for name, text in JOBS:
            model().invoke(text, {"metadata": {"session_id": name}})

    with capture() as captured:
        evaluate()
    assert sorted((name, texts) for name, _, texts in told(captured)) == [
        ("ann", ["q1", "re q1"]),
        ("bob", ["q2", "re q2"]),
    ]


def test_two_users_of_one_conversation_in_a_step_have_turns_of_their_own() -> None:
    @observe.step
    def room() -> None:
        for user, text in JOBS:
            with observe.conversation("room", user_id=user):
                model().invoke(text)

    with capture() as captured:
        room()
    assert sorted(told(captured)) == [("room", "ann", ["q1", "re q1"]), ("room", "bob", ["q2", "re q2"])]


def test_what_is_left_of_a_step_that_serves_several_conversations_is_nobodys_words() -> None:
    @observe.step
    def work() -> str:
        model().invoke("Order these jobs.")
        for user, text in JOBS:
            with_scope(user, text)
        return "done"

    with capture() as captured:
        work()
    assert sorted(texts for _, _, texts in told(captured)) == [[], ["q1", "re q1"], ["q2", "re q2"]]


def test_the_failure_of_a_step_that_serves_several_conversations_is_told() -> None:
    @observe.step
    def work() -> None:
        for user, text in JOBS:
            with_scope(user, text)
        raise RuntimeError("disk is full")

    with capture() as captured, pytest.raises(RuntimeError):
        work()
    assert [turn.status for turn in captured.turns if turn.name == "work"] == ["error"]


@pytest.mark.parametrize("kind", ["embedding", "memory_read", "tool", "step"])
def test_spans_and_steps_without_a_model_belong_to_the_scope_around_them(kind: Any) -> None:
    @observe.step
    def work() -> None:
        for user, text in JOBS:
            with scope(user):
                model().invoke(text)
                with observe.span("inner", input={"text": text}, kind=kind) as span:
                    span.output = "out"

    with capture() as captured:
        work()
    events = [(turn.conversation.id, turn.name) for turn in captured.turns if turn.name == "inner"]
    assert sorted(events) == [("c-ann", "inner"), ("c-bob", "inner")]


def test_a_step_that_is_delivered_in_parts_belongs_to_the_scope_in_it() -> None:
    @observe.step
    def handle(text: str) -> str:
        model().invoke(f"Which session is it? {text}")
        return str(with_scope("ann", text))

    with capture(submission="incremental") as captured:
        handle("q1")
    assert {(turn.conversation.id, turn.conversation.user_id) for turn in captured.turns} == {("c-ann", "ann")}


def test_a_thread_in_a_step_that_has_a_scope_belongs_to_the_scope() -> None:
    @observe.step
    def handle(text: str) -> Any:
        with_thread("bob", text)
        return with_thread("carl", text)

    with capture() as captured, scope("ann"):
        handle("q1")
    assert told(captured) == [OF_EACH[0]]


def test_users_in_a_step_without_conversations_are_kept_apart() -> None:
    @observe.step
    def work(jobs: list[Job]) -> None:
        for user, text in jobs:
            with observe.conversation(user_id=user):
                model().invoke(text)

    with capture() as captured:
        work(JOBS[:1])
    assert [(turn.name, turn.conversation.user_id) for turn in captured.turns] == [("work", "ann")]
    with capture() as captured:
        work(JOBS)
    assert [(user, texts) for _, user, texts in told(captured)] == [("ann", ["q1", "re q1"]), ("bob", ["q2", "re q2"])]
    assert len({turn.conversation.id for turn in captured.turns}) == 2


def test_a_generator_that_is_closed_early_belongs_to_the_scope_in_it() -> None:
    @observe.step
    def stream(text: str) -> Generator[str]:
        with scope("ann"):
            for chunk in model().stream(text):
                yield chunk.text

    with capture() as captured:
        reading = stream("q1")
        next(reading)
        reading.close()
    assert [(c, user, texts[0]) for c, user, texts in told(captured)] == [("c-ann", "ann", "q1")]
    assert captured.turns[0].status == "aborted"


def test_a_step_in_a_scope_has_the_user_of_the_program_in_it() -> None:
    @observe.step
    def of_config(text: str) -> Any:
        return with_thread("ann", text)

    @observe.step
    def of_scope(text: str) -> Any:
        model().invoke("Is this polite?")
        with observe.conversation(user_id="ann"):
            return model().invoke(text).text

    with capture() as captured, observe.conversation("c"):
        of_config("q1")
        of_scope("q2")
    assert [(turn.conversation.id, turn.conversation.user_id) for turn in captured.turns] == [("c", "ann")] * 2


def test_a_step_without_any_conversation_in_it_has_the_default_one() -> None:
    @observe.step
    def handle(text: str) -> Any:
        return model().invoke(text).text

    with capture(conversation_id="default") as captured:
        handle("q1")
        with scope("ann"):
            handle("q1")
    assert told(captured) == [("default", "anonymous", ["q1", "re q1"]), OF_EACH[0]]
