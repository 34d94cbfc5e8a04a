"""Separate what a turn made from what its input or a checkpoint brought.

The output of a root run repeats much of what it received: a graph returns its whole state, and
`RunnablePassthrough.assign` returns its input with a new entry. An answer is a text that was made in
this turn: a model, a tool or a node produced it, and neither the input nor a checkpoint contained it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gati.trace.answer_source import texts_in_json
from gati.trace.chat_messages import as_message, as_messages
from gati.trace.chat_output import OUTPUT_KEYS, names_answer
from gati.trace.content import text_of
from gati.trace.outputs import read_json, updates_by
from gati.trace.records import (
    ASSISTANT_ROLES,
    COMMAND,
    TOOL_ROLES,
    USER_ROLES,
    Message,
    ModelResult,
    ObjectName,
)
from gati.trace.requested_calls import requests_in
from gati.trace.run_tree import state_of_first_node
from gati.trace.scripts import is_one_word
from gati.trace.tool_results import ToolResults

if TYPE_CHECKING:
    from gati.trace.run_tree import Run, Trace

_MAX_DEPTH = 6
"""Depth to which texts are searched in an input."""


def made_output(trace: Trace) -> Any:
    """Return a root's output without the texts, messages and entries that this turn did not make.

    The entries of a graph's state are in this order: the messages that the user's belong to, then the latest first.

    Example: input ``{"text": "A long article."}`` and output ``{"text": "A long article.", "summary":
    "Short."}`` → ``{"summary": "Short."}``.
    """
    return _MadeOutput(trace).of(trace.root.output)


def _is_parsed_from(made: str, text: str) -> bool:
    """Return True if a program may have read a text out of what a model wrote. A single word is in other texts by chance."""
    return made.rstrip().endswith(text) or text in texts_in_json(made) or (" " in text and text in made)


class _MadeOutput:
    """The input of a trace, and the values that its runs made.

    Attributes:
        given: the texts of the root's input.
        state: the state that the first node of a graph received: the checkpoint and the input.
        keys_of_text: the entries of `state` that contain a text.
        received: the messages that the input and the state contain after the last user message, by `_key_of`.
        produced: the texts that models and tools of this turn produced.
        updates: what the nodes wrote, in the order in which they started.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        inputs = trace.root.inputs
        self.given = set(texts_inside(inputs))
        self.state = state_of_first_node(trace)
        self.keys_of_text: dict[str, set[Any]] = {}
        for key, entry in self.state.items():
            for text in texts_inside(entry):
                self.keys_of_text.setdefault(text, set()).add(key)
        self.received = Counter[tuple[str, bool]]()
        for value in (inputs, self.state):
            for messages in _message_lists_in(value):
                self.received |= Counter(map(_key_of, messages))
        runs = trace.runs()
        self.produced = {text for run in runs for text in texts_produced(run)}
        self.updates = [(run, update) for run in runs if run.node for update in updates_by(run)]
        # A handoff to a parent graph is an exception, whose update is not known.
        hands_off = any(run.error is not None and run.error.control == "parent_command" for run in runs)
        self.knows_writes = trace.is_graph and bool(self.updates) and not hands_off

    def of(self, output: Any) -> Any:
        """Return the part of `output` that this turn made; None if it made nothing."""
        if isinstance(output, str):
            return output if self._is_made(output) else None
        if (messages := as_messages(output)) is not None:
            return self._made_messages(messages, None) or None
        if not isinstance(output, dict) or COMMAND in output:
            return without_objects(output)
        made: dict[Any, Any] = {}
        for key, value in self._by_rank(output) if self.knows_writes and len(output) > 1 else output.items():
            if (part := self._made_entry(key, value)) is not None or value is None:
                made[key] = part
        return made

    def _by_rank(self, state: dict[Any, Any]) -> list[tuple[Any, Any]]:
        """Return the entries of a graph's state: first the messages that the user's belong to, then the latest first."""
        inputs = self.trace.root.inputs
        # A node with a graph in it repeats what the nodes of that graph wrote.
        enclosing = {above for run, _ in self.updates for above in run.ancestors()}
        written = _last_writes(self.state, [update for run, update in self.updates if run not in enclosing])
        for key in state.keys() & inputs.keys() if isinstance(inputs, dict) else ():
            if as_messages(inputs[key]) is not None:
                written[key] = len(self.updates)
        return sorted(state.items(), key=lambda entry: -written.get(entry[0], -1))

    def _made_entry(self, key: Any, value: Any) -> Any:
        if (messages := as_messages(value)) is not None:
            made = self._made_messages(messages, key)
            return value if made == messages else made or None
        if isinstance(value, str) and value in self.produced:
            return value
        if isinstance(value, str) and value in self.given:
            return value if self._is_said_again(value, key) else None
        if not self._is_written(key, value):
            return None
        if not isinstance(value, str):
            inputs = self.trace.root.inputs
            is_repeated = isinstance(inputs, dict) and key in inputs and inputs[key] == value
            if is_repeated:
                return None
            return without_objects(value)
        return self._without_earlier_text(key, value) if self._is_made(value, key) else None

    def _is_made(self, text: str, key: Any = None) -> bool:
        """Return True if a text was made in this turn. `key`: the entry of the output that holds it."""
        if isinstance(text, ObjectName):
            return False
        if text in self.produced:
            return True
        if text in self.given:
            return self._is_said_again(text, key)
        return self.keys_of_text.get(text, {key}) <= {key} or self._is_published(text, key)

    def _is_published(self, text: str, key: Any) -> bool:
        """Return True if a node of this turn copied a text of an earlier turn, such as an approved draft, under a name for answers."""
        return self.knows_writes and names_answer(key) and self.state.get(key) != text and not is_one_word(text)

    def _is_said_again(self, text: str, key: Any) -> bool:
        """Return True for a text that a model of this turn wrote again, inside a text that the program parses.

        Examples: an answer of the history, "I do not know.", and later "Final Answer: I do not know."; a text without mistakes, and
        ``{"corrected": …}`` with the same text.
        """
        inputs = self.trace.root.inputs
        if key is None:
            return any(text in texts_in_json(made) for made in self.produced)
        if key not in OUTPUT_KEYS or (isinstance(inputs, dict) and inputs.get(key) == text):
            return False
        answers = [text_of(m) for messages in _histories_in(inputs) for m in messages if m.role in ASSISTANT_ROLES]
        return text in answers and any(_is_parsed_from(made, text) for made in self.produced)

    def _is_written(self, key: Any, value: Any) -> bool:
        """Return False if an entry of a graph's state is older than this turn."""
        if not self.knows_writes:
            return key not in self.state or self.state[key] != value
        writes = [(run, update) for run, update in self.updates if key in update]
        if not writes:
            return False
        # A node that returns its whole state made only what differs from what it received.
        return self.state.get(key) != value or any(not self._repeats_state(run, update) for run, update in writes)

    def _repeats_state(self, run: Run, update: dict[str, Any]) -> bool:
        """Return True if a node returned its whole state, or that of a graph in it."""
        if self.state.keys() <= update.keys():
            return True
        graphs = (
            below for child in run.children for below in child.walk() if any(node.node for node in below.children)
        )
        return any(graph.output == run.output for graph in graphs)

    def _without_earlier_text(self, key: Any, value: str) -> str:
        """Return the end of a text to which the graph's reducer appended. Example: "a", then "ab" → "b"."""
        earlier = self.state.get(key)
        if not isinstance(earlier, str) or not earlier or not value.startswith(earlier):
            return value
        return value if any(update.get(key) == value for _, update in self.updates) else value[len(earlier) :]

    def _made_messages(self, messages: list[Message], key: Any) -> list[Message]:
        if len(messages) == 1 and text_of(messages[0]) in self.produced:
            return messages  # also if the history ends with the same answer
        received = self.received.copy()
        last = messages[-1]
        is_repeated = last.role in ASSISTANT_ROLES and text_of(last) in self.produced
        made: list[Message] = []
        for message in messages:
            if received[_key_of(message)] > 0 and not (is_repeated and message is last):
                received[_key_of(message)] -= 1
            elif message.role in TOOL_ROLES:
                if self._is_result_of_tool(message):
                    made.append(message)
            elif message.role in USER_ROLES or self._is_made(text_of(message), key) or self._is_nodes_answer(message):
                made.append(message)
        return made

    def _is_result_of_tool(self, message: Message) -> bool:
        """Return False for what a node wrote in the place of a tool's result: a person's decision, or a note on the arguments.

        A tool may run where its run is not seen, such as in a cache or another thread.
        """
        text, root = text_of(message), self.trace.root
        if self._results.has_message_of(message.tool_call_id) or self._results.is_in(text, read_json(text)):
            return True
        if root.inputs is None or (isinstance(root.inputs, dict) and COMMAND in root.inputs):
            return False
        arguments = self._requested_arguments[str(message.tool_call_id)]
        state = root.output.values() if isinstance(root.output, dict) else ()
        return not any(entry and entry in arguments for entry in state)

    @cached_property
    def _results(self) -> ToolResults:
        return ToolResults([run for run in self.trace.runs() if run.kind == "tool"])

    @cached_property
    def _requested_arguments(self) -> defaultdict[str, list[Any]]:
        """The arguments with which models of this turn requested tools, by id of the call."""
        arguments = defaultdict[str, list[Any]](list)
        for run in self.trace.models():
            if isinstance(run.output, ModelResult):
                for call_id, request in requests_in(run.output.messages):
                    arguments[call_id].append(request.get("args"))
        return arguments

    def _is_nodes_answer(self, answer: Message) -> bool:
        """Return True for an answer that a node wrote, though its text is in the input: the node says it again."""
        if answer.role not in ASSISTANT_ROLES:
            return False
        written = (value for _, update in self.updates for value in update.values())
        return any(
            message.role in ASSISTANT_ROLES and _key_of(message) == _key_of(answer)
            for value in written
            for message in as_messages(value) or ()
        )


