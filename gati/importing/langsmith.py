"""Runs from an export of LangSmith: JSON or JSON Lines, one object for each run.

``client.list_runs(...)`` with ``run.model_dump_json()`` makes such a file, and so does "Export" in the web app.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gati.importing.imported_run import ImportedRun, ImportedTurn, RunKind, to_ns, turns_of
from gati.importing.messages import messages_in, to_message, with_messages, with_model_calls
from gati.trace.records import CONVERSATION_KEYS, USER_KEYS, ErrorInfo, Message, ModelResult

_KINDS: dict[str, RunKind] = {
    "llm": "model",
    "chat_model": "model",
    "tool": "tool",
    "retriever": "retriever",
    "prompt": "prompt",
    "parser": "parser",
}


def read_langsmith(rows: Iterable[dict[str, Any]]) -> Iterator[ImportedTurn]:
    """Return the turns of exported runs. Child runs belong to the export; without them a turn has no details."""
    runs = [run for row in rows if (run := _run_of_row(row)) is not None]
    return with_model_calls(turns_of(runs, _owner_of_rows))


def _run_of_row(row: dict[str, Any]) -> ImportedRun | None:
    """Return the run of a row; None for a row that is none."""
    started = to_ns(row.get("start_time"))
    if row.get("id") is None or started is None:
        return None
    kind = _KINDS.get(row.get("run_type") or "", "chain")
    extra: dict[str, Any] = row.get("extra") or {}
    metadata = {**(extra.get("metadata") or {}), **(row.get("metadata") or {})}
    run = ImportedRun(
        str(row["id"]), kind, row.get("name") or "", started, to_ns(row.get("end_time")),
        str(row["parent_run_id"]) if row.get("parent_run_id") else None,
        inputs=with_messages(row.get("inputs")), output=with_messages(row.get("outputs")),
        error=_error_of_row(row.get("error")), tags=tuple(row.get("tags") or ()), metadata=metadata,
    )  # fmt: skip
    if kind == "model":
        params = dict(extra.get("invocation_params") or {})
        run.inputs = (messages_in(_model_messages(run.inputs)), params or None)
        run.output = _result_of_row(row, run.output)
    elif kind == "tool":
        run.inputs = _unwrapped(run.inputs, "input")
        run.output = _tool_output(run.output)
        run.tool_call_id = run.output.tool_call_id if isinstance(run.output, Message) else None
    elif kind == "retriever":
        run.inputs = (run.inputs or {}).get("query") if isinstance(run.inputs, dict) else run.inputs
        run.output = (run.output or {}).get("documents") if isinstance(run.output, dict) else run.output
    else:
        run.inputs, run.output = _unwrapped(run.inputs, "input"), _unwrapped(run.output, "output")
    return run


def _unwrapped(value: Any, name: str) -> Any:
    """Return the value of a run whose input or output is not a dict. LangSmith puts it into one."""
    return value[name] if isinstance(value, dict) and value.keys() == {name} else value


def _error_of_row(text: Any) -> ErrorInfo | None:
    """Return the error that a text describes. Example: ``ValueError('no')Traceback …`` → type ``ValueError``."""
    if not text:
        return None
    line = str(text).partition("Traceback")[0].strip()
    kind, bracket, rest = line.partition("(")
    if bracket and kind.isidentifier():
        return ErrorInfo(kind, rest.rpartition(")")[0].strip("'\"") or rest)
    return ErrorInfo("Error", line)


def _model_messages(inputs: Any) -> Any:
    if isinstance(inputs, dict) and "messages" not in inputs:
        prompts = inputs.get("prompts") or inputs.get("prompt") or inputs.get("input")
        return prompts[0] if isinstance(prompts, list) and prompts and isinstance(prompts[0], str) else prompts
    return inputs


def _result_of_row(row: dict[str, Any], output: Any) -> ModelResult:
    """Return a model's answer: of LangChain (`generations`), or of OpenAI's client (`choices`)."""
    messages: list[Message] = []
    outputs: dict[str, Any] = output if isinstance(output, dict) else {}
    generations = outputs.get("generations") or []
    candidates = generations[0] if generations and isinstance(generations[0], list) else generations
    for candidate in candidates if isinstance(candidates, list) else ():
        message = candidate.get("message") if isinstance(candidate, dict) else None
        text = candidate.get("text") if isinstance(candidate, dict) else None
        messages.append(message if isinstance(message, Message) else Message("ai", text or ""))
    for choice in outputs.get("choices") or ():
        if isinstance(choice, dict) and isinstance(message := choice.get("message"), Message):
            messages.append(message)
    if not messages and isinstance(output, Message):
        messages = [output]
    if messages and messages[0].usage is None and row.get("prompt_tokens") is not None:
        usage = {"input_tokens": row["prompt_tokens"], "output_tokens": row.get("completion_tokens")}
        messages[0] = messages[0]._replace(usage=usage)
    return ModelResult(tuple(messages), outputs.get("llm_output"))


def _tool_output(output: Any) -> Any:
    value = _unwrapped(output, "output")
    if isinstance(value, dict) and (message := to_message(value)) is not None:
        return message
    return value


def _owner_of_rows(runs: Sequence[ImportedRun]) -> tuple[str | None, str | None]:
    return _first_entry_of(runs, CONVERSATION_KEYS), _first_entry_of(runs, USER_KEYS)


def _first_entry_of(runs: Sequence[ImportedRun], keys: Sequence[str]) -> str | None:
    found = (str(run.metadata[key]) for run in runs for key in keys if run.metadata.get(key))
    return next(found, None)
