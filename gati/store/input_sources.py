"""The messages of a conversation as a model receives them: questions, answers with tool calls, results of tools. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gati import input_hash
from gati.events import has_client_calls
from gati.store.attachments import Attachment, describe, stored_attachments
from gati.store.queries import StoredMessage
from gati.store.turn_view import StepView, TurnView

_NOT_CONTENT = {"artifact", "goto", "graph"}
"""Keys of a tool's output that the model does not receive."""


@dataclass(frozen=True)
class SentMessage:
    """A message that a model was sent or returned.

    Attributes:
        role: "user", "assistant", "tool", "system" or another role.
        content: Its text; for a tool's result, any value.
        tool_calls: The tool calls in an assistant's message: name, arguments and id.
        name: Name of the tool.
        attachments: Its pictures, sounds and files.
        source: Row of the message that it was found in.
    """

    role: str
    content: Any
    tool_calls: tuple[dict[str, Any], ...] = ()
    name: str | None = None
    attachments: tuple[Attachment, ...] = ()
    source: int | None = None


@dataclass(frozen=True)
class CallView:
    """A model call: its step, the number of its turn, and its place, which is where its parent is in the turn."""

    step: StepView
    turn: int
    place: str

    @property
    def message(self) -> StoredMessage:
        """The call's message."""
        return self.step.message

    @property
    def properties(self) -> dict[str, Any]:
        """The call's properties."""
        return self.step.properties

    @property
    def output(self) -> dict[str, Any]:
        """The call's output."""
        output = self.message.body.get("output")
        return output if isinstance(output, dict) else {"text": output} if output else {}

    @property
    def thought(self) -> str:
        """The model's reasoning, or its text beside tool calls."""
        thoughts = [child.message.body for child in self.step.children if child.kind == "thought"]
        texts = [_text_of_input(body.get("output")) or str(body.get("content") or "") for body in thoughts]
        return "\n\n".join(text for text in texts if text)


class ConversationView:
    """The turns of a conversation, for finding the messages of its model calls."""

    def __init__(self, turns: list[TurnView]) -> None:
        self.turns = turns
        self._steps = [turn.all_steps for turn in turns]
        found = [
            CallView(step, number, place)
            for number, steps in enumerate(self._steps)
            for step, place in _places_of(steps)
            if step.kind == "llm"
        ]
        self.calls = sorted(found, key=lambda call: (call.message.at, call.message.id))
        self._call_keys = {call.message.key for call in found}

    def answers(self, call: CallView) -> list[SentMessage]:
        """Return what the call returned; several possibilities if the delivered messages do not tell."""
        requests = tuple(self.requests(call))
        text = _text_of_input({key: call.output[key] for key in ("text", "content") if key in call.output})
        answer = "" if has_client_calls(list(requests)) else self._answer_text(call)
        thought = call.thought if requests else ""
        texts = list(dict.fromkeys(one for one in (text, answer, thought) if one)) or [""]
        if requests and thought:
            texts.append("")  # the thought may be reasoning, which is not text
        media = tuple(stored_attachments(call.message.body))
        return [SentMessage("assistant", one, requests, None, media, call.message.id) for one in texts]

    def _answer_text(self, call: CallView) -> str:
        """Return the answer of the call's turn, if the call can have given it."""
        if call.properties.get("internal") or call.step.status == "error":
            return ""
        texts = [str(answer.body.get("content") or "") for answer in self.turns[call.turn].answers]
        return texts[-1] if texts else ""

    def requests(self, call: CallView) -> list[dict[str, Any]]:
        """Return the tool calls that a model asked for; by default those that ran before the next model call."""
        given = call.output.get("tool_calls")
        if isinstance(given, list) and given:
            return [item for item in given if isinstance(item, dict)]
        return [
            {"name": step.message.body.get("toolName"), "args": step.message.body.get("input"), "id": step.message.key}
            for step in self._tools_after(call)
        ]

    def _tools_after(self, call: CallView) -> list[StepView]:
        """Return the tool calls between a call and the next one, for clients that do not say who asked for them."""
        if call.output.get("text") or call.properties.get("internal"):
            return []
        steps = self._steps[call.turn]
        later = [step for step in steps if (step.message.at, step.message.id) > (call.message.at, call.message.id)]
        later.sort(key=lambda step: (step.message.at, step.message.id))
        tools: list[StepView] = []
        for step in later:
            if step.kind == "llm":
                return [] if step.depth > call.step.depth else tools
            if step.kind == "tool_call":
                tools.append(step)
        return []

    def results(self, call: CallView) -> list[SentMessage]:
        """Return the results of the tools that a call asked for, in the order of its requests."""
        tools = [step for step in self._steps[call.turn] if step.kind == "tool_call"]
        found = []
        for request in self.requests(call):
            step = next((tool for tool in tools if self._answers(tool, request, call.message)), None)
            if step is not None:
                tools.remove(step)
                found.append(_result_of(step))
        return found

    def _answers(self, tool: StepView, request: dict[str, Any], call: StoredMessage) -> bool:
        """Return True if a tool call is the one that a model call requested."""
        properties, body = tool.properties, tool.message.body
        requester = properties.get("requested_by")
        if requester != call.key and requester in self._call_keys:
            return False
        if request.get("id") in (properties.get("tool_call_id"), tool.message.key):
            return True
        is_later = (tool.message.at, tool.message.id) > (call.at, call.id)
        return not properties.get("tool_call_id") and is_later and body.get("toolName") == request.get("name")

    def between(self, earlier: CallView, call: CallView) -> list[list[SentMessage]]:
        """Return the messages after the answer of an earlier call, in the possible orders."""
        results, own = self.results(earlier), _own_messages(call)
        users = [] if earlier.turn == call.turn else self._questions(earlier.turn + 1, call.turn)
        if not own:
            return [[*results, *users]]
        # After a restart, a call contains messages of the history again.
        return [[*results, *users, *own], [*results, *own, *users], [*own, *results, *users], [*results, *users]]

    def inputs_without_history(self, call: CallView) -> list[list[SentMessage]]:
        """Return the inputs of a call that continues no earlier one, in the possible orders."""
        own, users = _own_messages(call), self._questions(call.turn, call.turn)
        if not own or not users:
            return [[*users, *own]]
        return [[*users, *own], [*own, *users], own]

    def chat_input(self, call: CallView) -> list[SentMessage]:
        """Return the chat until the call: all questions and answers, without steps; a given prompt alone."""
        own = _own_messages(call)
        if own and (call.properties.get("internal") or "prompt" in (call.message.body.get("input") or {})):
            return own
        chat: list[SentMessage] = []
        for turn in self.turns[: call.turn]:
            chat += [_message_of_body(message) for message in (*turn.inputs, *turn.answers)]
        return [*chat, *self._questions(call.turn, call.turn), *own]

    def continued_call(self, index: int) -> int | None:
        """Return the number of the call of the same turn whose tools' results a call was probably sent."""
        call = self.calls[index]
        alone = bool(call.properties.get("internal")) or "prompt" in (call.message.body.get("input") or {})
        found = None
        for number in range(index - 1, -1, -1):
            other = self.calls[number]
            if other.turn != call.turn:
                break
            if not self.requests(other):
                continue
            if other.place == call.place:
                return number
            found = number if found is None and not alone else found
        return found

    def _questions(self, first: int, last: int) -> list[SentMessage]:
        """Return the users' messages of some turns, with the answers of those before the last that had no model."""
        found: list[SentMessage] = []
        for number in range(first, last + 1):
            found += [_message_of_body(message) for message in self.turns[number].inputs]
            if number < last:
                found += [_message_of_body(message) for message in self.turns[number].answers]
        return found


