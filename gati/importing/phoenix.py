"""Spans from an export of Phoenix, with the attributes of OpenInference: JSON or JSON Lines.

``get_spans_dataframe().to_json(path, orient="records", lines=True)`` makes such a file, and so does the REST endpoint
that lists a project's spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gati.importing.imported_run import ImportedRun, ImportedTurn, RunKind, to_ns, turns_of
from gati.importing.messages import parse_json, to_message, with_messages, with_model_calls
from gati.trace.records import ErrorInfo, Message, ModelResult

_KINDS: dict[str, RunKind] = {"LLM": "model", "TOOL": "tool", "RETRIEVER": "retriever"}


def read_phoenix(rows: Iterable[dict[str, Any]]) -> Iterator[ImportedTurn]:
    """Return the turns of exported spans."""
    runs = [run for row in rows if (run := _run_of_span(_nested(row))) is not None]
    return with_model_calls(turns_of(runs, _owner_of_spans))


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with dotted names as nested dicts: ``{"a.b": 1}`` → ``{"a": {"b": 1}}``."""
    nested: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:
            continue
        *path, last = name.split(".")
        target = nested
        for part in path:
            inner = target.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = target[part] = {}
            target = inner
        value = _nested(value) if isinstance(value, dict) else value
        if isinstance(value, dict) and isinstance(target.get(last), dict):
            value = {**target[last], **value}
        target[last] = value
    return nested


def _at_path(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _items(value: Any) -> list[dict[str, Any]]:
    """Return the dicts of a list, or of a dict whose keys are positions."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value, key=lambda key: int(key) if key.isdecimal() else 0)]
    return [_nested(item) for item in value or () if isinstance(item, dict)] if isinstance(value, list) else []


def _run_of_span(row: dict[str, Any]) -> ImportedRun | None:
    span_id, started = _at_path(row, "context.span_id") or row.get("span_id"), to_ns(row.get("start_time"))
    if span_id is None or started is None:
        return None
    attributes = row.get("attributes") or {}
    kind = _KINDS.get(
        str(row.get("span_kind") or _at_path(attributes, "openinference.span.kind") or "").upper(), "chain"
    )
    parent = row.get("parent_id")
    run = ImportedRun(
        str(span_id), kind, row.get("name") or "", started, to_ns(row.get("end_time")), str(parent) if parent else None,
        inputs=with_messages(_value(attributes, "input")), output=with_messages(_value(attributes, "output")),
        error=_error_of_span(row), metadata=_metadata(attributes),
    )  # fmt: skip
    if kind == "model":
        params = dict(parse_json(_at_path(attributes, "llm.invocation_parameters")) or {})
        if model := _at_path(attributes, "llm.model_name"):
            params["model"] = model
        messages = [_message(item) for item in _items(_at_path(attributes, "llm.input_messages"))]
        run.inputs = (messages, params or None)
        run.output = _result_of_span(attributes, run.output)
    elif kind == "tool":
        run.name = _at_path(attributes, "tool.name") or run.name
        message = run.output if isinstance(run.output, Message) else to_message(run.output)
        run.output = message if message is not None else run.output
        run.tool_call_id = message.tool_call_id if message is not None else None
    elif kind == "retriever":
        documents = (item.get("document") for item in _items(_at_path(attributes, "retrieval.documents")))
        run.output = [
            {"page_content": document.get("content"), "metadata": parse_json(document.get("metadata")) or {}}
            for document in documents
            if isinstance(document, dict)
        ]
    return run


def _value(attributes: dict[str, Any], name: str) -> Any:
    value = _at_path(attributes, f"{name}.value")
    return parse_json(value) if _at_path(attributes, f"{name}.mime_type") == "application/json" else value


def _metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    metadata = parse_json(attributes.get("metadata"))
    owner = {"session_id": _at_path(attributes, "session.id"), "user_id": _at_path(attributes, "user.id")}
    known = {name: value for name, value in owner.items() if value is not None}
    return {**(metadata if isinstance(metadata, dict) else {}), **known}


def _error_of_span(row: dict[str, Any]) -> ErrorInfo | None:
    if row.get("status_code") != "ERROR":
        return None
    kind, colon, text = str(row.get("status_message") or "").partition(": ")
    return ErrorInfo(kind, text) if colon and kind.isidentifier() else ErrorInfo("Error", kind + colon + text)


def _message(item: dict[str, Any]) -> Message:
    fields = item.get("message") or item
    calls = [
        {"id": _at_path(call, "tool_call.id"), "function": _at_path(call, "tool_call.function") or {}}
        for call in _items(fields.get("tool_calls"))
    ]
    parts = [_at_path(part, "message_content.text") or "" for part in _items(fields.get("contents"))]
    content = fields.get("content") or "\n".join(filter(None, parts))
    message = to_message(
        {
            "role": fields.get("role") or "user",
            "content": content,
            "tool_calls": calls,
            "tool_call_id": fields.get("tool_call_id"),
        }
    )
    return message if message is not None else Message("human", content)


def _result_of_span(attributes: dict[str, Any], output: Any) -> ModelResult:
    messages = [_message(item) for item in _items(_at_path(attributes, "llm.output_messages"))]
    if not messages and isinstance(output, str):
        messages = [Message("ai", output)]
    if not messages:
        return ModelResult(())
    messages[0] = messages[0]._replace(role="ai", usage=_usage_of_span(attributes))
    if model := _at_path(attributes, "llm.model_name"):
        messages[0] = messages[0]._replace(response={"model_name": model})
    return ModelResult(tuple(messages))


def _usage_of_span(attributes: dict[str, Any]) -> dict[str, Any] | None:
    counts = _at_path(attributes, "llm.token_count") or {}
    if counts.get("prompt") is None and counts.get("completion") is None:
        return None
    usage: dict[str, Any] = {"input_tokens": counts.get("prompt"), "output_tokens": counts.get("completion")}
    if cached := _at_path(counts, "prompt_details.cache_read"):
        usage["input_token_details"] = {"cache_read": cached}
    return usage


def _owner_of_spans(runs: Sequence[ImportedRun]) -> tuple[str | None, str | None]:
    def first(*keys: str) -> str | None:
        found = (str(run.metadata[key]) for run in runs for key in keys if run.metadata.get(key))
        return next(found, None)

    return first("session_id", "conversation_id", "thread_id"), first("user_id")
