"""`gati.trace.prompt_builder`, with prompts rendered by LangChain."""

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
from tests.unpacked import unpacked

MARK = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


class PromptRun(BaseCallbackHandler):
    """Stores the callback arguments of a prompt run."""

    raise_error = True

    def on_chain_start(self, serialized: dict[str, Any], inputs: Any, **more: Any) -> None:
        self.serialized, self.inputs = serialized, inputs


def recovered(prompt: Any, inputs: Any, **more: Any) -> Prompt:
    """Render a prompt with LangChain, and return what gati recovers of it."""
    run = PromptRun()
    value = prompt.invoke(inputs, {"callbacks": [run]})
    template = unpacked(template_of(run.serialized))
    assert template is not None
    return prompt_of(template, run.inputs, [str(m.text) for m in value.to_messages() if m.type == "system"], **more)


def render(prompt: Prompt) -> str:
    """Join the components as the destination shows them, each mark replaced once."""
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
    result = recovered(
        ChatPromptTemplate([("system", text), ("human", "{q}")], template_format=form),
        {"how": "brief", "language": "French", "q": "Hello"},
        name="agent/model",
    )
    assert result == Prompt(
        "Be brief in French.",
        "agent/model",
        [PromptComponent("Be {{how}} in {{language}}.")],
        {"how": "brief", "language": "French"},
    )


def test_a_text_without_variables_has_no_components():
    assert recovered(ChatPromptTemplate([("system", "Be brief.")]), {}) == Prompt("Be brief.")


def test_each_system_message_is_a_component():
    result = recovered(ChatPromptTemplate([("system", "Be {how}."), ("system", "Never lie.")]), {"how": "brief"})
    assert result.text == "Be brief.\n\nNever lie."
    assert result.components == [PromptComponent("Be {{how}}."), PromptComponent("Never lie.")]


def test_a_bare_value_fills_the_only_variable():
    template = Template(((TemplateText("Be {how}.", "f-string"),),), ("how", "kept"), {"kept": "x"})
    assert prompt_of(template, "brief", ["Be brief."]).variables == {"how": "brief"}


def test_partial_values_are_variables_also_if_a_function_returned_them():
    prompt = ChatPromptTemplate([("system", "Today is {day}, in {place}.")]).partial(day=lambda: "Friday", place="Oslo")
    assert recovered(prompt, {}).variables == {"day": "Friday", "place": "Oslo"}


def test_a_retrieved_value_becomes_a_component():
    passage = "Paris is the capital of France."
    result = recovered(
        ChatPromptTemplate([("system", "Be {how}.\nContext: {context}\nAnswer.")]),
        {"how": "brief", "context": f"1. {passage}"},
        retrieved=[passage, ""],
    )
    assert result.components == [
        PromptComponent("Be {{how}}.\nContext: "),
        PromptComponent(f"1. {passage}", "context", "rag", is_dynamic=True),
        PromptComponent("\nAnswer."),
    ]
    assert result.variables == {"how": "brief"}
    assert result.text == f"Be brief.\nContext: 1. {passage}\nAnswer."


def test_a_long_value_becomes_a_component():
    rules = "No. " * LONG_VALUE_CHARS
    result = recovered(ChatPromptTemplate([("system", "Rules: {rules}")]), {"rules": rules})
    assert result.components == [PromptComponent("Rules: "), PromptComponent(rules, "rules", "other", is_dynamic=True)]


def test_a_template_with_logic_becomes_its_rendered_text():
    prompt = ChatPromptTemplate([("system", "Be {% if x %}brief{% endif %}.")], template_format="jinja2")
    assert recovered(prompt, {"x": True}) == Prompt("Be brief.", None, [PromptComponent("Be brief.", is_dynamic=True)])


def test_an_edited_template_becomes_its_rendered_text():
    prompt = ChatPromptTemplate([("system", "Be {how}.")])
    run = PromptRun()
    prompt.invoke({"how": "brief"}, {"callbacks": [run]})
    template = unpacked(template_of(run.serialized))
    assert template is not None
    result = prompt_of(template, {"how": "brief"}, ["Stay brief!"])
    assert result == Prompt("Stay brief!", None, [PromptComponent("Stay brief!", is_dynamic=True)])


