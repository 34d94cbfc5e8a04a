"""System prompts as delivered: templates of every format, their variables, and prompts without a template."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    HumanMessagePromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.runnables import RunnableLambda

from gati import observe
from tests.scenarios.harness import Config, Watch, each_method
from tests.scenarios.scripts import model

TURN = """
user_message   "144?"
chain_start    RunnableSequence{rest}
  llm          gpt-4o-mini 10>5 $
  assistant_message "Twelve."
  chain_end    completed
"""
GIVEN = {"question": "144?", "mood": "patient"}


def golden(prompt: str, rest: str = ' {"mood":"patient"}') -> str:
    return prompt.strip("\n") + TURN.format(rest=rest).rstrip() if prompt else TURN.format(rest=rest)


PATIENT = """
prompt agent[mood]
  system "You are a {{mood}} tutor."
  mood = "patient"
"""


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("You are a {mood} tutor.", "f-string"),
        ("You are a {{ mood }} tutor.", "jinja2"),
        ("You are a {{mood}} tutor.", "mustache"),
    ],
)
def test_templates_of_every_format_arrive_in_the_same_form(watch: Watch, text: str, form: Any):
    human = "{question}" if form == "f-string" else "{{question}}"
    prompt = ChatPromptTemplate([("system", text), ("human", human)], template_format=form)
    watch(golden(PATIENT), *each_method(lambda: prompt | model("Twelve."), GIVEN))


def test_partial_values_are_variables(watch: Watch):
    prompt = ChatPromptTemplate([("system", "You are a {mood} tutor."), ("human", "{question}")]).partial(
        mood="patient"
    )
    watch(golden(PATIENT, ""), *each_method(lambda: prompt | model("Twelve."), {"question": "144?"}, only="invoke"))


def test_partial_values_from_a_function_are_variables(watch: Watch):
    prompt = ChatPromptTemplate([("system", "You are a {mood} tutor."), ("human", "{question}")])
    bound = prompt.partial(mood=lambda: "patient")
    watch(golden(PATIENT, ""), *each_method(lambda: bound | model("Twelve."), {"question": "144?"}, only="invoke"))


def test_template_logic_arrives_as_rendered_text(watch: Watch):
    text = "You are a {% if mood %}{{ mood }}{% else %}strict{% endif %} tutor."
    prompt = ChatPromptTemplate([("system", text), ("human", "{{ question }}")], template_format="jinja2")
    watch(
        golden('prompt agent[mood,question]\n  system* "You are a patient tutor."\n'),
        *each_method(lambda: prompt | model("Twelve."), GIVEN, only="invoke"),
    )


def test_two_system_messages_are_two_components(watch: Watch):
    prompt = ChatPromptTemplate(
        [("system", "You are a {mood} tutor."), ("system", "Never give the answer."), ("human", "{question}")]
    )
    watch(
        golden("""
prompt agent[mood]
  system "You are a {{mood}} tutor."
  system "Never give the answer."
  mood = "patient"
"""),
        *each_method(lambda: prompt | model("Twelve."), GIVEN, only="invoke"),
    )


def test_a_literal_system_message_is_a_plain_prompt(watch: Watch):
    prompt = ChatPromptTemplate([SystemMessage("You are {strict}."), ("human", "{question}")])
    watch(
        golden('prompt agent "You are {strict}."\n', ""),
        *each_method(lambda: prompt | model("Twelve."), {"question": "144?"}, only="invoke"),
    )


def test_a_system_message_from_a_placeholder_is_dynamic(watch: Watch):
    prompt = ChatPromptTemplate(
        [("system", "You are a {mood} tutor."), MessagesPlaceholder("rules"), ("human", "{question}")]
    )
    given = {**GIVEN, "rules": [SystemMessage("Never give the answer.")]}
    watch(
        golden("""
prompt agent[mood]
  system "You are a {{mood}} tutor."
  system* "Never give the answer."
  mood = "patient"
"""),
        *each_method(lambda: prompt | model("Twelve."), given, only="invoke"),
    )


def test_few_shot_examples_are_not_reported_as_messages(watch: Watch):
    shots = FewShotChatMessagePromptTemplate(
        example_prompt=ChatPromptTemplate([("human", "{asked}"), ("ai", "{told}")]),
        examples=[{"asked": "2+2?", "told": "Four."}, {"asked": "3+3?", "told": "Six."}],
    )
    prompt = ChatPromptTemplate([("system", "You are a {mood} tutor."), shots, ("human", "{question}")])
    traced = watch(
        """
        prompt agent[mood]
          system "You are a {{mood}} tutor."
          mood = "patient"
        user_message   "144?"
        chain_start    RunnableSequence {"mood":"patient"}
          llm          gpt-4o-mini 10>5 $ input human:"2+2?" input ai:"Four." input human:"3+3?" input ai:"Six."
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(lambda: prompt | model("Twelve."), GIVEN),
    )
    assert traced.transcript() == [("user", "144?"), ("assistant", "Twelve.")]


def test_text_blocks_are_joined_into_one_message(watch: Watch):
    prompt = ChatPromptTemplate(
        [
            SystemMessagePromptTemplate.from_template([{"type": "text", "text": "You are a {mood} tutor."}]),
            HumanMessagePromptTemplate.from_template(
                [{"type": "text", "text": "{question}"}, {"type": "image_url", "image_url": {"url": "{link}"}}]
            ),
        ]
    )
    traced = watch.trace(
        lambda config: (prompt | model("Twelve.")).invoke({**GIVEN, "link": "https://example.com/a.png"}, config)
    )
    assert traced.transcript() == [("user", "144?"), ("assistant", "Twelve.")]
    assert traced.messages[0]["prompt"]["components"] == [{"content": "You are a {{mood}} tutor.", "type": "system"}]


