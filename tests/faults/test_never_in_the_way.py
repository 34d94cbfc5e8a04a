"""Errors inside gati never change the program's results, and gati never blocks the event loop."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from gati import observe
from gati.pipeline import internal_errors
from tests.faults.chat_driver import ChatDriver
from tests.faults.conftest import Init
from tests.servers import LocalServer

PACKAGE = Path(observe.__file__).parent
INSIDE = [
    *(PACKAGE / "langchain" / name for name in ("recorder.py", "snapshot.py", "history.py", "prompts.py")),
    *(PACKAGE / "pipeline" / name for name in ("pipeline.py", "buffer.py")),
]
"""Modules that run in the user's thread, inside the handler's exception guard."""

Line = tuple[str, int]


class Injected(Exception):
    """An exception injected at one line."""


class Tracer:
    """Records which lines of gati run, or raises at one of them."""

    def __init__(self, target: Line | None = None) -> None:
        self.lines: dict[Line, None] = {}
        self.fired = False
        self._target = target
        self._files = {str(path) for path in INSIDE}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line":
            self.lines[line] = None
            if line == self._target:
                self.fired = True
                raise Injected
        return self._line


def run_traced(tracer: Tracer, chat: ChatDriver, text: str) -> None:
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        chat.turn("c", text)
    finally:
        sys.settrace(before)


def test_an_exception_on_any_line_does_not_change_the_results(
    init: Init, greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)
    init(greenflash)
    chat = ChatDriver()
    chat.turn("c", "warm")
    tracer_of_all = Tracer()
    run_traced(tracer_of_all, chat, "seen")
    assert len(tracer_of_all.lines) > 100
    fired = 0
    for number, line in enumerate(tracer_of_all.lines):
        tracer = Tracer(line)
        run_traced(tracer, chat, f"word {number}")  # asserts the answer
        fired += tracer.fired
    assert fired > 0.9 * len(tracer_of_all.lines)
    assert sum(observe.stats().faults.values()) > 0.5 * fired
    internal_errors.reset()
    chat.turn("after", "all")
    observe.flush(timeout=30.0)
    (asked,) = [m for m in greenflash.messages("after") if m["messageType"] == "user_message"]
    assert asked["content"] == "all"
    assert observe.stats().balanced


async def test_nothing_blocks_the_event_loop(init: Init, greenflash: LocalServer) -> None:
    init(greenflash)
    chat = ChatDriver()
    await chat.agent.ainvoke({"messages": [("user", "LangChain loads its modules")]})

    async def turn(name: str) -> None:
        async with observe.conversation(name, user_id="u"):
            result = await chat.agent.ainvoke({"messages": [("user", "word")]})
        assert result["messages"][-1].content == "Here is about word."

    with blockbuster_ctx("gati"):
        await asyncio.gather(*(turn(f"c{n}") for n in range(20)))
        observe.log_rating(rating=1.0, conversation_id="c0")
        observe.stats()
        assert await observe.aflush(timeout=30.0)
    assert observe.stats().faults == {}