def test_a_system_message_from_a_placeholder_is_a_dynamic_component():
    prompt = ChatPromptTemplate([MessagesPlaceholder("before"), ("system", "Be {how}.")])
    result = recovered(prompt, {"before": [SystemMessage("From the history.")], "how": "brief"})
    assert result.components == [PromptComponent("From the history.", is_dynamic=True), PromptComponent("Be {{how}}.")]


def test_a_variable_with_two_formats_becomes_two_variables():
    result = recovered(ChatPromptTemplate([("system", "{x} is {x:.1f} or {x!r}")]), {"x": 0.25})
    assert result.components == [PromptComponent("{{x}} is {{x_2}} or {{x}}")]
    assert result.variables == {"x": "0.25", "x_2": "0.2"}


def test_literal_braces_that_look_like_marks_are_escaped():
    result = recovered(ChatPromptTemplate([("system", "Write {{{{name}}}} for {who}, as {{json}}.")]), {"who": "Ada"})
    assert result.text == "Write {{name}} for Ada, as {json}."
    assert result.components == [PromptComponent("Write {{literal}} for {{who}}, as {json}.")]
    assert result.variables == {"literal": "{{name}}", "who": "Ada"}


@pytest.mark.parametrize("text", ["{{{x}}}", "{{{{{x}}}}}", "{{ {x} }}", "{{{{{{{x}}}}}}}"])
def test_braces_next_to_a_variable_render_correctly(text: str):
    result = recovered(ChatPromptTemplate([("system", text)]), {"x": "1"})
    assert render(result) == result.text


PLAIN = st.text(st.sampled_from("ab{}% \n"), max_size=15)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(PLAIN, st.sampled_from("xyz")), min_size=1, max_size=5),
    st.fixed_dictionaries(dict.fromkeys("xyz", PLAIN)),
)
def test_the_components_render_to_the_original_text(parts: list[tuple[str, str]], values: dict[str, str]):
    text = "".join(literal.replace("{", "{{").replace("}", "}}") + "{" + name + "}" for literal, name in parts)
    result = recovered(ChatPromptTemplate([("system", text)]), values)
    # A value may look like a mark itself; it must not be replaced again.
    assert render(result) == result.text


@given(
    st.lists(PLAIN, max_size=3),
    st.dictionaries(st.sampled_from("xy"), st.integers() | PLAIN) | PLAIN | st.none(),
    st.lists(PLAIN),
)
def test_any_rendering_is_reproduced(rendered: list[str], variables: Any, retrieved: list[str]):
    template = Template(
        ((TemplateText("a{x}b", "f-string"),), (TemplateText("", ""),), (TemplateText("{{ y }}", "jinja2"),))
    )
    result = prompt_of(template, variables, rendered, "n", retrieved)
    assert result.text == "\n\n".join(rendered)
    if result.components:
        assert render(result) == "".join(rendered)
    assert all(isinstance(value, str) for value in result.variables.values())


# -- names --------------------------------------------------------------------------------


def test_a_prompts_lineage_is_its_name_its_hub_repository_or_the_default():
    hub = {"lc_hub_owner": "ada", "lc_hub_repo": "tutor"}
    named, pulled, bare = Template((), name="greeting"), Template((), hub="ada/tutor"), Template(())
    assert lineage_of(named, hub, "agent/model") == "greeting"
    assert lineage_of(bare, hub, "agent/model") == "ada/tutor"
    assert lineage_of(bare, {"lc_hub_repo": "tutor", "lc_hub_owner": "-"}, "agent/model") == "tutor"
    assert lineage_of(pulled, {}, "agent/model") == "ada/tutor"
    assert lineage_of(bare, None, "agent/model") == "agent/model"
    assert lineage_of(None, None) is None
