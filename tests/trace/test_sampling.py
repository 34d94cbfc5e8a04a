"""`gati.trace.sampling`: one decision for each conversation."""

from __future__ import annotations

import subprocess
import sys
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableLambda

from gati import observe
from gati.events import Action, StepEvent
from gati.settings import load
from gati.testing import capture
from gati.trace.sampling import Sampler, sampler_of

echo = RunnableLambda(lambda text: text, name="echo")
CONVERSATIONS = [f"c-{number}" for number in range(400)]


def test_all_turns_of_a_conversation_are_delivered_or_none() -> None:
    with capture(sample_rate=0.25) as captured:
        for _ in range(2):
            for name in CONVERSATIONS:
                with observe.conversation(name):
                    echo.invoke(name)
        observe.flush()
        skipped = observe.stats().sampled_out
    delivered = [turn.conversation.id for turn in captured.turns]
    assert delivered == [name for _ in range(2) for name in CONVERSATIONS if Sampler(0.25).keeps(name)]
    assert 60 < len({*delivered}) < 140
    assert skipped == 800 - len(delivered)


def test_every_process_makes_the_same_decision() -> None:
    program = "from gati.trace.sampling import Sampler; print([n for n in range(400) if Sampler(0.25).keeps(f'c-{n}')])"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == str([n for n in range(400) if Sampler(0.25).keeps(f"c-{n}")])


def test_a_higher_rate_keeps_what_a_lower_one_keeps() -> None:
    low, high = ({name for name in CONVERSATIONS if Sampler(rate).keeps(name)} for rate in (0.2, 0.6))
    assert low < high
    assert not any(Sampler(0.0).keeps(name) for name in CONVERSATIONS)


def test_ratings_and_events_follow_their_conversation() -> None:
    with capture(sample_rate=0.0) as captured:
        with observe.conversation("c-1"):
            echo.invoke("a", {"run_id": (run_id := uuid4())})
            observe.log_rating(rating=1)
            observe.log_event("bought", value="1", user_id="u")
            observe.track_event(StepEvent(step_name="by hand"))
        observe.log_rating(rating=1, run_id=run_id)
        observe.identify_user("u")
    assert (captured.turns, captured.events) == ([], [])
    assert [action.endpoint for action in captured.actions] == ["events", "users"]
    assert "external_conversation_id" not in captured.actions[0].body


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        ({}, False),
        ({"sample_rate": 1.0}, False),
        ({"sample_rate": 0.5}, True),
        ({"sample_rate": 0.5, "force_sample": True}, False),
        ({"sample_rate": 0.5, "force_sample": False}, False),
    ],
)
def test_the_program_samples_unless_force_sample_says_otherwise(options: dict[str, float], samples: bool) -> None:
    assert (sampler_of(load(local=False, **options)) is not None) is samples


def test_items_without_a_conversation_are_delivered() -> None:
    action = Action("organizations", {"external_organization_id": "o"})
    assert Sampler(0.0).filter([action], lambda message: None) == [action]
