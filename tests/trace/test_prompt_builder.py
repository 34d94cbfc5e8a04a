"""`gati.trace.prompt_builder` on prompts that LangChain itself rendered."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import SystemMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder

from gati.events import Prompt, PromptComponent
from gati.langchain.prompt_templates import template_of
from gati.trace.prompt_builder import LONG_VALUE_CHARS, lineage_of, prompt_of
from gati.trace.records import Template, TemplateText

MARK = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


class PromptRun(BaseCallbackHandler):
    """What a prompt run tells its callbacks."""

    raise_error = True

    def on_chain_start(self, serialized: dict[str, Any], inputs: Any, **more: Any) -> None:
        self.serialized, self.inputs = serialized, inputs


def recovered(prompt: Any, inputs: Any, **more: Any) -> Prompt:
    """The prompt as the assembler would have it, after LangChain rendered it."""
    run = PromptRun()
    value = prompt.invoke(inputs, {"callbacks": [run]})
    template = template_of(run.serialized)
    assert template is not None
    return prompt_of(template, run.inputs, [str(m.text) for m in value.to_messages() if m.type == "system"], **more)


def shown(prompt: Prompt) -> str:
    """The parts as the destination shows them: marks filled once."""
    parts = prompt.components or [PromptComponent(prompt.text)]
    return "".join(MARK.sub(lambda m: prompt.variables.get(m[1], m[0]), part.content) for part in parts)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Be {how} in {language}.", "f-string"),
        ("Be {{ how }} in {{language}}.", "jinja2"),
        ("Be {{how}} in {{ language }}.", "mustache"),
    ],
)
def test_a_template_becomes_a_component_with_marks_and_variables(text: str, form: Any):
    made = recovered(
        ChatPromptTemplate([("system", text), ("human", "{q}")], template_format=form),
        {"how": "brief", "language": "French", "q": "Hello"},
        name="agent/model",
    )
    assert made == Prompt(
        "Be brief in French.",
        "agent/model",
        [PromptComponent("Be {{how}} in {{language}}.")],
        {"how": "brief", "language": "French"},
    )


def test_a_text_without_variables_stays_a_text():
    assert recovered(ChatPromptTemplate([("system", "Be brief.")]), {}) == Prompt("Be brief.")


def test_each_system_message_is_a_component():
    made = recovered(ChatPromptTemplate([("system", "Be {how}."), ("system", "Never lie.")]), {"how": "brief"})
    assert made.text == "Be brief.\n\nNever lie."
    assert made.components == [PromptComponent("Be {{how}}."), PromptComponent("Never lie.")]


def test_a_bare_value_fills_the_only_variable():
    template = Template(((TemplateText("Be {how}.", "f-string"),),), ("how", "kept"), {"kept": "x"})
    assert prompt_of(template, "brief", ["Be brief."]).variables == {"how": "brief"}


def test_values_bound_beforehand_are_variables_also_when_a_function_gave_them():
    prompt = ChatPromptTemplate([("system", "Today is {day}, in {place}.")]).partial(day=lambda: "Friday", place="Oslo")
    assert recovered(prompt, {}).variables == {"day": "Friday", "place": "Oslo"}


def test_a_value_from_this_turns_retrievals_is_a_part_of_its_own():
    found = "Paris is the capital of France."
    made = recovered(
        ChatPromptTemplate([("system", "Be {how}.\nContext: {context}\nAnswer.")]),
        {"how": "brief", "context": f"1. {found}"},
        retrieved=[found, ""],
    )
    assert made.components == [
        PromptComponent("Be {{how}}.\nContext: "),
        PromptComponent(f"1. {found}", "context", "rag", is_dynamic=True),
        PromptComponent("\nAnswer."),
    ]
    assert made.variables == {"how": "brief"}
    assert made.text == f"Be brief.\nContext: 1. {found}\nAnswer."


def test_a_long_value_is_a_part_of_its_own():
    rules = "No. " * LONG_VALUE_CHARS
    made = recovered(ChatPromptTemplate([("system", "Rules: {rules}")]), {"rules": rules})
    assert made.components == [PromptComponent("Rules: "), PromptComponent(rules, "rules", "other", is_dynamic=True)]


def test_a_template_with_logic_is_its_rendered_text():
    prompt = ChatPromptTemplate([("system", "Be {% if x %}brief{% endif %}.")], template_format="jinja2")
    assert recovered(prompt, {"x": True}) == Prompt("Be brief.", None, [PromptComponent("Be brief.", is_dynamic=True)])


def test_a_template_edited_after_its_first_use_is_its_rendered_text():
    prompt = ChatPromptTemplate([("system", "Be {how}.")])
    run = PromptRun()
    prompt.invoke({"how": "brief"}, {"callbacks": [run]})
    template = template_of(run.serialized)
    assert template is not None
    made = prompt_of(template, {"how": "brief"}, ["Stay brief!"])
    assert made == Prompt("Stay brief!", None, [PromptComponent("Stay brief!", is_dynamic=True)])


def test_a_system_message_through_a_placeholder_is_a_dynamic_part():
    prompt = ChatPromptTemplate([MessagesPlaceholder("before"), ("system", "Be {how}.")])
    made = recovered(prompt, {"before": [SystemMessage("From the history.")], "how": "brief"})
    assert made.components == [PromptComponent("From the history.", is_dynamic=True), PromptComponent("Be {{how}}.")]


def test_one_name_with_two_formats_gives_two_variables():
    made = recovered(ChatPromptTemplate([("system", "{x} is {x:.1f} or {x!r}")]), {"x": 0.25})
    assert made.components == [PromptComponent("{{x}} is {{x_2}} or {{x}}")]
    assert made.variables == {"x": "0.25", "x_2": "0.2"}


def test_braces_that_look_like_marks_are_variables_of_their_own_text():
    made = recovered(ChatPromptTemplate([("system", "Write {{{{name}}}} for {who}, as {{json}}.")]), {"who": "Ada"})
    assert made.text == "Write {{name}} for Ada, as {json}."
    assert made.components == [PromptComponent("Write {{literal}} for {{who}}, as {json}.")]
    assert made.variables == {"literal": "{{name}}", "who": "Ada"}


@pytest.mark.parametrize("text", ["{{{x}}}", "{{{{{x}}}}}", "{{ {x} }}", "{{{{{{{x}}}}}}}"])
def test_braces_beside_a_variable_do_no_harm(text: str):
    made = recovered(ChatPromptTemplate([("system", text)]), {"x": "1"})
    assert shown(made) == made.text


PLAIN = st.text(st.sampled_from("ab{}% \n"), max_size=15)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(PLAIN, st.sampled_from("xyz")), min_size=1, max_size=5),
    st.fixed_dictionaries(dict.fromkeys("xyz", PLAIN)),
)
def test_the_parts_give_the_rendered_text_again(parts: list[tuple[str, str]], values: dict[str, str]):
    text = "".join(literal.replace("{", "{{").replace("}", "}}") + "{" + name + "}" for literal, name in parts)
    made = recovered(ChatPromptTemplate([("system", text)]), values)
    # A value may itself look like a mark; filled once, it stays as it is.
    assert shown(made) == made.text


@given(
    st.lists(PLAIN, max_size=3),
    st.dictionaries(st.sampled_from("xy"), st.integers() | PLAIN) | PLAIN | st.none(),
    st.lists(PLAIN),
)
def test_whatever_was_rendered_is_told(rendered: list[str], variables: Any, retrieved: list[str]):
    template = Template(
        ((TemplateText("a{x}b", "f-string"),), (TemplateText("", ""),), (TemplateText("{{ y }}", "jinja2"),))
    )
    made = prompt_of(template, variables, rendered, "n", retrieved)
    assert made.text == "\n\n".join(rendered)
    if made.components:
        assert shown(made) == "".join(rendered)
    assert all(isinstance(value, str) for value in made.variables.values())


# -- names --------------------------------------------------------------------------------


def test_a_prompt_is_known_by_its_own_name_its_hub_repository_or_its_place():
    hub = {"lc_hub_owner": "ada", "lc_hub_repo": "tutor"}
    named, pulled, bare = Template((), name="greeting"), Template((), hub="ada/tutor"), Template(())
    assert lineage_of(named, hub, "agent/model") == "greeting"
    assert lineage_of(bare, hub, "agent/model") == "ada/tutor"
    assert lineage_of(bare, {"lc_hub_repo": "tutor", "lc_hub_owner": "-"}, "agent/model") == "tutor"
    assert lineage_of(pulled, {}, "agent/model") == "ada/tutor"
    assert lineage_of(bare, None, "agent/model") == "agent/model"
    assert lineage_of(None, None) is None
