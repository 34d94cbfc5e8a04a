"""Input and output of a model call, put together from the conversation.

A message is delivered once, so a call contains only the messages that no other message reports. This module finds the
others: the history, the questions and the results of tools. gati records the number of messages and a hash of them with
each call, so that a reconstruction can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
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

_LOOK_BACK, _CANDIDATES = 60, 12
"""Of this many earlier calls, those that are tried as the predecessor of a call."""


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
    """Return the input of a model call; None if the message is missing or is not a model call."""
    found = queries.find_message(store, row_id)
    if found is None or found[0].type != "llm":
        return None
    message, summary = found
    view = ConversationView(arrange_turns(queries.messages_around(store, summary.id, message, _BEFORE, _AFTER)))
    index = next(number for number, call in enumerate(view.calls) if call.message.id == message.id)
    call, prompts = view.calls[index], _Prompts(store)
    solved = _Solver(view, prompts).solve(index)
    count = _count_of(call)
    return ModelInput(
        message, summary, prompt_queries.prompt_of_call(store, message.call), solved.messages, view.answers(call)[0], call.thought,
        solved.is_exact, _note(call, solved, count, prompts.text(message.call)), count,
    )  # fmt: skip


@dataclass(frozen=True)
class _Solved:
    messages: list[SentMessage]
    state: bytes
    is_exact: bool = False
    is_shortened: bool = False


class _Prompts:
    """The texts of the system prompts of requests, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._texts: dict[int, str] = {}

    def text(self, request: int) -> str:
        if request not in self._texts:
            self._texts[request] = prompt_queries.prompt_text(self._store, request)
        return self._texts[request]


class _Solver:
    """Finds the messages of calls, given by their number in the conversation. A call may continue an earlier one."""

    def __init__(self, view: ConversationView, prompts: _Prompts) -> None:
        self._view, self._prompts = view, prompts
        self._solved: dict[int, _Solved] = {}

    def solve(self, index: int) -> _Solved:
        """Return the messages of a call: those that its hash confirms, else the likely ones."""
        # In order, so that no call recurses deeply into those that it continues.
        for earlier in range(index + 1):
            self._check(earlier)
        return self._solved.get(index) or self._guess(index)

    def _check(self, index: int) -> None:
        call = self._view.calls[index]
        recorded = call.properties.get("input_hash")
        if not isinstance(recorded, str):
            return
        system = self._prompts.text(call.message.call)
        for candidate in self._candidates(index):
            if input_hash.hash_of(candidate.state, system) == recorded:
                self._solved[index] = replace(candidate, is_exact=True)
                return

    def _candidates(self, index: int) -> Iterator[_Solved]:
        """Yield the possible inputs, the likely ones first."""
        call = self._view.calls[index]
        for other in self._earlier(index):
            base = self._solved[other]
            for answer in self._view.answers(self._view.calls[other]):
                for between in self._view.between(self._view.calls[other], call):
                    yield _extend(base, [answer, *between])
        yield from (_extend(None, part) for part in self._view.inputs_without_history(call))
        yield _extend(None, self._view.chat_input(call))

    def _earlier(self, index: int) -> list[int]:
        """Return the latest calls that are known exactly, those in the same turn and place first."""
        calls, call = self._view.calls, self._view.calls[index]
        latest = [number for number in range(max(0, index - _LOOK_BACK), index) if number in self._solved]
        latest.sort(key=lambda n: (calls[n].turn == call.turn, calls[n].place == call.place, n), reverse=True)
        return latest[:_CANDIDATES]

    def _guess(self, index: int) -> _Solved:
        """Return the likely input of a call whose messages cannot be checked."""
        calls = self._view.calls
        chain = [index]  # the call, the one that it continues, and so on
        while chain[-1] not in self._solved and (continued := self._view.continued_call(chain[-1])) is not None:
            chain.append(continued)
        before = calls[chain[-1]]
        found = self._solved.get(chain.pop()) or _extend(None, self._view.chat_input(before))
        for call in (calls[number] for number in reversed(chain)):
            between = self._view.between(before, call)[0]
            found, before = _extend(found, [self._view.answers(before)[0], *between]), call
        kept = (_count_of(before) or 0) - bool(self._prompts.text(before.message.call))
        if 0 < kept < len(found.messages):
            return replace(found, messages=found.messages[-kept:], is_shortened=True)
        return replace(found, is_exact=False)


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
