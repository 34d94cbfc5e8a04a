"""The OTLP wire format: the bodies of `span_encoder` ↔ protocol buffers. Loads `opentelemetry-proto`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from gati.semconv import SCHEMA_URL

CONTENT_TYPE = "application/x-protobuf"
SCOPE = "gati"
"""Name of the instrumentation scope of all spans."""


def encode(body: Mapping[str, Any], version: str) -> bytes:
    """Return a request's body as `ExportTraceServiceRequest`.

    Args:
        body: The body of a request.
        version: Version of gati.
    """
    spans = [_span(span) for span in body["spans"]]
    scope = ScopeSpans(scope=InstrumentationScope(name=SCOPE, version=version), spans=spans, schema_url=SCHEMA_URL)
    resource = Resource(attributes=_attributes(body["resource"]))
    request = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope], schema_url=SCHEMA_URL)]
    )
    encoded: bytes = request.SerializeToString()
    return encoded


def rejected_spans(content: bytes, content_type: str) -> int | None:
    """Return how many spans the receiver rejected for good, given its answer; None if the body has another format.

    The specification requires a body in the encoding of the request. An empty one is valid, since a message without
    fields has no bytes; JSON is accepted, too.
    """
    answer = ExportTraceServiceResponse()
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        if media_type == CONTENT_TYPE or not content.strip():
            answer.ParseFromString(content)
        elif media_type == "application/json":
            Parse(content, answer, ignore_unknown_fields=True)
        else:
            return None
    except (DecodeError, ParseError):
        return None
    return max(int(answer.partial_success.rejected_spans), 0)  # its message may quote content


def _span(span: Mapping[str, Any]) -> Span:
    status = span.get("status")
    return Span(
        trace_id=bytes.fromhex(span["traceId"]),
        span_id=bytes.fromhex(span["spanId"]),
        parent_span_id=bytes.fromhex(span.get("parentSpanId", "")),
        name=span["name"],
        kind=span["kind"],
        start_time_unix_nano=span["start"],
        end_time_unix_nano=span["end"],
        attributes=_attributes(span["attributes"]),
        status=Status(code=status["code"], message=status.get("message", "")) if status else None,
    )


def _attributes(attributes: Mapping[str, Any]) -> Iterable[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))
    return AnyValue(string_value=str(value))
