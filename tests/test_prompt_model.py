"""Explicit system prompts: accepted forms, and the errors for everything else."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.errors import ConfigurationError
from gati.events import Prompt, PromptComponent
from gati.prompt_model import describe_prompt, parse_prompt


def test_a_text_and_a_prompt_are_accepted():
    assert parse_prompt("Be brief.") == Prompt("Be brief.")
    assert parse_prompt(Prompt("x", "y")) == Prompt("x", "y")


@pytest.mark.parametrize(
    "key", ["external_prompt_id", "externalPromptId", "external_template_id", "externalTemplateId"]
)
def test_every_spelling_of_the_name_is_accepted(key: str):
    assert parse_prompt({key: "tutor", "content": "Be brief."}) == Prompt("Be brief.", "tutor")
    assert parse_prompt({key: "tutor"}) == Prompt("", "tutor")


def test_component_keys_may_be_in_snake_or_camel_case():
    made = parse_prompt(
        {
            "external_prompt_id": "tutor",
            "components": [
                "Be {{how}}.",
                {"content": "Facts", "name": "facts", "type": "rag", "isDynamic": True, "externalComponentId": "f"},
                {"content": "Rules", "source": "agent", "is_dynamic": False, "external_id": "r"},
            ],
            "variables": {"how": "brief", "n": 3},
        }
    )
    assert made == Prompt(
        "Be brief.\n\nFacts\n\nRules",
        "tutor",
        [
            PromptComponent("Be {{how}}."),
            PromptComponent("Facts", "facts", "rag", None, True, "f"),
            PromptComponent("Rules", None, "system", "agent", False, "r"),
        ],
        {"how": "brief", "n": "3"},
    )


def test_a_content_with_variables_keeps_its_marks():
    made = parse_prompt({"content": "Be {{ how }}.", "variables": {"how": "brief"}})
    assert made == Prompt("Be brief.", None, [PromptComponent("Be {{ how }}.")], {"how": "brief"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "a text that is not empty"),
        ("  ", "a text that is not empty"),
        (3, "a text or a dict"),
        ([], "a text or a dict"),
        ({}, "external_prompt_id, content or components"),
        ({"variables": {"a": "b"}}, "external_prompt_id, content or components"),
        ({"content": "x", "components": ["y"]}, "one of the two"),
        ({"content": ""}, "system_prompt.content"),
        ({"content": "x", "contents": "y"}, "system_prompt.contents"),
        ({"external_prompt_id": "a", "external_template_id": "b"}, "one external_prompt_id"),
        ({"external_prompt_id": 7}, "system_prompt.external_prompt_id"),
        ({"components": []}, "a list of texts or dicts, not empty"),
        ({"components": "x"}, "a list of texts or dicts, not empty"),
        ({"components": [7]}, "system_prompt.components[0]"),
        ({"components": [{}]}, "system_prompt.components[0].content"),
        ({"components": [{"content": "x", "type": "poem"}]}, "guardrail"),
        ({"components": [{"content": "x", "source": "me"}]}, "participant"),
        ({"components": [{"content": "x", "is_dynamic": "yes"}]}, "true or false"),
        ({"components": [{"content": "x", "kind": "y"}]}, "system_prompt.components[0].kind"),
        ({"content": "x", "variables": ["a"]}, "a dict with texts as keys"),
        ({"content": "x", "variables": {1: "a"}}, "a dict with texts as keys"),
    ],
)
def test_an_invalid_prompt_is_refused_with_the_reason(given: Any, message: str):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        parse_prompt(given)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "components", "variables", "type", "external_prompt_id", "isDynamic"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_value_is_parsed_or_refused(value: Any):
    with contextlib.suppress(ConfigurationError):
        assert isinstance(parse_prompt(value), Prompt)


@given(JSON)
def test_a_described_prompt_is_parsed_to_an_equal_one(value: Any):
    with contextlib.suppress(ConfigurationError):
        prompt = parse_prompt(value)
        assert parse_prompt(json.loads(json.dumps(describe_prompt(prompt)))) == prompt