def _places_of(steps: list[StepView]) -> Iterator[tuple[StepView, str]]:
    """Yield each step with its parent's parent, by key: an agent's model calls are in nodes of one graph."""
    parents = {step.message.key: str(step.message.body.get("parentExternalMessageId") or "") for step in steps}
    for step in steps:
        parent = parents[step.message.key]
        yield step, parents.get(parent, parent)


def _result_of(step: StepView) -> SentMessage:
    name = str(step.message.body.get("toolName") or "")
    result = step.result
    if result is None:
        return SentMessage("tool", "", name=name, source=step.message.id)
    content = result.body.get("output") or result.body.get("content") or ""
    if isinstance(content, dict):
        if result.type == "tool_error":
            content = content.get("message") or content
        elif "output" in content and not content.keys() - _NOT_CONTENT - {"output"}:
            content = content["output"]
        else:
            content = {key: value for key, value in content.items() if key not in _NOT_CONTENT}
    return SentMessage("tool", content, name=name, source=result.id)


def _message_of_body(message: StoredMessage) -> SentMessage:
    role = "assistant" if message.type == "final_response" else input_hash.hashed_role(message.type)
    text = message.body.get("content") or _text_of_input(message.body.get("output"))
    return SentMessage(role, text or "", (), None, tuple(stored_attachments(message.body)), message.id)


def _own_messages(call: CallView) -> list[SentMessage]:
    """Return the messages that the call itself contains."""
    given = call.message.body.get("input")
    if not isinstance(given, dict):
        return [SentMessage("user", str(given), source=call.message.id)] if given else []
    messages = given.get("messages")
    found = [_own_message(item, call.message.id) for item in messages] if isinstance(messages, list) else []
    if not found and isinstance(prompt := given.get("prompt"), str) and prompt:
        found = [SentMessage("user", prompt, source=call.message.id)]
    return found


def _own_message(item: Any, source: int) -> SentMessage:
    if not isinstance(item, dict):
        return SentMessage("user", str(item), source=source)
    role = input_hash.hashed_role(str(item.get("role") or item.get("type") or "user"))
    content, calls = item.get("content"), item.get("tool_calls")
    media = tuple(
        described
        for block in (content if isinstance(content, list) else ())
        if isinstance(block, dict) and block.get("type") not in (None, "text") and (described := describe(block))
    )
    calls = tuple(call for call in calls if isinstance(call, dict)) if isinstance(calls, list) else ()
    text = _blocks_text(content, "" if role == "assistant" else "\n")
    return SentMessage(role, text, calls, None, media, source)


def _blocks_text(content: Any, separator: str) -> Any:
    if not isinstance(content, list):
        return content or ""
    texts = [block if isinstance(block, str) else _text_of_block(block) for block in content]
    return separator.join(text for text in texts if text)


def _text_of_block(block: Any) -> str:
    text = block.get("text") if isinstance(block, dict) else None
    return text if isinstance(text, str) else ""


def _text_of_input(value: Any) -> str:
    """Return the text of an output: ``{"text": "Hi"}`` → ``Hi``."""
    if isinstance(value, dict):
        value = value.get("text") or value.get("content")
    return value if isinstance(value, str) else ""
