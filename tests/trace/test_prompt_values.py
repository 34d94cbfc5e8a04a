"""Values in plain-text prompts: which are recognized, and that substituting them gives back the text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.trace.prompt_builder import plain_prompt
from gati.trace.prompt_values import KnownValues, is_recognizable


def known(state: Any = None, **more: Any) -> KnownValues:
    root = SimpleNamespace(inputs=state, output=None, metadata=more.get("metadata", {}))
    trace: Any = SimpleNamespace(root=root, configurable=more.get("configurable"))
    return KnownValues(trace, more.get("user_id"))


def marked(text: str, values: KnownValues, retrieved: tuple[str, ...] = ()) -> str:
    prompt = plain_prompt(text, None, values.fill(text, retrieved), retrieved)
    rendered = "".join(part.render(prompt.variables) for part in prompt.components)
    assert rendered == text or not prompt.components
    return "".join(part.content for part in prompt.components) or prompt.text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Anna", True),
        ("u-7", True),
        ("123", True),
        ("élan", True),
        ("enterprise", True),
        ("李明", True),
        ("田中さん", True),
        ("김철수", True),
        ("free", False),
        ("premium", False),
        ("to be", False),
        ("12", False),
        ("Al", False),
        ("李", False),
        ("", False),
        ("   ", False),
    ],
)
def test_a_value_is_recognizable_by_its_characters_or_its_length(value: str, expected: bool):
    assert is_recognizable(value) is expected


@pytest.mark.parametrize(
    ("text", "state", "expected"),
    [
        ("You help Anna.", {"name": "Anna"}, "You help {{name}}."),
        ("You help Annabel.", {"name": "Anna"}, "You help Annabel."),
        ("Feel free to ask.", {"plan": "free"}, "Feel free to ask."),
        ("Plan: Free. Feel free.", {"plan": "Free"}, "Plan: {{plan}}. Feel free."),
        ("User {Anna}.", {"name": "Anna"}, "User {Anna}."),
        ("Keep {{this}} for Anna.", {"name": "Anna"}, "Keep {{this}} for Anna."),
        ("李明さんを助ける", {"name": "李明"}, "{{name}}さんを助ける"),
        ("你好李明欢迎", {"name": "李明"}, "你好{{name}}欢迎"),
        ("用户Anna的助手", {"name": "Anna"}, "用户{{name}}的助手"),
        ("ช่วยสมชายด้วย", {"name": "สมชาย"}, "ช่วย{{name}}ด้วย"),
        ("Ids 123, 1234.", {"id": 123}, "Ids {{id}}, 1234."),
        ("Is it True?", {"flag": True}, "Is it True?"),
        ("Balance: $1,234.50.", {"balance": 1234.5}, "Balance: ${{balance}}."),
        (
            "Balance: 12.50, 1,200 points.",
            {"balance": 12.5, "points": 1200},
            "Balance: {{balance}}, {{points}} points.",
        ),
        ("Count to a lot.", {"huge": 10**400, "infinite": float("inf"), "none": float("nan")}, "Count to a lot."),
        (
            "**Anna** _Anna_ __Anna__ user_Anna _Annabel_",
            {"name": "Anna"},
            "**{{name}}** _{{name}}_ __{{name}}__ user_Anna _Annabel_",
        ),
        ("Anna Smith and Anna.", {"first": "Anna", "full": "Anna Smith"}, "{{full}} and {{first}}."),
        ("User Anna of Oslo.", {"user": {"name": "Anna", "city": "Oslo"}}, "User {{user_name}} of {{user_city}}."),
        ("Topics: Cats, Dogs.", {"topics": ["Cats", "Dogs"]}, "Topics: {{topics}}."),
        ("Write about Cats.", {"topics": ["Cats", "Dogs"]}, "Write about {{topics}}."),
        ("You are a tutor of maths.", {"system": "You are a tutor of maths."}, "You are a tutor of maths."),
    ],
)
def test_values_of_the_state_become_variables(text: str, state: dict[str, Any], expected: str):
    assert marked(text, known(state)) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-27", "{{date}}"),
        ("2026-11-27T03:54:03Z", "{{datetime}}"),
        ("2026-11-27 03:54:03.123456", "{{datetime}}"),
        ("2026-11-27 03:54:03+00:00", "{{datetime}}"),
        ("Friday, November 27, 2026", "{{date}}"),
        ("Friday, November 27, 2026 at 3:54 PM", "{{datetime}}"),
        ("27 November 2026", "{{date}}"),
        ("Fri Nov 27 03:54:03 2026", "{{datetime}}"),
        ("27.11.2026", "{{date}}"),
        ("11/27/2026", "{{date}}"),
        ("14:05", "{{time}}"),
        ("2:05 pm", "{{time}}"),
        ("2026年11月27日", "{{date}}"),
        ("version 1.2.3", "version 1.2.3"),
        ("10.0.0.1:8080", "10.0.0.1:8080"),
        ("May I help", "May I help"),
        ("on Friday", "on Friday"),
        ("in 2026", "in 2026"),
        ("11/27/26", "{{date}}"),
        ("11/27/26 03:54:03", "{{datetime}}"),
        ("Nov 27", "{{date}}"),
        ("Friday, 27 November", "{{date}}"),
        ("November 2026", "{{date}}"),
        ("3:54 PM on Nov 27", "{{time}} on {{date}}"),
        ("May 2026 be good", "{{date}} be good"),
        ("24/7", "24/7"),
        ("in March", "in March"),
    ],
)
def test_dates_and_times_become_variables(moment: str, expected: str):
    assert marked(f"Now: {moment}. Answer.", known()) == f"Now: {expected}. Answer."


def test_dates_are_numbered_whether_they_are_equal_or_not():
    assert marked("From 2026-01-01 to 2026-01-01.", known()) == "From {{date}} to {{date_2}}."
    assert marked("From 2026-01-01 to 2026-02-01.", known()) == "From {{date}} to {{date_2}}."


def test_values_come_from_configuration_metadata_and_the_users_id():
    values = known(
        {"name": "Anna"},
        configurable={"language": "English", "thread_id": "c-1"},
        metadata={"tenant": "Acme", "ls_provider": "openai-x"},
        user_id="u-7",
    )
    text = "Anna, English, Acme, u-7, openai-x"
    assert marked(text, values) == "{{name}}, {{language}}, {{tenant}}, {{user_id}}, openai-x"


def test_retrieved_texts_are_one_part_whatever_their_number():
    one = marked("Answer from:\nA long text.\nBe kind.", known(), ("A long text.",))
    pieces = known().fill("Answer from:\nA long text.\n\nAnother text.\nBe kind.", ("A long text.", "Another text."))
    assert one == "Answer from:\nA long text.\nBe kind."
    assert pieces is not None
    assert [piece.name for piece in pieces] == ["", "context", ""]


@pytest.mark.parametrize("name", ["Anna", "Bob Jones", "李明", "O'Neil", "Ünal", "user-42", "X Æ A-12"])
def test_ten_users_make_one_version(name: str):
    text = f"You help {name}. Plan: free. Today is 2026-11-27. Feel free to ask {name}."
    expected = "You help {{name}}. Plan: free. Today is {{date}}. Feel free to ask {{name}}."
    assert marked(text, known({"name": name, "plan": "free"})) == expected


WORDS = st.sampled_from(
    [
        "Anna",
        "free",
        "feel",
        " ",
        "\n",
        "{",
        "}",
        "{{",
        "}}",
        "李明",
        "さん",
        "2026-11-27",
        "14:05",
        "u-7",
        "é",
        ".",
        "_",
        "n",
    ]
)
TEXTS = st.lists(WORDS, max_size=20).map("".join) | st.text(max_size=80)
VALUES = st.dictionaries(
    st.text(min_size=1, max_size=6) | st.sampled_from(["name", "date", "time", "literal"]),
    TEXTS
    | st.integers()
    | st.floats(allow_nan=False)
    | st.lists(TEXTS, max_size=3)
    | st.dictionaries(st.text(max_size=3), TEXTS),
    max_size=5,
)


@given(TEXTS, VALUES, VALUES, st.lists(TEXTS, max_size=2), st.none() | TEXTS)
def test_substituting_the_variables_gives_back_the_exact_text(
    text: str, state: dict[str, Any], configurable: dict[str, Any], retrieved: list[str], user: str | None
):
    values = known(state, configurable=configurable, user_id=user)
    prompt = plain_prompt(text, None, values.fill(text, retrieved), retrieved)
    if prompt.components:
        assert "".join(part.render(prompt.variables) for part in prompt.components) == text
    else:
        assert prompt.variables == {}
    assert prompt.text == text


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=7), TEXTS)
def test_short_plain_words_are_never_variables(word: str, text: str):
    pieces = known({"word": word}).fill(f"{text} {word} {text}")
    assert pieces is None or all(piece.name != "word" for piece in pieces)


@given(st.lists(st.sampled_from(["Anna Lee", "Bob", "Ünal", "李明", "user-42"]), min_size=2, max_size=2, unique=True))
def test_two_users_make_the_same_template(names: list[str]):
    first, second = (marked(f"Help {name} now, {name}!", known({"who": name})) for name in names)
    assert first == second == "Help {{who}} now, {{who}}!"
