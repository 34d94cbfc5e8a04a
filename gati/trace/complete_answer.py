"""The answer of a turn that ran to its end."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gati.events import has_client_calls
from gati.trace.answer_below_step import answer_below, answer_in_stream
from gati.trace.answer_source import is_user_facing, is_written_by, wrapped_text, written_texts
from gati.trace.chat_output import (
    CLEAR_KEYS,
    StateTexts,
    answer_in,
    json_text,
    structured_answers_in,
    without_documents,
)
from gati.trace.content import text_of
from gati.trace.made_output import made_output, texts_inside, texts_produced
from gati.trace.outputs import updates_by
from gati.trace.records import STREAMED, ModelResult
from gati.trace.scripts import is_one_word, is_sentence
from gati.trace.side_by_side import MAP_TAG, answers_side_by_side, streamed_graph
from gati.trace.state_writes import answer_after_messages, texts_written_whole, without_earlier_items

if TYPE_CHECKING:
    from gati.trace.answer_source import ModelEvents
    from gati.trace.run_tree import Run, Trace

_JUDGED_CALLS = 16
"""Calls before a verdict among which the judged one is looked for."""


def complete_answer_of(trace: Trace, models: ModelEvents, output_key: str | None) -> str:
    """Return the answer of a turn that ran to its end; "" if it has none."""
    root = trace.root
    if isinstance(root.output, ModelResult):
        return _answer_of_model(root.output)
    if root.streamed and (graph := streamed_graph(trace)) is not None:
        return complete_answer_of(graph, models, output_key) or answer_below(root, models)
    if root.kind == "step":
        return _answer_of_step(trace, models)
    if root.kind not in ("chain", "prompt"):
        return ""
    return (_answer_of_graph if trace.is_graph else _answer_of_chain)(trace, models, output_key)


def _answer_of_model(output: ModelResult) -> str:
    messages = output.messages
    return "" if not messages or messages[0].tool_calls else text_of(messages[0])


def _answer_of_chain(trace: Trace, models: ModelEvents, output_key: str | None) -> str:
    if models and isinstance(trace.root.output, (dict, list)):
        answers = _answers_side_by_side(trace, models, output_key)
        if answers is not None:
            return answers
    is_plain = _is_plain(trace, models)
    completions = completions_of(models, in_sequence=is_plain)
    return answer_in(made_output(trace), key=output_key, structured=is_plain, completions=completions)


def _answer_of_graph(trace: Trace, models: ModelEvents, output_key: str | None) -> str:
    if models and output_key is None and (text := answer_after_messages(trace)):
        if is_written_by(models, text) and not is_one_word(text):
            return text
    is_plain = _is_plain(trace, models)
    made = made_output(trace)
    text = answer_in(
        made,
        key=output_key,
        structured=is_plain,
        completions=completions_of(models, in_sequence=is_plain),
        is_state=True,
        state_texts=partial(_texts_of_state, trace, models),
    )
    if text or not models:
        return text
    objects = structured_answers_in(without_earlier_items(trace, made))
    return next((text for text in objects if is_written_by(models, text)), "") or _only_streamed(trace, models)


def _answer_of_step(trace: Trace, models: ModelEvents) -> str:
    root, made = trace.root, made_output(trace)
    if made is None:  # the program set no output, or one that is not text, such as a web response
        return answer_below(root, models)
    if root.extra == STREAMED and (streamed := answer_in_stream(root, made, models)):
        return streamed
    completions = completions_of(models, in_sequence=False)
    text = answer_in(made, completions=completions)
    is_named = isinstance(made, dict) and any(made.get(key) == text for key in CLEAR_KEYS)
    if text and (is_named or text in completions or not is_one_word(text)):
        return text
    return _text_inside(made, models, completions) or text


def _text_inside(output: Any, models: ModelEvents, completions: list[str]) -> str:
    """Return the text at any depth of a step's output that a model wrote last, or the longest one made of what models wrote.

    Examples: ``("What is it?", "A bicycle.")``, ``{"status": "success", "data": {"text": "A bicycle."}}``.
    """
    texts = dict.fromkeys(texts_inside(output))
    if (latest := next((text for text in completions if text in texts), "")) or not models:
        return latest
    return max((text for text in texts if is_sentence(text) and is_written_by(models, text)), key=len, default="")


def _is_plain(trace: Trace, models: ModelEvents) -> bool:
    """Return True for models in a chain without a graph. Whatever such a chain returns is its answer."""
    return bool(models) and not any(run.node is not None for run in trace.runs())


def _only_streamed(trace: Trace, models: ModelEvents) -> str:
    """Return what the last model streamed to the reader of a graph that wrote nothing into its state."""
    run, event = models[-1]
    if not run.pieces or not is_user_facing(run) or has_client_calls(event.tool_requests):
        return ""
    return "" if any(updates_by(node) for node in trace.runs() if node.node is not None) else event.completion


def _answers_side_by_side(trace: Trace, models: ModelEvents, output_key: str | None) -> str | None:
    """Return the answer of a chain that ends with programs side by side; None if it does not."""
    texts = completions_of(models, in_sequence=False)

    def answer_of(graph: Trace) -> str:
        return answer_in(
            made_output(graph),
            key=output_key,
            completions=texts,
            is_state=True,
            state_texts=partial(_texts_of_state, graph, models),
        )

    is_list = isinstance(trace.root.output, list)
    answers = answers_side_by_side(trace, trace.root.output if is_list else made_output(trace), answer_of)
    answers = without_documents(answers)
    if isinstance(answers, list):
        return json_text(answers) if any(answers) else ""
    if not isinstance(answers, dict):
        return None
    if not any(answers.values()):
        return ""
    return answer_in(answers, key=output_key, structured=True, completions=completions_of(models, in_sequence=True))


def completions_of(models: ModelEvents, in_sequence: bool) -> list[str]:
    """Return what the models answered, latest first, and verdicts about other answers after them.

    With `in_sequence`, return nothing if the last call was in a branch of a map beside others: branches have no order.
    """
    calls = [(run, event) for run, event in models if is_user_facing(run)]
    if len(calls) < 2:
        return [event.completion for _, event in calls]
    if in_sequence:
        own = branches_of(calls[-1][0])
        for run, _ in calls[:-1]:
            if any(own.get(parent, branch) is not branch for parent, branch in branches_of(run).items()):
                return []
    texts = [event.completion for _, event in reversed(calls)]
    verdicts = [n for n, text in enumerate(texts) if is_one_word(text) and _is_verdict(calls, len(calls) - 1 - n)]
    if not verdicts:
        return texts
    return [text for n, text in enumerate(texts) if n not in verdicts] + [texts[n] for n in verdicts]


def _texts_of_state(trace: Trace, models: ModelEvents) -> StateTexts:
    events = [event for run, event in models if is_user_facing(run)]
    wrapped = {text for event in events if (text := wrapped_text(event)) and not is_one_word(text)}
    fields = {text for event in events for text in written_texts(event)}
    fields |= {text for run in trace.runs() if run.kind == "tool" for text in texts_produced(run)}
    return StateTexts(texts_written_whole(trace), wrapped, fields)


def _is_verdict(calls: ModelEvents, number: int) -> bool:
    """Return True if a call that answered with one word was given a longer text that an earlier call wrote.

    Example: a judge reads a joke and says "funny". The joke is the answer.
    """
    event = calls[number][1]
    asked = f"{event.system_prompt}\n{event.prompt}"
    earlier = (call.completion.strip() for _, call in calls[max(0, number - _JUDGED_CALLS) : number])
    return any(len(text.split()) > 1 and text in asked for text in earlier)


def branches_of(run: Run) -> dict[Run, Run]:
    """Return the branches of maps (`RunnableParallel`) that contain a run, by the run of the map."""
    enclosing = (run, *run.ancestors())
    return {
        branch.parent: branch
        for branch in enclosing
        if branch.parent is not None and any(tag.startswith(MAP_TAG) for tag in branch.tags)
    }
