"""Replace encoded media inside the texts of a turn: messages, answers and prompts.

A program may write a picture into a text, as a data URL in Markdown or as the value of a template's variable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gati.events import LLMCallEvent
from gati.trace.bare_base64 import MIN_CHARS, without_media

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gati.events import ChatMessage, Event, Prompt


class MediaInTexts:
    """Replaces encoded media in texts by notes such as ``[image/png, 90008 bytes]``.

    Remembers long texts, because the calls of a turn repeat their prompt.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def text(self, text: str) -> str:
        """Return a text without encoded media."""
        if len(text) < MIN_CHARS:
            return text
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = without_media(text)
        return found

    def message(self, message: ChatMessage) -> ChatMessage:
        """Return a message without encoded media in its text; the message itself if it has none."""
        text = self.text(message.text)
        return message if text == message.text else replace(message, text=text)

    def clean(self, events: Iterable[Event]) -> None:
        """Remove encoded media from the texts of model calls."""
        for event in events:
            if isinstance(event, LLMCallEvent):
                event.prompt, event.system_prompt = self.text(event.prompt), self.text(event.system_prompt)
                event.completion = self.text(event.completion)
                event.candidates = [self.text(candidate) for candidate in event.candidates]
                if event.structured_prompt is not None:
                    event.structured_prompt = self._prompt(event.structured_prompt)

    def _prompt(self, prompt: Prompt) -> Prompt:
        if self.text(prompt.text) == prompt.text:
            return prompt
        return replace(
            prompt,
            text=self.text(prompt.text),
            components=[replace(part, content=self.text(part.content)) for part in prompt.components],
            variables={name: self.text(value) for name, value in prompt.variables.items()},
        )
