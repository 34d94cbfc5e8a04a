"""Programs that keep the message history themselves and pass all or part of it to a model or chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.checkpoint.memory import InMemorySaver

from gati import observe
from gati.events import ToolCallEvent
from gati.testing import capture
from tests.optional import create_agent
from tests.scenarios.harness import Config, Watch
from tests.scenarios.scripts import call, model, tool_request

FORMS: dict[str, Callable[[str, str], Any]] = {
    "messages": lambda role, text: HumanMessage(text) if role == "user" else AIMessage(text),
    "tuples": lambda role, text: (role, text),
    "dicts": lambda role, text: {"role": role, "content": text},
}
BEFORE = (("user", "Hello"), ("assistant", "Hi! What is it?"))


@pytest.mark.parametrize("form", FORMS)
def test_the_history_of_a_bare_model_is_imported_once(watch: Watch, form: str):
    make = FORMS[form]

    def program(config: Config) -> Any:
        history = [("system", "You are a tutor."), *(make(*message) for message in BEFORE)]
        speaker = model("Twelve.", "Thirteen.", "Thirteen.")
        for asked in ("144?", "yes", "yes"):
            history.append(make("user", asked))
            answer = speaker.invoke(history, {**config, "metadata": {"conversation_id": "c-1"}}).text
            history.append(make("assistant", answer))
        return history

    watch(
        """
        conversation c-1 of anonymous
        prompt agent "You are a tutor."
        user_message   "Hello" imported
        assistant_message "Hi! What is it?" imported
        user_message   "144?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Twelve."
        user_message   "yes"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Thirteen."
        user_message   "yes"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Thirteen."
        """,
        program,
        import_history=True,
    )


def test_histories_of_different_conversations_are_independent(watch: Watch):
    def program(config: Config) -> Any:
        for name in ("c-1", "c-2"):
            history = [*(FORMS["messages"](*message) for message in BEFORE), HumanMessage("144?")]
            model("Twelve.").invoke(history, {**config, "metadata": {"conversation_id": name}})

    watch(
        "\n".join(
            f"""conversation {name} of anonymous
user_message   "Hello" imported
assistant_message "Hi! What is it?" imported
user_message   "144?"
llm            gpt-4o-mini 10>5 $
  assistant_message "Twelve."
""".rstrip()
            for name in ("c-1", "c-2")
        ),
        program,
        import_history=True,
    )


def test_without_a_conversation_id_history_is_only_model_input(watch: Watch):
    watch(
        """
        user_message   "144?"
        llm            gpt-4o-mini 10>5 $ input human:"Hello" input ai:"Hi! What is it?"
          assistant_message "Twelve."
        """,
        lambda config: model("Twelve.").invoke([*BEFORE, ("user", "144?")], config),
    )


def test_a_trimmed_history_repeats_nothing(watch: Watch):
    prompt = ChatPromptTemplate([("system", "You are a tutor."), MessagesPlaceholder("chat")])

    def program(config: Config) -> Any:
        trim = trim_messages(max_tokens=3, token_counter=len, strategy="last", start_on="human")
        tutor = {"chat": trim} | prompt | model("One.", "Two.", "Three.", "Four.", "Five.")
        history: list[Any] = []
        for number in range(5):
            history.append(HumanMessage(f"Question {number}?"))
            history.append(tutor.invoke(history, {**config, "metadata": {"conversation_id": "c-1"}}))
        return [m.text for m in history]

    traced = watch.trace(program)
    answers = ("One.", "Two.", "Three.", "Four.", "Five.")
    assert traced.transcript() == [
        message for n, answer in enumerate(answers) for message in (("user", f"Question {n}?"), ("assistant", answer))
    ]
    assert [m for m in traced.of_type("llm") if "input" in m] == []


def test_consecutive_user_messages_are_each_reported(watch: Watch):
    watch(
        """
        user_message   "Hello"
        user_message   "144?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Twelve."
        """,
        lambda config: model("Twelve.").invoke([("user", "Hello"), ("user", "144?")], config),
    )


def test_a_system_message_within_the_history_is_reported(watch: Watch):
    messages = [
        SystemMessage("You are a tutor."),
        HumanMessage("Hello"),
        SystemMessage("The user is angry."),
        HumanMessage("144?"),
    ]
    watch(
        """
        prompt agent "You are a tutor."
        user_message   "Hello"
        system_message "The user is angry."
        user_message   "144?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Twelve."
        """,
        lambda config: model("Twelve.").invoke(messages, config),
    )


def test_input_and_history_may_have_custom_keys(watch: Watch):
    prompt = ChatPromptTemplate([("placeholder", "{history}"), ("human", "{ask}")])

    def program(config: Config) -> Any:
        in_conversation = {**config, "metadata": {"conversation_id": "c-1"}}
        return (prompt | model("Twelve.")).invoke({"ask": "144?", "history": list(BEFORE)}, in_conversation)

    watch(
        """
        conversation c-1 of anonymous
        user_message   "Hello" imported
        assistant_message "Hi! What is it?" imported
        user_message   "144?"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        program,
        import_history=True,
    )


