"""Compute the number of messages and the rolling hash of what each model call was sent.

A record contains only the new messages of a call. Those before them end with the answer of an earlier call, so the
hash continues from the hash of that call.
"""

from __future__ import annotations

from typing import NamedTuple

from gati import input_hash
from gati.events import LLMCallEvent
from gati.trace.chat_messages import as_message
from gati.trace.content import text_of, tool_requests_of
from gati.trace.records import Message, ModelCall, ModelResult
from gati.trace.run_tree import Run

MAX_ANSWERS = 4_096
"""Answers remembered; the oldest is dropped first."""
_MEASURED_MESSAGES = 8
_SHORTENED = "[shortened by gati, "


class _Sent(NamedTuple):
    """Messages up to and including an answer.

    `text` and `system` are hashes of the answer and of the system prompt, `tokens_in` are the tokens of the call that
    produced the answer, and `lengths` those of the first messages.
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
        self._by_answer: dict[str | int, _Sent] = {}

    def add(self, run: Run, event: LLMCallEvent) -> str | None:
        """Return the hash of a call's messages, and remember its answer.

        None if not all of the messages are known: earlier ones were removed or changed, another process has seen
        them, or a text was too long to be kept.
        """
        call, system = run.inputs, event.system_prompt
        if not isinstance(call, ModelCall) or _SHORTENED in system:
            return None
        earlier = call.total - len(call.system) - len(call.messages)
        known = self._find(call, earlier, event) if earlier else None
        if earlier and known is None:
            return None
        state, lengths = (input_hash.NO_MESSAGES, []) if known is None else (known.state, [*known.lengths])
        for item in call.messages:
            message = as_message(item)
            if message is None or _SHORTENED in str(content := message.content):
                return None
            lengths.append(len(content) if isinstance(content, (str, list)) else -1)
            calls = tool_requests_of(message) if message.tool_calls else ()
            text = content if type(content) is str else text_of(message)
            state = input_hash.add_message(state, input_hash.hashed_role(message.role), text, calls)
        if isinstance(run.output, ModelResult) and run.output.messages and run.error is None:
            self._remember(run.output.messages[0], call, state, lengths, event)
        return input_hash.hash_of(state, system)

    def _find(self, call: ModelCall, earlier: int, event: LLMCallEvent) -> _Sent | None:
        """Return what is known about the messages before the new ones; None if the program changed them."""
        if call.repeats is None:
            return None
        answer_id, text, lengths = call.repeats.answer_id, call.repeats.answer_text, call.repeats.lengths
        known = self._by_answer.get(answer_id) if answer_id is not None else None
        known = known or (self._by_answer.get(text) if text is not None else None)
        if known is None or known.messages != earlier or text not in (None, known.text):
            return None
        if lengths[: len(known.lengths)] != known.lengths:
            return None
        # More messages need more tokens. Fewer mean that the program shortened an earlier message.
        is_comparable = known.system == hash(event.system_prompt) and None not in (known.tokens_in, event.tokens_in)
        return None if is_comparable and (event.tokens_in or 0) < (known.tokens_in or 0) else known

    def _remember(
        self, answer: Message, call: ModelCall, state: bytes, lengths: list[int], event: LLMCallEvent
    ) -> None:
        content = answer.content
        if _SHORTENED in str(content):
            return
        text = hash(content) if isinstance(content, str) else 0
        lengths.append(len(content) if isinstance(content, (str, list)) else -1)
        sent = _Sent(
            call.total - len(call.system) + 1,
            input_hash.add_message(state, "assistant", event.completion, event.tool_requests),
            text, hash(event.system_prompt), event.tokens_in, tuple(lengths[:_MEASURED_MESSAGES]),
        )  # fmt: skip
        known = self._by_answer
        if answer.id:
            known[answer.id] = sent
        if text:
            known[text] = sent
        while len(known) > MAX_ANSWERS:
            del known[next(iter(known))]
