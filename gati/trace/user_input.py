"""Find a turn's user messages, and the earlier history to import with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from gati.events import ChatMessage
from gati.trace.authorship import is_from_person, is_state_update
from gati.trace.chat_input import SplitHistory, user_messages_in
from gati.trace.chat_messages import as_message
from gati.trace.content import text_of
from gati.trace.continued_input import (
    messages_from_thread,
    repeats_question,
    without_prefilled_answer,
)
from gati.trace.made_output import texts_inside
from gati.trace.media import plain_blocks
from gati.trace.outputs import updates_by, updates_of
from gati.trace.records import (
    ASSISTANT_ROLES,
    COMMAND,
    MESSAGES,
    SYSTEM_ROLES,
    USER_ROLES,
    Message,
    ModelCall,
    ModelResult,
)
from gati.trace.resumes import Resume, resume_of, resumed_graph
from gati.trace.run_tree import model_messages, state_of_first_node
from gati.trace.scripts import is_label, is_sentence
from gati.trace.side_by_side import mapped_programs, trace_of_program

if TYPE_CHECKING:
    from gati.trace.conversation_state import ConversationState
    from gati.trace.run_tree import Trace

_KINDS_WITHOUT_USER_TEXT = frozenset({"tool", "retriever", "embedding", "memory_read", "memory_write"})
"""Kinds of roots whose input is not a user's message."""
_MAX_DEPTH = 4
_MUCH_LONGER = 3
"""How many times as long as the other texts of an input the user's is, such as a mail beside its subject."""


def user_messages_of(
    trace: Trace,
    input_key: str | None,
    conversation_id: str,
    state: ConversationState,
    seen_before: bool,
    import_history: bool = False,
    in_conversation: bool = True,
) -> list[ChatMessage]:
    """Return the messages that a turn's input adds to its conversation, oldest first, and remember their texts.

    Args:
        trace: the turn's runs.
        input_key: entry of the root's input that holds the user's text (the option).
        conversation_id: id of the conversation.
        state: state of the conversation.
        seen_before: the conversation had turns before, so a history in the input is already reported.
        import_history: also import a history with user messages (the option). Another process may
            have reported them live; importing would then duplicate them.
        in_conversation: the program named the conversation, so any text of the input is the user's.
    """
    if is_state_update(trace):
        return []
    split = _split_input(trace, input_key, state, in_conversation)
    if split is None:
        return []
    root_id, start = trace.first_attempt or trace.id, trace.root.started + trace.offset
    messages: list[ChatMessage] = []
    earlier: dict[str, Any] = {}
    if split.history and not seen_before:
        split = _without_question(split)
        has_id = conversation_id != root_id
        # A history without user messages, such as a greeting, cannot have been reported by a turn.
        if not any(is_from_person(m, state) for m in split.history) or (import_history and has_id):
            messages = _import_history(split.history, conversation_id, start, state)
        elif has_id:
            earlier = {"history_messages": len(split.history)}
            for message in split.history:
                state.remember(text_of(message))
    number = 0
    for message in split.new:
        role: Literal["user", "system"]
        if is_from_person(message, state):
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
        properties = {**earlier, **media, **resumed}
        messages.append(ChatMessage(f"{root_id}:user{suffix}", role, text, start, properties=properties))
        state.remember_person(message.name)
        number += 1
    for added in messages:
        state.remember(added.text)
    return messages


def _without_question(split: SplitHistory) -> SplitHistory:
    """Remove the question from the end of a history that the program passes beside it."""
    last = split.history[-1]
    is_question = bool(split.new) and last.role in USER_ROLES and text_of(last) == text_of(split.new[-1])
    return split._replace(history=split.history[:-1]) if is_question else split


