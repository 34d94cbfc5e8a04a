"""Recognize the results of tools in the messages that a program writes itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gati.trace.content import text_of
from gati.trace.outputs import tool_messages_in
from gati.trace.records import Message

if TYPE_CHECKING:
    from gati.trace.run_tree import Run

_DISTINCTIVE_WORDS = 3
"""Fewest words of a text that is not in another one by chance."""
_DISTINCTIVE_CHARS = 16
"""Fewest characters of a word that is not in another text by chance: an id, an address, or text in a script without spaces."""
_MAX_SEARCHED = 20
"""Most texts of a result that are searched in other texts."""
_MAX_DEPTH = 6
"""Depth to which a result is searched for texts."""


class ToolResults:
    """The results of tool runs, in the forms in which a program may write them into a message.

    Many messages may be compared with them, so each result is serialized only once.

    Args:
        runs: the tool runs. A run that failed or has not ended has no result.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._values = [run.output for run in runs if run.ended is not None and run.error is None]

    def has_message_of(self, call_id: str | None) -> bool:
        """Return True if a tool returned the tool message of a call itself."""
        return call_id in self._call_ids

    def has(self, text: str, value: Any) -> bool:
        """Return True if a text is one of the results. `value`: what `read_json` makes of the text."""
        return text in self._texts or value in self._values

    def is_in(self, text: str, value: Any) -> bool:
        """Return True if a text is one of the results, or contains one.

        A result that is not distinctive, such as "ok" or "12", is in other texts by chance: it must be the whole text.
        """
        return self.has(text, value) or any(result in text for result in self._distinctive)

    @cached_property
    def _call_ids(self) -> list[str | None]:
        return [message.tool_call_id for value in self._values for message in tool_messages_in(value)]

    @cached_property
    def _forms(self) -> list[list[str]]:
        """The forms of each result, without repetitions."""
        return [list(dict.fromkeys(_forms_of(value))) for value in self._values]

    @cached_property
    def _texts(self) -> set[str]:
        return {text for forms in self._forms for text in forms}

    @cached_property
    def _distinctive(self) -> list[str]:
        return [text for forms in self._forms for text in forms[:_MAX_SEARCHED] if is_distinctive(text)]


def is_distinctive(text: str) -> bool:
    """Return True if a text is not in another one by chance: it has three words, or a word as long as an id."""
    words = text.split(None, _DISTINCTIVE_WORDS - 1)
    return len(words) == _DISTINCTIVE_WORDS or any(len(word) >= _DISTINCTIVE_CHARS for word in words)


def _forms_of(result: Any) -> Iterator[str]:
    """Yield a result as text and as the JSON that LangChain makes of it, and the texts in it."""
    if isinstance(result, str):
        yield result
        return
    if not isinstance(result, Message):
        yield str(result)
        yield json.dumps(result, ensure_ascii=False, default=str, skipkeys=True)
        if text := text_of(result):  # content blocks are joined
            yield text
    yield from _texts_in(result, _MAX_DEPTH)


def _texts_in(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, (str, Message)):
        if text := text_of(value):
            yield text
    elif depth and isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item, depth - 1)
