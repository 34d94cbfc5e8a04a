"""What a turn resumes an interrupted graph with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gati.trace.questions import replies_in
from gati.trace.records import COMMAND
from gati.trace.side_by_side import trace_of_program

if TYPE_CHECKING:
    from gati.trace.run_tree import Run, Trace


class Resume(NamedTuple):
    """The payload that resumed an interrupted graph: the texts in it, and the value unless it is nothing but texts."""

    texts: list[str]
    value: Any = None


def resume_of(trace: Trace) -> Resume | None:
    """Return the payload that a turn resumes an interrupted graph with; None if it does not resume one.

    Example: input ``Command(resume="yes")`` → ``Resume(["yes"])``.
    """
    root = trace.root
    if root.kind == "step":
        graph = resumed_graph(trace)
        return None if graph is None else resume_of(graph)
    inputs = root.inputs
    if inputs is None:
        return Resume([]) if trace.is_graph or trace.resumed else None
    if not isinstance(inputs, dict) or COMMAND not in inputs or inputs[COMMAND].get("resume") is None:
        return None
    value = inputs[COMMAND]["resume"]
    # Interrupts may be answered by id; the ids are of no use to a reader.
    by_id = isinstance(value, dict) and bool(value) and all(_is_interrupt_id(key) for key in value)
    answers = list(value.values()) if by_id else [value]
    texts = [text for answer in answers for text in replies_in(answer)]
    if all(isinstance(answer, str) for answer in answers):
        return Resume(texts)
    return Resume(texts, answers[0] if len(answers) == 1 else value)


def resumed_graph(trace: Trace) -> Trace | None:
    """Return the first graph that runs directly in a step, if the step resumes it: a handler may make the command itself.

    What the step resumes later, it answers itself.
    """
    graph = _first_graph(trace.root)
    if graph is None or not (graph.inputs is None or (isinstance(graph.inputs, dict) and COMMAND in graph.inputs)):
        return None
    program = trace_of_program(trace, graph, graph.inputs, graph.output)
    return program if resume_of(program) is not None else None


def _first_graph(step: Run) -> Run | None:
    for run in step.children:
        found = _first_graph(run) if run.kind == "step" else run
        if found is not None and found.has_nodes:
            return found
    return None


def _is_interrupt_id(key: Any) -> bool:
    return isinstance(key, str) and len(key) == 32 and all(c in "0123456789abcdef" for c in key)