def _split_input(
    trace: Trace, input_key: str | None, state: ConversationState, in_conversation: bool
) -> SplitHistory | None:
    """Split the messages of a root's input into history and new ones; return None if there are none."""
    root = trace.root
    if root.kind in _KINDS_WITHOUT_USER_TEXT:
        return None
    graph = resumed_graph(trace) if root.kind == "step" else None
    if (resume := resume_of(graph or trace)) is not None:
        messages = _messages_of_resume(graph or trace, resume, state)
        # A handler may make a decision of the person's words: `Command(resume=True)`.
        given = user_messages_in(root.inputs, input_key) if messages is None and graph is not None else None
        return given if given is not None and _is_users_text(trace, given, in_conversation) else messages
    if isinstance(root.inputs, ModelCall):
        return _before_prefilled_answer(user_messages_in(list(root.inputs.messages)), trace, state)
    if isinstance(root.inputs, dict) and COMMAND in root.inputs:
        splits = (user_messages_in(update) for update in updates_of(root.inputs))
        return next((split for split in splits if split is not None), None)
    split = user_messages_in(root.inputs, input_key)
    if split is None and (programs := mapped_programs(trace)):
        parts = [_split_input(program, input_key, state, in_conversation) for program in programs]
        return SplitHistory([], [message for part in parts if part is not None for message in part.new])
    split = _before_prefilled_answer(split, trace, state)
    if split is not None and _is_users_text(trace, split, in_conversation):
        return split._replace(new=[]) if repeats_question(trace, split, state) else split
    if trace.is_graph and _says_nothing(root.inputs):
        return _split_thread(trace, state)
    if (program := _first_program(trace)) is not None and resume_of(program) is None:
        split = _split_input(program, input_key, state, in_conversation)
        if split is not None and any(is_from_person(m) for m in split.new) and _was_asked(trace, split):
            return split._replace(new=[_as_written(m, trace) for m in split.new])
    return _split_first_model_call(trace, state)


def _first_program(trace: Trace) -> Trace | None:
    """Return the first program directly in a step that calls a model: a request handler has the words only in its request."""
    models = trace.models() if trace.root.kind == "step" else []
    for run in (r for model in models[:1] for r in (model, *model.ancestors())):
        if run.parent is not None and run.parent.id == trace.root.id:
            return None if run.kind == "model" else trace_of_program(trace, run, run.inputs, run.output)
    return None


def _was_asked(trace: Trace, split: SplitHistory) -> bool:
    """Return True for messages, and for a text that a model was asked: an input has settings and documents, too."""
    asked = (text_of(m).casefold() for run in trace.models() for m in model_messages(run) if m.role in USER_ROLES)
    return split.origin == "messages" or any(text_of(split.new[-1]).casefold() in text for text in asked)


def _says_nothing(value: Any) -> bool:
    """Return True for an input without a text, a message or an object of the program, in which words may be."""
    if isinstance(value, (dict, list)):
        return all(map(_says_nothing, value.values() if isinstance(value, dict) else value))
    return value is None or value == "" or isinstance(value, (bool, int, float))


def _split_thread(trace: Trace, state: ConversationState) -> SplitHistory | None:
    """Return the new messages of the first model call that are in the state, where `update_state` or a node put them.

    With an empty input nobody says anything, and what only the model was given is the program's prompt.
    """
    split = _split_first_model_call(trace, state)
    if split is None:
        return None
    updates = [update for run in trace.runs() if run.node is not None for update in updates_by(run)]
    known = set(texts_inside([state_of_first_node(trace), *updates]))
    return split._replace(new=[m for m in split.new if text_of(m) in known])


def _is_users_text(trace: Trace, split: SplitHistory, in_conversation: bool) -> bool:
    """Return True if a user wrote the text in the input of a root.

    It is a message, or a model below was asked it. A program's own values, such as paths and names, are inputs too.
    In a conversation, any text of an input counts, except the only one of a step or one of a few words, if the models were
    asked something else.
    """
    is_step = trace.root.kind == "step"
    if split.origin in ("messages", "input_key") or (in_conversation and split.origin != "only_text"):
        return True
    if split.origin == "question" and not is_step:
        return any(run.kind in ("model", "tool") for run in trace.runs())
    text = text_of(split.new[-1])
    if in_conversation and not is_step and is_sentence(text):
        return True
    calls = [message for run in trace.models() for message in model_messages(run)]
    asked = [text_of(m) for m in calls if m.role in USER_ROLES]
    instructions = _system_texts(trace)
    if any(text.casefold() in other.casefold() for other in asked or instructions):
        return True
    if not in_conversation or is_step:
        return in_conversation and not asked
    # A setting is in the instructions. A person who writes messages does not write a value beside them.
    return (
        not any(text in other for other in instructions)
        if asked
        else not (is_label(text) and state_of_first_node(trace).get(MESSAGES))
    )


def _system_texts(trace: Trace) -> list[str]:
    calls = [run.inputs for run in trace.models() if isinstance(run.inputs, ModelCall)]
    return [text_of(text) for call in calls for text in call.system]


