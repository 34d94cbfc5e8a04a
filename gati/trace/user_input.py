"""What a person wrote in a turn, and what of an older history is told with it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gati.events import ChatMessage
from gati.trace.chat_io import ASSISTANT_ROLES, SYSTEM_ROLES, USER_ROLES, SplitHistory, as_message, user_messages_in
from gati.trace.content import text_of
from gati.trace.media import plain_blocks
from gati.trace.outputs import updates_of
from gati.trace.records import COMMAND, Message, ModelCall

if TYPE_CHECKING:
    from gati.trace.conversation_state import ConversationState
    from gati.trace.run_tree import Run, Trace

_KINDS_WITHOUT_USER_TEXT = frozenset({"tool", "retriever", "embedding", "memory_read", "memory_write"})
"""Kinds of roots whose input is no person's."""


def user_messages_of(
    trace: Trace,
    input_key: str | None,
    conversation_id: str,
    state: ConversationState,
    known: bool,
    importing: bool = False,
) -> list[ChatMessage]:
    """The texts that are new with this turn, oldest first.

    Args:
        trace: the turn's runs.
        input_key: entry of the root's input that holds the person's text, if it is configured.
        conversation_id: whose texts these are.
        state: what the conversation has had; what is found here is added.
        known: the conversation had turns before, so that a history in the input is told already.
        importing: tell a history that a person has a part in, too. It may have been told live by
            another process, which would double it, so this has to be asked for.
    """
    heard = _split_input(trace, input_key)
    if heard is None:
        return []
    root_id, start = trace.id, trace.root.started + trace.offset
    said: list[ChatMessage] = []
    earlier: dict[str, Any] = {}
    if heard.history and not known and conversation_id != root_id:
        # What stands before a person's first words, a greeting, was told by no turn.
        if importing or not any(map(_is_user_message, heard.history)):
            said = _import_history(heard.history, conversation_id, start)
        else:
            earlier = {"history_messages": len(heard.history)}
            for message in heard.history:
                state.remember(text_of(message))
    number = 0
    for message in heard.news:
        role: Literal["user", "system"]
        if _is_user_message(message):
            role = "user"
        elif message.role in SYSTEM_ROLES and number:
            role = "system"
        else:
            continue
        text, media = text_of(message), _attachments(message)
        if not text and not media:
            continue
        suffix = f":{number}" if number else ""
        resumed = {"status": message.status} if message.status == "resumed" else {}
        said.append(
            ChatMessage(f"{root_id}:user{suffix}", role, text, start, properties={**earlier, **media, **resumed})
        )
        number += 1
    for one in said:
        state.remember(one.text)
    return said


def _split_input(trace: Trace, input_key: str | None) -> SplitHistory | None:
    root = trace.root
    if root.kind in _KINDS_WITHOUT_USER_TEXT:
        return None
    resume = resume_of(trace)
    if resume is not None:
        return (
            SplitHistory([], [Message("human", text, status="resumed") for text in resume.texts])
            if resume.texts
            else None
        )
    if isinstance(root.inputs, ModelCall):
        return user_messages_in(list(root.inputs.messages))
    if isinstance(root.inputs, dict) and COMMAND in root.inputs:
        return next(
            (heard for update in updates_of(root.inputs) if (heard := user_messages_in(update)) is not None), None
        )
    heard = user_messages_in(root.inputs, input_key)
    if heard is not None:
        return heard
    return _split_first_model_call(trace)


def _split_first_model_call(trace: Trace) -> SplitHistory | None:
    """The words that the first model was given: for roots whose input does not tell."""
    for run in trace.models():
        if isinstance(run.inputs, ModelCall):
            heard = user_messages_in(list(run.inputs.messages))
            if heard is not None and any(_is_user_message(m) for m in heard.news):
                return SplitHistory([], heard.news)
    return None


