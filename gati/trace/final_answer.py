"""Find a turn's final answer and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.events import ChatMessage, Status
from gati.trace.answer_source import is_user_facing, written_texts
from gati.trace.chat_messages import as_messages
from gati.trace.chat_output import answer_in
from gati.trace.complete_answer import complete_answer_of
from gati.trace.content import text_of
from gati.trace.event_builder import status_of
from gati.trace.interrupts import pauses_of
from gati.trace.made_output import made_output
from gati.trace.node_messages import has_own_messages
from gati.trace.partial_answer import model_cut_off_by_reader, partial_answer_of
from gati.trace.questions import question_in
from gati.trace.records import ASSISTANT_ROLES, MESSAGES, STREAMED, Message, ModelResult
from gati.trace.resumes import resume_of
from gati.trace.scripts import is_sentence
from gati.trace.stream_frames import is_frame

if TYPE_CHECKING:
    from gati.trace.answer_source import ModelEvents
    from gati.trace.run_tree import Run, Trace


def turn_status(trace: Trace, interrupts: list[dict[str, Any]]) -> Status:
    """Return the status of a turn as far as the root shows it."""
    if trace.root.ended is None:
        return "unfinished"
    status = status_of(trace.root)
    if status == "completed" and model_cut_off_by_reader(trace) is not None:
        return "aborted"
    if status not in ("completed", "waiting"):
        return status
    waits = interrupts or (trace.pauses and pauses_of(trace)) or _ends_with_tool_request(trace)
    return "waiting" if waits else status


def _ends_with_tool_request(trace: Trace) -> bool:
    """Return True if the last message of a graph's thread requests tools.

    The graph is then paused before them, or the program runs them itself. A turn that was resumed with a decision about an
    earlier request, and goes on without the tools, has ended.
    """
    if not trace.is_graph or "thread_id" not in trace.root.metadata or not isinstance(trace.root.output, dict):
        return False
    messages = as_messages(trace.root.output.get(MESSAGES))
    if messages is None or messages[-1].role not in ASSISTANT_ROLES or not messages[-1].tool_calls:
        return False
    return not _is_resumed(trace) or any(message.tool_calls for message in _last_messages(trace))


def _is_resumed(trace: Trace) -> bool:
    """Return True if a person's reply to an interrupt began the turn, rather than the continuation of a pause."""
    return trace.root.inputs is not None and resume_of(trace) is not None


def final_answer_of(
    trace: Trace, models: ModelEvents, interrupts: list[dict[str, Any]], status: Status, output_key: str | None
) -> tuple[ChatMessage | None, Status]:
    """Return the text that the user saw last, and the turn's status corrected by it.

    An aborted turn is completed after all if the user had read the whole answer.
    """
    text = ""
    if status == "waiting":
        if interrupts:
            text = _question_returned_by_step(trace) or _text_of_waiting_turn(trace, models, interrupts)
        else:
            text = complete_answer_of(trace, models, output_key) or _text_beside_own_request(trace, models)
    elif status == "completed":
        text = complete_answer_of(trace, models, output_key)
    else:
        text, complete = partial_answer_of(trace, models)
        if complete and status == "aborted":
            status = "completed"
    if not text:
        return None, status
    root_id = trace.id
    at = (trace.root.ended or trace.last_record_at) + trace.offset
    properties = {} if status == "completed" else {"status": status}
    return ChatMessage(f"{root_id}:answer", "assistant", text, at, root_id, properties), status


def _text_of_waiting_turn(trace: Trace, models: ModelEvents, interrupts: list[dict[str, Any]]) -> str:
    """Return the questions of a turn's interrupts, after what a model answered before."""
    questions = [text for interrupt in interrupts if (text := question_in(interrupt.get("value")))]
    return "\n\n".join([*_said_before(trace, models, questions), *questions])


def _said_before(trace: Trace, models: ModelEvents, questions: list[str]) -> list[str]:
    """Return what a model wrote before the turn waits, unless a question contains it: in the thread, or a draft in the state.

    It may be one field of a structured answer.
    """
    for message in _last_messages(trace):
        if text := answer_in(message):
            is_written = any(text == event.completion or text in written_texts(event) for _, event in models)
            return [text] if is_written and not any(text in question for question in questions) else []
    calls = [event.completion for run, event in models if is_user_facing(run)]
    made = made_output(trace)
    if not isinstance(made, dict) or not trace.is_graph or not calls or not is_sentence(calls[-1]):
        return []
    # What a later node made of a text shows that it was no draft, but a query.
    latest = next((entry for entry in made.values() if isinstance(entry, (str, list, dict))), None)
    draft = " ".join(calls[-1].split())
    asked = [" ".join(question.split()) for question in questions]
    return [calls[-1]] if latest == calls[-1] and not any(draft in text or text in draft for text in asked) else []


def _text_beside_own_request(trace: Trace, models: ModelEvents) -> str:
    """Return what a node itself said beside the request before which a graph waits. What a model says there is a thought."""
    texts = [text for message in _last_messages(trace) if message.tool_calls and (text := text_of(message))]
    thoughts = [" ".join(event.completion.split()) for _, event in models if event.completion] if texts else []
    return next((text for text in texts if not any(" ".join(text.split()) in thought for thought in thoughts)), "")


def _last_messages(trace: Trace) -> list[Message]:
    """Return the last messages of the threads that a turn continued, if they are an assistant's."""
    made = made_output(trace)
    threads = [as_messages(thread) for thread in (made.values() if isinstance(made, dict) else [made])]
    return [thread[-1] for thread in threads if thread and thread[-1].role in ASSISTANT_ROLES]


def _question_returned_by_step(trace: Trace) -> str:
    """Return the question that a root step returned itself while a graph in it waits.

    "" if it returned an id, a few words or an object, which tell a program that the graph waits.
    """
    if trace.root.kind != "step" or trace.root.extra == STREAMED:
        return ""
    made = made_output(trace)
    is_words = isinstance(made, str) and made[:1] not in "{[(<" and not is_frame(made) and is_sentence(made)
    return str(made) if is_words else ""


def must_wait_for_end(top: Run) -> bool:
    """Return True if the subtree of `top`, a child of the root, cannot be delivered before the turn's end.

    It may contain the answer, a message that a node wrote itself, or a tool's failure that only the root can handle.
    """
    if has_own_messages(top):
        return True
    for run in top.walk():
        if run.kind == "model" and is_user_facing(run):
            answer = run.output.messages[0] if isinstance(run.output, ModelResult) and run.output.messages else None
            if (run.pieces and run.error is not None) or (answer is not None and not answer.tool_calls):
                return True
        if run.kind == "tool" and run.error is not None:
            between = [ancestor for ancestor in run.ancestors() if ancestor.parent is not None]
            if not any(ancestor.node is not None or ancestor.error is not None for ancestor in between):
                return True
    return False
