"""`POST /api/events`, as SDKs for a GATI backend use it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import gati_backend


def event(**more: Any) -> dict[str, Any]:
    given = {
        "event_type": "llm_call", "run_id": "run", "run_name": "temp_1", "agent_name": "tutor", "event_id": "e1",
        "timestamp": "2026-11-20T10:00:00Z", "parent_event_id": None, "data": {"prompt": "Hi", "completion": "Hello"},
    }  # fmt: skip
    return {**given, **more}


def test_events_are_stored_once_and_available_as_messages() -> None:
    with gati_backend() as local:
        events = [event(), event(event_id="e2", event_type="tool_call", data={"tool_name": "calc", "output": 3})]
        assert local.post({"events": events}, "/api/events").status_code == 201
        assert local.post({"events": events}, "/api/events").json()["stored"] == 0
        assert local.events() == events
        kinds = [message["messageType"] for message in local.messages("run")]
    assert kinds == ["user_message", "llm", "assistant_message", "tool_call", "observation"]


@pytest.mark.parametrize(
    "change",
    [
        {"event_type": ""}, {"event_type": "x" * 51}, {"run_id": "x" * 37}, {"run_name": "x" * 256}, {"agent_name": None},
        {"timestamp": "now"}, {"event_id": "x" * 37}, {"parent_event_id": ""}, {"data": None}, {"data": []},
    ],
)  # fmt: skip
def test_one_invalid_event_rejects_the_whole_batch(change: dict[str, Any]) -> None:
    with gati_backend() as local:
        response = local.post({"events": [event(), event(event_id="e2") | change]}, "/api/events")
        assert (response.status_code, local.events()) == (422, [])


@pytest.mark.parametrize("change", [{"run_id": "other", "run_name": "fixed"}, {"agent_name": "other"}])
def test_conflicting_run_names_return_500_as_in_a_gati_backend(change: dict[str, Any]) -> None:
    with gati_backend() as local:
        assert local.post({"events": [event(run_name="fixed")]}, "/api/events").status_code == 201
        second = event(event_id="e2", run_name="fixed") | change
        assert local.post({"events": [second]}, "/api/events").status_code == 500
        assert len(local.events()) == 1
