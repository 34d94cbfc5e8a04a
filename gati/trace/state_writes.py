"""When and by which nodes the entries of a graph's state were written: what came last, what grew, and what was used later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.trace.chat_messages import messages_under
from gati.trace.chat_output import names_answer
from gati.trace.made_output import texts_produced
from gati.trace.outputs import updates_by
from gati.trace.records import MESSAGES
from gati.trace.run_tree import state_of_first_node

if TYPE_CHECKING:
    from gati.trace.run_tree import Run, Trace


def answer_after_messages(trace: Trace) -> str:
    """Return the text that a graph's node wrote after the last message of the thread, under a name for answers; else "".

    Example: agents put what they find into ``messages``, and the last node writes ``final_report``.
    """
    output = trace.root.output
    if not isinstance(output, dict) or MESSAGES not in output or not any(map(names_answer, output)):
        return ""
    runs = trace.runs()
    if any(run.error is not None and run.error.control == "parent_command" for run in runs):
        return ""  # a handoff, whose update is not known
    nodes = sorted([run for run in runs if run.node and run.ended], key=lambda run: run.ended or 0)
    graphs = {run.parent for run in nodes}
    completions = {text for run in trace.models() for text in texts_produced(run)}
    found, writer = "", trace.root
    for run in reversed(nodes):
        for key, value in (entry for update in updates_by(run) for entry in update.items()):
            # A graph as a node repeats what its own nodes wrote; a list is empty then.
            if messages_under(key, value) is not None or (value == [] and run not in graphs):
                return found if _is_after(writer, run) else ""
            if run in graphs:
                continue
            if not found and names_answer(key) and isinstance(value, str) and value and output.get(key) == value:
                found, writer = value, run
            elif not found and isinstance(value, str) and value in completions:
                return ""  # a later text of a model
    return found


def _is_after(node: Run, earlier: Run) -> bool:
    """Return False for nodes side by side, whatever their times are."""
    if node.parent is earlier.parent and node.step is not None and earlier.step is not None:
        return node.step > earlier.step
    return node.started >= (earlier.ended or 0)


def texts_written_whole(trace: Trace) -> set[str]:
    """Return the texts that nodes of a graph wrote into entries of its state, without those that grow, such as a log."""
    entries: dict[Any, Any] = dict(state_of_first_node(trace))
    texts: set[str] = set()
    for update in (update for run in trace.runs() if run.node for update in updates_by(run)):
        for key, text in update.items():
            if isinstance(text, str) and text:
                earlier = entries.get(key)
                if not (isinstance(earlier, str) and earlier and earlier in text and earlier != text):
                    texts.add(text)
                entries[key] = text
    return texts


def without_earlier_items(trace: Trace, state: Any) -> Any:
    """Return a graph's state with only the new end of lists to which a reducer appended. Example: ["a", "b"] → ["b"].

    A list of texts is left out if another object or list was written in a later step, for which it was made: search queries.
    """
    if not isinstance(state, dict):
        return state
    written = [(run.step or 0, update) for run in trace.runs() if run.node for update in updates_by(run)]
    updates = [update for _, update in written]
    steps = {key: step for step, update in written for key, value in update.items() if isinstance(value, (dict, list))}
    last = max((step for key, step in steps.items() if state.get(key)), default=0)
    return {
        key: _end_written_by(updates, key, value)
        for key, value in state.items()
        if not _is_list_of_texts(value) or steps.get(key, last) == last
    }


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _end_written_by(updates: list[dict[str, Any]], key: Any, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    written = [item for update in updates if isinstance(items := update.get(key), list) for item in items]
    end = value[-len(written) :]
    return end if 0 < len(written) < len(value) and all(item in written for item in end) else value
