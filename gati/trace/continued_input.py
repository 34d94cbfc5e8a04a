"""Find the user's messages that a turn's input does not contain itself, and those that it repeats.

`graph.update_state(...)` writes a question into the thread, and `graph.invoke(None)` answers it. A call may also end
with the beginning of its answer (a prefilled answer): the question is then before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gati.trace.chat_messages import as_messages
from gati.trace.chat_output import is_agent_action
from gati.trace.content import text_of
from gati.trace.outputs import updates_by
from gati.trace.records import (
    ASSISTANT_ROLES,
    USER_ROLES,
    Message,
    ModelResult,
)
from gati.trace.run_tree import model_messages, state_of_first_node

if TYPE_CHECKING:
    from gati.trace.chat_input import SplitHistory
    from gati.trace.conversation_state import ConversationState
    from gati.trace.run_tree import Run, Trace


def repeats_question(trace: Trace, split: SplitHistory, state: ConversationState) -> bool:
    """Return True if an input has the earlier question again, beside the result of a tool that an earlier turn requested.

    Example: ``{"input": "Weather?", "agent_scratchpad": [request, result]}``, in a loop that the program wrote. Classic agents
    have pairs of an `AgentAction` and its result there. The results may also be in the chain's prompt.
    """
    inputs = trace.root.inputs
    if split.origin == "messages" or not split.new:
        return False
    values = inputs.values() if isinstance(inputs, dict) else ()
    entries = [entry for entry in values if isinstance(entry, (list, Message)) and entry]
    if not (entries or state.knows_calls) or not state.has_seen(text_of(split.new[-1])):
        return False
    if any(isinstance(entry, list) and _is_step_of_agent(entry[-1]) for entry in entries):
        return True
    asked = [model_messages(run) for run in trace.models()[:1]]
    last = [messages[-1].tool_call_id for messages in (*map(as_messages, entries), *asked) if messages]
    return any(call_id in state.requested or state.has_reported_call(call_id) for call_id in last if call_id)


def _is_step_of_agent(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and is_agent_action(item[0])


def messages_from_thread(trace: Trace, state: ConversationState) -> list[Message]:
    """Return the user's messages in the thread of a graph without input that no turn has reported.

    They stand at the end of the thread, before what this turn added. Messages that this process has reported are
    recognized by their ids; without ids, by their texts. If an earlier turn, perhaps of another process, already added
    something after them, it has reported them.
    """
    if _was_continued_before(trace):
        return []
    return [m for m in _end_of_thread(trace) if not state.was_reported(m.id, text_of(m))]


def _was_continued_before(trace: Trace) -> bool:
    """Return True if the first message after the user's last one in the thread was not made in this turn.

    Example: a graph that paused before its tools, and runs them now. The request for them is of the earlier turn.
    """
    output = trace.root.output
    for value in output.values() if isinstance(output, dict) else [output]:
        messages = as_messages(value) or []
        last = max((i for i, m in enumerate(messages) if m.role in USER_ROLES), default=len(messages))
        if last + 1 < len(messages):
            return not was_made_in(trace, messages[last + 1])
    return False


def was_made_in(trace: Trace, message: Message) -> bool:
    """Return True if a model, a tool or a node of a trace produced a message."""
    return any(_is_same(made, message) for made in _messages_made(trace))


def _messages_made(trace: Trace) -> Iterator[Message]:
    """Yield the messages that the models, tools and nodes of a trace produced."""
    for run in trace.runs():
        if isinstance(run.output, ModelResult):
            yield from run.output.messages
        elif isinstance(run.output, Message):
            yield run.output
        elif run.node is not None:
            values = [value for update in updates_by(run) for value in update.values()]
            yield from (message for value in values or [run.output] for message in as_messages(value) or ())


def _is_same(first: Message, second: Message) -> bool:
    if first.id and first.id == second.id:
        return True
    return first.role == second.role and text_of(first) == text_of(second) and first.tool_call_id == second.tool_call_id


def _end_of_thread(trace: Trace) -> list[Message]:
    """Return the user's last messages in the thread: from the graph's output, or from a model call if it has none."""
    output = trace.root.output
    lists = [output, *output.values()] if isinstance(output, dict) else [output]
    threads = [messages for value in lists if (messages := as_messages(value)) is not None]
    if threads:
        return [m for messages in threads for m in messages if m.role in USER_ROLES]
    for run in trace.models():
        messages = model_messages(run)
        found = [m for m in messages[_index_after_answer(messages) :] if m.role in USER_ROLES]
        if trace.root.inputs is not None:
            found = [m for m in found if m.id]
        elif found:
            is_programs, state = _is_asked_by_the_program(run), state_of_first_node(trace)
            texts = [text for text in state.values() if isinstance(text, str)]  # of the thread and of `update_state`
            found = [m for m in found if (m.id and not is_programs) or text_of(m) in texts]
        if found:
            return found
    return []


def _is_asked_by_the_program(run: Run) -> bool:
    """Return True for a call in a graph that a node called: its messages are the node's, rather than the thread's."""
    around = [above for above in run.ancestors() if above.parent is not None and above.node is None]
    return any(above.has_nodes for above in around)


def note_reported(trace: Trace, texts: list[str], state: ConversationState) -> None:
    """Remember the ids that the thread gave to the user's messages, so that they are not reported again.

    Args:
        trace: the turn's runs.
        texts: the user's texts that this turn reports.
        state: state of the conversation.
    """
    state.note_texts(texts)
    for message in (*_end_of_thread(trace), *(m for run in trace.models() for m in model_messages(run))):
        if message.id and message.role in USER_ROLES:
            state.note_id(message.id, text_of(message))


def without_prefilled_answer(messages: list[Message], trace: Trace, state: ConversationState) -> list[Message]:
    """Return the messages without the beginning of the answer at their end, if the model was given one.

    An answer of an earlier turn at the end is not a prefilled one: the program continues without a question.
    """
    end = len(messages)
    while end and messages[end - 1].role in ASSISTANT_ROLES and not messages[end - 1].tool_calls:
        end -= 1
    if end == len(messages) or state.is_answer(text_of(messages[-1])):
        return messages
    return messages[:end] if text_of(messages[-1]) in set(_prefilled_texts(trace)) else messages


def _prefilled_texts(trace: Trace) -> Iterator[str]:
    """Yield the texts at the end of the turn's model calls that are answers."""
    for run in trace.models():
        messages = model_messages(run)
        if messages and messages[-1].role in ASSISTANT_ROLES:
            yield text_of(messages[-1])


def _index_after_answer(messages: list[Message]) -> int:
    return max((i + 1 for i, m in enumerate(messages) if m.role in ASSISTANT_ROLES), default=0)
