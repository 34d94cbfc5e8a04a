"""Helpers for tests of programs that use gati: see what would be delivered, without sending anything.

::

    from gati.testing import ScriptedChatModel, capture

    tutor = ScriptedChatModel(replies=["4"])  # in your tests: your program

    def test_the_tutor_answers():
        with capture() as captured:
            tutor.invoke("What is 2 + 2?")
        assert captured.turns[0].answer.text == "4"

With pytest, the fixture `gati` does the same and offers assertions; see `gati.testing.pytest_plugin`.

`ScriptedChatModel` is a chat model with predefined replies. `gati.testing.server` is a local Greenflash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.testing._capture import Captured, Clock, capture
from gati.testing.conversations import Conversation, Conversations

if TYPE_CHECKING:
    from gati.testing.scripted_model import ScriptedChatModel

__all__ = ["Captured", "Clock", "Conversation", "Conversations", "ScriptedChatModel", "capture"]


def __getattr__(name: str) -> Any:
    if name == "ScriptedChatModel":
        from gati.testing.scripted_model import ScriptedChatModel  # imports LangChain

        return ScriptedChatModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
