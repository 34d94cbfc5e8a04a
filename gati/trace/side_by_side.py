"""Programs that a root runs side by side: the branches of a `RunnableParallel`, and `map()`, which runs one for each input.

Only the root's input and output are recorded, so the input and output of each program are taken from those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import TYPE_CHECKING, Any

from gati.trace.chat_messages import as_message, as_messages
from gati.trace.content import text_of
from gati.trace.outputs import updates_by, updates_of
from gati.trace.records import ASSISTANT_ROLES, Message, ModelResult
from gati.trace.run_tree import Trace, model_messages

if TYPE_CHECKING:
    from gati.trace.run_tree import Run

MAP_TAG = "map:key:"
"""Beginning of the tag of a branch of a `RunnableParallel`."""
_STEP_TAG = "seq:step:"
"""Beginning of the tag of a step of a sequence."""
_EACH = "RunnableEach<"
"""Beginning of the name that LangChain gives the run of a `map()`."""


def mapped_programs(trace: Trace) -> list[Trace]:
    """Return a trace for each program that a root runs for one entry of its input (`map()`); none for other roots."""
    root = trace.root
    if root.kind != "chain" or not isinstance(root.inputs, list) or as_messages(root.inputs) is not None:
        return []
    outputs = root.output if root.output is not None else [None] * len(root.inputs)
    if not isinstance(outputs, list) or len(outputs) != len(root.inputs):
        return []
    if not _is_map(root, outputs) and not _asks_each(root):
        return []
    programs = _programs_by_entry(root, outputs)
    return [
        trace_of_program(trace, run, given, made)
        for run, given, made in zip(programs, root.inputs, outputs, strict=True)
    ]


def answers_side_by_side(trace: Trace, value: Any, answer_of: Callable[[Trace], str]) -> Any:
    """Return what the programs at the end of a chain answered, in the shape of its output; None if there are none.

    The answer of a graph takes the place of its state, and that of a model the place of its message.

    Example: the output ``{"critic": {"messages": […]}, "fan": {"messages": […]}}`` of two agents → ``{"critic": "It is
    art.", "fan": "It is science."}``.

    Args:
        trace: the turn's runs.
        value: the output of the root.
        answer_of: returns the answer of a graph, given as a trace whose root has the graph's output.
    """
    search = _SideBySide(trace, answer_of)
    answers = search.answers(trace.root, value, is_part=False)
    return answers if search.found else None


class _SideBySide:
    """Replaces the states and messages in an output by answers.

    Attributes:
        found: some program ran in a branch or in a `map()`.
    """

    def __init__(self, trace: Trace, answer_of: Callable[[Trace], str]) -> None:
        self.trace = trace
        self.answer_of = answer_of
        self.found = False

    def answers(self, run: Run, value: Any, is_part: bool) -> Any:
        """Return the answers in what `run` returned. `is_part`: it is in a branch or in a `map()`."""
        is_graph = run is not self.trace.root and run.has_nodes
        if is_graph or run.kind == "model":
            return self._answer(run, value, is_graph) if is_part else value
        if isinstance(value, dict):
            branches = {tag[len(MAP_TAG) :]: child for child in run.children for tag in _tags(child, MAP_TAG)}
            if not branches.keys().isdisjoint(value):  # a fallback has the tag of the branch that it is in
                return {k: self.answers(branches[k], v, True) if k in branches else v for k, v in value.items()}
        elif isinstance(value, list) and _is_map(run, value):
            programs = _programs_by_entry(run, value)
            return [self.answers(program, part, True) for program, part in zip(programs, value, strict=True)]
        if (last := _last_step(run)) is None:
            return value
        found = self.answers(last, value, is_part)
        # A function may return something else than the answer of the only program that it called.
        return value if found == "" and len(run.children) == 1 else found

    def _answer(self, run: Run, value: Any, is_graph: bool) -> Any:
        self.found = True
        if not is_graph:
            return _text_of(value)
        return self.answer_of(trace_of_program(self.trace, run, None, value)) if isinstance(value, dict) else value


def _tags(run: Run, beginning: str) -> list[str]:
    return [tag for tag in run.tags if tag.startswith(beginning)]


def _text_of(value: Any) -> Any:
    """Return the text of a model's answer; "" of one that requests tools."""
    if not isinstance(value, Message) or value.role not in ASSISTANT_ROLES:
        return value
    return "" if value.tool_calls else text_of(value)


def _last_step(run: Run) -> Run | None:
    """Return the last step of a sequence, or the only run below another chain.

    The steps of a sequence that is read as a stream start in any order.
    """
    return run.children[0] if len(run.children) == 1 else _end_of_sequence(run)


def _end_of_sequence(run: Run) -> Run | None:
    steps = {tag: child for child in run.children for tag in _tags(child, _STEP_TAG)}
    return steps[max(steps, key=lambda tag: (len(tag), tag))] if steps else None


def _is_map(run: Run, values: list[Any]) -> bool:
    """Return True for the run of a `map()` with one program for each of `values`."""
    if len(run.children) != len(values):
        return False
    return run.name.startswith(_EACH) or all(
        child.kind == "chain"
        and ("ls_integration" in child.metadata or any(r.node is not None for r in child.children))
        for child in run.children
    )


def _programs_by_entry(run: Run, outputs: list[Any]) -> list[Run]:
    """Return the programs of a `map()` in the order of the entries that they were run for.

    Threads report their starts in any order. A program is recognized by a text that it was given or made and no other one
    was; the rest are in the order of their starts.
    """
    inputs = run.inputs if isinstance(run.inputs, list) and len(run.inputs) == len(outputs) else [None] * len(outputs)
    owners: dict[tuple[bool, str], Run | None] = {}
    for program in run.children:
        for text in set(_texts_of_program(program)):
            owners[text] = None if text in owners else program
    others = dict.fromkeys(run.children)
    found: list[Run | None] = []
    for entry in zip(inputs, outputs, strict=True):
        known = (owners.get(text) for text in _texts_of_entry(*entry))
        owner = next((program for program in known if program is not None and program in others), None)
        if owner is not None:
            del others[owner]
        found.append(owner)
    rest = iter(others)
    return [next(rest) if program is None else program for program in found]


def _texts_of_program(program: Run) -> Iterator[tuple[bool, str]]:
    """Yield the texts that the runs of a program were given and made, as `_texts_of_entry` does."""
    for run in program.walk():
        given = model_messages(run) if run.kind == "model" else [run.inputs, run.extra]
        made = run.output.messages if isinstance(run.output, ModelResult) else [run.output]
        yield from _texts_of_entry(given, list(made))


def _texts_of_entry(given: Any, made: Any) -> Iterator[tuple[bool, str]]:
    """Yield the texts in an input and an output, with True for those of the output."""
    for is_made, value in ((False, given), (True, made)):
        for text in _texts_in(value):
            yield is_made, text


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif (message := as_message(value)) is not None:
        yield from filter(None, (text_of(message),))
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


def _asks_each(root: Run) -> bool:
    """Return True if a root, such as a `map()` with another name, asks a model each of the texts that it was given."""
    if len(root.children) != len(root.inputs) or not all(isinstance(text, str) and text for text in root.inputs):
        return False
    asked = {text_of(m) for run in root.walk() if run.kind == "model" for m in model_messages(run)}
    return asked.issuperset(root.inputs)


def streamed_graph(trace: Trace) -> Trace | None:
    """Return a trace of the graph at the end of a sequence that was read as a stream, with what its nodes wrote as its output.

    The root's output is what LangChain adds up: the last update of each node, where `invoke` returns the graph's state.
    """
    graph: Run | None = trace.root
    while graph is not None and not graph.has_nodes:
        graph = _end_of_sequence(graph)
    if graph is None or graph is trace.root:
        return None
    return trace_of_program(trace, graph, graph.inputs, _state_written_in(graph, trace.root.output))


def _state_written_in(graph: Run, by_node: Any) -> dict[Any, Any]:
    nodes = [run for run in graph.children if run.node]
    updates = [update for run in nodes for update in updates_by(run)]
    if isinstance(by_node, dict):
        last = {run.node: number for number, run in enumerate(nodes)}
        names = sorted(last.keys() & by_node.keys(), key=last.__getitem__)
        updates += [update for name in names for update in updates_of(by_node[name])]
    state: dict[Any, Any] = {}
    for update in updates:
        for key, value in update.items():
            earlier, later = as_messages(state.get(key)), as_messages(value)
            state[key] = [*earlier, *later] if earlier is not None and later is not None else value
    return state


def trace_of_program(trace: Trace, run: Run, given: Any, made: Any) -> Trace:
    """Return a trace of the runs from `run` on, with the input and the output of the program."""
    top = copy(run)
    top.inputs, top.output, top.updates = given, made, None
    part = Trace(top, trace.scope, trace.offset)
    part.size = sum(1 for _ in top.walk())
    return part
