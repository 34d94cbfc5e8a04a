"""Plant a canary in every text of a program, and search for it in everything that gati sends or stores."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from gati import StepEvent, observe
from gati.pipeline import mask
from gati.testing import ScriptedChatModel
from gati.testing.server.fault_injection import failing as refuse
from tests.servers import LocalServer

CANARY = re.compile(r"canary-[a-z]+")
PLACES = (
    "prompt", "variable", "system", "few", "answer", "reasoning", "argument", "result", "artifact", "query", "document",
    "docmeta", "state", "statekey", "metadata", "property", "tag", "error", "cause", "interrupt", "resume", "event",
    "eventkey", "name", "span", "spanoutput", "told", "feedback", "userprop", "stream", "image",
)  # fmt: skip


def c(place: str) -> str:
    """Return the canary of a place."""
    assert place in PLACES
    return f"canary-{place}"


class Library(BaseRetriever):
    """Returns the same document for every query."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document(c("document"), metadata={"source": c("docmeta")})]


@tool(response_format="content_and_artifact")
def look_up(text: str) -> tuple[str, dict[str, str]]:
    """Look it up."""
    return c("result"), {"raw": c("artifact")}


class State(MessagesState):
    """The state of the graph."""

    note: dict[str, str]


def program() -> None:
    """Use every feature that carries text, with a canary in each."""
    first = AIMessage(
        [{"type": "thinking", "thinking": c("reasoning")}, {"type": "text", "text": "Let me look."}],
        tool_calls=[{"name": "look_up", "args": {"text": c("argument")}, "id": "call-1"}],
    )
    model = ScriptedChatModel(replies=[first, c("answer"), c("answer")])
    prompt = ChatPromptTemplate(
        [("system", f"{c('system')} {{note}}"), ("human", c("few")), ("ai", "ok"), ("placeholder", "{messages}")]
    )

    def think(state: State) -> dict[str, Any]:
        with observe.span(c("name"), input={"given": c("span")}) as step:
            step.output = c("spanoutput")
        dispatch_custom_event("progress", {c("eventkey"): c("event")})
        Library().invoke(c("query"))
        response = (prompt | model).invoke({"note": c("variable"), "messages": state["messages"]})
        return {"messages": [response], "note": {c("statekey"): c("state")}}

    def ask(state: State) -> dict[str, Any]:
        interrupt({"question": c("interrupt")})
        return {"messages": [AIMessage("done")]}

    graph = StateGraph(State)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([look_up]))
    graph.add_node("again", think)
    graph.add_node("ask", ask)
    for source, target in [(START, "think"), ("think", "tools"), ("tools", "again"), ("again", "ask")]:
        graph.add_edge(source, target)
    app = graph.compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {
        "configurable": {"thread_id": "t-1"},
        "metadata": {"note": c("metadata")},
        "tags": [c("tag")],
    }
    message = HumanMessage(
        [{"type": "text", "text": c("prompt")}, {"type": "image_url", "image_url": {"url": c("image")}}]
    )
    with observe.conversation(properties={"who": c("property")}):
        app.invoke({"messages": [message], "note": {}}, config)
        app.invoke(Command(resume={"decision": c("resume")}), config)
    failing()
    aborted()
    observe.track_event(StepEvent(step_name="by hand", input={"text": c("told")}))
    observe.identify_user("u-1", properties={"note": c("userprop")})
    observe.log_rating(rating=1, conversation_id="t-1", feedback=c("feedback"))


def failing() -> None:
    """Raise an exception with a cause, with a canary in both."""

    def fail(_: str) -> None:
        try:
            raise KeyError(c("cause"))
        except KeyError as cause:
            raise ValueError(c("error")) from cause

    with pytest.raises(ValueError, match="canary"):
        RunnableLambda(fail).invoke("x")


def aborted() -> None:
    """Close a stream early."""

    class Words(ScriptedChatModel):
        def _stream(self, *_: Any, **__: Any) -> Iterator[Any]:
            from langchain_core.outputs import ChatGenerationChunk

            for _n in range(3):
                yield ChatGenerationChunk(message=AIMessageChunk(c("stream")))

    pieces = Words(replies=["unused"]).stream("x")
    next(pieces)
    pieces.close()


class Locations(TypedDict):
    """The canaries found in requests, files and log lines."""

    wire: set[str]
    disk: set[str]
    log: set[str]


def run(greenflash: LocalServer, folder: Path, caplog: pytest.LogCaptureFixture, **options: Any) -> Locations:
    """Run the program while the server rejects everything, so that all data is on disk; then deliver it."""
    caplog.set_level(logging.DEBUG)
    observe.init(
        api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=folder, flush_interval=0.01,
        product_id="5e3b9bb4-3b0c-4c7a-9d1f-111111111111", conversation_id="c", **options,
    )  # fmt: skip
    greenflash.faults.add(refuse(503, times=None))
    try:
        program()
        observe.flush(timeout=1.0)
        disk = "".join(p.read_bytes().decode("utf-8", "replace") for p in folder.rglob("*") if p.is_file())
        assert "externalMessageId" in disk
    finally:
        greenflash.faults.clear()
    assert observe.flush(timeout=30.0)
    wire = "".join(repr(request.body) for request in greenflash.requests)
    log_lines = [
        record.getMessage() for record in caplog.records if record.name.split(".")[0] in ("gati", "greenflash", "httpx")
    ]
    return {
        "wire": set(CANARY.findall(wire)),
        "disk": set(CANARY.findall(disk)),
        "log": set(CANARY.findall(" ".join(log_lines))),
    }


def hide(text: str, path: str, kind: str) -> str:
    """A mask as an application would define it."""
    return CANARY.sub("[hidden]", text)


def test_without_a_mask_every_canary_is_found(
    greenflash: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locations = run(greenflash, tmp_path, caplog)
    # The cause of an exception is not recorded.
    expected = {c(place) for place in PLACES} - {c("cause")}
    assert expected - locations["wire"] == set()
    assert locations["log"] == set()


def test_a_mask_sees_every_text_on_every_path(
    greenflash: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(greenflash, tmp_path, caplog, mask=hide) == {"wire": set(), "disk": set(), "log": set()}


def test_nothing_is_sent_if_the_mask_raises(
    greenflash: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str, path: str, kind: str) -> str:
        raise ValueError(text)

    monkeypatch.setattr("gati.pipeline.internal_errors.RAISE", False)
    assert run(greenflash, tmp_path, caplog, mask=broken) == {"wire": set(), "disk": set(), "log": set()}
    assert mask.MARKER in repr(greenflash.requests)
    assert observe.stats().mask_failures


def test_with_content_disabled_only_structure_and_numbers_are_sent(
    greenflash: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locations = run(greenflash, tmp_path, caplog, capture_content=False)
    # The name of a step is structure, as a node's or a tool's is.
    assert locations == {"wire": {c("name")}, "disk": {c("name")}, "log": set()}
    kinds = {message["messageType"] for message in greenflash.messages()}
    assert {"llm", "tool_call", "retrieval", "task", "chain_end"} <= kinds
    assert sum(message.get("properties", {}).get("tokens_in") or 0 for message in greenflash.messages()) > 0
