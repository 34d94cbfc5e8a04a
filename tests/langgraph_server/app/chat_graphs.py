"""Graphs that wait, fail or ask. The server loads this module once for each of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from langgraph_runtime.retry import RetryableException

from gati import observe
from gati.testing import ScriptedChatModel

FOLDER = Path(os.environ["FOLDER"])

observe.init()


class WaitingModel(ScriptedChatModel):
    """Streams an answer; in the middle of an answer to "slow …", it waits for the file `continue`."""

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        question = messages[-1].text
        for word in ("You ", "asked: ", question):
            if word == question and question.startswith("slow"):
                (FOLDER / question).touch()
                while not (FOLDER / "continue").exists():  # noqa: ASYNC110 - another process creates the file
                    await asyncio.sleep(0.02)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=word))
            if run_manager:
                await run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk


model = WaitingModel(streaming=True)


async def answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke([("system", "You are a tutor."), *state["messages"]])]}


async def fail_once(state: MessagesState) -> dict[str, Any]:
    """Fail once, with an error after which the server runs the graph again."""
    attempt = FOLDER / "attempted"
    if not attempt.exists():
        attempt.touch()
        raise RetryableException
    return await answer(state)


async def ask(state: MessagesState) -> dict[str, Any]:
    decision = interrupt("Shall I send it?")
    return {"messages": [("assistant", f"You decided: {decision}")]}


chat = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
attempts = StateGraph(MessagesState).add_node("answer", fail_once).add_edge(START, "answer").compile()
approval = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile()
