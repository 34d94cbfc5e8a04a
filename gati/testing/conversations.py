"""Captured conversations, with assertions for tests of programs that use gati."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gati.events import LLMCallEvent, ToolCallEvent, Turn

if TYPE_CHECKING:
    from gati.testing._capture import Captured


@dataclass(frozen=True)
class Golden:
    """The files with the golden conversations of one test.

    Attributes:
        folder: the folder of the files.
        test: name of the test, which begins the names of its files.
        update: write the files instead of comparing with them.
    """

    folder: Path
    test: str
    update: bool = False

    def path(self, name: str) -> Path:
        """Return the file for a golden conversation of the test."""
        stem = "-".join(part for part in (self.test, name) if part)
        return self.folder / ("".join(c if c.isalnum() or c in "-_." else "_" for c in stem) + ".txt")


class Conversation:
    """One captured conversation.

    The assertions raise `AssertionError` with the conversation in the message. They return a true value otherwise, so
    `assert conversation.tools_called("search")` reads well, too.

    Attributes:
        id: the conversation's id.
        turns: its turns, in the order in which they ended.
    """

    def __init__(self, conversation_id: str, turns: list[Turn], golden: Golden) -> None:
        self.id = conversation_id
        self.turns = turns
        self._golden = golden

    def __repr__(self) -> str:
        return f"<Conversation {self.id!r}\n{self.as_text()}>"

    @property
    def user_id(self) -> str:
        """The user of the last turn; `anonymous` if the program names none."""
        return self.turns[-1].conversation.user_id

    def transcript(self) -> list[tuple[str, str]]:
        """Return the messages as ``(role, text)``, in order: the user's, then the answer, turn by turn."""
        messages = [m for turn in self.turns for m in (*turn.messages, turn.answer) if m is not None]
        return [(message.role, message.text) for message in messages]

    def tool_calls(self, name: str | None = None) -> list[ToolCallEvent]:
        """Return the tool calls of all turns, or those of one tool."""
        calls = [event for turn in self.turns for event in turn.events if isinstance(event, ToolCallEvent)]
        return [call for call in calls if name in (None, call.tool_name)]

    def model_calls(self) -> list[LLMCallEvent]:
        """Return the model calls of all turns."""
        return [event for turn in self.turns for event in turn.events if isinstance(event, LLMCallEvent)]

    def tools_called(self, *names: str, args: Mapping[str, Any] | None = None) -> list[ToolCallEvent]:
        """Assert that each of the tools was called, and return the calls.

        Args:
            names: names of tools.
            args: arguments that a call must contain, with equal values; it may have others.
        """
        found: list[ToolCallEvent] = []
        for name in names:
            calls = [call for call in self.tool_calls(name) if _has_values(call.input, args or {})]
            if not calls:
                wanted = f" with {_as_json(args)}" if args else ""
                raise AssertionError(f"the tool {name!r} was not called{wanted}:\n{self.as_text()}")
            found += calls
        return found

    def answered_without(self, *texts: str) -> bool:
        """Assert that there is an answer, and that no answer contains one of the texts, in whatever case."""
        answers = [text for role, text in self.transcript() if role == "assistant"]
        if not answers:
            raise AssertionError(f"there is no answer:\n{self.as_text()}")
        for text in texts:
            if any(text.casefold() in answer.casefold() for answer in answers):
                raise AssertionError(f"an answer contains {text!r}:\n{self.as_text()}")
        return True

    def cost_below(self, dollars: float) -> bool:
        """Assert that all model calls together cost less than this, in US dollars. The price of each must be known."""
        calls = self.model_calls()
        if unknown := sorted({call.model or "unknown" for call in calls if call.cost is None}):
            raise AssertionError(f"the cost of some model calls is unknown: {', '.join(unknown)}")
        cost = sum(call.cost or 0.0 for call in calls)
        if cost >= dollars:
            raise AssertionError(f"{len(calls)} model calls cost ${cost:.6f}, not less than ${dollars:.6f}")
        return True

    def matches_golden(self, name: str = "") -> bool:
        """Assert that messages and tool calls are as in the golden file. `pytest --gati-update` writes the file.

        Args:
            name: distinguishes several golden conversations of one test.
        """
        path, text = self._golden.path(name), self.as_text() + "\n"
        if self._golden.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            return True
        if not path.exists():
            raise AssertionError(f"{path} does not exist; `pytest --gati-update` writes it:\n{text}")
        golden = path.read_text("utf-8")
        if golden != text:
            diff = difflib.unified_diff(golden.splitlines(), text.splitlines(), "golden", "captured", lineterm="")
            lines = "\n".join(diff)
            raise AssertionError(f"not as in {path} (`pytest --gati-update` rewrites it):\n{lines}")
        return True

    def as_text(self) -> str:
        """Return messages and tool calls as text, without ids and times.

        ``user: Weather in Paris?``, ``  tool weather {"city": "Paris"} → {"output": "sunny"}``, ``assistant: Sunny.``
        """
        return "\n".join(line for turn in self.turns for line in _lines_of(turn))


class Conversations:
    """The value of the fixture `gati`: what the program under test has recorded so far.

    Attributes:
        captured: everything, as `gati.testing.capture` returns it.
    """

    def __init__(self, captured: Captured, golden: Golden, flush: Callable[[], None]) -> None:
        self.captured = captured
        self._golden = golden
        self._flush = flush

    @property
    def conversations(self) -> list[Conversation]:
        """All conversations, in the order of their first turn that ended. Waits until the turns are assembled."""
        self._flush()
        turns: dict[str, list[Turn]] = {}
        for turn in self.captured.turns:
            turns.setdefault(turn.conversation.id, []).append(turn)
        return [Conversation(conversation_id, found, self._golden) for conversation_id, found in turns.items()]

    def conversation(self, conversation_id: str | None = None) -> Conversation:
        """Return a conversation; without an id, the only one.

        Raises:
            AssertionError: there is no such conversation, or there are several.
        """
        found = [c for c in self.conversations if conversation_id in (None, c.id)]
        if len(found) != 1:
            ids = ", ".join(repr(c.id) for c in (found or self.conversations)) or "none"
            wanted = "one conversation" if conversation_id is None else f"the conversation {conversation_id!r}"
            raise AssertionError(f"expected {wanted}, recorded: {ids}")
        return found[0]


def _lines_of(turn: Turn) -> list[str]:
    lines = [f"{message.role}: {_indented(message.text)}" for message in turn.messages]
    for event in turn.events:
        if isinstance(event, ToolCallEvent):
            result = event.error_message or event.error_type if event.status == "error" else _as_json(event.output)
            lines.append(f"  tool {event.tool_name} {_as_json(event.input)} → {result}")
    if turn.answer is not None:
        lines.append(f"{turn.answer.role}: {_indented(turn.answer.text)}")
    if turn.status != "completed":
        lines.append(f"  status: {turn.status}")
    return lines


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _has_values(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in given and given[name] == value for name, value in wanted.items())
