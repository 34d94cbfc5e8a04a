"""What a model call was sent and what it returned, put together from the conversation.

A message is delivered once, so a call contains only the messages that no other message reports. This module finds the
others: the history, the questions and the results of tools. gati records the number of messages and a hash of them with
each call, so that a reconstruction can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gati import input_hash
from gati.store import prompt_queries, queries
from gati.store.input_sources import CallView, ConversationView, SentMessage
from gati.store.prompt_queries import CallPrompt
from gati.store.queries import ConversationSummary, StoredMessage
from gati.store.store import Store
from gati.store.turn_view import arrange_turns

_BEFORE, _AFTER = 4000, 400
"""Messages of the conversation that are read: before the call, and after it for its answer."""

_CANDIDATES = 12
"""Earlier calls that are tried as the one that a call continues."""


@dataclass(frozen=True)
class ModelInput:
    """The reconstructed input of a model call.

    Attributes:
        message: The call.
        summary: Its conversation.
        prompt: The system prompt; None if the call had none.
        messages: The messages after the system prompt, in order.
        returned: The answer.
        reasoning: The model's reasoning, or its text beside tool calls.
        is_exact: The number and the hash of the messages are those that gati recorded.
        note: A sentence that explains `is_exact`.
        count: The number of messages that gati recorded, with the system prompt; None if unknown.
    """

    message: StoredMessage
    summary: ConversationSummary
    prompt: CallPrompt | None
    messages: list[SentMessage]
    returned: SentMessage
    reasoning: str
    is_exact: bool
    note: str
    count: int | None

    @property
    def properties(self) -> dict[str, Any]:
        """The call's properties."""
        return self.message.body.get("properties") or {}


def input_of_call(store: Store, row_id: int) -> ModelInput | None:
    """Return the input of a model call; None if there is no such message, or if it is no model call."""
    found = queries.find_message(store, row_id)
    if found is None or found[0].type != "llm":
        return None
    message, summary = found
    messages = queries.messages_around(store, summary.id, message, _BEFORE, _AFTER)
    view = ConversationView(arrange_turns(messages))
    calls = [call for call in view.calls if (call.message.at, call.message.id) <= (message.at, message.id)]
    prompts = _Prompts(store)
    solver = _Solver(view, prompts)
    for call in calls:
        solver.solve(call)
    solved = solver.solved[message.id]
    call = next(call for call in calls if call.message.id == message.id)
    count = _count_of(call)
    return ModelInput(
        message, summary, prompts.of(message.call), solved.messages, view.answers(call)[0], call.thought,
        solved.is_exact, _note(call, solved, count, prompts.text(message.call)), count,
    )  # fmt: skip


@dataclass(frozen=True)
class _Solved:
    messages: list[SentMessage]
    state: bytes
    is_exact: bool = False
    is_shortened: bool = False


class _Prompts:
    """The system prompts of requests, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[int, CallPrompt | None] = {}

    def of(self, request: int) -> CallPrompt | None:
        if request not in self._found:
            self._found[request] = prompt_queries.prompt_of_call(self._store, request)
        return self._found[request]

    def text(self, request: int) -> str:
        found = self.of(request)
        return "\n\n".join("".join(span.text for span in spans) for spans in found.texts) if found else ""


class _Solver:
    """Finds the messages of calls, in the order of the calls: each may continue an earlier one."""

    def __init__(self, view: ConversationView, prompts: _Prompts) -> None:
        self._view, self._prompts = view, prompts
        self.solved: dict[int, _Solved] = {}

    def solve(self, call: CallView) -> None:
        recorded = call.properties.get("input_hash")
        system = self._prompts.text(call.message.call)
        found = None
        if isinstance(recorded, str):
            candidates = self._candidates(call)
            found = next((one for one in candidates if input_hash.hash_of(one.state, system) == recorded), None)
        self.solved[call.message.id] = replace(found, is_exact=True) if found else self._guess(call, bool(system))

    def _candidates(self, call: CallView) -> Any:
        """Yield the possible inputs, the likely ones first."""
        earlier = [other for other in self._view.calls if other.message.id in self.solved]
        earlier.sort(
            key=lambda other: (other.turn == call.turn, other.place == call.place, other.message.at), reverse=True
        )
        if not any(other.turn == call.turn for other in earlier):
            yield from (_extend(None, part) for part in self._view.inputs_without_history(call))
        for other in earlier[:_CANDIDATES]:
            base = self.solved[other.message.id]
            for answer in self._view.answers(other):
                for between in self._view.between(other, call):
                    yield _extend(base, [answer, *between])
        yield from (_extend(None, part) for part in self._view.inputs_without_history(call))
        yield _extend(None, self._view.chat_input(call))

    def _guess(self, call: CallView, has_system: bool) -> _Solved:
        """Return the likely input of a call whose messages cannot be checked."""
        continued = self._view.continued_call(call)
        if continued is not None and continued.message.id in self.solved:
            base = self.solved[continued.message.id]
            between = self._view.between(continued, call)[0]
            guess = _extend(base, [self._view.answers(continued)[0], *between])
        else:
            guess = _extend(None, self._view.chat_input(call))
        kept = (_count_of(call) or 0) - has_system
        if 0 < kept < len(guess.messages):
            return replace(guess, messages=guess.messages[-kept:], is_shortened=True)
        return guess


def _extend(base: _Solved | None, messages: list[SentMessage]) -> _Solved:
    state = base.state if base is not None else input_hash.NO_MESSAGES
    for message in messages:
        state = input_hash.add_message(state, message.role, message.content, message.tool_calls)
    return _Solved([*(base.messages if base is not None else ()), *messages], state)


def _count_of(call: CallView) -> int | None:
    count = call.properties.get("input_messages")
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _note(call: CallView, solved: _Solved, count: int | None, system: str) -> str:
    if solved.is_exact:
        return "The number of messages and their hash are those that gati recorded with the call."
    if count is None:
        return "Put together from the conversation. The client did not report what it sent."
    sent = f"The model was sent {count} {'message' if count == 1 else 'messages'}, the system prompt included."
    if call.properties.get("input_hash"):
        return f"{sent} This reconstruction differs from them: a part was not delivered, was shortened, or had another order."
    if solved.is_shortened:
        return f"{sent} The conversation has more, so the program left some out. The last ones are shown."
    return f"{sent} There is no hash to check them: the program changed earlier messages, a mask is set, or another process sent them."
