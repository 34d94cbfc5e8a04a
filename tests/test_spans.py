"""`observe.span`, `@observe.step`, `@observe.tool` record code outside LangChain."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool as langchain_tool
from langgraph.graph import START, MessagesState, StateGraph

from gati import observe
from gati.events import CustomEvent, EmbeddingEvent, Event, LLMCallEvent, StepEvent, ToolCallEvent, Turn
from gati.testing import ScriptedChatModel, capture


def only(turns: list[Turn]) -> Turn:
    assert len(turns) == 1, [turn.name for turn in turns]
    return turns[0]


def named(turn: Turn, name: str) -> Event:
    return next(event for event in turn.events if event.name == name)


def test_before_init_a_decorated_function_is_called_without_recording() -> None:
    @observe.step
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8
    with observe.span("nothing") as step:
        step.output = 1


def test_a_step_that_encloses_a_chain_is_the_turn_and_the_parent_of_the_chain() -> None:
    model = ScriptedChatModel(replies=["Paris."])

    @observe.step
    def answer(question: str) -> str:
        return str(model.invoke(question).content)

    with capture(conversation_id="c") as captured:
        assert answer("What is the capital of France?") == "Paris."
    turn = only(captured.turns)
    assert captured.transcript() == [("user", "What is the capital of France?"), ("assistant", "Paris.")]
    model_call = next(event for event in turn.events if event.kind == "llm_call")
    assert model_call.parent_event_id == turn.run_id


def test_a_span_without_an_output_has_the_answer_of_the_graph_in_it() -> None:
    answering, titling = ScriptedChatModel(replies=["Paris."]), ScriptedChatModel(replies=["A title."])
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [answering.invoke(state["messages"])]})
    graph = builder.add_edge(START, "model").compile()

    with capture(conversation_id="c") as captured, observe.span("request", input={"text": "The capital?"}):
        graph.invoke({"messages": [("user", "The capital?")]})
        titling.invoke("Write a title.")
    assert captured.transcript() == [("user", "The capital?"), ("assistant", "Paris.")]
    calls = [event for event in only(captured.turns).events if isinstance(event, LLMCallEvent)]
    assert [call.internal for call in calls] == [False, True]


@pytest.mark.parametrize("words", ["The capital?", "/chat"])
def test_the_value_of_a_span_is_not_the_users_if_a_model_in_it_was_asked_something_else(words: str) -> None:
    model = ScriptedChatModel(replies=["Paris."])
    with capture(conversation_id="c") as captured, observe.span("request", input={"path": "/chat"}):
        model.invoke(words)
    assert captured.transcript() == [("user", words), ("assistant", "Paris.")]


def test_the_answer_of_a_step_is_the_text_in_its_output_that_a_model_produced() -> None:
    model = ScriptedChatModel(replies=["Paris."])

    @observe.step
    def handle(question: str) -> dict[str, Any]:
        return {"reply": model.invoke(question).text, "session": "s-1"}

    with capture(conversation_id="c") as captured:
        handle("The capital?")
    assert captured.transcript() == [("user", "The capital?"), ("assistant", "Paris.")]


def test_a_step_inside_a_chain_is_a_child_of_the_run_and_the_parent_of_inner_runs() -> None:
    def work(text: str) -> str:
        with observe.span("shout", input={"text": text}) as step:
            step.output = tool(text)
        return str(step.output)

    @observe.tool
    def tool(text: str) -> str:
        return RunnableLambda(str.upper).invoke(text)

    with capture(conversation_id="c") as captured:
        assert RunnableLambda(work).invoke("hi") == "HI"
    turn = only(captured.turns)
    step, call = named(turn, "shout"), named(turn, "tool")
    assert isinstance(step, StepEvent)
    assert isinstance(call, ToolCallEvent)
    assert step.parent_event_id == turn.run_id
    assert (step.input, step.output) == ({"text": "hi"}, {"output": "HI"})
    assert call.parent_event_id == step.event_id
    assert (call.input, call.output) == ({"text": "hi"}, {"output": "HI"})


def test_an_exception_is_passed_on_and_recorded() -> None:
    @observe.tool(name="divide")
    def broken(number: int) -> float:
        return number / 0

    with capture(conversation_id="c") as captured, pytest.raises(ZeroDivisionError):
        broken(1)
    call = named(only(captured.turns), "divide")
    assert (call.status, call.error_type) == ("error", "ZeroDivisionError")


def test_a_generator_is_one_step_whose_output_is_its_items() -> None:
    @observe.step
    def words() -> Iterator[str]:
        yield "a "
        yield "b"

    with capture(conversation_id="c") as captured:
        assert list(words()) == ["a ", "b"]
    assert captured.transcript() == [("assistant", "a b")]


def test_code_that_runs_between_the_items_of_a_generator_is_not_inside_its_span() -> None:
    @observe.step
    def slow() -> Iterator[int]:
        yield 1
        yield 2

    with capture(conversation_id="c") as captured:
        for _ in slow():
            RunnableLambda(lambda x: x, name="between").invoke("x")
    names = {turn.name for turn in captured.turns}
    assert names == {"slow", "between"}


def test_a_generator_closed_early_is_recorded_as_aborted_and_closed() -> None:
    closed = []

    @observe.step
    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    with capture(conversation_id="c") as captured:
        numbers = endless()
        next(numbers)
        numbers.close()
    assert closed == [True]
    assert only(captured.turns).status == "aborted"


def test_values_and_exceptions_sent_into_a_generator_arrive() -> None:
    @observe.step
    def echo() -> Any:
        got = None
        for _ in range(3):
            try:
                got = yield got
            except ValueError as error:
                got = str(error)
        return "end"

    with capture():
        talk = echo()
        assert next(talk) is None
        assert talk.send("a") == "a"
        assert talk.throw(ValueError("thrown")) == "thrown"
        with pytest.raises(StopIteration) as stop:
            talk.send(None)
    assert stop.value.value == "end"


def test_coroutines_and_async_generators_are_steps() -> None:
    @observe.step
    async def fetch(key: str) -> str:
        await asyncio.sleep(0)
        return key.upper()

    @observe.step
    async def stream() -> AsyncIterator[str]:
        yield await fetch("a")
        yield await fetch("b")

    async def program() -> list[str]:
        async with observe.span("all"):
            return [piece async for piece in stream()]

    with capture(conversation_id="c") as captured:
        assert asyncio.run(program()) == ["A", "B"]
    turn = only(captured.turns)
    outer = named(turn, "stream")
    assert [e.parent_event_id for e in turn.events if e.name == "fetch"] == [outer.event_id] * 2
    assert outer.parent_event_id == turn.run_id


def test_spans_of_concurrent_tasks_are_independent() -> None:
    @observe.step
    async def child(name: str) -> str:
        await asyncio.sleep(0)
        return name

    async def branch(name: str) -> None:
        async with observe.span(name):
            await child(name)

    async def program() -> None:
        async with observe.span("root"):
            await asyncio.gather(*(branch(f"branch-{i}") for i in range(5)))

    with capture(conversation_id="c") as captured:
        asyncio.run(program())
    turn = only(captured.turns)
    for i in range(5):
        own = named(turn, f"branch-{i}")
        below = [e for e in turn.events if isinstance(e, StepEvent) and e.output == {"output": f"branch-{i}"}]
        assert [e.parent_event_id for e in below] == [own.event_id]


def test_a_span_leaves_nothing_in_the_context() -> None:
    from gati._context import current_scope, current_span, is_paused

    with capture(), observe.conversation("c"), observe.span("a"), observe.paused():
        pass
    assert (current_scope.get(), current_span.get(), is_paused.get()) == (None, None, False)


def test_embeddings_record_their_texts_and_sizes() -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    pytest.importorskip("numpy", reason="needs numpy")
    plain = DeterministicFakeEmbedding(size=3)
    watched = observe.wrap_embeddings(plain)
    with capture(conversation_id="c") as captured:
        assert watched.embed_query("a") == plain.embed_query("a")
        assert asyncio.run(watched.aembed_documents(["a", "b"])) == plain.embed_documents(["a", "b"])
    events = [event for turn in captured.turns for event in turn.events]
    assert [(e.input, e.output) for e in events if isinstance(e, EmbeddingEvent)] == [
        ({"text": "a"}, {"vectors": 1, "dimensions": 3}),
        ({"texts": ["a", "b"]}, {"vectors": 2, "dimensions": 3}),
    ]
    assert not any(isinstance(e, CustomEvent) for e in events)


def test_a_manual_event_inside_a_run_belongs_to_its_turn() -> None:
    def work(text: str) -> str:
        observe.track_event(StepEvent(step_name="by hand", input={"text": text}))
        return text

    with capture(conversation_id="c") as captured:
        RunnableLambda(work).invoke("hi", {"metadata": {"thread_id": "t-1"}})
    turn = only(captured.turns)
    event = next(e for e in turn.events if isinstance(e, StepEvent))
    assert (event.conversation_id, event.parent_event_id, event.run_id) == ("t-1", turn.run_id, turn.run_id)
    assert captured.events == []


def test_a_manual_event_outside_of_runs_belongs_to_the_enclosing_conversation() -> None:
    with capture(conversation_id="c") as captured, observe.conversation("c-1", user_id="u-1"):
        observe.track_event(StepEvent(step_name="by hand"))
    assert [(e.conversation_id, e.user_id) for e in captured.events] == [("c-1", "u-1")]


def test_a_call_with_wrong_arguments_raises_type_error_and_is_recorded() -> None:
    @observe.step
    def double(number: int) -> int:
        return 2 * number

    call: Any = double
    with (
        capture(conversation_id="c") as captured,
        pytest.raises(TypeError, match="takes 1 positional argument"),
        observe.span("all"),
    ):
        call(1, 2)
    event = named(only(captured.turns), "double")
    assert isinstance(event, StepEvent)
    assert (event.status, event.input) == ("error", {"args": [1, 2]})


def test_a_span_does_not_change_exceptions() -> None:
    for watched in (False, True):
        with (
            capture(enabled=watched, conversation_id="c") as captured,
            pytest.raises(ZeroDivisionError),
            observe.span("divide"),
        ):
            1 / 0  # noqa: B018 - the exception is the test
        assert [turn.status for turn in captured.turns] == ["error"] * watched


def test_an_async_generator_closed_early_is_recorded_as_aborted_and_closed() -> None:
    closed = []

    @observe.step
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def program() -> None:
        numbers: Any = endless()
        await anext(numbers)
        await numbers.aclose()

    with capture(conversation_id="c") as captured:
        asyncio.run(program())
    assert closed == [True]
    assert only(captured.turns).status == "aborted"


def test_values_and_exceptions_sent_into_an_async_generator_arrive() -> None:
    @observe.step
    async def echo() -> AsyncIterator[Any]:
        got = None
        for _ in range(3):
            try:
                got = yield got
            except ValueError as error:
                got = str(error)

    async def program() -> list[Any]:
        talk: Any = echo()
        heard = [await anext(talk), await talk.asend("a"), await talk.athrow(ValueError("thrown"))]
        return [*heard, await anext(talk, "end")]

    with capture(conversation_id="c") as captured:
        assert asyncio.run(program()) == [None, "a", "thrown", "end"]
    assert only(captured.turns).status == "completed"


def test_only_the_first_items_of_a_long_stream_are_kept() -> None:
    @observe.step
    def numbers() -> Iterator[int]:
        yield from range(3000)

    @observe.step
    async def anumbers() -> AsyncIterator[int]:
        for number in range(3000):
            yield number

    async def count() -> int:
        return len([number async for number in anumbers()])

    with capture(conversation_id="c") as captured, observe.span("all"):
        assert len(list(numbers())) == asyncio.run(count()) == 3000
    steps = [event for event in only(captured.turns).events if isinstance(event, StepEvent)]
    assert [step.name for step in steps] == ["numbers", "anumbers"]
    for step in steps:
        assert step.output["output"][:100] == list(range(100))
        assert len(step.output["output"]) <= 1001


def test_a_span_may_end_in_another_context() -> None:
    with capture(conversation_id="c") as captured:
        step = observe.span("elsewhere")
        contextvars.copy_context().run(step.__enter__)
        step.__exit__(None, None, None)
    assert only(captured.turns).status == "completed"


def test_each_thread_that_enters_a_span_object_records_its_own_step_and_output() -> None:
    shared = observe.span("shared")
    both_inside, both_set = (threading.Barrier(2, timeout=30) for _ in range(2))

    def visit(name: str) -> Any:
        with shared as step:
            both_inside.wait()
            step.output = name
            both_set.wait()
            RunnableLambda(lambda x: x, name=f"below {name}").invoke("x")
            return step.output

    with capture(conversation_id="c") as captured, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(visit, "ab")) == ["a", "b"]
    assert len(captured.turns) == 2
    for turn in captured.turns:
        assert turn.status == "completed"
        assert turn.answer is not None
        assert turn.answer.text in ("a", "b")
    with capture(conversation_id="c") as captured, shared:
        pass
    assert only(captured.turns).answer is None


def test_a_decorated_generator_called_with_wrong_arguments_raises_and_ends_its_span() -> None:
    @observe.step
    def words(count: int) -> Iterator[int]:
        yield count

    call: Any = words
    with capture(conversation_id="c") as captured, pytest.raises(TypeError):
        list(call())
    assert only(captured.turns).status == "error"


class _Doubler:
    def __call__(self, number: int) -> int:
        return 2 * number


class _AsyncDoubler:
    async def __call__(self, number: int) -> int:
        return 2 * number


def _multiply(factor: int, number: int) -> int:
    return factor * number


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (_Doubler(), "_Doubler"),
        (_Doubler().__call__, "__call__"),
        (functools.partial(_multiply, 2), "_multiply"),
        (functools.partial(_Doubler()), "_Doubler"),
    ],
    ids=["object", "method", "partial", "partial of an object"],
)
def test_whatever_can_be_called_can_be_a_step(function: Callable[[int], int], name: str) -> None:
    with capture() as turns, observe.conversation("c"), observe.span("all"):
        assert observe.step(function)(4) == 8
    assert isinstance(named(only(turns.turns), name), StepEvent)


async def test_an_object_with_an_asynchronous_call_is_a_step() -> None:
    with capture() as turns, observe.conversation("c"), observe.span("all"):
        assert await observe.step(_AsyncDoubler())(4) == 8
    step = named(only(turns.turns), "_AsyncDoubler")
    assert isinstance(step, StepEvent)
    assert step.output == {"output": 8}


def test_class_methods_and_static_methods_can_be_steps() -> None:
    class Numbers:
        @observe.step
        @classmethod
        def name(cls) -> str:
            return cls.__name__

        @observe.step
        @staticmethod
        def double(number: int) -> int:
            return 2 * number

    assert (Numbers.name(), Numbers().double(4)) == ("Numbers", 8)


@pytest.mark.parametrize("value", [5, property(_multiply), None.__class__.__doc__], ids=["number", "property", "None"])
def test_what_cannot_be_called_is_returned_as_it_is(value: Any) -> None:
    assert observe.step(name="x")(value) is value


def test_a_langchain_tool_stays_a_tool_because_langchain_reports_it() -> None:
    @observe.tool
    @langchain_tool
    def double(number: int) -> int:
        """Double a number."""
        return 2 * number

    assert double.invoke({"number": 4}) == 8


def test_a_name_by_position_does_not_keep_the_function_from_being_called() -> None:
    decorate: Any = observe.step("double")  # type: ignore[call-overload]  # what the test is about
    assert decorate(_Doubler())(4) == 8
