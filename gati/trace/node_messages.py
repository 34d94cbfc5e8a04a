"""Report the messages that a graph's nodes write themselves and that no other event contains.

A canned line, the answer of another client, or the message of an agent is in the thread, so the user may have read it.
If a later model call receives it, it is in that call's input. Otherwise it is reported with its node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gati.trace.chat_messages import as_messages, messages_under
from gati.trace.content import text_of
from gati.trace.llm_calls import message_as_dict
from gati.trace.media import media_of
from gati.trace.outputs import updates_by
from gati.trace.records import MESSAGES, TOOL_ROLES, Message, ModelResult

if TYPE_CHECKING:
    from gati.events import LLMCallEvent, NodeExecutionEvent
    from gati.trace.run_tree import Run


def add_own_messages(nodes: Iterable[tuple[Run, NodeExecutionEvent]], reported: set[str]) -> list[str]:
    """Add to each node's event the messages that it wrote and whose texts are not among `reported`; return their texts.

    A node that runs a graph has the messages of that graph's nodes in its output too. They are reported once, with the
    inner node.
    """
    below: dict[Run, set[str]] = {}
    added: list[str] = []
    for run, event in sorted(nodes, key=lambda node: node[0].ended or 0):
        own = [
            m
            for m in messages_written_by(run)
            if _comparable_text(m) not in reported and _comparable_text(m) not in below.get(run, ())
        ]
        if not own or MESSAGES in event.state_after:
            continue
        event.state_after = {**event.state_after, MESSAGES: [message_as_dict(m) for m in own]}
        texts = [_comparable_text(m) for m in own]
        added += texts
        for ancestor in run.ancestors():
            below.setdefault(ancestor, set()).update(texts)
    return added


def messages_written_by(node: Run) -> list[Message]:
    """Return the messages with text or media in a node's output. Those of models and tools have runs of their own."""
    entries = [entry for update in updates_by(node) for entry in update.items()]
    if not entries and (messages := as_messages(node.output)) is not None:
        entries = [(MESSAGES, messages)]
    messages = [message for key, value in entries for message in messages_under(key, value) or ()]
    return [m for m in messages if m.role not in TOOL_ROLES and (_comparable_text(m) or media_of(m.content))]


def texts_in_models(models: Iterable[LLMCallEvent]) -> set[str]:
    """Return the texts that events of model calls contain: what the models answered, and what they were given as new."""
    texts: set[str] = set()
    for event in models:
        texts |= {event.completion.strip(), event.reasoning.strip()}
        texts |= {text_of(message.get("content")).strip() for message in event.new_messages}
    return texts


def has_own_messages(top: Run) -> bool:
    """Return True if a node in this part of a turn wrote messages that no model in it made.

    Only the turn's end shows whether one of them is the answer or an input of a later model call.
    """
    runs = list(top.walk())
    made = {
        text_of(message).strip()
        for run in runs
        if run.kind == "model" and isinstance(run.output, ModelResult)
        for message in run.output.messages
    }
    return any(
        _comparable_text(m) not in made for run in runs if run.node is not None for m in messages_written_by(run)
    )


def _comparable_text(message: Message) -> str:
    return text_of(message).strip()
