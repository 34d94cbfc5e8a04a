"""A strict OTLP receiver over HTTP, in a thread of the test process. It decodes with OpenTelemetry's own classes."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

PROTOBUF = "application/x-protobuf"


@dataclass
class Answer:
    """A scripted answer. `accepts`: the receiver stores the spans."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": PROTOBUF})
    accepts: bool = True


def partial_success(rejected: int, message: str = "too old") -> Answer:
    """Return the answer of a receiver that rejected some spans."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return Answer(body=response.SerializeToString())


def failing(status: int, **headers: str) -> Answer:
    """Return an error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, headers={"content-type": PROTOBUF, **named}, accepts=False)


@dataclass
class ReceivedSpan:
    """A span, with the attributes of its program."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start: int
    end: int
    attributes: dict[str, Any]
    status: dict[str, Any]
    resource: dict[str, Any]

    def json(self, name: str) -> Any:
        """Return an attribute that holds JSON."""
        return json.loads(self.attributes[name])


class Receiver:
    """Stores spans by id, as tracing backends do, so that a repeated one is stored once."""

    def __init__(self) -> None:
        self.url = ""
        self.script: list[Answer] = []
        self.headers: list[dict[str, str]] = []
        self.problems: list[str] = []
        self.requests = 0
        self._spans: dict[tuple[str, str], ReceivedSpan] = {}
        self._lock = threading.Lock()

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The stored spans by start."""
        return sorted(self._spans.values(), key=lambda span: span.start)

    def named(self, name: str) -> ReceivedSpan:
        """Return the only span of this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def receive(self, path: str, headers: dict[str, str], raw: bytes) -> Answer:
        with self._lock:
            self.requests += 1
            self.headers.append(headers)
            answer = self.script.pop(0) if self.script else Answer()
            if answer.accepts:
                for span in self._checked(path, headers, raw):
                    self._spans.setdefault((span.trace_id, span.span_id), span)
            return answer

    def _checked(self, path: str, headers: dict[str, str], raw: bytes) -> Iterator[ReceivedSpan]:
        self._require(path == "/v1/traces", f"path {path}")
        self._require(headers.get("content-type") == PROTOBUF, "content type")
        self._require(headers.get("content-encoding") == "gzip", "not compressed")
        request = ExportTraceServiceRequest.FromString(gzip.decompress(raw))
        self._require(not UnknownFieldSet(request), "unknown fields")
        for group in request.resource_spans:
            resource = self._attributes(group.resource.attributes)
            self._require(bool(resource.get("service.name")), "no service.name")
            for scope in group.scope_spans:
                self._require(scope.scope.name == "gati" and bool(scope.scope.version), "no scope")
                self._require(scope.schema_url.startswith("https://opentelemetry.io/schemas/1."), "no schema")
                for span in scope.spans:
                    yield self._span(span, resource)

    def _span(self, span: trace_pb2.Span, resource: dict[str, Any]) -> ReceivedSpan:
        self._require(len(span.trace_id) == 16 and any(span.trace_id), "trace id")
        self._require(len(span.span_id) == 8 and any(span.span_id), "span id")
        self._require(len(span.parent_span_id) in (0, 8) and span.parent_span_id != span.span_id, "parent")
        self._require(bool(span.name), "no name")
        self._require(0 < span.start_time_unix_nano <= span.end_time_unix_nano, f"times of {span.name}")
        self._require(span.kind != trace_pb2.Span.SPAN_KIND_UNSPECIFIED, "kind")
        attributes = self._attributes(span.attributes)
        self._require(bool(attributes.get("gen_ai.conversation.id")), f"no conversation in {span.name}")
        return ReceivedSpan(
            span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name,
            trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"), span.start_time_unix_nano,
            span.end_time_unix_nano, attributes, MessageToDict(span.status), resource,
        )  # fmt: skip

    def _attributes(self, pairs: Any) -> dict[str, Any]:
        attributes = {}
        pair: KeyValue
        for pair in pairs:
            self._require(bool(pair.key) and pair.key not in attributes, f"key {pair.key}")
            attributes[pair.key] = _value(pair.value)
            self._require(attributes[pair.key] is not None, f"no value of {pair.key}")
        return attributes

    def _require(self, valid: bool, problem: str) -> None:
        if not valid:
            self.problems.append(problem)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.receive(self.path, headers, raw)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
