"""Decide whether a person wrote a message, and whether a root run is a turn of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gati.trace.chat_messages import as_messages
from gati.trace.content import text_of
from gati.trace.outputs import updates_of
from gati.trace.records import USER_ROLES, Message, ModelCall

if TYPE_CHECKING:
    from gati.events import Conversation
    from gati.trace.conversation_state import ConversationState
    from gati.trace.run_tree import Trace

_FRAMEWORK_MARKS = ("lc_source", "deepagents_notification")
"""Keys of `additional_kwargs` with which LangChain and deepagents mark messages that they write themselves."""
_STATE_UPDATE = "UpdateState"
"""End of the name of the run in which LangGraph's `update_state` calls a node's branches."""


def is_from_person(message: Message, state: ConversationState | None = None) -> bool:
    """Return True if a person wrote a message of an input.

    Some messages have the user's role, but not the user's words: summaries and notifications, which
    frameworks mark, and the answers that agents pass to each other as ``HumanMessage(name="researcher")``,
    whose text a model of the conversation produced. A person who wrote before may repeat such a text ("Yes").
    """
    if message.role not in USER_ROLES or any(mark in (message.additional or {}) for mark in _FRAMEWORK_MARKS):
        return False
    if not message.name or state is None or state.is_person(message.name):
        return True
    return not state.was_produced(text_of(message))


def is_state_update(trace: Trace) -> bool:
    """Return True for the root run of LangGraph's `update_state`, which is not a turn: its values were neither written nor read by a person."""
    root = trace.root
    return (
        root.kind == "chain"
        and root.name.endswith(_STATE_UPDATE)
        and not any(run.node is not None for run in trace.runs())
    )


def is_in_conversation(trace: Trace, conversation: Conversation) -> bool:
    """Return True if the program named the conversation of a root (scope, thread, option), or an earlier turn is known."""
    return conversation.id != trace.id or trace.scope is not None


def is_part_of_conversation(trace: Trace, conversation: Conversation) -> bool:
    """Return False for the work of a program outside any conversation: no model ran, and nobody wrote anything.

    Spans, steps, retrievers, store operations and plain runnables are such work. A graph and a chain that
    calls tools are programs of their own, and are delivered. So is a tool that is called directly: it is
    reported as a tool call, not as anybody's words. A root that is marked as internal needs a
    conversation with an id.
    """
    if trace.is_internal and trace.ended_turn is None:
        return conversation.id != trace.id
    if is_in_conversation(trace, conversation) or trace.is_graph or trace.ended_turn is not None:
        return True
    if trace.serves_several:
        return trace.root.error is not None or any(run.kind == "model" for run in trace.runs())
    if any(run.kind == "model" for run in trace.runs()) or _has_message_of_person(trace):
        return True
    return trace.root.kind in ("chain", "tool") and any(run.kind == "tool" for run in trace.runs())


def _has_message_of_person(trace: Trace) -> bool:
    inputs = trace.root.inputs
    if isinstance(inputs, ModelCall) or trace.root.kind not in ("chain", "prompt", "step"):
        return False
    values = [inputs, *(entry for update in updates_of(inputs) for entry in update.values())]
    lists = [messages for value in values if (messages := as_messages(value)) is not None]
    return any(is_from_person(message) for messages in lists for message in messages)
