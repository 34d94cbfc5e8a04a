"""Report the pictures, sounds and files of a turn's answer with the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gati.events import ChatMessage
from gati.trace.attachments import attachments_of
from gati.trace.chat_messages import as_messages
from gati.trace.content import text_of
from gati.trace.records import ASSISTANT_ROLES, TOOL_ROLES, USER_ROLES, Message, ModelResult

if TYPE_CHECKING:
    from gati.trace.answer_source import ModelEvents
    from gati.trace.run_tree import Run, Trace

ATTACHMENTS = "attachments"


def add_attachments(answer: ChatMessage | None, trace: Trace, models: ModelEvents) -> ChatMessage | None:
    """Return the answer of a completed turn with its media; an answer without text if it consists of media only.

    The event of the call that made them does not repeat them. Media of other calls stay with these calls.
    """
    message = _answering_message(trace, answer.text if answer is not None else "")
    media = attachments_of(message) if message is not None else []
    if not media:
        return answer
    for _, event in models:
        if event.attachments == media:
            event.attachments = []
            event.is_answer = event.is_answer or answer is None
    if answer is None:
        at = (trace.root.ended or trace.last_record_at) + trace.offset
        answer = ChatMessage(f"{trace.id}:answer", "assistant", "", at, trace.id)
    answer.properties = {**answer.properties, ATTACHMENTS: media}
    return answer


def _answering_message(trace: Trace, text: str) -> Message | None:
    """Return the message of the root's output that is the answer: the last with its text."""
    for message in _output_messages(trace.root)[::-1]:
        if message.role in USER_ROLES:
            break
        if _may_answer(message) and text_of(message) == text:
            return message
        if message.role in ASSISTANT_ROLES:
            break
    return None


def _may_answer(message: Message) -> bool:
    """Return True for a response without tool requests, or the result of a tool, which may be returned directly."""
    if message.role in TOOL_ROLES:
        return message.status != "error"
    return message.role in ASSISTANT_ROLES and not message.tool_calls


def _output_messages(root: Run) -> list[Message]:
    output = root.output
    if isinstance(output, ModelResult):
        return list(output.messages[:1])
    values = [output]
    if isinstance(output, dict):
        values = [output.get("messages"), *(value for key, value in output.items() if key != "messages")]
    for value in values:
        if messages := as_messages(value):
            return messages
    return []
