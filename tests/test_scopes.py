"""`observe.conversation` and `observe.paused` as context managers and decorators."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

import pytest
from langchain_core.runnables import RunnableLambda

from gati import observe
from gati.events import Prompt
from gati.pipeline import internal_errors
from gati.testing import Captured, capture

echo = RunnableLambda(lambda text: text, name="echo")


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
    with capture() as captured:
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

    with capture() as captured:
        RunnableLambda(work, name="outer").invoke("open")
    assert [turn.name for turn in captured.turns] == ["outer"]
    assert [event.name for event in captured.turns[0].events] == ["outer", "outer"]


def test_the_former_with_observe_block_flushes_at_its_end() -> None:
    with capture() as captured:
        with observe:
            echo.invoke("a")
        assert len(captured.turns) == 1


PROMPT = {"externalPromptId": "tutor", "content": "Be brief."}
INVALID: list[Any] = [7, "", {}, {"contents": "Be brief."}, {"components": [{"content": "x", "type": "poem"}]}]


def test_a_scope_and_metadata_accept_the_same_prompts() -> None:
    with capture() as captured:
        with observe.conversation(system_prompt=PROMPT):
            echo.invoke("a")
        echo.invoke("b", {"metadata": {"system_prompt": PROMPT}})
    assert [turn.conversation.prompt for turn in captured.turns] == [Prompt("Be brief.", "tutor")] * 2


@pytest.mark.parametrize("invalid", INVALID)
def test_an_invalid_prompt_of_a_scope_is_ignored_counted_and_logged_once(
    invalid: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scope = observe.conversation("c-1", system_prompt=invalid)  # before `init`, as a decorator would be
    with caplog.at_level(logging.WARNING, "gati"), capture() as captured:
        for _ in range(2):
            with scope:
                assert echo.invoke("a") == "a"
    assert [turn.conversation.prompt for turn in captured.turns] == [None, None]
    assert internal_errors.counts() == {"conversation.system_prompt": 2}
    assert [record.levelname for record in caplog.records if record.name == "gati"] == ["WARNING"]


@pytest.mark.parametrize("invalid", INVALID)
def test_an_invalid_prompt_in_metadata_is_ignored_and_counted(invalid: Any) -> None:
    with capture() as captured:
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
