"""Readers who go away: what they had read is the answer, and the next turn comes after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import anyio
import httpx
import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from gati import observe
from gati.studio.server import listen, uvicorn_server
from gati.testing.scripted_model import ScriptedChatModel
from tests.scenarios.harness import Config, Watch

POEM = "Roses are red, violets are blue."
READ = "Roses are red, "


class Paced(ScriptedChatModel):
    """Streams three chunks, then waits for `resume` whatever happens to its caller."""

    resume: Any = None
    started: Any = None

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        self.started.set()
        await asyncio.shield(self.resume.wait())
        return super()._generate(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        for number, chunk in enumerate(super()._stream(*args, **kwargs)):
            if number == 3:
                await asyncio.shield(self.resume.wait())
            yield chunk


def graph_of(model: Any) -> Any:
    async def answer(state: MessagesState) -> Config:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()


def paced() -> Paced:
    return Paced(replies=[POEM], resume=asyncio.Event(), started=asyncio.Event())


def nested(model: Any) -> Any:
    return StateGraph(MessagesState).add_node("inner", graph_of(model)).add_edge(START, "inner").compile()


async def read(graph: Any, read_enough: asyncio.Event, pieces: list[str], config: Config, **more: Any) -> None:
    async for item in graph.astream({"messages": [("user", "A poem!")]}, config, stream_mode="messages", **more):
        message = item[-1][0] if more else item[0]
        pieces.append(message.content)
        if len(pieces) == 3:
            read_enough.set()


async def in_cancel_scope(reading: Callable[[], Any], enough: asyncio.Event) -> None:
    """Cancel as Starlette does when a client disconnects."""
    async with anyio.create_task_group() as group:
        group.start_soon(reading)
        await enough.wait()
        group.cancel_scope.cancel()


async def in_timeout(reading: Callable[[], Any], enough: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            task = asyncio.ensure_future(enough.wait())
            task.add_done_callback(lambda _: limit.reschedule(0))
            await reading()


async def in_task(reading: Callable[[], Any], enough: asyncio.Event) -> None:
    task = asyncio.create_task(reading())
    await enough.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("stop", [in_cancel_scope, in_timeout, in_task])
@pytest.mark.parametrize("kind", ["graph", "subgraph"])
def test_an_abandoned_model_adds_nothing_to_what_was_read(watch: Watch, stop: Any, kind: str):
    async def program(config: Config) -> Any:
        model, enough, pieces = paced(), asyncio.Event(), []
        graph, more = (graph_of(model), {}) if kind == "graph" else (nested(model), {"subgraphs": True})

        async def reading() -> None:
            await read(graph, enough, pieces, config, **more)

        await stop(reading, enough)
        model.resume.set()
        for _ in range(20):
            await asyncio.sleep(0)
        return pieces

    traced = watch.trace(program)
    assert READ in traced.outcome.replace("', '", "")
    assert traced.transcript() == [("user", "A poem!"), ("assistant", READ)]
    (end,) = traced.of_type("chain_end")
    assert end["output"]["status"] == "aborted"


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Serve `app` with a real uvicorn."""
    listener = listen()
    runner = uvicorn_server(app)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        runner.should_exit = True
        thread.join(10)
        listener.close()


