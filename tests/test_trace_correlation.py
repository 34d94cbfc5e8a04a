"""Turns carry the ids of the OpenTelemetry span in which they began, with the real SDK, across tasks and threads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk")
pytest.importorskip("langchain", reason="the programs are agents of `langchain`")

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from gati import observe
from gati.langchain.active_span import active_span
from tests.scenarios.scripts import call, model, reply, tool_request, weather
from tests.servers import LocalServer

Ids = tuple[str, str]
TURN_TYPES = {"user_message", "chain_start", "final_response", "assistant_message"}


@pytest.fixture(scope="module")
def tracer() -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    yield provider.get_tracer("program")
    provider.shutdown()


def start(server: LocalServer, **options: Any) -> None:
    observe.init(api_key=server.api_key, base_url=server.url, product_id=None, spool=False, **options)


def ids_of(span: trace.Span) -> Ids:
    found = span.get_span_context()
    return f"{found.trace_id:032x}", f"{found.span_id:016x}"


def ask(text: str, thread: str) -> tuple[Any, Any]:
    return {"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": thread}}


def agent() -> Any:
    return create_agent(model(tool_request(call("weather", city="Rome")), reply("It is sunny.")), [weather])


def delivered(server: LocalServer) -> dict[str, dict[str, set[Ids | None]]]:
    """Return the ids in what was delivered: conversation → message type → (trace id, span id)."""
    assert observe.flush(timeout=30)
    found: dict[str, dict[str, set[Ids | None]]] = {}
    for body in server.bodies():
        for message in body["messages"]:
            properties = message.get("properties", {})
            ids = (properties["trace_id"], properties["span_id"]) if "trace_id" in properties else None
            found.setdefault(body["externalConversationId"], {}).setdefault(message["messageType"], set()).add(ids)
    return found


@pytest.mark.parametrize(
    "options", [{}, {"capture_content": False}, {"submission": "incremental"}, {"mask": lambda *_: "x"}]
)
def test_a_turn_has_the_ids_of_the_active_span(greenflash: LocalServer, tracer: trace.Tracer, options: dict[str, Any]):
    start(greenflash, **options)
    with tracer.start_as_current_span("request") as span:
        agent().invoke(*ask("How is the weather?", "c-1"))
    agent().invoke(*ask("And now?", "c-2"))
    found = delivered(greenflash)
    assert {kind for kind, ids in found["c-1"].items() if ids == {ids_of(span)}} == {
        "user_message", "chain_start", "final_response",
    }  # fmt: skip
    assert {ids for kind, ids in found["c-1"].items() if kind not in TURN_TYPES for ids in ids} == {None}
    assert {ids for kinds in found["c-2"].values() for ids in kinds} == {None}


def test_a_bare_model_call_has_the_ids(greenflash: LocalServer, tracer: trace.Tracer):
    start(greenflash)
    with tracer.start_as_current_span("request") as span, observe.conversation("c-1"):
        model("Hello").invoke("Hi")
    found = delivered(greenflash)["c-1"]
    assert found == {kind: {ids_of(span)} for kind in ("user_message", "llm", "assistant_message")}


def test_tasks_and_threads_keep_their_own_spans(greenflash: LocalServer, tracer: trace.Tracer):
    start(greenflash)
    spans: dict[str, Ids] = {}

    async def in_task(thread: str) -> None:
        with tracer.start_as_current_span(thread) as span:
            spans[thread] = ids_of(span)
            await asyncio.sleep(0)
            await agent().ainvoke(*ask("How?", thread))

    def in_thread(thread: str) -> None:
        with tracer.start_as_current_span(thread) as span:
            spans[thread] = ids_of(span)
            agent().invoke(*ask("How?", thread))

    async def main() -> None:
        await asyncio.gather(*(in_task(f"task-{n}") for n in range(4)))

    asyncio.run(main())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(in_thread, [f"thread-{n}" for n in range(4)]))
    found = delivered(greenflash)
    assert {thread: kinds["final_response"] for thread, kinds in found.items()} == {
        thread: {ids} for thread, ids in spans.items()
    }


def test_runs_in_langchains_threads_belong_to_the_span_around_them(greenflash: LocalServer, tracer: trace.Tracer):
    start(greenflash)
    parallel = RunnableParallel(a=model("A"), b=RunnableLambda(lambda text: model("B").invoke(text)))
    with tracer.start_as_current_span("request") as span, observe.conversation("c-1"):
        parallel.invoke("Hi")
        list(model("C").batch(["one", "two"]))
    found = delivered(greenflash)["c-1"]
    assert found["user_message"] == found["assistant_message"] == {ids_of(span)}


def test_a_span_of_a_node_is_not_that_of_the_turn(greenflash: LocalServer, tracer: trace.Tracer):
    def inner(text: str) -> Any:
        with tracer.start_as_current_span("inner"):
            return model("Hello").invoke(text)

    start(greenflash)
    with tracer.start_as_current_span("request") as span, observe.conversation("c-1"):
        RunnableLambda(inner).invoke("Hi")
    assert delivered(greenflash)["c-1"]["assistant_message"] == {ids_of(span)}


def test_a_backend_gets_the_ids_with_the_start_of_the_run(backend: LocalServer, tracer: trace.Tracer):
    observe.init(backend_url=backend.url, backend_api_key=backend.api_key, spool=False)
    with tracer.start_as_current_span("request") as span:
        agent().invoke(*ask("How?", "c-1"))
    assert observe.flush(timeout=30)
    found = [event["data"] for event in backend.events() if "trace_id" in event["data"]]
    assert [(data["trace_id"], data["span_id"]) for data in found] == [ids_of(span)]


def test_unsampled_and_foreign_spans():
    off = TracerProvider(sampler=ALWAYS_OFF)
    with off.get_tracer("program").start_as_current_span("request"):
        found = active_span()
    assert found is not None
    assert int(found[-2:], 16) % 2 == 0
    assert active_span() is None

    class Foreign(trace.NonRecordingSpan):
        def get_span_context(self) -> Any:
            raise RuntimeError

    token = context.attach(trace.set_span_in_context(Foreign(trace.INVALID_SPAN_CONTEXT)))
    try:
        assert active_span() is None
    finally:
        context.detach(token)


def test_a_program_without_opentelemetry_has_no_active_span(monkeypatch: pytest.MonkeyPatch, tracer: trace.Tracer):
    with tracer.start_as_current_span("request"):
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
        assert active_span() is None
