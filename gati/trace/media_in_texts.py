"""Replace encoded media inside the texts of a turn: messages, answers and prompts.

A program may write a picture into a text, as a data URL in Markdown or as the value of a template's variable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gati.trace.bare_base64 import MIN_CHARS, without_media

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gati.events import ChatMessage, LLMCallEvent, Prompt
    from gati.trace.run_tree import Run


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
        if len(message.text) < MIN_CHARS:
            return message
        text = self.text(message.text)
        return message if text == message.text else replace(message, text=text)

    def clean(self, models: Iterable[tuple[Run, LLMCallEvent]]) -> None:
        """Remove encoded media from the texts of model calls."""
        for _, event in models:
            prompt = event.structured_prompt
            size = len(event.prompt) + len(event.completion) + len(event.system_prompt)
            if size >= MIN_CHARS or event.candidates or (prompt is not None and len(prompt.text) >= MIN_CHARS):
                event.prompt, event.system_prompt = self.text(event.prompt), self.text(event.system_prompt)
                event.completion = self.text(event.completion)
                event.candidates = list(map(self.text, event.candidates))
                event.structured_prompt = self._prompt(prompt) if prompt is not None else None

    def _prompt(self, prompt: Prompt) -> Prompt:
        if self.text(prompt.text) == prompt.text:
            return prompt
        return replace(
            prompt,
            text=self.text(prompt.text),
            components=[replace(part, content=self.text(part.content)) for part in prompt.components],
            variables={name: self.text(value) for name, value in prompt.variables.items()},
        )