@pytest.mark.parametrize("goes_on", [True, False], ids=["the model goes on", "the model hangs"])
def test_a_client_that_disconnects_has_read_what_was_sent_until_then(watch: Watch, goes_on: bool):
    over = threading.Event()

    def program(config: Config) -> Any:
        over.clear()
        model = Paced(replies=[POEM])

        async def answer(request: Request) -> StreamingResponse:
            model.resume = asyncio.Event()
            given = {"messages": [("user", await request.json())]}

            async def body() -> AsyncIterator[str]:
                try:
                    with observe.conversation("c-1", user_id="ada"):  # inside the generator
                        async for message, _ in graph_of(model).astream(given, config, stream_mode="messages"):
                            yield message.content
                finally:
                    if goes_on:
                        model.resume.set()
                    over.set()

            return StreamingResponse(body(), media_type="text/plain")

        read = ""
        with (
            serving(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url,
            httpx.Client(base_url=url, timeout=30) as client,
            client.stream("POST", "/", json="A poem!") as response,
        ):
            for piece in response.iter_text():
                read += piece
                if read == READ:
                    break
            response.close()
            assert over.wait(30)
        return read

    traced = watch.trace(program)
    assert traced.outcome == repr(READ)
    assert traced.transcript() == [("user", "A poem!"), ("assistant", READ)]
    (end,) = traced.of_type("chain_end")
    assert end["output"]["status"] == "aborted"
    assert {(m["conversation"], m["envelope"]["externalUserId"]) for m in traced.messages} == {("c-1", "ada")}


def whole(model: Any) -> Any:
    """Return a chain, whose root has no node."""
    return RunnableLambda(lambda given: given["messages"]) | model


WAYS: dict[str, tuple[Config, Any]] = {
    "thread": ({"configurable": {"thread_id": "c-1", "user_id": "ada"}}, graph_of),
    "configurable of a chain": ({"configurable": {"thread_id": "c-1", "user_id": "ada"}}, whole),
    "metadata": ({"metadata": {"conversation_id": "c-1", "user_id": "ada"}}, whole),
    "scope": ({}, whole),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_turn_that_was_cut_off_precedes_the_next_turn_of_its_conversation(watch: Watch, way: str):
    ids, make = WAYS[way]

    async def program(config: Config) -> Any:
        config = {**config, **ids}
        hanging = paced()
        with observe.conversation("c-1", user_id="ada") if way == "scope" else nullcontext():
            first = asyncio.create_task(make(hanging).ainvoke({"messages": [("user", "first")]}, config))
            await hanging.started.wait()
            first.cancel()
            await asyncio.wait([first])
            for name in ("second", "third"):
                answering = ScriptedChatModel(replies=[f"re {name}"])
                await make(answering).ainvoke({"messages": [("user", name)]}, config)

    traced = watch.trace(program)
    assert traced.transcript() == [
        ("user", "first"), ("user", "second"), ("assistant", "re second"), ("user", "third"), ("assistant", "re third"),
    ]  # fmt: skip
    assert {(m["conversation"], m["envelope"]["externalUserId"]) for m in traced.messages} == {("c-1", "ada")}
    assert [m["output"]["status"] for m in traced.of_type("chain_end")] == ["aborted", "completed", "completed"]
    delivered = [m["externalMessageId"] for body in traced.requests for m in body["messages"]]
    assert delivered == [m["externalMessageId"] for m in traced.messages]


def test_a_turn_of_another_conversation_does_not_settle_one_that_was_cut_off(watch: Watch):
    async def program(config: Config) -> Any:
        model = paced()
        stream = whole(model).astream(
            {"messages": [("user", "A poem!")]}, {**config, "metadata": {"conversation_id": "c-1"}}
        )
        await anext(stream)
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        other = ScriptedChatModel(replies=["Hi."])
        await whole(other).ainvoke({"messages": [("user", "Hi?")]}, {**config, "metadata": {"conversation_id": "c-2"}})

    traced = watch.trace(program)
    assert sorted(traced.transcript()) == [
        ("assistant", "Hi."), ("assistant", "Roses "), ("user", "A poem!"), ("user", "Hi?"),
    ]  # fmt: skip


@pytest.mark.parametrize("stop", [in_timeout, in_task])
def test_a_model_that_is_awaited_directly_and_cancelled_precedes_the_next_turn(watch: Watch, stop: Any):
    async def program(config: Config) -> Any:
        config = {**config, "metadata": {"conversation_id": "c-1"}}
        model = paced()
        await stop(lambda: model.ainvoke("first", config), model.started)
        await ScriptedChatModel(replies=["re"]).ainvoke("second", config)
        return await ScriptedChatModel(replies=["re"]).ainvoke("third", config)

    watch(
        """
        conversation c-1 of anonymous
        user_message   "first"
        llm            gpt-4o-mini ?>? aborted
        user_message   "second"
        llm            gpt-4o-mini 5>4 $
          assistant_message "re"
        user_message   "third"
        llm            gpt-4o-mini 5>4 $
          assistant_message "re"
        """,
        program,
        compare=False,
    )


def test_overlapping_model_calls_are_not_taken_for_cancelled_ones(watch: Watch):
    async def program(config: Config) -> Any:
        config = {**config, "metadata": {"conversation_id": "c-1"}}
        slow = paced()
        first = asyncio.create_task(slow.ainvoke("first", config))
        await slow.started.wait()
        await ScriptedChatModel(replies=["re second"]).ainvoke("second", config)
        streams = [ScriptedChatModel(replies=[f"{name} a b"]).astream(name, config) for name in ("third", "fourth")]
        for _ in range(3):
            for stream in streams:
                await anext(stream)
        for stream in streams:
            async for _ in stream:
                pass
        slow.resume.set()
        await first

    traced = watch.trace(program)
    assert sorted(text for role, text in traced.transcript() if role == "assistant") == [
        POEM, "fourth a b", "re second", "third a b",
    ]  # fmt: skip
    assert {m["properties"]["status"] for m in traced.of_type("llm")} == {"completed"}
