from __future__ import annotations

from gati.events import Prompt, PromptComponent
from gati.exporters.greenflash.prompt_encoder import EMPTY_PROMPT, PromptCache, encode_prompt, prompt_key
from gati.studio.api import validation

LIMIT = 64 * 1024


def valid(value: object) -> None:
    body = {"externalUserId": "u", "externalConversationId": "c", "messages": [{"role": "user"}], "systemPrompt": value}
    assert validation.find_error("messages", body) is None
    assert validation.unknown_keys("messages", body) == []


def test_a_text_is_a_text():
    assert encode_prompt(Prompt("Be kind."), LIMIT).value == "Be kind."


def test_a_text_with_a_name_is_its_content():
    wire = encode_prompt(Prompt("Be kind.", external_id="tutor/model"), LIMIT)
    assert wire.value == {"externalPromptId": "tutor/model", "content": "Be kind."}
    assert wire.id == "tutor/model"


def test_a_name_alone_refers_to_a_prompt_that_is_known_there():
    assert encode_prompt(Prompt("", external_id="tutor"), LIMIT).value == {"externalPromptId": "tutor"}


def test_nothing_is_nothing():
    assert encode_prompt(Prompt(""), LIMIT) == EMPTY_PROMPT


def test_components_exclude_the_content():
    prompt = Prompt(
        "You help Bob. Rule 1.",
        external_id="tutor",
        components=[
            PromptComponent("You help {{name}}.", name="base", source="customer"),
            PromptComponent("Rule 1.", type="rag", source="agent", is_dynamic=True, external_id="rules"),
            PromptComponent("x", type="weather"),
        ],
        variables={"name": "Bob"},
    )
    wire = encode_prompt(prompt, LIMIT)
    assert wire.value == {
        "externalPromptId": "tutor",
        "components": [
            {"content": "You help {{name}}.", "type": "system", "name": "base"},
            {"content": "Rule 1.", "type": "rag", "source": "agent", "isDynamic": True, "externalComponentId": "rules"},
            {"content": "x", "type": "other"},
        ],
        "variables": {"name": "Bob"},
    }
    valid(wire.value)


def test_long_prompts_are_shortened_and_stay_valid():
    parts = [PromptComponent("x" * 600, name="n", type="guardrail", is_dynamic=True) for _ in range(50)]
    wire = encode_prompt(Prompt("", components=parts, variables={str(n): "v" * 90 for n in range(90)}), 2000)
    assert isinstance(wire.value, dict)
    assert len(str(wire.value)) < 4000
    valid(wire.value)


def test_values_that_are_no_texts_become_texts():
    prompt = Prompt("x {{n}}", variables={"n": 7, "bad": "\ud800"})
    wire = encode_prompt(prompt, LIMIT)
    assert wire.value == {"content": "x {{n}}", "variables": {"n": "7", "bad": "\ufffd"}}
    valid(wire.value)


def test_the_version_changes_with_the_template_and_with_nothing_else():
    def version(template: str, value: str, dynamic: str) -> str | None:
        parts = [PromptComponent(template), PromptComponent(dynamic, is_dynamic=True)]
        return encode_prompt(Prompt(value, components=parts, variables={"name": value}), LIMIT).version

    assert version("Hi {{name}}", "Bob", "a") == version("Hi {{name}}", "Eve", "b")
    assert version("Hi {{name}}", "Bob", "a") != version("Ho {{name}}", "Bob", "a")


def test_equal_prompts_have_equal_keys():
    def prompt(value: str) -> Prompt:
        return Prompt("Hi", "id", [PromptComponent("Hi {{name}}")], {"name": value})

    assert prompt_key(prompt("Bob")) == prompt_key(prompt("Bob"))
    assert prompt_key(prompt("Bob")) != prompt_key(prompt("Eve"))
    assert prompt_key(Prompt("Hi")) != prompt_key(Prompt("Hi", "id"))


def test_a_prompt_is_made_ready_once():
    wires = PromptCache(LIMIT)
    one, first = wires.encode(Prompt("Hi"))
    other, second = wires.encode(Prompt("Hi"))
    assert one == other
    assert first is second is wires.by_key(one)
    for n in range(1000):
        wires.encode(Prompt(str(n)))
    wires.trim()
    assert wires.by_key(one) is EMPTY_PROMPT
