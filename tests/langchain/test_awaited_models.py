"""`gati.langchain.awaited_models`: which model calls are taken for cancelled ones."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

from langchain_core.messages import HumanMessage

from gati.langchain.awaited_models import MAX_CHECKS, AwaitedModels
from gati.testing import ScriptedChatModel, capture


def abandoned(models: AwaitedModels, *streaming: UUID) -> list[UUID]:
    return list(models.take_abandoned({run.int for run in streaming}))


def test_a_call_outside_of_a_task_is_not_remembered() -> None:
    models = AwaitedModels()
    models.add(uuid4())
    assert len(models) == 0


def test_a_call_is_over_when_its_task_is_done_or_starts_another_root() -> None:
    models, first, second = AwaitedModels(), uuid4(), uuid4()

    async def call(run: UUID, release: asyncio.Event) -> None:
        models.add(run)
        await release.wait()

    async def program() -> None:
        release = asyncio.Event()
        task = asyncio.create_task(call(first, release))
        await asyncio.sleep(0)
        assert abandoned(models) == []
        release.set()
        await task
        models.add(second)
        assert abandoned(models, second) == [first]
        assert abandoned(models) == [second]

    asyncio.run(program())
    assert len(models) == 0


def test_many_open_calls_are_checked_in_turns() -> None:
    models, runs = AwaitedModels(), [uuid4() for _ in range(3 * MAX_CHECKS)]

    async def call(run: UUID, release: asyncio.Event) -> None:
        models.add(run)
        await release.wait()

    async def program() -> None:
        hold, release = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(call(run, hold if run is not runs[-1] else release)) for run in runs]
        await asyncio.sleep(0)
        release.set()
        await tasks[-1]
        found = [abandoned(models) for _ in range(3)]
        assert found == [[], [], [runs[-1]]]
        hold.set()
        await asyncio.gather(*tasks)

    asyncio.run(program())


def test_the_calls_of_a_batch_do_not_end_each_other() -> None:
    models, runs, later = AwaitedModels(), [uuid4() for _ in range(3)], uuid4()

    async def program() -> list[list[UUID]]:
        found = []
        for run in runs:
            found.append(abandoned(models))
            models.add(run, len(runs))
        found.append(abandoned(models))
        models.add(later)
        return found

    assert asyncio.run(program()) == [[], [], [], runs]


def test_agenerate_reports_every_answer() -> None:
    model = ScriptedChatModel(respond=lambda messages: f"Re {messages[-1].text}")
    with capture(local=False) as captured:
        asyncio.run(model.agenerate([[HumanMessage(text)] for text in ("one", "two", "three")]))
    assert [text for role, text in captured.transcript() if role == "assistant"] == ["Re one", "Re two", "Re three"]
    assert [turn.status for turn in captured.turns] == ["completed"] * 3
