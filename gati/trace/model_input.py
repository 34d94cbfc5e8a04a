"""Compute the number of messages and the rolling hash of what each model call was sent.

A record contains only the new messages of a call. Those before them end with the answer of an earlier call, so the
hash continues from the hash of that call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from gati import input_hash
from gati.trace.chat_io import as_message
from gati.trace.content import text_of, tool_requests_of
from gati.trace.records import Message, ModelCall, ModelResult
from gati.trace.run_tree import Run

MAX_ANSWERS = 20_000
"""Answers remembered; the oldest is dropped first."""
_MEASURED_MESSAGES = 8
_SHORTENED = "[shortened by gati, "


class _Sent(NamedTuple):
    """Messages up to and including an answer. `tokens_in` are those of the call that produced it.

    `lengths` are those of the first messages; the callback measures a few.
    """

    messages: int
    state: bytes
    text: int
    system: int
    tokens_in: int | None
    lengths: tuple[int, ...]


class ModelInputs:
    """The messages that model calls of this process were sent, as hashes."""

    def __init__(self) -> None:
        self._by_answer: OrderedDict[str | int, _Sent] = OrderedDict()

    def add(self, run: Run, system_prompt: str, tokens_in: int | None) -> str | None:
        """Return the hash of a call's messages, and remember its answer.

        None if not all of the messages are known: earlier ones were removed or changed, another process has seen
        them, or a text was too long to be kept.
        """
        call = run.inputs
        if not isinstance(call, ModelCall):
            return None
        if (state := self._state_of(call, system_prompt, tokens_in)) is None:
            return None
        answers = run.output.messages if isinstance(run.output, ModelResult) else ()
        if answers and run.error is None:
            self._remember(answers[0], call, state, system_prompt, tokens_in)
        return input_hash.hash_of(state, system_prompt)

    def _state_of(self, call: ModelCall, system_prompt: str, tokens_in: int | None) -> bytes | None:
        state = input_hash.NO_MESSAGES
        earlier = call.total - len(call.system) - len(call.messages)
        if earlier:
            known = self._find(call)
            if known is None or known.messages != earlier:
                return None
            # More messages need more tokens. Fewer mean that the program shortened an earlier message.
            same_system = known.system == hash(system_prompt)
            if same_system and None not in (tokens_in, known.tokens_in) and (tokens_in or 0) < (known.tokens_in or 0):
                return None
            state = known.state
        for item in call.messages:
            message = as_message(item)
            if message is None or _is_shortened(message):
                return None
            state = _add(state, message)
        return None if _SHORTENED in system_prompt else state

    def _find(self, call: ModelCall) -> _Sent | None:
        """Return what is known about the answer that precedes the new messages; None if the program changed it."""
        if call.repeats is None:
            return None
        answer_id, text, lengths = call.repeats
        known = self._by_answer.get(answer_id) if answer_id is not None else None
        known = known or (self._by_answer.get(text) if text is not None else None)
        if known is None or text not in (None, known.text) or lengths[: len(known.lengths)] != known.lengths:
            return None
        return known

    def _remember(
        self, answer: Message, call: ModelCall, state: bytes, system_prompt: str, tokens_in: int | None
    ) -> None:
        if _is_shortened(answer):
            return
        text = hash(answer.content) if isinstance(answer.content, str) else 0
        messages = call.total - len(call.system) + 1
        lengths = self._lengths(call, answer)
        sent = _Sent(messages, _add(state, answer), text, hash(system_prompt), tokens_in, lengths)
        for key in (answer.id, text):
            if key:
                self._by_answer[key] = sent
                self._by_answer.move_to_end(key)
        while len(self._by_answer) > MAX_ANSWERS:
            self._by_answer.popitem(last=False)


    def _lengths(self, call: ModelCall, answer: Message) -> tuple[int, ...]:
        known = self._find(call)
        new = [_length_of(item) for item in (*call.messages, answer)]
        return (*(known.lengths if known is not None else ()), *new)[:_MEASURED_MESSAGES]


def _length_of(item: object) -> int:
    content = item.content if isinstance(item, Message) else None
    return len(content) if isinstance(content, (str, list)) else -1


def _add(state: bytes, message: Message) -> bytes:
    calls = [(str(call.get("name") or ""), call.get("args")) for call in tool_requests_of(message)]
    return input_hash.add_message(state, input_hash.role_of(message.role), text_of(message), calls)


def _is_shortened(message: Message) -> bool:
    return _SHORTENED in str(message.content)
