"""The tracers and what each recorded, as lines of text without random parts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from gati import observe
from tests.coexistence.langsmith_server import langsmith_server
from tests.scenarios.golden import UUID, tree
from tests.servers import greenflash_server

_RANDOM = re.compile(
    r"0x[0-9a-f]{6,}|lc_run--[^\"' ]*|\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)?|:[0-9a-f]{16,}|1[0-9a-f]+-[0-9a-f]{4}-6[0-9a-f-]+"
)


@dataclass
class Recording:
    """The output of a tracer, set when its block ends. Pass `handlers` to the program."""

    lines: list[str] = field(default_factory=list)
    handlers: list[Any] = field(default_factory=list)


def plain(value: object) -> str:
    """Return a value as text without ids, addresses and times."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return _RANDOM.sub("~", UUID.sub("~", text))


@contextmanager
def gati() -> Iterator[Recording]:
    """Run gati with a strict local Greenflash server."""
    recording = Recording()
    with greenflash_server() as server:
        observe.init(agent_name="coexistence", api_key=server.api_key, base_url=server.url, spool=False)
        yield recording
        observe.flush(timeout=30)
        stats = observe.stats()
        observe.shutdown(timeout=30)
        assert (stats.faults, stats.turns_open, stats.recorded) == ({}, 0, stats.delivered)
        assert server.unknown_keys == []
        envelopes = {
            m["externalMessageId"]: request.body for request in server.requests for m in request.body["messages"]
        }
        held = server.messages()
        for message in held:
            message["envelope"] = envelopes[message["externalMessageId"]]
        recording.lines = plain(tree(held, unordered=True)).splitlines()


@contextmanager
def langsmith() -> Iterator[Recording]:
    """Run LangSmith's tracer, enabled by the environment, with a local server."""
    from langchain_core.tracers.langchain import wait_for_all_tracers

    recording = Recording()
    with langsmith_server() as server:
        given = {
            "LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": server.url, "LANGSMITH_API_KEY": "k",
            "LANGSMITH_PROJECT": "coexistence",
        }  # fmt: skip
        os.environ.update(given)
        yield recording
        wait_for_all_tracers()
        recording.lines = sorted(_run(run, server.runs) for run in server.runs.values())


def _run(run: dict[str, Any], runs: dict[str, dict[str, Any]]) -> str:
    above, way = run, []
    while above:
        way.append(str(above.get("name")))
        above = runs.get(str(above.get("parent_run_id")), {})
    content = {key: run.get(key) for key in ("run_type", "inputs", "outputs", "tags", "serialized")}
    metadata = sorted((run.get("extra") or {}).get("metadata") or {})
    error = str(run.get("error") or "").split("Traceback")[0]
    events = [event.get("name") for event in run.get("events") or ()]
    return plain(f"{'/'.join(reversed(way))} {json.dumps(content, sort_keys=True)} {metadata} {error} {events}")


@contextmanager
def spans(
    start: Callable[[Any], Callable[[], object]], handlers: Callable[[], list[Any]] = list
) -> Iterator[Recording]:
    """Run a tracer that creates OpenTelemetry spans. `start` receives the provider and returns a function that stops it."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    stop = start(provider)
    recording = Recording(handlers=handlers())
    yield recording
    stop()
    provider.force_flush()
    made = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in made}
    recording.lines = sorted(_span(span, names) for span in made)


def _span(span: Any, names: dict[int, str]) -> str:
    above = names.get(span.parent.span_id, "?") if span.parent else ""
    events = [event.name for event in span.events]
    content = {key: value for key, value in (span.attributes or {}).items() if "time" not in key and "seed" not in key}
    return plain(f"{above}/{span.name} {span.status.status_code.name} {json.dumps(content, sort_keys=True)} {events}")


def langfuse() -> AbstractContextManager[Recording]:
    """Run Langfuse's callback handler, passed explicitly."""
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    def start(provider: Any) -> Callable[[], object]:
        # Nothing listens at this address. The spans are read from the provider instead.
        client = Langfuse(
            public_key="pk",
            secret_key="sk",
            base_url="http://127.0.0.1:9",
            tracer_provider=provider,
            span_exporter=_NullExporter(),
        )
        return cast("Callable[[], object]", client.shutdown)

    return spans(start, lambda: [CallbackHandler()])


class _NullExporter:
    """A span exporter that sends nothing."""

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def openinference() -> AbstractContextManager[Recording]:
    """Run Arize's instrumentation, which wraps LangChain's callback manager."""
    from openinference.instrumentation.langchain import LangChainInstrumentor

    return spans(lambda provider: _instrumented(LangChainInstrumentor(), provider))


def openllmetry() -> AbstractContextManager[Recording]:
    """Run Traceloop's instrumentation, which wraps LangChain's callback manager."""
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    return spans(lambda provider: _instrumented(LangchainInstrumentor(), provider))


def _instrumented(instrumentor: Any, provider: Any) -> Callable[[], object]:
    instrumentor.instrument(tracer_provider=provider)
    return cast("Callable[[], object]", instrumentor.uninstrument)


@contextmanager
def usage() -> Iterator[Recording]:
    """Run LangChain's token counter."""
    from langchain_core.callbacks import get_usage_metadata_callback

    recording = Recording()
    with get_usage_metadata_callback() as counter:
        yield recording
    recording.lines = [json.dumps(counter.usage_metadata, sort_keys=True)]


TRACERS: dict[str, Callable[[], AbstractContextManager[Recording]]] = {
    "gati": gati,
    "langsmith": langsmith,
    "usage": usage,
    "langfuse": langfuse,
    "openinference": openinference,
    "openllmetry": openllmetry,
}
"""All tracers by name. Use each at most once per process."""