def _messages_of_resume(trace: Trace, resume: Resume, state: ConversationState) -> SplitHistory | None:
    """Return the texts that a graph is resumed with and the user's messages beside them.

    These are in the update of the command. Without a command, `update_state` has written them into the thread.
    """
    messages = [Message("human", text, status="resumed") for text in resume.texts]
    if trace.root.inputs is None:
        messages += [m for m in messages_from_thread(trace, state) if is_from_person(m)]
    for update in updates_of(trace.root.inputs):
        split = user_messages_in({MESSAGES: update.get(MESSAGES)})
        beside = [m for m in split.new if is_from_person(m)] if split is not None else []
        messages += [m for m in beside if text_of(m) not in resume.texts]
    return SplitHistory([], messages) if messages else None


def _before_prefilled_answer(split: SplitHistory | None, trace: Trace, state: ConversationState) -> SplitHistory | None:
    """Split before the beginning of an answer that the model is asked to continue, if the messages end with one."""
    if split is None or split.new:
        return split
    messages = without_prefilled_answer(split.history, trace, state)
    return split if len(messages) == len(split.history) else user_messages_in(messages)


def _split_first_model_call(trace: Trace, state: ConversationState) -> SplitHistory | None:
    """Return the new messages of the first model call that has user messages, for roots whose input has none.

    A text that a model of the turn produced before, as when it plays the user, is nobody's message. If the call's text
    was made of the program's template and a text of the root's input, that text is the message.
    """
    produced: set[str] = set()
    for run in trace.models():
        if isinstance(run.inputs, ModelCall):
            split = _before_prefilled_answer(user_messages_in(list(run.inputs.messages)), trace, state)
            if split is not None and any(is_from_person(m) and text_of(m) not in produced for m in split.new):
                return SplitHistory([], [_as_written(m, trace) for m in split.new if text_of(m) not in produced])
        if isinstance(run.output, ModelResult):
            produced |= {text for message in run.output.messages if (text := text_of(message))}
    return None


def _as_written(message: Message, trace: Trace) -> Message:
    """Return a message with the only sentence of the root's input that it contains, or the one that is much the longest.

    Example: input ``{"mail": {"subject": "My bill of May", "body": "I was charged twice. …"}}``, and "Classify: I was charged
    twice. …" → "I was charged twice. …"
    """
    inputs = trace.root.inputs
    if not isinstance(inputs, dict) or not isinstance(message.content, str):
        return message
    for depth in range(1, _MAX_DEPTH):
        found = {text for text in _texts_in(inputs, depth) if is_sentence(text) and text in message.content}
        if found:
            longest, *others = sorted(found, key=len, reverse=True)
            is_clear = all(len(other) * _MUCH_LONGER <= len(longest) for other in others)
            return Message(message.role, longest) if is_clear else message
    return message


def _texts_in(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and depth:
        for entry in value.values():
            yield from _texts_in(entry, depth - 1)


def _import_history(
    history: list[Message], conversation_id: str, start: int, state: ConversationState
) -> list[ChatMessage]:
    """Convert a history that predates gati.

    Ids are hashes of conversation, position, role and text, so that every process that imports the
    history creates the same ids.
    """
    imported: list[ChatMessage] = []
    for position, message in enumerate(history):
        role: Literal["user", "assistant"]
        if is_from_person(message, state):
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
        imported.append(ChatMessage(f"history:{key.hexdigest()[:32]}", role, text, at, properties={"imported": True}))
        if role == "user":
            state.remember_person(message.name)
    return imported


def _attachments(message: Message) -> dict[str, Any]:
    """Return the blocks of a message that are not text, such as images and files.

    Example: a text block and an image block → ``{"attachments": [image block]}``; text only → ``{}``.
    """
    if isinstance(message.content, str):
        return {}
    blocks = plain_blocks(message.content)
    if not isinstance(blocks, list):
        return {}
    attachments = [b for b in blocks if isinstance(b, dict) and b.get("type") not in (None, "text")]
    return {"attachments": attachments} if attachments else {}


def remaining_input(inputs: Any, user_messages: list[ChatMessage]) -> dict[str, Any]:
    """Return the entries of a root's input that are neither messages, user texts nor empty.

    Example: ``{"messages": […], "locale": "en"}`` → ``{"locale": "en"}``.
    """
    if not isinstance(inputs, dict) or COMMAND in inputs:
        return {}
    texts = {message.text for message in user_messages}
    return {
        key: plain_blocks(value)
        for key, value in inputs.items()
        if key != MESSAGES
        and value not in (None, "", [], {})
        and not isinstance(value, Message)
        and not (isinstance(value, str) and value in texts)
        and not (isinstance(value, list) and value and as_message(value[-1]) is not None)
    }
