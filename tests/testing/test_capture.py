"""Helpers for users' own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gati import observe
from gati._api.runtime import runtime
from gati.errors import ConfigurationError
from gati.events import Event, LLMCallEvent
from gati.testing import Clock, ScriptedChatModel, capture


def test_capture_contains_turns_and_events():
    with capture(agent_name="tutor") as captured:
        ScriptedChatModel(replies=["4"]).invoke("What is 2 + 2?", {"metadata": {"conversation_id": "c-1"}})
    assert captured.transcript() == [("user", "What is 2 + 2?"), ("assistant", "4")]
    (turn,) = captured.conversation("c-1")
    (call,) = turn.events
    assert isinstance(call, LLMCallEvent)
    assert (turn.agent_name, call.model, call.tokens_in, call.tokens_out) == ("tutor", "gpt-4o-mini", 7, 4)


def test_capture_contains_manual_events_and_actions():
    with capture() as captured:
        observe.identify_user("u-7", name="Ada")
        observe.track_event(Event(event_type="clicked"))
    assert [action.endpoint for action in captured.actions] == ["users"]
    assert [event.event_type for event in captured.events] == ["clicked"]


def test_nothing_is_captured_after_the_block():
    with capture() as captured:
        pass
    ScriptedChatModel(replies=["4"]).invoke("What is 2 + 2?", {"callbacks": observe.get_callbacks()})
    assert captured.turns == []


def test_capture_ends_when_its_block_raises():
    with pytest.raises(KeyError), capture():
        raise KeyError
    assert runtime.pipeline is None


def test_capture_delivers_nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("GREENFLASH_API_KEY", "gf_key")
    monkeypatch.setenv("GREENFLASH_BASE_URL", "http://127.0.0.1:9")
    with capture(local=tmp_path / "store.db", spool_dir=tmp_path / "spool") as captured:
        ScriptedChatModel(replies=["4"]).invoke("What is 2 + 2?")
    assert len(captured.turns) == 1
    assert list(tmp_path.iterdir()) == []


def test_capture_validates_its_options():
    with pytest.raises(ConfigurationError), capture(batch_size=0):
        pass


def test_a_clock_advances_only_on_request():
    clock = Clock()
    before = clock()
    clock.forward(1.5)
    assert clock() - before == 1_500_000_000


@pytest.mark.parametrize("value", ["false", "0"])
def test_capture_is_on_while_the_environment_switches_gati_off(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("GATI_ENABLED", value)
    with capture() as captured:
        ScriptedChatModel(replies=["4"]).invoke("What is 2 + 2?")
    assert captured.transcript() == [("user", "What is 2 + 2?"), ("assistant", "4")]


def test_an_init_inside_of_capture_changes_the_options_only(tmp_path: Path):
    with capture(agent_name="a") as captured:
        observe.init(agent_name="b", local=tmp_path / "s.db", enabled=False)
        ScriptedChatModel(replies=["4"]).invoke("What is 2 + 2?")
    assert [turn.agent_name for turn in captured.turns] == ["b"]
    assert not (tmp_path / "s.db").exists()
