"""`observe.conversation` and `observe.paused` as context managers and decorators."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from gati import observe
from gati._context import current_scope
from gati.events import Prompt
from gati.pipeline import internal_errors
from gati.testing import Captured, ScriptedChatModel, capture

echo = (ScriptedChatModel(respond=lambda messages: messages[-1].text) | StrOutputParser()).with_config(run_name="echo")


def whose(captured: Captured) -> list[tuple[str, str, str | None]]:
    found = [turn.conversation for turn in captured.turns]
    return [(one.id, one.user_id, one.organization_id) for one in found]


def test_inner_scopes_extend_outer_scopes() -> None:
    with capture() as captured, observe.conversation("c-1", user_id="u-1", properties={"plan": "pro"}):
        with observe.conversation(organization_id="o-1", properties={"beta": True}):
            echo.invoke("a")
        echo.invoke("b")
    assert whose(captured) == [("c-1", "u-1", "o-1"), ("c-1", "u-1", None)]
    assert captured.turns[0].conversation.properties == {"plan": "pro", "beta": True}


def test_ids_may_be_numbers_and_uuids() -> None:
    with capture() as captured, observe.conversation(UUID(int=7), user_id=42):
        echo.invoke("a")
    assert whose(captured) == [(str(UUID(int=7)), "42", None)]


def test_a_scope_decorates_sync_and_async_functions() -> None:
    @observe.conversation("sync")
    def ask(text: str) -> str:
        return str(echo.invoke(text))

    @observe.conversation("async")
    async def aask(text: str) -> str:
        return str(await echo.ainvoke(text))

    async def program() -> None:
        async with observe.conversation(user_id="u"):
            await aask("b")

    with capture() as captured:
        ask("a")
        asyncio.run(program())
    assert whose(captured) == [("sync", "anonymous", None), ("async", "u", None)]


def test_one_scope_object_may_be_entered_by_several_tasks_at_once() -> None:
    async def one(name: str) -> None:
        with observe.conversation(name):
            await asyncio.sleep(0)
            await echo.ainvoke(name)

    async def program() -> None:
        await asyncio.gather(*(one(f"c-{i}") for i in range(20)))

    with capture() as captured:
        asyncio.run(program())
    assert {(turn.conversation.id, turn.messages[0].text) for turn in captured.turns} == {
        (f"c-{i}", f"c-{i}") for i in range(20)
    }


def test_runs_that_start_while_paused_are_not_recorded() -> None:
    with capture(conversation_id="c") as captured:
        with observe.paused():
            echo.invoke("secret")
            echo.invoke("secret", {"callbacks": observe.get_callbacks()})
        echo.invoke("open")
    assert [turn.messages[0].text for turn in captured.turns] == ["open"]


def test_pausing_inside_a_run_omits_its_children_and_keeps_the_run() -> None:
    def work(text: str) -> str:
        with observe.paused(), observe.span("hidden"):
            echo.invoke("secret")
        return text

    with capture(conversation_id="c") as captured:
        RunnableLambda(work, name="outer").invoke("open")
    assert [turn.name for turn in captured.turns] == ["outer"]
    assert [event.name for event in captured.turns[0].events] == ["outer", "outer"]


def test_the_former_with_observe_block_flushes_at_its_end() -> None:
    with capture(conversation_id="c") as captured:
        with observe:
            echo.invoke("a")
        assert len(captured.turns) == 1


PROMPT = {"externalPromptId": "tutor", "content": "Be brief."}
INVALID: list[Any] = [7, "", {}, {"contents": "Be brief."}, {"components": [{"content": "x", "type": "poem"}]}]


def test_a_scope_and_metadata_accept_the_same_prompts() -> None:
    with capture(conversation_id="c") as captured:
        with observe.conversation(system_prompt=PROMPT):
            echo.invoke("a")
        echo.invoke("b", {"metadata": {"system_prompt": PROMPT}})
    assert [turn.conversation.prompt for turn in captured.turns] == [Prompt("Be brief.", "tutor")] * 2


@pytest.mark.parametrize("invalid", INVALID)
def test_an_invalid_prompt_of_a_scope_is_ignored_counted_and_logged_once(
    invalid: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scope = observe.conversation("c-1", system_prompt=invalid)  # before `init`, as a decorator would be
    with caplog.at_level(logging.WARNING, "gati"), capture(conversation_id="c") as captured:
        for _ in range(2):
            with scope:
                assert echo.invoke("a") == "a"
    assert [turn.conversation.prompt for turn in captured.turns] == [None, None]
    assert internal_errors.counts() == {"conversation.system_prompt": 2}
    assert [record.levelname for record in caplog.records if record.name == "gati"] == ["WARNING"]


@pytest.mark.parametrize("invalid", INVALID)
def test_an_invalid_prompt_in_metadata_is_ignored_and_counted(invalid: Any) -> None:
    with capture(conversation_id="c") as captured:
        assert echo.invoke("a", {"metadata": {"system_prompt": invalid}}) == "a"
    assert [turn.conversation.prompt for turn in captured.turns] == [None]
    assert internal_errors.counts() == {"metadata.system_prompt": 1}


def test_a_prompt_of_a_scope_is_a_copy() -> None:
    given = {"content": "Be {{how}}.", "variables": {"how": "brief"}}
    with capture() as captured, observe.conversation(system_prompt=given):
        given["variables"] = {"how": "long"}
        echo.invoke("a")
    (turn,) = captured.turns
    assert turn.conversation.prompt is not None
    assert turn.conversation.prompt.text == "Be brief."


def test_a_scope_object_entered_by_two_threads_at_once_ends_in_each_with_its_block() -> None:
    shared = observe.conversation("c-ann", user_id="ann")
    both_inside, first_left, both_left = (threading.Barrier(2, timeout=30) for _ in range(3))

    def visit(order: int) -> None:
        with shared:
            both_inside.wait()
            if order == 1:
                first_left.wait()
        if order == 0:
            first_left.wait()
        both_left.wait()
        echo.invoke(f"after {order}")

    with capture(conversation_id="c-none") as captured, ThreadPoolExecutor(2) as pool:
        list(pool.map(visit, range(2)))
    assert {turn.messages[0].text for turn in captured.turns} == {"after 0", "after 1"}
    assert [user for _, user, _ in whose(captured)] == ["anonymous"] * 2


def test_a_pause_object_entered_by_two_tasks_at_once_ends_in_each_with_its_block() -> None:
    shared = observe.paused()

    async def visit(steps: int) -> None:
        async with shared:
            for _ in range(steps):
                await asyncio.sleep(0)
            await echo.ainvoke("secret")
        await echo.ainvoke(f"open {steps}")

    async def program() -> None:
        await asyncio.gather(visit(1), visit(5))

    with capture(conversation_id="c-none") as captured:
        asyncio.run(program())
    assert sorted(turn.messages[0].text for turn in captured.turns) == ["open 1", "open 5"]


def test_scopes_of_generators_that_are_read_in_turns_do_not_outlive_their_blocks() -> None:
    def ask(name: str) -> Iterator[str]:
        with observe.conversation(name):
            yield name
            echo.invoke(name)

    with capture(conversation_id="c-none") as captured:
        first, second = ask("c-1"), ask("c-2")
        next(first), next(second)
        list(first)
        list(second)
        echo.invoke("outside")
    assert [turn.conversation.id for turn in captured.turns][1] == "c-2"
    assert captured.turns[2].conversation.id == "c-none"
    assert current_scope.get() is None


def test_properties_are_those_at_the_time_when_the_scope_was_entered() -> None:
    cart = {"items": ["apple"]}
    scope = observe.conversation("c", properties=cart)
    with capture(conversation_id="c-none") as captured:
        with scope:
            cart["items"].append("pear")
            echo.invoke("a")
        with scope:
            cart["items"].clear()
            echo.invoke("b")
        cart.clear()
    assert [turn.conversation.properties for turn in captured.turns] == [
        {"items": ["apple"]},
        {"items": ["apple", "pear"]},
    ]


def test_a_decorated_generator_is_inside_its_scope_and_its_reader_is_not() -> None:
    @observe.conversation("c-inside")
    def talk() -> Generator[str, str, str]:
        got = yield str(echo.invoke("first"))
        echo.invoke(got)
        return "end"

    with capture(conversation_id="c-none") as captured:
        steps: Any = talk()
        assert inspect.isgenerator(steps)
        assert next(steps) == "first"
        echo.invoke("between")
        with pytest.raises(StopIteration) as stop:
            steps.send("second")
    assert stop.value.value == "end"
    inside = {turn.messages[0].text for turn in captured.turns if turn.conversation.id == "c-inside"}
    assert inside == {"first", "second"}
    assert len(captured.turns) == 3


def test_a_decorated_async_generator_is_inside_its_scope_and_its_reader_is_not() -> None:
    class Endpoint:
        @observe.conversation("c-inside", user_id="u")
        async def talk(self) -> AsyncIterator[str]:
            try:
                yield await echo.ainvoke("first")
                yield await echo.ainvoke("second")
            finally:
                await echo.ainvoke("last")

    async def program() -> None:
        steps: Any = Endpoint().talk()
        await anext(steps)
        await echo.ainvoke("between")
        await steps.aclose()

    with capture(conversation_id="c-none") as captured:
        asyncio.run(program())
    inside = [turn.messages[0].text for turn in captured.turns if turn.conversation.id == "c-inside"]
    assert inside == ["first", "last"]
    assert len(captured.turns) == 3


@pytest.mark.parametrize("way", ["generator", "async generator", "error"])
def test_nothing_is_recorded_while_a_generator_decorated_with_paused_runs(way: str) -> None:
    @observe.paused()
    def secret() -> Iterator[str]:
        for piece in ScriptedChatModel(replies=["SECRET"]).stream("SECRET"):
            yield piece.text
        if way == "error":
            raise ValueError(echo.invoke("SECRET"))

    @observe.paused()
    async def asecret() -> AsyncIterator[Any]:
        async for piece in ScriptedChatModel(replies=["SECRET"]).astream("SECRET"):
            yield piece

    async def drain() -> None:
        async for _ in asecret():
            await echo.ainvoke("open")

    with capture(conversation_id="c-none") as captured:
        if way == "async generator":
            asyncio.run(drain())
        else:
            with pytest.raises(ValueError, match="SECRET") if way == "error" else nullcontext():
                for _ in secret():
                    echo.invoke("open")
    assert {turn.messages[0].text for turn in captured.turns} == {"open"}


def test_properties_of_a_decorated_generator_are_those_at_its_first_step() -> None:
    cart = ["apple"]

    @observe.conversation("c", properties={"cart": cart})
    def talk() -> Iterator[None]:
        echo.invoke("a")
        yield
        echo.invoke("b")

    with capture(conversation_id="c-none") as captured:
        steps = talk()
        next(steps)
        cart.append("pear")
        list(steps)
    assert [turn.conversation.properties for turn in captured.turns] == [{"cart": ["apple"]}] * 2


def test_a_generator_closed_in_another_context_leaves_the_caller_alone() -> None:
    @observe.conversation("c")
    def talk() -> Iterator[int]:
        yield 1
        yield 2

    with capture(), observe.conversation("outer"):
        steps: Any = talk()
        contextvars.copy_context().run(next, steps)
        steps.close()
        scope = current_scope.get()
    assert scope is not None
    assert scope.conversation_id == "outer"
