"""What a person was answered in a turn, and which model call said it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gati.events import ChatMessage, LLMCallEvent, Status
from gati.trace.chat_io import ASSISTANT_ROLES, answer_in, as_messages
from gati.trace.content import text_of
from gati.trace.event_builder import status_of
from gati.trace.records import ModelResult

if TYPE_CHECKING:
    from gati.trace.run_tree import Run, Trace

SUMMARIZATION = "summarization"
"""LangChain's mark_answer on the calls of its summariser."""

ModelEvents = list[tuple["Run", LLMCallEvent]]


def turn_status(trace: Trace, interrupts: list[dict[str, Any]]) -> Status:
    """How a turn ended, as far as the root tells."""
    if trace.root.ended is None:
        return "unfinished"
    status = status_of(trace.root)
    if status == "completed" and _model_cut_off_by_reader(trace) is not None:
        return "aborted"
    waits = bool(interrupts or trace.pauses) or _requests_tools_at_end(trace)
    return "waiting" if waits and status in ("completed", "waiting") else status


def _requests_tools_at_end(trace: Trace) -> bool:
    """Whether a thread's last word is a request for tools: paused before them, or for the program to run."""
    if not trace.is_graph or "thread_id" not in trace.root.metadata or not isinstance(trace.root.output, dict):
        return False
    messages = as_messages(trace.root.output.get("messages"))
    return messages is not None and messages[-1].role in ASSISTANT_ROLES and bool(messages[-1].tool_calls)


def final_answer_of(
    trace: Trace, models: ModelEvents, interrupts: list[dict[str, Any]], status: Status, output_key: str | None
) -> tuple[ChatMessage | None, Status]:
    """The text that the person saw last, and how the turn ended in the light of it."""
    text = ""
    if status == "waiting":
        asked = [one["value"] for one in interrupts if isinstance(one.get("value"), str)]
        text = "\n\n".join(asked) if interrupts else _complete_answer(trace, models, output_key)
    elif status == "completed":
        text = _complete_answer(trace, models, output_key)
    else:
        text, complete = _partial_answer(trace, models)
        if complete and status == "aborted":
            status = "completed"
    if not text:
        return None, status
    root_id = trace.id
    at = (trace.root.ended or trace.touched) + trace.offset
    properties = {} if status == "completed" else {"status": status}
    return ChatMessage(f"{root_id}:answer", "assistant", text, at, root_id, properties), status


def _complete_answer(trace: Trace, models: ModelEvents, output_key: str | None) -> str:
    root = trace.root
    if isinstance(root.output, ModelResult):
        messages = root.output.messages
        return "" if not messages or messages[0].tool_calls else text_of(messages[0])
    if root.kind in ("chain", "prompt"):
        plain_chain = bool(models) and not any(run.node is not None for run in root.walk())
        completions = [event.completion for run, event in reversed(models) if is_user_facing(run)]
        return answer_in(root.output, output_key, plain_chain, root.inputs, completions)
    return answer_in(root.output) if root.kind == "step" else ""


def _partial_answer(trace: Trace, models: ModelEvents) -> tuple[str, bool]:
    """The text so far of a turn that ended early, and whether it was all there: a person who
    stops reading after the last word has stopped nothing. A whole answer that was not streamed
    and then got lost on its way out was seen by nobody."""
    if (cut_off := _model_cut_off_by_reader(trace)) is not None:
        return _consumed_text(cut_off, answer_in(trace.root.output))
    closed = trace.root.error is not None and trace.root.error.control == "closed"
    for run, event in reversed(models):
        if is_user_facing(run):
            complete = run.ended is not None and run.error is None and not event.tool_requests
            if complete and run.first_token is None and not closed:
                return "", False
            return (event.completion if complete or not event.tool_requests else ""), complete
    return "", False


def _model_cut_off_by_reader(trace: Trace) -> Run | None:
    """The model that was still speaking when the reader of a chain's stream closed it: LangChain
    then ends the chain well and lets the model finish."""
    root = trace.root
    if not root.streamed or root.ended is None or root.error is not None:
        return None
    for run in reversed(trace.models()):
        if run.first_token is not None and is_user_facing(run):
            spoke_on = run.first_token < root.ended and (run.ended is None or run.ended > root.ended)
            closed = run.error is not None and run.error.control == "closed"
            return run if spoke_on or closed else None
    return None


def _consumed_text(run: Run, told: str) -> tuple[str, bool]:
    """What was read of a model's stream, and whether that is all. The chain's output (`told`) lacks
    the piece at which the reader stopped."""
    pieces = run.pieces or []
    whole, read = "".join(pieces), ""
    if not whole.startswith(told):
        return told, False
    for piece in pieces:
        read += piece
        if len(read) > len(told):
            break
    return read, read == whole and run.error is None and run.ended is not None


def mark_answer(models: ModelEvents, answer: ChatMessage | None) -> None:
    """Tell the model call that a person saw from those that nobody did."""
    marked = False
    for run, event in reversed(models):
        if not marked and answer is not None and is_user_facing(run) and _is_completion_of(answer, event):
            marked = True
            event.is_answer = _same_text(answer.text, event.completion)
        else:
            event.internal = bool(event.completion) and not event.tool_requests


def _is_completion_of(answer: ChatMessage, event: LLMCallEvent) -> bool:
    """Whether a model said the answer, or went on with it when nobody listened any more."""
    cut = bool(answer.properties) and event.completion.startswith(answer.text) and not event.tool_requests
    return cut or _same_text(answer.text, event.completion)


def _same_text(answer: str, said: str) -> bool:
    """Whether two texts are the same, or the same JSON."""
    if answer == said or not said or answer[:1] not in ("{", "["):
        return answer == said
    try:
        return bool(orjson.loads(answer) == orjson.loads(said))
    except orjson.JSONDecodeError:
        return False


def answering_model(models: ModelEvents) -> str | None:
    """Name of the model that made the answer, else of the last one."""
    names = [event.model for _, event in models if event.is_answer and event.model]
    names = names or [event.model for _, event in models if event.model]
    return names[-1] if names else None


def must_wait_for_end(top: Run) -> bool:
    """Whether what is below a run right under the root cannot be told before the turn's end: it may
    hold the answer, or a tool's failure that only the root can handle.
    """
    for run in top.walk():
        if run.kind == "model" and is_user_facing(run):
            answer = run.output.messages[0] if isinstance(run.output, ModelResult) and run.output.messages else None
            if (run.pieces and run.error is not None) or (answer is not None and not answer.tool_calls):
                return True
        if run.kind == "tool" and run.error is not None:
            between = [above for above in run.above() if above.parent is not None]
            if not any(above.node is not None or above.error is not None for above in between):
                return True
    return False


def is_user_facing(run: Run) -> bool:
    """Whether a model speaks to the person: not a summariser, not inside a tool."""
    if run.metadata.get("lc_source") == SUMMARIZATION:
        return False
    return not any(above.kind == "tool" for above in run.above())
