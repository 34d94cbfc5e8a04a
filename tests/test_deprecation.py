"""Old public names keep working for the promised time, and each use warns."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from gati import events, observe
from gati.events import ChatMessage, Conversation, LLMCallEvent, Turn
from gati.testing import Captured

MESSAGE = ChatMessage("m", "user", "hello", 1)


def test_said_is_the_chat_message() -> None:
    with pytest.warns(DeprecationWarning, match="Said was renamed to gati.events.ChatMessage"):
        assert events.Said is ChatMessage


def test_a_turn_takes_and_gives_said() -> None:
    with pytest.warns(DeprecationWarning, match=r"Turn\(said=\) was renamed to Turn\(messages=\)"):
        turn = Turn("r", Conversation("c"), said=[MESSAGE])  # type: ignore[call-arg]  # the old name
    assert turn.messages == [MESSAGE]
    with pytest.warns(DeprecationWarning, match=r"Turn.said was renamed to Turn.messages"):
        assert turn.said == [MESSAGE]  # type: ignore[attr-defined]  # the old name


def test_a_model_call_takes_gives_and_sets_shown() -> None:
    with pytest.warns(DeprecationWarning, match="is_answer"):
        event = LLMCallEvent(shown=True)  # type: ignore[call-arg]  # the old name
    assert event.is_answer
    with pytest.warns(DeprecationWarning, match="LLMCallEvent.shown"):
        event.shown = False  # type: ignore[attr-defined]  # the old name
    with pytest.warns(DeprecationWarning, match="LLMCallEvent.shown"):
        assert event.shown is False  # type: ignore[attr-defined]  # the old name


def test_captured_said_is_the_transcript() -> None:
    captured = Captured(turns=[Turn("r", Conversation("c"), messages=[MESSAGE])])
    with pytest.warns(DeprecationWarning, match="transcript"):
        assert captured.said() == captured.transcript() == [("user", "hello")]


def test_masked_out_counts_mask_failures() -> None:
    with pytest.warns(DeprecationWarning, match="mask_failures"):
        assert observe.stats().masked_out == 0


def test_new_names_do_not_warn_and_keep_their_signature() -> None:
    turn = Turn("r", Conversation("c"), messages=[MESSAGE])
    assert dataclasses.replace(turn, name="n").messages == [MESSAGE]
    assert "messages" in inspect.signature(Turn).parameters
    assert "said" not in inspect.signature(Turn).parameters
