"""Read a program in the ways in which programs are read, and tell what is told as its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from gati import observe
from gati.testing import capture
from tests.scenarios.scripts import model

THREAD: Any = {"configurable": {"thread_id": "t"}}


def asked(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def invoke(runnable: Any, value: Any) -> None:
    runnable.invoke(value, THREAD)


def stream(runnable: Any, value: Any) -> None:
    list(runnable.stream(value, THREAD))


def stream_values(runnable: Any, value: Any) -> None:
    list(runnable.stream(value, THREAD, stream_mode="values"))


def astream(runnable: Any, value: Any) -> None:
    async def read() -> None:
        async for _ in runnable.astream(value, THREAD):
            pass

    asyncio.run(read())


READERS = pytest.mark.parametrize("read", [invoke, stream, stream_values, astream])


def answers(read: Callable[[Any, Any], None], runnable: Any, *values: Any) -> list[str]:
    """Return what is told as answers if a program reads these turns."""
    with capture() as captured, observe.conversation("c"):
        for value in values:
            read(runnable, value)
    return [text for role, text in captured.transcript() if role == "assistant"]


def written(key: str, text: str, prompt: str = "Write.") -> Callable[[Any], Any]:
    """Return a node that writes a model's text into an entry of the state."""
    return lambda state: {key: model(text).invoke([SystemMessage("You write."), HumanMessage(prompt)]).text}
