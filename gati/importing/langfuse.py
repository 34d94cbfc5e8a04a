"""Traces and observations from an export of Langfuse: JSON or JSON Lines.

Rows may be observations, traces, or traces with their `observations`, as the API and the exports of the web app and of
the blob storage contain them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from gati.importing.imported_run import ImportedRun, ImportedTurn, RunKind, to_ns, turns_of
from gati.importing.messages import messages_in, parse_json, to_message, with_messages, with_model_calls
from gati.trace.records import ErrorInfo, Message, ModelResult

_KINDS: dict[str, RunKind] = {"GENERATION": "model", "TOOL": "tool", "RETRIEVER": "retriever"}


def read_langfuse(rows: Iterable[dict[str, Any]]) -> Iterator[ImportedTurn]:
    """Return the turns of exported traces."""
    traces: dict[str, dict[str, Any]] = {}
    observations: list[dict[str, Any]] = []
    for row in rows:
        if _first_entry(row, "traceId", "trace_id") is not None:
            observations.append(row)
        elif row.get("id") is not None:
            traces[str(row["id"])] = row
            nested = (item for item in row.get("observations") or () if isinstance(item, dict))
            observations += [{**item, "traceId": row["id"]} for item in nested]
    runs = [run for trace_id, trace in traces.items() if (run := _root(trace_id, trace)) is not None]
    runs += [run for row in observations if (run := _run_of_observation(row, traces)) is not None]
    return with_model_calls(turns_of(runs, partial(_owner_of_observations, traces)))


def _first_entry(row: dict[str, Any], *names: str) -> Any:
    """Return the first entry that is there. Exports name columns in camel case or snake case."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _root(trace_id: str, trace: dict[str, Any]) -> ImportedRun | None:
    started = to_ns(_first_entry(trace, "timestamp", "startTime", "start_time"))
    if started is None:
        return None
    return ImportedRun(
        trace_id, "chain", trace.get("name") or "", started,
        inputs=with_messages(parse_json(trace.get("input"))), output=with_messages(parse_json(trace.get("output"))),
        tags=tuple(trace.get("tags") or ()), metadata={"trace_id": trace_id},
    )  # fmt: skip


def _run_of_observation(row: dict[str, Any], traces: dict[str, dict[str, Any]]) -> ImportedRun | None:
    started = to_ns(_first_entry(row, "startTime", "start_time"))
    if row.get("id") is None or started is None or row.get("type") == "EVENT":
        return None
    trace_id = str(_first_entry(row, "traceId", "trace_id"))
    parent = _first_entry(row, "parentObservationId", "parent_observation_id")
    kind = _KINDS.get(str(row.get("type") or "").upper(), "chain")
    run = ImportedRun(
        str(row["id"]), kind, row.get("name") or "", started, to_ns(_first_entry(row, "endTime", "end_time")),
        str(parent) if parent else trace_id if trace_id in traces else None,
        inputs=with_messages(parse_json(row.get("input"))), output=with_messages(parse_json(row.get("output"))),
        error=_error_of_observation(row), metadata={"trace_id": trace_id},
    )  # fmt: skip
    if kind == "model":
        params = dict(parse_json(_first_entry(row, "modelParameters", "model_parameters")) or {})
        if model := _first_entry(row, "model", "providedModelName", "provided_model_name"):
            params["model"] = model
        run.inputs = (messages_in(run.inputs), params or None)
        run.output = _result_of_observation(row, run.output)
    elif kind == "tool":
        message = run.output if isinstance(run.output, Message) else to_message(run.output)
        run.output = message if message is not None else run.output
        run.tool_call_id = message.tool_call_id if message is not None else None
    return run


def _error_of_observation(row: dict[str, Any]) -> ErrorInfo | None:
    if row.get("level") != "ERROR":
        return None
    return ErrorInfo("Error", str(_first_entry(row, "statusMessage", "status_message") or ""))


def _result_of_observation(row: dict[str, Any], output: Any) -> ModelResult:
    messages = [message if message.role != "human" else message._replace(role="ai") for message in messages_in(output)]
    if not messages:
        return ModelResult(())
    if messages[0].usage is None:
        messages[0] = messages[0]._replace(usage=_usage_of_observation(row))
    if model := _first_entry(row, "model", "providedModelName", "provided_model_name"):
        messages[0] = messages[0]._replace(response={"model_name": model, **(messages[0].response or {})})
    return ModelResult(tuple(messages))


def _usage_of_observation(row: dict[str, Any]) -> dict[str, Any] | None:
    details = parse_json(_first_entry(row, "usageDetails", "usage_details", "usage")) or {}
    tokens_in, tokens_out = details.get("input"), details.get("output")
    if tokens_in is None and tokens_out is None:
        return None
    cached = _first_entry(details, "input_cached_tokens", "input_cache_read", "cache_read_input_tokens") or 0
    usage: dict[str, Any] = {"input_tokens": (tokens_in or 0) + cached, "output_tokens": tokens_out}
    if cached:  # Langfuse counts them apart from `input`
        usage["input_token_details"] = {"cache_read": cached}
    return usage


def _owner_of_observations(
    traces: dict[str, dict[str, Any]], runs: Sequence[ImportedRun]
) -> tuple[str | None, str | None]:
    trace = traces.get(str(runs[0].metadata.get("trace_id"))) or {}
    session, user = _first_entry(trace, "sessionId", "session_id"), _first_entry(trace, "userId", "user_id")
    return (str(session) if session is not None else None), (str(user) if user is not None else None)
