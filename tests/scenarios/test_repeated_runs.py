"""Turns that repeat or replace others: a run id used again, attempts of LangGraph Server, a nested remote graph, and
"regenerate" from an older checkpoint."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from gati import observe
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import model

THREAD: Config = {"configurable": {"thread_id": "c-1"}}


def graph(speaker: Any, checkpointer: Any = None) -> Any:
    def answer(state: MessagesState) -> Config:
        return {"messages": [speaker.invoke(state["messages"])]}

    builder = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")
    return builder.compile(checkpointer=checkpointer)


def asked(text: str) -> Config:
    return {"messages": [HumanMessage(text)]}


# -- a run id that is used again ------------------------------------------------------------------


def test_each_call_with_the_same_run_id_is_a_turn(watch: Watch):
    run_id = uuid.uuid4()

    def program(config: Config) -> Any:
        own = {**config, "run_id": run_id, "metadata": {"conversation_id": "c-1"}}
        for make in (model, lambda reply: model(reply) | StrOutputParser(), lambda reply: graph(model(reply))):
            given: Any = asked("A question.") if make("x").get_name() == "LangGraph" else "A question."
            make("An answer.").invoke(given, own)

    traced = watch.trace(program)
    assert traced.transcript() == [("user", "A question."), ("assistant", "An answer.")] * 3
    ids = [m["externalMessageId"] for m in traced.messages]
    assert [own for own in ids if own.endswith(":user")] == [f"{run_id}:user", f"{run_id}:2:user", f"{run_id}:3:user"]
    assert {f"{run_id}", f"{run_id}:answer", f"{run_id}:2", f"{run_id}:2:answer", f"{run_id}:2:end"} < {*ids}
    starts = [(m["externalMessageId"], m["parentExternalMessageId"]) for m in traced.of_type("chain_start")]
    assert starts == [(f"{run_id}:2", f"{run_id}:2:user"), (f"{run_id}:3", f"{run_id}:3:user")]


@pytest.mark.parametrize("given", ["6f3c9a52-4f0e-4c0e-9d55-0d7c3f0b6a11", "request-17"])
def test_a_run_id_may_be_a_text(watch: Watch, given: str):
    def program(config: Config) -> Any:
        own = {**config, "run_id": given, "metadata": {"conversation_id": "c-1"}}
        speaker = model("One.", "Two.", "Three.")
        # LangChain itself refuses such an id for a model outside of any chain.
        first = speaker if "request" not in given else speaker | StrOutputParser()
        first.invoke("A question.", own)
        (speaker | StrOutputParser()).invoke("A question.", own)
        graph(speaker).invoke(asked("A question."), own)

    traced = watch.trace(program)
    answers = ["One.", "Two.", "Three."]
    assert traced.transcript() == [pair for a in answers for pair in (("user", "A question."), ("assistant", a))]
    assert [m["properties"]["node"] for m in traced.of_type("task")] == ["answer"]
    run_id = given if "request" not in given else str(uuid.uuid5(uuid.NAMESPACE_URL, given))
    assert traced.messages[0]["externalMessageId"] == f"{run_id}:user"


def test_a_retry_with_the_same_run_id_after_a_failure_is_a_turn(watch: Watch):
    def program(config: Config) -> Any:
        own = {**config, "run_id": uuid.uuid4(), "metadata": {"conversation_id": "c-1"}}
        chain = model(ValueError("busy"), "An answer.")
        with pytest.raises(ValueError, match="busy"):
            chain.invoke("A question.", own)
        chain.invoke("A question.", own)

    watch(
        """
        conversation c-1 of anonymous
        user_message   "A question."
        llm            gpt-4o-mini ?>? error ValueError: busy
        user_message   "A question."
        llm            gpt-4o-mini 10>5 $
          assistant_message "An answer."
        """,
        program,
    )


def test_runs_inside_a_turn_may_have_the_same_id(watch: Watch):
    def program(config: Config) -> Any:
        own = uuid.uuid4()
        speaker = model("One.", "Two.")
        RunnableLambda(lambda text: [speaker.invoke(text, {"run_id": own}).text for _ in "ab"]).invoke("Count.", config)

    traced = watch.trace(program)
    first, second = (m["externalMessageId"] for m in traced.of_type("llm"))
    assert second == f"{first}:2"


# -- attempts of LangGraph Server -----------------------------------------------------------------


def test_attempts_of_a_server_share_the_users_message(watch: Watch):
    run_id = str(uuid.uuid4())

    def attempt(config: Config, number: int, reply: Any) -> None:
        own = {**config, **THREAD, "metadata": {"run_id": run_id, "run_attempt": number}}
        if number == 1:
            own["run_id"] = uuid.UUID(run_id)  # later attempts get an id of their own
        graph(model(reply)).invoke(asked("A question."), own)

    def program(config: Config) -> Any:
        with pytest.raises(ValueError, match="busy"):
            attempt(config, 1, ValueError("busy"))
        attempt(config, 2, "An answer.")

    traced = watch.trace(program)
    assert traced.transcript() == [("user", "A question."), ("assistant", "An answer.")]
    (message,) = traced.of_type("user_message")
    assert message["externalMessageId"] == f"{run_id}:user"
    assert [(m["externalMessageId"], m["parentExternalMessageId"]) for m in traced.of_type("chain_start")] == [
        (run_id, f"{run_id}:user"),
        (f"{run_id}:2", f"{run_id}:user"),
    ]
    (answer,) = traced.of_type("final_response")
    assert answer["externalMessageId"] == f"{run_id}:2:answer"

    # Another process makes the second attempt: the server recognizes the user's message by its id.
    traced = watch.trace(lambda config: attempt(config, 2, "An answer."))
    (message,) = traced.of_type("user_message")
    assert message["externalMessageId"] == f"{run_id}:user"
    assert [m["parentExternalMessageId"] for m in traced.of_type("chain_start")] == [f"{run_id}:user"]


# -- a remote graph as a node ---------------------------------------------------------------------


@pytest.mark.parametrize("submission", ["turn", "incremental"])
def test_a_graph_marked_as_nested_is_a_workflow_without_user_message_and_answer(watch: Watch, submission: str):
    watch(
        """
        conversation c-1 of anonymous
        workflow       LangGraph
          task         answer
            llm        gpt-4o-mini 10>5 $ internal input human:"A question." => "An answer."
        """,
        lambda config: graph(model("An answer.")).invoke(
            asked("A question."), {**config, **THREAD, "metadata": {"gati_nested": True}}
        ),
        submission=submission,
    )


# -- an older checkpoint --------------------------------------------------------------------------


def before_answer(made: Any, number: int) -> Config:
    """Return the config of the checkpoint before the answer of a turn; 0 is the first turn."""
    waiting = [state for state in made.get_state_history(THREAD) if state.next == ("answer",)]
    config: Config = waiting[::-1][number].config
    return config


def test_a_regenerated_answer_names_the_answer_that_it_replaces(watch: Watch):
    def program(config: Config) -> Any:
        made = graph(model("One.", "Two.", "Two again.", "Two once more."), InMemorySaver())
        for text in ("First?", "Second?"):
            made.invoke(asked(text), {**config, **THREAD})
        for _ in range(2):
            made.invoke(None, {**config, **before_answer(made, 1)})

    traced = watch.trace(program)
    answers = traced.of_type("final_response")
    assert [m["content"] for m in answers] == ["One.", "Two.", "Two again.", "Two once more."]
    ids = [m["externalMessageId"] for m in answers]
    assert [m.get("properties", {}).get("replaces") for m in answers] == [None, None, ids[1], ids[2]]
    assert traced.of_type("callback") == []  # nothing was paused


def test_an_edited_question_replaces_the_turns_after_its_checkpoint(watch: Watch):
    def program(config: Config) -> Any:
        made = graph(model("One.", "Two.", "Three.", "New."), InMemorySaver())
        for text in ("First?", "Second?", "Third?"):
            made.invoke(asked(text), {**config, **THREAD})
        states = list(made.get_state_history(THREAD))
        after_first = next(s for s in states if not s.next and len(s.values["messages"]) == 2)
        made.invoke(asked("Second, edited?"), {**config, **after_first.config})

    traced = watch.trace(program)
    questions, answers = traced.of_type("user_message"), traced.of_type("final_response")
    replaced = [(m["content"], m.get("properties", {}).get("replaces")) for m in (*questions, *answers)]
    assert replaced == [
        ("First?", None), ("Second?", None), ("Third?", None),
        ("Second, edited?", questions[1]["externalMessageId"]),
        ("One.", None), ("Two.", None), ("Three.", None), ("New.", answers[1]["externalMessageId"]),
    ]  # fmt: skip


@pytest.mark.parametrize("names_checkpoint", [True, False])
@pytest.mark.parametrize("submission", ["turn", "incremental"])
def test_a_question_that_update_state_edits_replaces_the_turns_after_its_checkpoint(
    watch: Watch, names_checkpoint: bool, submission: str
):
    def program(config: Config) -> Any:
        made = graph(model("One.", "Two.", "Three.", "New.", "Last."), InMemorySaver())
        for text in ("First?", "Second?", "Third?"):
            made.invoke(asked(text), {**config, **THREAD})
        before = before_answer(made, 1)
        question = made.get_state(before).values["messages"][-1].id
        fork = made.update_state(before, {"messages": [HumanMessage("Second, edited?", id=question)]})
        made.invoke(None, {**config, **(fork if names_checkpoint else THREAD)})
        made.invoke(asked("Fourth?"), {**config, **THREAD})

    traced = watch.trace(program, submission=submission)
    questions, answers = traced.of_type("user_message"), traced.of_type("final_response")
    replaced = [(m["content"], m.get("properties", {}).get("replaces")) for m in (*questions, *answers)]
    assert replaced == [
        ("First?", None), ("Second?", None), ("Third?", None),
        ("Second, edited?", questions[1]["externalMessageId"]), ("Fourth?", None),
        ("One.", None), ("Two.", None), ("Three.", None), ("New.", answers[1]["externalMessageId"]), ("Last.", None),
    ]  # fmt: skip


@pytest.mark.parametrize("actions", ["re", "rre", "ee", "ere", "rerre"])
@pytest.mark.parametrize("submission", ["turn", "incremental"])
def test_an_edited_question_replaces_the_latest_version_of_it_however_often_it_was_answered(
    watch: Watch, submission: str, actions: str
):
    def program(config: Config) -> Any:
        made = graph(model("One.", "Two.", *(f"Again {number}." for number in range(len(actions)))), InMemorySaver())
        for text in ("First?", "Second?"):
            made.invoke(asked(text), {**config, **THREAD})
        before = before_answer(made, 1)
        for number, action in enumerate(actions):
            question = made.get_state(before).values["messages"][-1].id
            if action == "e":
                before = made.update_state(before, {"messages": [HumanMessage(f"Edit {number}?", id=question)]})
            made.invoke(None, {**config, **before})

    traced = watch.trace(program, submission=submission)
    questions, answers = traced.of_type("user_message"), traced.of_type("final_response")
    assert [q["content"] for q in questions[2:]] == [f"Edit {n}?" for n, action in enumerate(actions) if action == "e"]
    for messages in (questions, answers):
        ids = [message["externalMessageId"] for message in messages]
        assert [m.get("properties", {}).get("replaces") for m in messages] == [None, None, *ids[1:-1]]


@pytest.mark.parametrize("payload", ["Sure?", {"draft": "Hi.", "to": "Ann"}])
def test_a_resume_that_names_the_checkpoint_replaces_nothing(watch: Watch, payload: Any):
    def program(config: Config) -> Any:
        builder = StateGraph(MessagesState).add_node("ask", lambda _: {"messages": [("ai", interrupt(payload))]})
        made = builder.add_edge(START, "ask").compile(checkpointer=InMemorySaver())
        made.invoke(asked("Send it."), {**config, **THREAD})
        made.invoke(Command(resume="Yes."), {**config, **made.get_state(THREAD).config})

    assert not any("replaces" in m.get("properties", {}) for m in watch.trace(program).messages)


def test_a_failed_turn_that_is_run_again_has_no_answer_to_replace(watch: Watch):
    def program(config: Config) -> Any:
        made = graph(model(ConnectionError("down"), "One."), InMemorySaver())
        with contextlib.suppress(ConnectionError):
            made.invoke(asked("First?"), {**config, **THREAD})
        made.invoke(None, {**config, **made.get_state(THREAD).config})

    traced = watch.trace(program)
    assert traced.transcript() == [("user", "First?"), ("assistant", "One.")]
    assert not any("replaces" in m.get("properties", {}) for m in traced.messages)


def test_a_turn_that_starts_from_the_latest_checkpoint_replaces_nothing(watch: Watch):
    def program(config: Config) -> Any:
        made = graph(model("One.", "Two."), InMemorySaver())
        made.invoke(asked("First?"), {**config, **THREAD})
        latest = made.get_state(THREAD).config
        made.invoke(asked("Second?"), {**config, **latest})

    traced = watch.trace(program)
    assert len(traced.of_type("final_response")) == 2
    assert not any("replaces" in m.get("properties", {}) for m in traced.messages)
    assert observe.stats().faults == {}
