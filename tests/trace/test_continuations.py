"""`gati.trace.continuations`: conversations without ids are continued, and those of two people are never merged."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from gati.testing import ScriptedChatModel, capture
from gati.trace import continuations
from gati.trace.continuations import Continuations

Step = tuple[int, str, str, bool]
"""A turn: the thread, the words, the reply ("" if the model fails), and whether its earlier answers are passed as
message objects."""

PEOPLE: list[str | None] = [None, None, "ada", "ada", "bob"]
"""The user of each thread. A thread without one belongs to a person of its own."""


class Threads:
    """Talks in several threads, without a conversation id."""

    def __init__(self) -> None:
        self.histories: list[list[Any]] = [[] for _ in PEOPLE]
        self.thread_of: dict[str, int] = {}
        self.begins_with: dict[str, list[tuple[str, str]]] = {}

    def talk(self, step: Step, cached_id: str | None = None) -> str:
        thread, words, reply, as_objects = step
        history = self.histories[thread]
        history.append(HumanMessage(words) if as_objects else {"role": "user", "content": words})
        run, user = uuid.uuid4(), PEOPLE[thread]
        self.thread_of[str(run)] = thread
        self.begins_with[str(run)] = texts_of(history)
        answer = AIMessage(reply, id=cached_id) if cached_id else reply
        answered = ScriptedChatModel(replies=[answer]).invoke(
            history, {"run_id": run, "metadata": {"user_id": user} if user else {}}
        )
        history.append(answered if as_objects else {"role": "assistant", "content": answered.text})
        return str(run)

    def fail(self, thread: int, words: str) -> str:
        """Ask a model that fails. The question stays in the history."""
        history = self.histories[thread]
        history.append(HumanMessage(words))
        run, user = uuid.uuid4(), PEOPLE[thread]
        self.thread_of[str(run)] = thread
        self.begins_with[str(run)] = texts_of(history)
        with contextlib.suppress(ConnectionError):
            ScriptedChatModel(replies=[ConnectionError()]).invoke(
                history, {"run_id": run, "metadata": {"user_id": user} if user else {}}
            )
        return str(run)


def texts_of(messages: list[Any]) -> list[tuple[str, str]]:
    return [
        (m["role"], m["content"]) if isinstance(m, dict) else ("user" if m.type == "human" else "assistant", m.text)
        for m in messages
    ]


def conversations_of(captured: Any) -> dict[str, list[str]]:
    """Return the ids of the turns by conversation."""
    found: dict[str, list[str]] = {}
    for turn in captured.turns:
        found.setdefault(turn.conversation.id, []).append(turn.run_id)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(PEOPLE) - 1), st.sampled_from(["hi", "thanks"]),
            st.sampled_from(["hello", "bye", ""]), st.booleans(),
        ),
        max_size=14,
    ),
    st.sampled_from([None, "cached-answer"]),
)  # fmt: skip
@example(
    [(2, "thanks", "hello", False), (3, "thanks", "hello", False), (2, "thanks", "", False), (3, "hi", "hello", False)],
    None,
)
def test_the_conversations_of_two_people_are_never_merged(steps: list[Step], cached_id: str | None) -> None:
    threads = Threads()
    with capture(local=False) as captured:
        for step in steps:
            if step[2]:
                threads.talk(step, cached_id)
            else:
                threads.fail(*step[:2])
    for runs in conversations_of(captured).values():
        people = {PEOPLE[thread] or thread for run in runs if (thread := threads.thread_of[run]) >= 0}
        assert len(people) == 1
        for earlier, later in itertools.pairwise(runs):
            before = threads.begins_with[earlier]
            assert threads.begins_with[later][: len(before)] == before


@pytest.mark.parametrize("thread", [0, 2])
@pytest.mark.parametrize("as_objects", [True, False])
def test_a_program_that_passes_its_history_makes_one_conversation(thread: int, as_objects: bool) -> None:
    threads = Threads()
    with capture(local=False) as captured:
        for number in range(70):  # more messages than are recorded
            threads.talk((thread, f"question {number}", f"answer {number}", as_objects))
    is_known = PEOPLE[thread] is not None
    assert len(conversations_of(captured)) == (1 if as_objects or is_known else 70)


@pytest.mark.parametrize("thread", [0, 2])
@pytest.mark.parametrize("repeats", [True, False])
def test_a_turn_that_failed_is_continued_too(thread: int, repeats: bool) -> None:
    threads = Threads()
    with capture(local=False) as captured:
        threads.talk((thread, "hi", "hello", True))
        threads.fail(thread, "and?")
        if repeats:
            threads.histories[thread].pop()
        threads.talk((thread, "and?", "well", True))
        threads.talk((thread, "thanks", "bye", True))
    assert [len(runs) for runs in conversations_of(captured).values()] == [4]


def test_a_history_in_which_middleware_replaced_personal_data_is_continued() -> None:
    agents, middleware = pytest.importorskip("langchain.agents"), pytest.importorskip("langchain.agents.middleware")
    history: list[Any] = []
    with capture(local=False) as captured:
        for number in range(3):
            pii = middleware.PIIMiddleware("email", apply_to_output=True)
            model = ScriptedChatModel(replies=[f"Answer {number} to ada@example.com."])
            agent = agents.create_agent(model, [], middleware=[pii])
            asked = HumanMessage(f"Question {number} of bob@example.com")
            history = agent.invoke({"messages": [*history, asked]})["messages"]
    assert len(conversations_of(captured)) == 1
    assert next(text for role, text in captured.transcript() if role == "user") == "Question 0 of bob@example.com"


def test_a_second_continuation_of_a_turn_begins_a_conversation_of_its_own() -> None:
    threads = Threads()
    with capture(local=False) as captured:
        threads.talk((2, "hi", "hello", True))
        threads.histories[3] = list(threads.histories[2])
        first, second = threads.talk((2, "and?", "well", True)), threads.talk((3, "or?", "so", True))
        third = threads.talk((3, "thanks", "bye", True))
    conversations = conversations_of(captured)
    assert [runs[-1] for runs in conversations.values()] == [first, third]
    assert conversations[second] == [second, third]


def test_a_turn_with_an_id_is_not_continued() -> None:
    history: list[Any] = [HumanMessage("hi")]
    model = ScriptedChatModel(replies=["hello", "bye"])
    with capture(local=False) as captured:
        history.append(model.invoke(history, {"metadata": {"thread_id": "t"}}))
        model.invoke([*history, HumanMessage("thanks")])
    first, second = captured.turns
    assert (first.conversation.id, second.conversation.id) == ("t", second.run_id)


def test_the_memory_of_conversations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuations, "MAX_CONVERSATIONS", 3)
    monkeypatch.setattr(continuations, "MAX_ANSWER_IDS", 3)
    kept: list[Continuations] = []
    original = Continuations.remember
    monkeypatch.setattr(
        Continuations, "remember", lambda self, trace, turn: (kept.append(self), original(self, trace, turn))[1]
    )
    with capture(local=False):
        for number in range(10):
            ScriptedChatModel(replies=[f"answer {number}"]).invoke(f"question {number}")
    assert len(kept[-1]._open) == len(kept[-1]._by_ending) == len(kept[-1]._seen_ids) == 3


def test_conversations_that_differ_only_at_the_end_of_a_long_text_are_not_merged() -> None:
    documents = ["same " * 20_000 + ending for ending in ("one", "two")]
    config: Any = {"metadata": {"user_id": "ada"}}
    with capture() as captured:
        for document in documents:
            ScriptedChatModel(replies=["Done."]).invoke([HumanMessage(document)], config)
        for document in documents:
            history = [HumanMessage(document), AIMessage("Done."), HumanMessage(f"and {document[-3:]}?")]
            ScriptedChatModel(replies=["Yes."]).invoke(history, config)
    first, second, third, fourth = (turn.conversation.id for turn in captured.turns)
    assert (third, fourth) == (first, second)
    assert first != second
