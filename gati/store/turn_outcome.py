"""Explain why a turn has no answer, or only a part of one. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from gati.store.attachments import stored_attachments
from gati.store.queries import StoredMessage
from gati.store.turn_view import StepView, TurnView, pretty_value


class MissingAnswer(NamedTuple):
    """A missing answer, and the reason.

    Attributes:
        text: A sentence, such as "No answer: the turn failed."
        error: Class and message of the exception that ended the turn; empty if there was none.
    """

    text: str
    error: str


_REASONS = {
    "error": "the turn failed",
    "failed": "the turn failed",
    "aborted": "the turn was stopped",
    "unfinished": "the program ended before the turn did",
    "waiting": "the turn waits for a person",
}


def missing_answer(turn: TurnView) -> MissingAnswer | None:
    """Return what is missing; None for a turn that has its answer, that is running, or that nobody asked for."""
    if not turn.inputs and turn.start is None:
        return None
    answered = any(has_content(message) for message in turn.answers)
    status = turn.status or _status_of_steps(turn)
    if answered:
        if status not in ("error", "aborted") or turn.answers[-1].status not in ("error", "aborted"):
            return None
        return MissingAnswer(f"The answer is incomplete: {_REASONS[status]}.", error_of(turn))
    if reason := _REASONS.get(status):
        return MissingAnswer(f"No answer: {reason}.", error_of(turn) if status in ("error", "failed") else "")
    if status == "completed" and turn.inputs:
        return MissingAnswer("No answer: the turn ended without one.", error_of(turn))
    return None


def has_content(message: StoredMessage) -> bool:
    """Return True if a chat message contains a text or attachments."""
    return bool(message.body.get("content") or message.body.get("output") or stored_attachments(message.body))


def error_of(turn: TurnView) -> str:
    """Return class and message of the exception that ended a turn, else of its last failed step; "" without one."""
    found = _error_sentence(turn.end.body) if turn.end is not None else ""
    if found:
        return found
    failed = [step for step in turn.all_steps if step.status == "error"]
    return next((text for step in reversed(failed) if (text := _error_of_step(step))), "")


def _status_of_steps(turn: TurnView) -> str:
    """Return the status of the last root step, for turns without start and end: a model that was called directly."""
    statuses = [step.status for step in turn.steps if step.kind in ("llm", "tool_call", "task", "workflow")]
    return statuses[-1] if statuses and statuses[-1] in ("error", "aborted", "unfinished") else ""


def _error_of_step(step: StepView) -> str:
    return _error_sentence((step.result or step.message).body) or _error_sentence(step.message.body)


def _error_sentence(body: dict[str, Any]) -> str:
    """Return an error as gati, other clients of the API, and events of a GATI backend write it: ``ValueError: boom``."""
    output, properties = body.get("output"), body.get("properties") or {}
    error = output.get("error") if isinstance(output, dict) else None
    if error is None and isinstance(output, dict) and body.get("messageType") == "tool_error":
        error = output
    kind = properties.get("error_type")
    message = properties.get("error_message")
    if isinstance(error, dict):
        kind, message = error.get("type") or kind, error.get("message") or message
    elif error:
        message = pretty_value(error)
    return ": ".join(str(part) for part in (kind, message) if part)
