"""Errors outside gati do not change the program's result, and one log line says what to do."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool

from gati import observe
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer


@tool
def look(what: Any) -> str:
    """Look up a value."""
    return type(what).__name__


@tool
def fail(what: Any) -> str:
    """Fail."""
    raise LookupError("there is none")


def agent(use: BaseTool, argument: Any) -> Any:
    """Run an agent that calls one tool and then answers."""
    asks = AIMessage("", tool_calls=[{"name": use.name, "args": {"what": argument}, "id": "call-1"}])
    return create_agent(ScriptedChatModel(replies=[asks, "Done."]), [use])


def ask(use: BaseTool = look, argument: Any = "x") -> str:
    return str(agent(use, argument).invoke({"messages": [("user", "Go")]})["messages"][-1].content)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


def test_a_wrong_key_logs_one_line_and_loses_nothing(
    greenflash: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    observe.init(api_key="gf_wrong", base_url=greenflash.url, spool_dir=tmp_path, conversation_id="c")
    assert [ask() for _ in range(3)] == ["Done."] * 3
    result = observe.flush(timeout=2.0)
    stats = observe.stats()
    assert stats.paused.keys() == {"greenflash"}
    assert (result.delivered, stats.spooled, stats.recorded) == (0, stats.recorded, stats.recorded)
    assert len(lines(caplog)) == 1
    assert "key" in lines(caplog)[0]
    assert "gf_wrong" not in caplog.text


def test_an_unreachable_server_logs_one_line_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    observe.init(api_key="gf_any", base_url=address, spool_dir=tmp_path, conversation_id="c")
    assert ask() == "Done."
    while not lines(caplog):
        assert observe.flush(timeout=0.2).timed_out
    assert observe.stats().spooled == observe.stats().recorded > 0
    assert len(lines(caplog)) == 1


def test_arguments_that_json_cannot_represent_are_delivered_as_far_as_possible(
    greenflash: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop: dict[str, Any] = {"lock": threading.Lock(), "nan": float("nan"), "half": "\ud800", 7: "seven"}
    loop["itself"] = loop
    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path, conversation_id="c")
    # A model message cannot contain a cycle, so the tool is called directly.
    assert look.invoke({"what": loop}) == "dict"
    assert observe.flush(timeout=10.0)
    call = next(m for m in greenflash.messages() if m["messageType"] == "tool_call")
    assert call["input"]["what"]["lock"] == "<_thread.lock>"
    assert call["input"]["what"]["7"] == "seven"
    assert lines(caplog) == []


def test_an_exception_of_a_model_is_unchanged_and_recorded(greenflash: LocalServer, tmp_path: Path) -> None:
    def respond(messages: Any) -> Any:
        raise TimeoutError("the provider is slow")

    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path, conversation_id="c")
    with pytest.raises(TimeoutError, match="the provider is slow"):
        create_agent(ScriptedChatModel(respond=respond), []).invoke({"messages": [("user", "Go")]})
    assert observe.flush(timeout=10.0)
    end = next(m for m in greenflash.messages() if m["messageType"] == "chain_end")
    assert end["output"] == {"status": "error", "error": {"type": "TimeoutError", "message": "the provider is slow"}}
    assert observe.stats().faults == {}


def test_an_exception_of_a_tool_is_unchanged_and_recorded(greenflash: LocalServer, tmp_path: Path) -> None:
    observe.init(api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path, conversation_id="c")
    with pytest.raises(LookupError, match="there is none"):
        ask(fail)
    assert observe.flush(timeout=10.0)
    error = next(m for m in greenflash.messages() if m["messageType"] == "tool_error")
    assert error["output"] == {"type": "LookupError", "message": "there is none"}


def test_without_a_key_one_log_line_names_the_store(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    observe.init(conversation_id="c")
    assert ask() == "Done."
    assert observe.flush(timeout=10.0)
    assert len(lines(caplog)) == 1
    assert "studio.db" in lines(caplog)[0]