def test_a_prompt_keeps_its_name_when_its_text_changes(watch: Watch):
    def program(config: Config) -> Any:
        for text in ("You are a tutor.", "You are the best tutor."):
            prompt = ChatPromptTemplate([("system", text), ("human", "{question}")], name="tutor")
            (prompt | model("Twelve.")).invoke({"question": "144?"}, config)

    traced = watch.trace(program)
    assert {m["prompt"]["externalPromptId"] for m in traced.of_type("llm")} == {"tutor"}
    assert len({m["properties"]["prompt_version"] for m in traced.of_type("llm")}) == 2


def test_a_hub_prompt_is_identified_by_its_repository(watch: Watch):
    prompt = ChatPromptTemplate(
        [("system", "You are a {mood} tutor."), ("human", "{question}")],
        metadata={"lc_hub_owner": "school", "lc_hub_repo": "tutor", "lc_hub_commit_hash": "abc"},
    )
    watch(
        golden(PATIENT.replace("prompt agent[mood]", "prompt school/tutor")),
        *each_method(lambda: prompt | model("Twelve."), GIVEN, only="invoke"),
    )


def test_a_long_variable_is_a_separate_component(watch: Watch):
    prompt = ChatPromptTemplate([("system", "You are a tutor.\n\nNotes: {notes}\n\nBe kind."), ("human", "{question}")])
    traced = watch.trace(
        lambda config: (prompt | model("Twelve.")).invoke({"question": "144?", "notes": "n" * 600}, config)
    )
    assert traced.messages[0]["prompt"] == {
        "externalPromptId": "agent[notes]",
        "components": [
            {"content": "You are a tutor.\n\nNotes: ", "type": "system"},
            {"content": "n" * 600, "name": "notes", "type": "other", "isDynamic": True},
            {"content": "\n\nBe kind.", "type": "system"},
        ],
    }


def test_a_prompt_formatted_outside_a_run_arrives_as_plain_text(watch: Watch):
    prompt = ChatPromptTemplate([("system", "You are a {mood} tutor."), ("human", "{question}")])

    def answer(given: dict[str, str]) -> Any:
        return model("Twelve.").invoke(prompt.format_messages(**given))

    watch(
        """
        prompt agent "You are a patient tutor."
        user_message   "144?"
        chain_start    answer {"mood":"patient"}
          llm          gpt-4o-mini 10>5 $
          assistant_message "Twelve."
          chain_end    completed
        """,
        *each_method(lambda: RunnableLambda(answer), GIVEN),
    )


def test_a_completion_prompt_is_the_user_message(watch: Watch):
    watch(
        """
        prompt agent[topic]
          user "Tell me of {{topic}}"
          topic = "cats"
        user_message   "cats"
        chain_start    RunnableSequence
          llm          gpt-4o-mini 10>5 $ input human:"Tell me of cats"
          assistant_message "They purr."
          chain_end    completed
        """,
        *each_method(
            lambda: PromptTemplate.from_template("Tell me of {topic}") | model("They purr."), {"topic": "cats"}
        ),
    )


def test_two_prompts_of_one_turn_are_kept_apart(watch: Watch):
    router = ChatPromptTemplate([("system", "You route."), ("human", "{question}")], name="router")
    tutor = ChatPromptTemplate([("system", "You teach {topic}."), ("human", "{question}")], name="tutor")

    def answer(given: dict[str, str]) -> Any:
        topic = (router | model("maths")).invoke(given).text
        return (tutor | model("Twelve.")).invoke({**given, "topic": topic})

    watch(
        """
        prompt @1 tutor
          system "You teach {{topic}}."
          topic = "maths"
        prompt @2 router "You route."
        user_message   "144?"
        chain_start    answer
          llm          gpt-4o-mini 10>5 $ internal => "maths" @2
          llm          gpt-4o-mini 10>5 $ @1
          assistant_message "Twelve." @1
          chain_end    completed
        """,
        *each_method(lambda: RunnableLambda(answer), {"question": "144?"}),
    )


@pytest.mark.parametrize("key", ["external_prompt_id", "external_template_id"])
def test_an_explicit_prompt_applies_to_every_call(watch: Watch, key: str):
    explicit = {
        key: "tutor-v7",
        "components": [{"content": "You are a {{mood}} tutor.", "type": "system"}],
        "variables": {"mood": "patient"},
    }
    prompt = ChatPromptTemplate([("system", "You are a {mood} tutor."), ("human", "{question}")])
    expected = golden(PATIENT.replace("prompt agent[mood]", "prompt tutor-v7"))
    watch(expected, *each_method(lambda: prompt | model("Twelve."), GIVEN, only="invoke"), system_prompt=explicit)
    watch(
        expected,
        *each_method(
            lambda: prompt | model("Twelve."), GIVEN, {"metadata": {"system_prompt": explicit}}, only="invoke ainvoke"
        ),
    )

    def scoped(config: Config) -> Any:
        with observe.conversation(system_prompt=explicit):
            return (prompt | model("Twelve.")).invoke(GIVEN, config)

    watch(expected, scoped, system_prompt="Another.")
