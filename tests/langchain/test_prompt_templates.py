"""`gati.langchain.prompt_templates` on prompts that LangChain created and serialized."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import (
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    FewShotPromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
    SystemMessagePromptTemplate,
)

from gati.langchain import prompt_templates
from gati.langchain.prompt_templates import extract_system_and_user_prompts, hub_of, template_of
from gati.trace.records import Template, TemplateText
from tests.unpacked import unpacked


class Raising:
    """A message all of whose attributes raise."""

    @property
    def content(self) -> str:
        raise RuntimeError("no content")

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Role:
    """A message of another library: `role` is an enum member."""

    def __init__(self, role: str, content: object) -> None:
        self.role = type("Role", (), {"value": role})()
        self.content = content


SYSTEM = SystemMessage("Be brief.")
USER = HumanMessage("Hello")

FORMS: dict[str, Any] = {
    "objects": [[SYSTEM, USER]],
    "a flat list of objects": [SYSTEM, USER],
    "dicts with roles": [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]],
    "dicts with types": [{"type": "system", "content": "Be brief."}, {"type": "human", "content": "Hello"}],
    "tuples": [("system", "Be brief."), ("human", "Hello")],
    "pairs as lists": [[["system", "Be brief."], ["user", "Hello"]]],
    "a dict of messages": {"messages": [("system", "Be brief."), USER]},
    "a prompt value": ChatPromptTemplate([("system", "Be {how}."), ("human", "Hello")]).invoke({"how": "brief"}),
    "the serialised form": [SYSTEM.to_json(), USER.to_json()],
    "chat messages with a role": [
        ChatMessage(content="Be brief.", role="system"),
        ChatMessage(content="Hello", role="user"),
    ],
    "developer messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
    "roles as enums": [Role("system", "Be brief."), Role("user", "Hello")],
    "blocks": [SystemMessage([{"type": "text", "text": "Be brief."}]), HumanMessage(["Hello"])],
    "a message and a string": [SYSTEM, "Hello"],
    "a batch of both": [[SYSTEM], ["Hello"]],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_messages_gives_the_same_two_texts(form: str):
    assert extract_system_and_user_prompts(FORMS[form]) == ("Be brief.", "Hello")


def test_strings_are_user_text_even_if_one_equals_a_role():
    assert extract_system_and_user_prompts("Hello") == ("", "Hello")
    assert extract_system_and_user_prompts(["system", "Hello"]) == ("", "system\n\nHello")
    assert extract_system_and_user_prompts(PromptTemplate.from_template("Hi {x}").invoke({"x": "Bob"})) == (
        "",
        "Hi Bob",
    )


def test_text_of_other_roles_is_kept_with_the_user_text():
    messages = [USER, AIMessage("Hi!"), ToolMessage("42", tool_call_id="c")]
    assert extract_system_and_user_prompts(messages) == ("", "Hello\n\nHi!\n\n42")


def test_media_blocks_contribute_only_their_text():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    message = HumanMessage([{"type": "text", "text": "What is this?"}, image])
    assert extract_system_and_user_prompts([message]) == ("", "What is this?")


@pytest.mark.parametrize("nothing", [None, [], [[]], (), {}, "", [None], [[None]]])
def test_empty_input_gives_two_empty_texts(nothing: Any):
    assert extract_system_and_user_prompts(nothing) == ("", "")


@pytest.mark.parametrize(
    ("odd", "text"), [(42, "42"), ([{"a": 1}], "{'a': 1}"), ([HumanMessage("x"), 1.5], "x\n\n1.5"), (b"raw", "b'raw'")]
)
def test_other_values_count_as_user_text(odd: Any, text: str):
    assert extract_system_and_user_prompts(odd) == ("", text)


def test_an_unreadable_object_is_replaced_by_its_type_and_the_rest_is_kept():
    system, user = extract_system_and_user_prompts([SYSTEM, Raising(), USER])
    assert system == "Be brief."
    assert "Raising object" in user
    assert user.endswith("Hello")


def test_a_list_that_contains_itself_terminates():
    endless: list[Any] = ["Hello"]
    endless.append(endless)
    assert "Hello" in extract_system_and_user_prompts(endless)[1]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Raising),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from(["role", "type", "content", "text", "kwargs", "id", "messages"]) | st.text(), inner
        )
        | st.builds(Role, st.sampled_from(["system", "user", ""]), inner)
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_extraction_never_raises(value: Any):
    system, user = extract_system_and_user_prompts(value)
    assert isinstance(system, str)
    assert isinstance(user, str)


# -- templates ----------------------------------------------------------------------------


class PromptRuns(BaseCallbackHandler):
    """Collects the `serialized` argument of every prompt run."""

    raise_error = True

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_chain_start(self, serialized: dict[str, Any], inputs: Any, **more: Any) -> None:
        if more.get("run_type") == "prompt":
            self.seen.append(serialized)


def serialized_of(prompt: Any, inputs: Any) -> dict[str, Any]:
    runs = PromptRuns()
    prompt.invoke(inputs, {"callbacks": [runs]})
    return runs.seen[0]


def template(prompt: Any, inputs: Any) -> Template | None:
    return unpacked(template_of(serialized_of(prompt, inputs)))


def one(text: str, form: str = "f-string") -> tuple[tuple[TemplateText, ...], ...]:
    return ((TemplateText(text, form),),)


@pytest.mark.parametrize("form", ["f-string", "jinja2", "mustache"])
def test_a_system_template_is_read_with_its_format(form: Any):
    text = "Be {how}." if form == "f-string" else "Be {{ how }}."
    found = template(ChatPromptTemplate([("system", text), ("human", "Hello")], template_format=form), {"how": "brief"})
    assert found == Template(one(text, form), ("how",), {}, user=one("Hello", form))


def test_templates_of_user_messages_are_read_and_those_of_other_roles_left_out():
    prompt = ChatPromptTemplate([("system", "S {a}"), MessagesPlaceholder("history"), ("human", "{q}"), ("ai", "{b}")])
    found = template(prompt, {"a": 1, "history": [USER], "q": 2, "b": 3})
    assert found is not None
    assert found.system == one("S {a}")
    assert found.user == one("{q}")
    assert template(ChatPromptTemplate([("ai", "{q}")]), {"q": 1}) is None
    completion = template(PromptTemplate.from_template("{q}"), {"q": 1})
    assert completion is not None
    assert (completion.system, completion.user) == ((), one("{q}"))


def test_literal_and_block_and_role_messages_are_read():
    prompt = ChatPromptTemplate(
        [
            SystemMessage("Literal {x}"),
            SystemMessage([{"type": "text", "text": "In a block"}]),
            SystemMessagePromptTemplate.from_template(
                [
                    {"type": "text", "text": "A {a}"},
                    {"type": "image_url", "image_url": "{image}"},
                    {"type": "text", "text": "B {b}", "cache_control": {"type": "ephemeral"}},
                ]
            ),
            ChatMessagePromptTemplate.from_template("C {c}", role="system"),
        ]
    )
    found = template(prompt, {"a": 1, "b": 2, "c": 3, "image": "https://example.com/a.png"})
    assert found is not None
    assert found.system == (
        (TemplateText("Literal {x}", "literal"),),
        (TemplateText("In a block", "literal"),),
        (TemplateText("A {a}", "f-string"), TemplateText("B {b}", "f-string")),
        (TemplateText("C {c}", "f-string"),),
    )


def test_few_shot_text_in_a_system_message_is_marked_as_unknown():
    shots = FewShotPromptTemplate(
        example_prompt=PromptTemplate.from_template("{a}"), examples=[{"a": 1}], suffix="{q}", input_variables=["q"]
    )
    found = template(ChatPromptTemplate([SystemMessagePromptTemplate(prompt=shots)]), {"q": 1})
    assert found is not None
    assert found.system == one("", "")


def test_partial_values_are_kept_and_callables_left_out():
    prompt = ChatPromptTemplate([("system", "{a} {b} {c}")]).partial(a="A", b=lambda: "B")
    found = template(prompt, {"c": 1})
    assert found is not None
    assert found.partials == {"a": "A"}


def test_the_name_and_the_hub_repository_of_a_prompt_are_kept():
    metadata = {"lc_hub_owner": "ada", "lc_hub_repo": "tutor", "lc_hub_commit_hash": "c0ffee"}
    found = template(ChatPromptTemplate([("system", "S")], name="greeting", metadata=metadata), {})
    assert found is not None
    assert (found.name, found.hub) == ("greeting", "ada/tutor")
    plain = template(ChatPromptTemplate([("system", "S")]), {})
    assert plain is not None
    assert (plain.name, plain.hub) == (None, None)


def test_the_owner_of_a_private_hub_prompt_is_left_out():
    assert hub_of({"lc_hub_owner": "-", "lc_hub_repo": "tutor"}) == "tutor"
    assert hub_of({"lc_hub_owner": "ada"}) is None
    assert hub_of(None) is None


def test_a_template_is_read_once_and_serialized_is_not_changed():
    prompt = ChatPromptTemplate([("system", "Be {how}.")])
    serialized = serialized_of(prompt, {"how": "brief"})
    before = repr(serialized)
    assert template_of(serialized) is template_of(serialized)
    assert template_of(serialized_of(prompt, {"how": "long"})) is template_of(serialized)
    assert repr(serialized) == before


def test_a_dict_that_reuses_an_id_is_not_mistaken_for_the_old_one():
    for number in range(5_000):
        serialized = {
            "id": ["SystemMessage"],
            "kwargs": {"messages": [{"id": ["SystemMessage"], "kwargs": {"content": str(number)}}]},
        }
        found = unpacked(template_of(serialized))
        assert found is not None
        assert found.system == one(str(number), "literal")
        del serialized
    gc.collect()
    assert len(prompt_templates._cache) <= prompt_templates._CACHE_SIZE


@given(ANYTHING | st.fixed_dictionaries({"kwargs": st.fixed_dictionaries({"messages": st.lists(ANYTHING)})}))
def test_reading_a_template_never_raises(value: Any):
    assert template_of(value) is None
