"""Reads the active span of OpenTelemetry, if the program has loaded it. Does not import OpenTelemetry."""

from __future__ import annotations

import sys
from typing import Any

from gati.trace.records import ACTIVE_SPAN


def active_span() -> str | None:
    """Return the active span as `<trace id>-<span id>-<flags>` in hexadecimal digits, as in a `traceparent` header.

    None if OpenTelemetry is not loaded, or no span is active.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        span = trace.get_current_span().get_span_context()
        return f"{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else None
    except Exception:  # noqa: BLE001 - it is being imported in another thread, or the program has spans of its own
        return None


def with_active_span(metadata: Any) -> Any:
    """Return the metadata of a root run, with the active span if there is one."""
    span = active_span()
    return metadata if span is None else {**(metadata or {}), ACTIVE_SPAN: span}
