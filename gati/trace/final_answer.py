"""Find a turn's final answer and status."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from gati.events import ChatMessage, Status, has_client_calls
from gati.trace.answer_below_step import answer_below, answer_in_stream, is_frame
from gati.trace.answer_source import is_user_facing, is_written_by, wrapped_text, written_texts
from gati.trace.chat_io import TextsOfGraph, answer_in, as_messages, json_text, structured_answers_in
from gati.trace.content import text_of
from gati.trace.event_builder import status_of
from gati.trace.interrupts import pauses_of
from gati.trace.made_output import made_output
from gati.trace.node_messages import has_own_messages
from gati.trace.outputs import updates_by
from gati.trace.questions import question_in
from gati.trace.records import ASSISTANT_ROLES, STREAMED, Message, ModelResult
from gati.trace.side_by_side import MAP_TAG, answers_side_by_side, streamed_graph
from gati.trace.state_writes import text_after_thread, texts_written_at_once, without_earlier_items

if TYPE_CHECKING:
    from gati.trace.answer_source import ModelEvents
    from gati.trace.run_tree import Run, Trace

_ONE_WORD = re.compile(r"\s*(?:[!-~]{1,20}|\w{1,4})\s*")
"""A word or a number; in scripts without spaces, a few characters."""
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{4}|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]{8}")
"""As many characters of a script without spaces as make a sentence."""
_MIN_WORDS = 3
_MARKS = ".,;:!?¿¡\"'()“”«»…*"
_WITHIN_WORDS = str.maketrans("", "", "'’-")
_READ_CHARS = 2_000
_JUDGED_CALLS = 16
"""Calls before a verdict among which the judged one is looked for."""


def turn_status(trace: Trace, interrupts: list[dict[str, Any]]) -> Status:
    """Return the status of a turn as far as the root shows it."""
    if trace.root.ended is None:
        return "unfinished"
    status = status_of(trace.root)
    if status == "completed" and _model_cut_off_by_reader(trace) is not None:
        return "aborted"
    if status not in ("completed", "waiting"):
        return status
    waits = interrupts or (trace.pauses and pauses_of(trace)) or _ends_with_tool_request(trace)
    return "waiting" if waits else status


def _ends_with_tool_request(trace: Trace) -> bool:
    """Return True if the last message of a graph's thread requests tools.

    The graph is then paused before them, or the program runs them itself.
    """
    if not trace.is_graph or "thread_id" not in trace.root.metadata or not isinstance(trace.root.output, dict):
        return False
    messages = as_messages(trace.root.output.get("messages"))
    return messages is not None and messages[-1].role in ASSISTANT_ROLES and bool(messages[-1].tool_calls)


def final_answer_of(
    trace: Trace, models: ModelEvents, interrupts: list[dict[str, Any]], status: Status, output_key: str | None
) -> tuple[ChatMessage | None, Status]:
    """Return the text that the user saw last, and the turn's status corrected by it.

    An aborted turn is completed after all if the user had read the whole answer.
    """
    text = ""
    if status == "waiting":
        if interrupts:
            text = _words_of_step(trace) or _questions(trace, models, interrupts)
        else:
            text = _complete_answer(trace, models, output_key)
    elif status == "completed":
        text = _complete_answer(trace, models, output_key)
    else:
        text, complete = _partial_answer(trace, models)
        if complete and status == "aborted":
            status = "completed"
    if not text:
        return None, status
    root_id = trace.id
    at = (trace.root.ended or trace.last_record_at) + trace.offset
    properties = {} if status == "completed" else {"status": status}
    return ChatMessage(f"{root_id}:answer", "assistant", text, at, root_id, properties), status


def _complete_answer(trace: Trace, models: ModelEvents, output_key: str | None) -> str:
    """Return the answer of a turn that ran to its end."""
    root = trace.root
    if isinstance(root.output, ModelResult):
        messages = root.output.messages
        return "" if not messages or messages[0].tool_calls else text_of(messages[0])
    if root.streamed and (graph := streamed_graph(trace)) is not None:
        return _complete_answer(graph, models, output_key) or answer_below(root, models)
    if root.kind in ("chain", "prompt"):
        is_graph = trace.is_graph
        if isinstance(root.output, (dict, list)) and models and not is_graph:
            answers = _answers_side_by_side(trace, models, output_key)
            if answers is not None:
                return answers
        plain_chain = bool(models) and not any(run.node is not None for run in trace.runs())
        completions = _completions(models, in_sequence=plain_chain)
        if is_graph and models and output_key is None and (text := text_after_thread(trace)):
            if is_written_by(models, text) and not _ONE_WORD.fullmatch(text):
                return text
        made = made_output(trace)
        graph_texts = partial(_texts_of_graph, trace, models) if is_graph else TextsOfGraph
        text = answer_in(made, output_key, plain_chain, completions, is_graph, graph_texts)
        if text or not models or not is_graph:
            return text
        objects = structured_answers_in(without_earlier_items(trace, made))
        return next((text for text in objects if is_written_by(models, text)), "") or _only_streamed(trace, models)
    if root.kind != "step":
        return ""
    made = made_output(trace)
    if made is None:  # the program set no output, or one that is not text, such as a web response
        return answer_below(root, models)
    if root.extra == STREAMED and (streamed := answer_in_stream(root, made, models)):
        return streamed
    return answer_in(made, output_key, completions=_completions(models, in_sequence=False))


def _words_of_step(trace: Trace) -> str:
    """Return the text that a root step returned although a graph in it waits: the step words the question itself.

    An id, a few words or an object tell a program that the graph waits.
    """
    if trace.root.kind != "step" or trace.root.extra == STREAMED:
        return ""
    made = made_output(trace)
    is_words = isinstance(made, str) and made[:1] not in "{[(<" and not is_frame(made) and _is_sentence(made)
    return str(made) if is_words else ""


def _is_sentence(text: str) -> bool:
    """Return True for a text of three words or more, without numbers and ids."""
    words = [word.strip(_MARKS).translate(_WITHIN_WORDS) for word in text[:_READ_CHARS].split()]
    return sum(map(str.isalpha, words)) >= _MIN_WORDS or _SPACELESS.search(text) is not None


def _questions(trace: Trace, models: ModelEvents, interrupts: list[dict[str, Any]]) -> str:
    questions = [text for interrupt in interrupts if (text := question_in(interrupt.get("value")))]
    return "\n\n".join([*_said_before(trace, models, questions), *questions])


def _only_streamed(trace: Trace, models: ModelEvents) -> str:
    """Return what the last model streamed to the reader of a graph that wrote nothing into its state."""
    run, event = models[-1]
    if not run.pieces or not is_user_facing(run) or has_client_calls(event.tool_requests):
        return ""
    return "" if any(updates_by(node) for node in trace.runs() if node.node is not None) else event.completion


def _said_before(trace: Trace, models: ModelEvents, questions: list[str]) -> list[str]:
    """Return the answer in the thread that a model wrote before the turn waits, unless a question contains it.

    It may be one field of a structured answer.
    """
    made = made_output(trace)
    for thread in made.values() if isinstance(made, dict) else [made]:
        if (messages := as_messages(thread)) and messages[-1].role in ASSISTANT_ROLES and (text := answer_in(messages)):
            is_written = any(text == event.completion or text in written_texts(event) for _, event in models)
            return [text] if is_written and not any(text in question for question in questions) else []
    return []


def _answers_side_by_side(trace: Trace, models: ModelEvents, output_key: str | None) -> str | None:
    """Return the answer of a chain that ends with programs side by side; None if it does not."""
    texts = _completions(models, in_sequence=False)

    def answer_of(graph: Trace) -> str:
        return answer_in(made_output(graph), output_key, False, texts, True, partial(_texts_of_graph, graph, models))

    is_list = isinstance(trace.root.output, list)
    answers = answers_side_by_side(trace, trace.root.output if is_list else made_output(trace), answer_of)
    if isinstance(answers, list):
        return json_text(answers) if any(answers) else ""
    if not isinstance(answers, dict):
        return None
    if not any(answers.values()):
        return ""
    return answer_in(answers, output_key, True, _completions(models, in_sequence=True))


def _completions(models: ModelEvents, in_sequence: bool) -> list[str]:
    """Return what the models answered, latest first, and verdicts about other answers after them.

    With `in_sequence`, return nothing if the last call was in a branch of a map beside others: branches have no order.
    """
    calls = [(run, event) for run, event in models if is_user_facing(run)]
    if len(calls) < 2:
        return [event.completion for _, event in calls]
    if in_sequence:
        own = _branches(calls[-1][0])
        for run, _ in calls[:-1]:
            if any(own.get(parent, branch) is not branch for parent, branch in _branches(run).items()):
                return []
    texts = [event.completion for _, event in reversed(calls)]
    verdicts = [
        n for n, text in enumerate(texts) if _ONE_WORD.fullmatch(text) and _is_verdict(calls, len(calls) - 1 - n)
    ]
    if not verdicts:
        return texts
    return [text for n, text in enumerate(texts) if n not in verdicts] + [texts[n] for n in verdicts]


def _texts_of_graph(trace: Trace, models: ModelEvents) -> TextsOfGraph:
    wrapped = {text for run, event in models if is_user_facing(run) and (text := wrapped_text(event))}
    return TextsOfGraph(texts_written_at_once(trace), {text for text in wrapped if not _ONE_WORD.fullmatch(text)})


def _is_verdict(calls: ModelEvents, number: int) -> bool:
    """Return True if a call that answered with one word was given a longer text that an earlier call wrote.

    Example: a judge reads a joke and says "funny". The joke is the answer.
    """
    event = calls[number][1]
    asked = f"{event.system_prompt}\n{event.prompt}"
    earlier = (call.completion.strip() for _, call in calls[max(0, number - _JUDGED_CALLS) : number])
    return any(len(text.split()) > 1 and text in asked for text in earlier)


def _branches(run: Run) -> dict[Run, Run]:
    """Return the branches of maps (`RunnableParallel`) that contain a run, by the run of the map."""
    enclosing = (run, *run.ancestors())
    return {
        branch.parent: branch
        for branch in enclosing
        if branch.parent is not None and any(tag.startswith(MAP_TAG) for tag in branch.tags)
    }


def _partial_answer(trace: Trace, models: ModelEvents) -> tuple[str, bool]:
    """Return the text so far of a turn that ended early, and whether it is the complete answer.

    It is complete if the user stopped reading only after the last chunk. An answer that was not
    streamed and then lost (its chain was cancelled) never reached the user: ``("", False)``.
    """
    if (cut_off := _model_cut_off_by_reader(trace)) is not None:
        read = answer_in(trace.root.output)
        if not read and _branches(cut_off) and not _completions(models, in_sequence=True):
            return _consumed_branches(trace.root.output), False
        return _consumed_text(cut_off, read)
    closed = trace.root.error is not None and trace.root.error.control == "closed"
    for run, event in reversed(models):
        if is_user_facing(run):
            if _outlived_root(trace, run):
                return "".join((run.pieces or [])[: run.pieces_read or 0]), False
            requests_tools = has_client_calls(event.tool_requests)
            complete = run.ended is not None and run.error is None and not requests_tools
            if complete and run.first_token is None and not closed:
                return "", False
            return (event.completion if complete or not requests_tools else ""), complete
    return "", False


def _outlived_root(trace: Trace, run: Run) -> bool:
    """Return True if the root ended with an exception while `run` was open.

    A server that cancels a request may leave the model running. What it says afterwards was not read.
    """
    root = trace.root
    return root.ended is not None and root.error is not None and (run.ended is None or run.ended > root.ended)


def _model_cut_off_by_reader(trace: Trace) -> Run | None:
    """Return the model run that was still streaming when the reader closed a chain's stream.

    LangChain then ends the chain without an error and lets the model finish.
    """
    root = trace.root
    if not root.streamed or root.ended is None or root.error is not None:
        return None
    for run in reversed(trace.models()):
        if run.first_token is not None and is_user_facing(run):
            outlived_root = run.first_token < root.ended and (run.ended is None or run.ended > root.ended)
            closed = run.error is not None and run.error.control == "closed"
            if outlived_root or closed:
                return run
            if not _branches(run):  # another branch may have been streaming
                return None
    return None


def _consumed_branches(output: Any) -> str:
    """Return the texts that were read of parallel branches, without the last chunk, whose branch is not known."""
    if not isinstance(output, dict):
        return ""
    texts = {key: text_of(part) if isinstance(part, Message) else part for key, part in output.items()}
    return json_text(texts) if any(texts.values()) else ""


def _consumed_text(run: Run, chain_output: str) -> tuple[str, bool]:
    """Return the text that was read from a model's stream, and whether it is all of it.

    The chain's output lacks the chunk at which the reader stopped. Example: chunks ``["He", "llo", "!"]``
    and chain output ``"He"`` → ``("Hello", False)``.
    """
    chunks = run.pieces or []
    streamed, read = "".join(chunks), ""
    if not streamed.startswith(chain_output):
        return chain_output, False
    for chunk in chunks:
        read += chunk
        if len(read) > len(chain_output):
            break
    return read, read == streamed and run.error is None and run.ended is not None


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