def without_objects(value: Any) -> Any:
    """Return a plain value without the names of objects that could not be copied; None if nothing is left."""
    if isinstance(value, (ObjectName, bytes)):
        return None
    if isinstance(value, dict):
        kept = {k: part for k, v in value.items() if (part := without_objects(v)) is not None or v is None}
        return kept or (None if value else value)
    if isinstance(value, list):
        items = [part for v in value if (part := without_objects(v)) is not None or v is None]
        return items or (None if value else value)
    return value


def _last_writes(state: dict[Any, Any], updates: list[dict[str, Any]]) -> dict[Any, int]:
    """Return for each entry the number of the last update that wrote it. If a node repeats the whole state, only what it
    changes counts."""
    current, written = dict(state), dict[Any, int]()
    for number, update in enumerate(updates):
        is_whole = current.keys() <= update.keys()
        for key, value in update.items():
            if not is_whole or key not in current or current[key] != value:
                current[key], written[key] = value, number
    return written


def texts_produced(run: Run) -> Iterator[str]:
    """Yield the texts of a model's answers and of a tool's result."""
    if isinstance(run.output, ModelResult):
        yield from filter(None, map(text_of, run.output.messages))
    elif run.kind == "tool":
        yield from texts_inside(run.output)


def texts_inside(value: Any, depth: int = _MAX_DEPTH) -> Iterator[str]:
    """Yield the texts in a plain value, without the answers in the history of a conversation."""
    if isinstance(value, str):
        if value:
            yield value
    elif (messages := as_messages(value)) is not None:
        start = _start_of_tail(messages)
        for number, message in enumerate(messages):
            if (message.role in USER_ROLES or number >= start) and (text := text_of(message)):
                yield text
    elif depth and isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_inside(item, depth - 1)


def _start_of_tail(messages: list[Message]) -> int:
    """Return the index after the last user message."""
    return next((n + 1 for n in range(len(messages) - 1, -1, -1) if messages[n].role in USER_ROLES), 0)


def _message_lists_in(value: Any) -> Iterator[list[Message]]:
    """Yield the message lists in a root's input or a state, each from its last user message on."""
    return (messages[_start_of_tail(messages) :] for messages in _histories_in(value))


def _histories_in(value: Any) -> list[list[Message]]:
    """Return the lists of messages in a value, or in the entries of a dict. A single message is a list, too."""
    if not isinstance(value, dict):
        messages = as_messages(value)
        return [messages] if messages is not None else []
    histories = []
    for entry in value.values():
        if not isinstance(entry, dict):
            if (messages := as_messages(entry)) is not None:
                histories.append(messages)
        elif (message := as_message(entry)) is not None:
            histories.append([message])
    return histories


def _key_of(message: Message) -> tuple[str, bool]:
    """Return what identifies a message whose id may be added or changed: its text, and whether it requests tools."""
    return text_of(message), bool(message.tool_calls)