def test_without_import_history_is_counted_but_not_reported(watch: Watch):
    def program(config: Config) -> Any:
        in_conversation = {**config, "metadata": {"conversation_id": "c-1"}}
        history = [*(FORMS["messages"](*message) for message in BEFORE), HumanMessage("144?")]
        return model("Twelve.").invoke(history, in_conversation).text

    traced = watch(
        """
        conversation c-1 of anonymous
        user_message   "144?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Twelve."
        """,
        program,
        explicit=False,
    )
    assert traced.of_type("user_message")[0]["properties"] == {"history_messages": len(BEFORE)}


def test_a_greeting_before_the_first_user_message_is_reported_with_it(watch: Watch):
    def program(config: Config) -> Any:
        in_conversation = {**config, "metadata": {"conversation_id": "c-1"}}
        return model("Twelve.").invoke([AIMessage("Hi! What is it?"), HumanMessage("144?")], in_conversation).text

    def without_id(config: Config) -> Any:
        messages: list[Any] = [AIMessage("Hi! What is it?")]
        speaker = model("Twelve.", "Thirteen.")
        for question in ("144?", "169?"):
            messages.append(HumanMessage(question))
            messages.append(speaker.invoke(messages, config))

    assert watch.trace(without_id).transcript() == [
        ("assistant", "Hi! What is it?"), ("user", "144?"), ("assistant", "Twelve."), ("user", "169?"),
        ("assistant", "Thirteen."),
    ]  # fmt: skip

    watch(
        """
        conversation c-1 of anonymous
        assistant_message "Hi! What is it?" imported
        user_message   "144?"
        llm            gpt-4o-mini 10>5 $
          assistant_message "Twelve."
        """,
        program,
    )


@pytest.mark.parametrize("thread", [True, False])
@pytest.mark.parametrize(
    "past",
    [
        [ToolMessage("4.20", tool_call_id="p1"), AIMessage("It costs 4.20.")],
        [tool_request(call("price", "p1")), ToolMessage("4.20", tool_call_id="p1"), AIMessage("It costs 4.20.")],
        [ToolMessage("4.20", tool_call_id="p1"), AIMessage("Which one?"), HumanMessage("The red one."), AIMessage("4.20.")],
    ],
)  # fmt: skip
def test_results_before_the_last_answer_of_an_input_are_no_calls_of_its_turn(thread: bool, past: list[Any]) -> None:
    agent = create_agent(model("Bye."), [], **({"checkpointer": InMemorySaver()} if thread else {}))
    with capture() as captured, observe.conversation("c"):
        config: Any = {"configurable": {"thread_id": "t"}} if thread else None
        agent.invoke({"messages": [HumanMessage("Price?"), *past, HumanMessage("Thanks, bye.")]}, config)
    assert [event for turn in captured.turns for event in turn.events if isinstance(event, ToolCallEvent)] == []
