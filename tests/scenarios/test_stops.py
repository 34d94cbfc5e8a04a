"""Programs that are stopped: the text read so far is kept, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from gati.testing.scripted_model import ScriptedChatModel
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model

POEM = "Roses are red, violets are blue."


class Stopping(ScriptedChatModel):
    """Raises after `stops_after` chunks of a stream."""

    stops_after: int = 2
    error: Any = None

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        for number, chunk in enumerate(super()._stream(*args, **kwargs)):
            if number == self.stops_after:
                raise self.error
            yield chunk


class Hanging(ScriptedChatModel):
    """Never finishes an answer: a stream stops after three chunks. Sets `hangs` when it stops."""

    hangs: Any = None

    async def _hang(self) -> None:
        if self.hangs is not None:
            self.hangs.set()
        await asyncio.Event().wait()

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await self._hang()

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        for number, chunk in enumerate(super()._stream(*args, **kwargs)):
            if number == 3:
                await self._hang()
            yield chunk


def chain(speaker: BaseChatModel | None = None) -> Runnable[Any, Any]:
    return ChatPromptTemplate([("system", "Be brief."), ("human", "{text}")]) | (speaker or model(POEM))


def graph(speaker: BaseChatModel | None = None) -> Any:
    async def aanswer(state: MessagesState) -> Config:
        return {"messages": [await (speaker or model(POEM)).ainvoke(state["messages"])]}

    def answer(state: MessagesState) -> Config:
        return {"messages": [(speaker or model(POEM)).invoke(state["messages"])]}

    return (
        StateGraph(MessagesState)
        .add_node("answer", RunnableLambda(answer, aanswer))
        .add_edge(START, "answer")
        .compile()
    )


def read_some(stream: Any, count: int) -> list[Any]:
    """Read `count` chunks of a stream, close it, and return them."""
    pieces = [next(stream) for _ in range(count)]
    stream.close()
    return pieces


async def aread_some(stream: Any, count: int) -> list[Any]:
    pieces = [await anext(stream) for _ in range(count)]
    await stream.aclose()
    return pieces


def test_a_model_stream_that_is_closed_early_keeps_the_text_read_so_far(watch: Watch):
    async def aprogram(config: Config) -> Any:
        return await aread_some(model(POEM).astream("A poem!", config), 3)

    watch(
        """
        user_message   "A poem!"
        llm            gpt-4o-mini ?>? aborted
          assistant_message "Roses are red, " aborted
        """,
        lambda config: read_some(model(POEM).stream("A poem!", config), 3),
        aprogram,
    )


def test_a_chain_stream_that_is_closed_early_keeps_the_text_read_so_far(watch: Watch):
    async def aprogram(config: Config) -> Any:
        return await aread_some((chain() | StrOutputParser()).astream({"text": "A poem!"}, config), 3)

    watch(
        """
        prompt agent "Be brief."
        user_message   "A poem!"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? aborted
          assistant_message "Roses are red, " aborted
          chain_end    aborted
        """,
        aprogram,
        lambda config: read_some(chain().stream({"text": "A poem!"}, config), 3),
    )
    # If a parser follows, LangChain runs the model to its end, so its tokens are counted.
    watch(
        """
        prompt agent "Be brief."
        user_message   "A poem!"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ => "Roses are red, violets are blue."
          assistant_message "Roses are red, " aborted
          chain_end    aborted
        """,
        lambda config: read_some((chain() | StrOutputParser()).stream({"text": "A poem!"}, config), 3),
    )


def test_a_stream_that_is_never_closed_ends_when_it_is_garbage_collected(watch: Watch):
    def program(config: Config) -> Any:
        stream = model(POEM).stream("A poem!", config)
        pieces = [next(stream), next(stream)]
        del stream
        gc.collect()
        return pieces

    watch(
        """
        user_message   "A poem!"
        llm            gpt-4o-mini ?>? aborted
          assistant_message "Roses are " aborted
        """,
        program,
    )


def test_a_stream_that_is_never_read_to_the_end_is_unfinished(watch: Watch):
    kept = []

    def program(config: Config) -> Any:
        kept.append(model(POEM).stream("A poem!", config))
        return next(kept[-1])

    watch(
        """
        user_message   "A poem!"
        llm            gpt-4o-mini ?>? unfinished
          assistant_message "Roses " unfinished
        """,
        program,
        unfinished=True,
    )


def test_a_graph_stream_that_is_closed_during_the_answer_is_aborted(watch: Watch):
    def program(config: Config) -> Any:
        asked = {"messages": [("user", "A poem!")]}
        return [chunk.content for chunk, _ in read_some(graph().stream(asked, config, stream_mode="messages"), 3)]

    async def aprogram(config: Config) -> Any:
        asked = {"messages": [("user", "A poem!")]}
        return [
            chunk.content
            for chunk, _ in await aread_some(
                graph(Hanging(replies=[POEM])).astream(asked, config, stream_mode="messages"), 3
            )
        ]

    watch(
        """
        user_message   "A poem!"
        chain_start    LangGraph
          task         answer aborted
            llm        gpt-4o-mini ?>? aborted
          final_response "Roses are red, " aborted
          chain_end    aborted
        """,
        aprogram,
    )
    # A thread cannot be stopped: the node runs to its end, and the user has read the whole stream.
    watch(
        """
        user_message   "A poem!"
        chain_start    LangGraph
          task         answer
            llm        gpt-4o-mini 10>5 $
          final_response "Roses are red, violets are blue."
          chain_end    completed
        """,
        program,
    )


def test_closing_a_stream_after_its_last_token_does_not_abort_the_turn(watch: Watch):
    def program(config: Config) -> Any:
        return [
            chunk["answer"]["messages"][0].text
            for chunk in read_some(graph().stream({"messages": ["A poem!"]}, config, stream_mode="updates"), 1)
        ]

    watch(
        """
        user_message   "A poem!"
        chain_start    LangGraph
          task         answer
            llm        gpt-4o-mini 10>5 $
          final_response "Roses are red, violets are blue."
          chain_end    completed
        """,
        program,
    )


def test_a_cancelled_call_is_aborted(watch: Watch):
    async def program(config: Config) -> Any:
        started = asyncio.Event()

        async def wait(text: Any) -> Any:
            started.set()
            return await Hanging(replies=[POEM]).ainvoke(text)

        task = asyncio.create_task(RunnableLambda(wait).ainvoke("A poem!", config))
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        await task

    watch(
        """
        user_message   "A poem!"
        chain_start    wait
          llm          gpt-4o-mini ?>? aborted
          chain_end    aborted
        """,
        program,
    )


async def timed_out(work: Any, hangs: asyncio.Event) -> Any:
    """Wait for `work` with a timeout that starts when its model hangs."""
    task = asyncio.ensure_future(work)
    await hangs.wait()
    return await asyncio.wait_for(task, 0.001)


def test_a_timeout_during_the_answer_keeps_the_partial_text(watch: Watch):
    async def program(config: Config) -> Any:
        read, hangs = [], asyncio.Event()

        async def consume() -> None:
            async for chunk in chain(Hanging(replies=[POEM], hangs=hangs)).astream({"text": "A poem!"}, config):
                read.append(chunk.content)

        try:
            await timed_out(consume(), hangs)
        except TimeoutError:
            return read

    watch(
        """
        prompt agent "Be brief."
        user_message   "A poem!"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? aborted
          assistant_message "Roses are red, " aborted
          chain_end    aborted
        """,
        program,
    )


def test_a_graph_that_times_out_is_aborted(watch: Watch):
    async def program(config: Config) -> Any:
        hangs = asyncio.Event()
        await timed_out(graph(Hanging(replies=[POEM], hangs=hangs)).ainvoke({"messages": ["A poem!"]}, config), hangs)

    watch(
        """
        user_message   "A poem!"
        chain_start    LangGraph
          task         answer aborted
            llm        gpt-4o-mini ?>? aborted
          chain_end    aborted
        """,
        program,
    )


def test_a_keyboard_interrupt_aborts_the_turn(watch: Watch):
    watch(
        """
        prompt agent "Be brief."
        user_message   "A poem!"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? aborted
          assistant_message "Roses are " aborted
          chain_end    aborted
        """,
        lambda config: list(
            chain(Stopping(replies=[POEM], error=KeyboardInterrupt())).stream({"text": "A poem!"}, config)
        ),
    )
    watch(
        """
        prompt agent "Be brief."
        user_message   "A poem!"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? aborted
          chain_end    aborted
        """,
        lambda config: chain(model(KeyboardInterrupt())).invoke({"text": "A poem!"}, config),
    )


def test_a_model_error_during_the_answer_keeps_the_partial_text(watch: Watch):
    broken = Stopping(replies=[POEM], error=ConnectionError("lost"))

    async def aprogram(config: Config) -> Any:
        return [chunk async for chunk in chain(broken).astream({"text": "A poem!"}, config)]

    watch(
        """
        prompt agent "Be brief."
        user_message   "A poem!"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? error ConnectionError: lost
          assistant_message "Roses are " error
          chain_end    error ConnectionError: lost
        """,
        lambda config: list(chain(broken).stream({"text": "A poem!"}, config)),
        aprogram,
    )


def test_a_turn_stopped_before_the_first_token_has_no_answer(watch: Watch):
    watch(
        """
        prompt agent "Be brief."
        user_message   "A poem!"
        chain_start    RunnableSequence
          llm          gpt-4o-mini ?>? error ConnectionError: refused
          chain_end    error ConnectionError: refused
        """,
        lambda config: list(chain(model(ConnectionError("refused"))).stream({"text": "A poem!"}, config)),
    )