def _is_user_message(message: Message) -> bool:
    """Whether a person wrote it: LangChain's summaries are in a person's voice, but marked."""
    return message.role in USER_ROLES and not (message.additional or {}).get("lc_source")


def _import_history(history: list[Message], conversation_id: str, start: int) -> list[ChatMessage]:
    """A history that began before gati watched. Ids are made of conversation, position and
    text, so that every process that meets it makes the same ones."""
    said: list[ChatMessage] = []
    for position, message in enumerate(history):
        role: Literal["user", "assistant"]
        if _is_user_message(message):
            role = "user"
        elif message.role in ASSISTANT_ROLES and not message.tool_calls:
            role = "assistant"
        else:
            continue
        text = text_of(message)
        if not text:
            continue
        key = hashlib.sha256(f"{conversation_id}\n{position}\n{role}\n{text}".encode("utf-8", "replace"))
        at = start - (len(history) - position) * 1_000_000
        said.append(ChatMessage(f"history:{key.hexdigest()[:32]}", role, text, at, properties={"imported": True}))
    return said


def _attachments(message: Message) -> dict[str, Any]:
    """What is not text in a person's message: pictures, files."""
    if isinstance(message.content, str):
        return {}
    blocks = plain_blocks(message.content)
    others = (
        [b for b in blocks if isinstance(b, dict) and b.get("type") not in (None, "text")]
        if isinstance(blocks, list)
        else []
    )
    return {"attachments": others} if others else {}


class Resume(NamedTuple):
    """How a waiting graph was resumed: with texts of a person, else with a value."""

    texts: list[str]
    value: Any = None


def resume_of(trace: Trace) -> Resume | None:
    """With what a turn goes on where an earlier one waited; None if it does not."""
    inputs = trace.root.inputs
    if inputs is None:
        return Resume([]) if trace.is_graph or trace.resumed else None
    if not isinstance(inputs, dict) or COMMAND not in inputs or inputs[COMMAND].get("resume") is None:
        return None
    value = inputs[COMMAND]["resume"]
    # Interrupts may be answered by their ids, which say nothing to a reader.
    by_id = isinstance(value, dict) and bool(value) and all(_is_interrupt_id(key) for key in value)
    answers = list(value.values()) if by_id else [value]
    if all(isinstance(answer, str) for answer in answers):
        return Resume(answers)
    return Resume([], answers[0] if len(answers) == 1 else value)


def _is_interrupt_id(key: Any) -> bool:
    return isinstance(key, str) and len(key) == 32 and all(c in "0123456789abcdef" for c in key)


def checkpointed_texts(trace: Trace, model: Run, said: list[ChatMessage]) -> list[str]:
    """Texts of a model call that a checkpoint brought: they were said in earlier turns, in this process
    or in another. They have ids and stand before what was said in this turn.
    """
    if not trace.is_graph or "thread_id" not in trace.root.metadata or not isinstance(model.inputs, ModelCall):
        return []
    messages = [m for item in model.inputs.messages if (m := as_message(item)) is not None]
    texts = {one.text for one in said}
    last = max((index for index, m in enumerate(messages) if text_of(m) in texts), default=-1)
    if last < 0 and resume_of(trace) is not None:
        last = len(messages)
    return [text_of(m) for m in messages[: last + 1] if m.id and m.role in (USER_ROLES | ASSISTANT_ROLES)]


def remaining_input(inputs: Any, said: list[ChatMessage]) -> dict[str, Any]:
    """The part of a root's input that is no text of a person."""
    if not isinstance(inputs, dict) or COMMAND in inputs:
        return {}
    texts = {one.text for one in said}
    return {
        key: plain_blocks(value)
        for key, value in inputs.items()
        if key != "messages"
        and value not in (None, "", [], {})
        and not isinstance(value, Message)
        and not (isinstance(value, str) and value in texts)
        and not (isinstance(value, list) and value and as_message(value[-1]) is not None)
    }
