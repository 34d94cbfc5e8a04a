from __future__ import annotations

from gati.events import Prompt, PromptComponent
from gati.exporters.greenflash.prompt_encoder import EMPTY_PROMPT, PromptCache, encode_prompt, prompt_key
from gati.studio.api import validation

LIMIT = 64 * 1024


def assert_valid(value: object) -> None:
    body = {"externalUserId": "u", "externalConversationId": "c", "messages": [{"role": "user"}], "systemPrompt": value}
    assert validation.find_error("messages", body) is None
    assert validation.unknown_keys("messages", body) == []


def test_plain_text():
    assert encode_prompt(Prompt("Be kind."), LIMIT).value == "Be kind."


def test_text_with_external_id():
    encoded = encode_prompt(Prompt("Be kind.", external_id="tutor/model"), LIMIT)
    assert encoded.value == {"externalPromptId": "tutor/model", "content": "Be kind."}
    assert encoded.id == "tutor/model"


def test_external_id_alone():
    assert encode_prompt(Prompt("", external_id="tutor"), LIMIT).value == {"externalPromptId": "tutor"}


def test_empty_prompt():
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
    encoded = encode_prompt(prompt, LIMIT)
    assert encoded.value == {
        "externalPromptId": "tutor",
        "components": [
            {"content": "You help {{name}}.", "type": "system", "name": "base"},
            {"content": "Rule 1.", "type": "rag", "source": "agent", "isDynamic": True, "externalComponentId": "rules"},
            {"content": "x", "type": "other"},
        ],
        "variables": {"name": "Bob"},
    }
    assert_valid(encoded.value)


def test_long_prompts_are_truncated_and_stay_valid():
    parts = [PromptComponent("x" * 600, name="n", type="guardrail", is_dynamic=True) for _ in range(50)]
    encoded = encode_prompt(Prompt("", components=parts, variables={str(n): "v" * 90 for n in range(90)}), 2000)
    assert isinstance(encoded.value, dict)
    assert len(str(encoded.value)) < 4000
    assert_valid(encoded.value)


def test_values_of_variables_become_text():
    prompt = Prompt("x {{n}}", variables={"n": 7, "bad": "\ud800"})
    encoded = encode_prompt(prompt, LIMIT)
    assert encoded.value == {"content": "x {{n}}", "variables": {"n": "7", "bad": "\ufffd"}}
    assert_valid(encoded.value)


def test_version_depends_on_the_template_only():
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


def test_prompt_is_encoded_once():
    cache = PromptCache(LIMIT)
    key, first = cache.encode(Prompt("Hi"))
    same_key, second = cache.encode(Prompt("Hi"))
    assert key == same_key
    assert first is second is cache.by_key(key)
    for n in range(1000):
        cache.encode(Prompt(str(n)))
    cache.trim()
    assert cache.by_key(key) is EMPTY_PROMPT
