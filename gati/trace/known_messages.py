"""The messages in a model's input that belong to earlier turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gati.trace.content import text_of
from gati.trace.records import USER_ROLES, Message
from gati.trace.requested_calls import requests_in
from gati.trace.resumes import resume_of
from gati.trace.run_tree import model_messages

if TYPE_CHECKING:
    from gati.events import ChatMessage
    from gati.trace.run_tree import Run, Trace


def checkpointed_messages(trace: Trace, model: Run, user_messages: list[ChatMessage]) -> list[Message]:
    """Return the messages of a model call that were loaded from a checkpoint.

    They belong to earlier turns of this or another process: they have ids and precede this turn's
    user messages.
    """
    if not trace.is_graph or "thread_id" not in trace.root.metadata:
        return []
    messages = model_messages(model)
    texts = {message.text for message in user_messages}
    last = max((index for index, m in enumerate(messages) if text_of(m) in texts), default=-1)
    if last < 0 and resume_of(trace) is not None:
        last = len(messages)
    return [m for m in messages[: last + 1] if m.id]


def calls_before_question(messages: list[Message]) -> set[str]:
    """Return the ids of the tool calls that are requested or answered before the last message of the user."""
    last = max((index for index, m in enumerate(messages) if m.role in USER_ROLES), default=0)
    requested = {call_id for call_id, _ in requests_in(messages[:last])}
    return requested | {str(m.tool_call_id) for m in messages[:last] if m.tool_call_id}
