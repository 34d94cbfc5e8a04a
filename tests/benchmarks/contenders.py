"""The contenders: what each needs installed, and how to start it.

`start` runs in the environment of the contender. Every tracer is set up according to its documentation,
exports to the sink and keeps its default limits. A comment explains each changed default.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LANGCHAIN = ("langchain", "langgraph")
_OTLP = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")


@dataclass
class Session:
    """A running contender: the handlers to pass to each invocation, and a function that waits for delivery."""

    flush: Callable[[], object]
    handlers: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Contender:
    """A tracer to measure. The version of `package` is reported; `environment` names the virtual environment."""

    name: str
    title: str
    environment: str
    package: str
    requires: tuple[str, ...]
    start: Callable[[str], Session]
    own_conversations: bool = False
    """Run each invocation in a separate conversation instead of one conversation per round."""


def _nothing(address: str) -> Session:
    return Session(flush=lambda: None)


def _no_op(address: str) -> Session:
    from langchain_core.callbacks import BaseCallbackHandler

    def ignore(self: object, *args: object, **more: object) -> None: ...

    events = [name for name in dir(BaseCallbackHandler) if name.startswith("on_")]
    handler = type("Ignorer", (BaseCallbackHandler,), {"run_inline": True, **dict.fromkeys(events, ignore)})()
    return Session(flush=lambda: None, handlers=[handler])


def start_gati(address: str, **options: Any) -> Session:
    """Start gati with its default limits, unless `options` say otherwise."""
    from gati import observe

    folder = tempfile.mkdtemp(prefix="gati-benchmark-")
    observe.init(
        agent_name="benchmark", api_key="gf_benchmark", base_url=f"{address}/api/v1", spool_dir=folder, **options
    )
    return Session(flush=lambda: observe.flush(timeout=120.0))


def _gati(address: str) -> Session:
    # By default, texts above 64 KB are truncated. The other tracers send them in full.
    return start_gati(address, max_field_bytes=1_000_000, max_request_bytes=8_000_000)


def _langsmith(address: str) -> Session:
    os.environ.update(LANGSMITH_TRACING="true", LANGSMITH_ENDPOINT=address, LANGSMITH_API_KEY="key")
    from langchain_core.tracers.langchain import wait_for_all_tracers

    return Session(flush=wait_for_all_tracers)


def _langfuse(address: str) -> Session:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    client = Langfuse(public_key="pk", secret_key="sk", base_url=address)
    return Session(flush=client.flush, handlers=[CallbackHandler()])


def _provider(address: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{address}/v1/traces")))
    return provider


def _openinference(address: str) -> Session:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    provider = _provider(address)
    LangChainInstrumentor().instrument(tracer_provider=provider)
    return Session(flush=lambda: provider.force_flush(120_000))


def _openllmetry(address: str) -> Session:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    provider = _provider(address)
    LangchainInstrumentor().instrument(tracer_provider=provider)
    return Session(flush=lambda: provider.force_flush(120_000))


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("none", "no tracing", "none", "langchain-core", (), _nothing),
        Contender("no-op", "a handler that does nothing", "none", "langchain-core", (), _no_op),
        Contender("gati", "gati, one conversation", "gati", "gati-greenflash", (), _gati),
        Contender("gati-own", "gati, separate conversations", "gati", "gati-greenflash", (), _gati, True),
        Contender("langsmith", "LangSmith", "langsmith", "langsmith", ("langsmith",), _langsmith),
        Contender("langfuse", "Langfuse", "langfuse", "langfuse", ("langfuse",), _langfuse),
        Contender(
            "openinference", "OpenInference + OTLP", "openinference", "openinference-instrumentation-langchain",
            ("openinference-instrumentation-langchain", *_OTLP), _openinference,
        ),
        Contender(
            "openllmetry", "OpenLLMetry + OTLP", "openllmetry", "opentelemetry-instrumentation-langchain",
            ("opentelemetry-instrumentation-langchain", *_OTLP), _openllmetry,
        ),
    )
}  # fmt: skip
