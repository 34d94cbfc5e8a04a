"""What each watcher saw of the program, as lines of text without what differs from run to run."""

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
class Seen:
    """What a watcher saw, filled when its block is left; `handlers` are to be passed to the program."""

    lines: list[str] = field(default_factory=list)
    handlers: list[Any] = field(default_factory=list)


def plain(value: object) -> str:
    """Text without ids, addresses and times."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return _RANDOM.sub("~", UUID.sub("~", text))


@contextmanager
def gati() -> Iterator[Seen]:
    """gati, delivering to a strict local Greenflash."""
    seen = Seen()
    with greenflash_server() as server:
        observe.init(agent_name="neighbour", api_key=server.api_key, base_url=server.url, spool=False)
        yield seen
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
        seen.lines = plain(tree(held, unordered=True)).splitlines()


@contextmanager
def langsmith() -> Iterator[Seen]:
    """LangSmith's tracer, switched on by the environment, exporting to a local server."""
    from langchain_core.tracers.langchain import wait_for_all_tracers

    seen = Seen()
    with langsmith_server() as server:
        given = {
            "LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": server.url, "LANGSMITH_API_KEY": "k",
            "LANGSMITH_PROJECT": "neighbour",
        }  # fmt: skip
        os.environ.update(given)
        yield seen
        wait_for_all_tracers()
        seen.lines = sorted(_run(run, server.runs) for run in server.runs.values())


def _run(run: dict[str, Any], runs: dict[str, dict[str, Any]]) -> str:
    above, way = run, []
    while above:
        way.append(str(above.get("name")))
        above = runs.get(str(above.get("parent_run_id")), {})
    told = {key: run.get(key) for key in ("run_type", "inputs", "outputs", "tags", "serialized")}
    metadata = sorted((run.get("extra") or {}).get("metadata") or {})
    error = str(run.get("error") or "").split("Traceback")[0]
    events = [event.get("name") for event in run.get("events") or ()]
    return plain(f"{'/'.join(reversed(way))} {json.dumps(told, sort_keys=True)} {metadata} {error} {events}")


@contextmanager
def spans(start: Callable[[Any], Callable[[], object]], handlers: Callable[[], list[Any]] = list) -> Iterator[Seen]:
    """A neighbour that makes OpenTelemetry spans; `start` takes the provider and gives how to stop."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    stop = start(provider)
    seen = Seen(handlers=handlers())
    yield seen
    stop()
    provider.force_flush()
    made = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in made}
    seen.lines = sorted(_span(span, names) for span in made)


def _span(span: Any, names: dict[int, str]) -> str:
    above = names.get(span.parent.span_id, "?") if span.parent else ""
    events = [event.name for event in span.events]
    told = {key: value for key, value in (span.attributes or {}).items() if "time" not in key and "seed" not in key}
    return plain(f"{above}/{span.name} {span.status.status_code.name} {json.dumps(told, sort_keys=True)} {events}")


def langfuse() -> AbstractContextManager[Seen]:
    """Langfuse's callback handler, given by hand."""
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    def start(provider: Any) -> Callable[[], object]:
        # Nobody listens at this address: what is compared are the spans, which go to our own provider too.
        client = Langfuse(
            public_key="pk",
            secret_key="sk",
            base_url="http://127.0.0.1:9",
            tracer_provider=provider,
            span_exporter=_Nowhere(),
        )
        return cast("Callable[[], object]", client.shutdown)

    return spans(start, lambda: [CallbackHandler()])


class _Nowhere:
    """A span exporter that sends nothing."""

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def openinference() -> AbstractContextManager[Seen]:
    """Arize's instrumentation, which wraps LangChain's callback manager."""
    from openinference.instrumentation.langchain import LangChainInstrumentor

    return spans(lambda provider: _instrumented(LangChainInstrumentor(), provider))


def openllmetry() -> AbstractContextManager[Seen]:
    """Traceloop's instrumentation, which wraps LangChain's callback manager."""
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    return spans(lambda provider: _instrumented(LangchainInstrumentor(), provider))


def _instrumented(instrumentor: Any, provider: Any) -> Callable[[], object]:
    instrumentor.instrument(tracer_provider=provider)
    return cast("Callable[[], object]", instrumentor.uninstrument)


@contextmanager
def usage() -> Iterator[Seen]:
    """LangChain's own counter of tokens."""
    from langchain_core.callbacks import get_usage_metadata_callback

    seen = Seen()
    with get_usage_metadata_callback() as counter:
        yield seen
    seen.lines = [json.dumps(counter.usage_metadata, sort_keys=True)]


WATCHERS: dict[str, Callable[[], AbstractContextManager[Seen]]] = {
    "gati": gati,
    "langsmith": langsmith,
    "usage": usage,
    "langfuse": langfuse,
    "openinference": openinference,
    "openllmetry": openllmetry,
}
"""All that can watch, by name. For one run a process."""
