"""`gati.trace.templates`: the values of a rendered template, inferred unambiguously or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gati.trace.records import TemplateText
from gati.trace.templates import fill_pieces, parse


def blocks(text: str, form: str = "f-string") -> tuple[TemplateText, ...]:
    return (TemplateText(text, form),)


def values_of(text: str, values: dict[str, Any], rendered: str, form: str = "f-string") -> dict[str, str] | None:
    pieces = parse(blocks(text, form))
    assert pieces is not None
    filled = fill_pieces(pieces, values, rendered)
    return None if filled is None else {name: value for name, value in filled if name}


@pytest.mark.parametrize(
    ("text", "form", "names"),
    [
        ("Be {how} and {what}.", "f-string", ["how", "what"]),
        ("A {{literal}} brace", "f-string", []),
        ("Be {{ how }} and {{what}}.", "jinja2", ["how", "what"]),
        ("{{ user.name }}", "jinja2", ["user_name"]),
        ("Be {{how}}, {{{what}}}, {{&who}}.", "mustache", ["how", "what", "who"]),
        ("{anything} {{at}} all", "literal", []),
    ],
)
def test_plain_variables_are_parsed(text: str, form: str, names: list[str]):
    pieces = parse(blocks(text, form))
    assert pieces is not None
    assert [piece.name for piece in pieces if piece.name] == names


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("{% if x %}a{% endif %}", "jinja2"),
        ("{# why #}", "jinja2"),
        ("{{ x | upper }}", "jinja2"),
        ("{{ f() }}", "jinja2"),
        ("{{- x -}}", "jinja2"),
        ("{{#items}}{{.}}{{/items}}", "mustache"),
        ("{{! why }}", "mustache"),
        ("{{> part}}", "mustache"),
        ("{a.b}", "f-string"),
        ("{a[0]}", "f-string"),
        ("{a:{b}}", "f-string"),
        ("{", "f-string"),
        ("", ""),
        ("x", "unheard-of"),
    ],
)
def test_templates_with_logic_are_not_parsed(text: str, form: str):
    assert parse(blocks(text, form)) is None


def test_values_are_formatted_as_in_the_template():
    assert values_of("{x:.1f} of {y!r}", {"x": 0.25, "y": "z"}, "0.2 of 'z'") == {"x": "0.2", "y": "'z'"}


def test_unknown_values_are_inferred_from_the_text():
    assert values_of("Today is {today}; be {how}.", {"how": "brief"}, "Today is Friday; be brief.") == {
        "today": "Friday",
        "how": "brief",
    }


def test_a_value_that_does_not_fit_is_inferred_from_the_text():
    assert values_of("Be {how}.", {"how": "a shortened copy…"}, "Be brief.") == {"how": "brief"}


def test_an_edited_template_is_not_trusted():
    assert values_of("Be {how}.", {"how": "brief"}, "Please be brief!") is None


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{a}{b}", "xy"),
        ("{a} is {b}", "x is y is z"),
        ("{a} and {a}", "x and y"),
    ],
)
def test_an_ambiguous_text_is_not_inferred(text: str, rendered: str):
    assert values_of(text, {}, rendered) is None


def test_a_known_value_resolves_an_ambiguity():
    assert values_of("{a} is {b}", {"b": "z"}, "x is y is z") == {"a": "x is y", "b": "z"}


def test_jinja_drops_the_last_line_break_and_mustache_escapes():
    assert values_of("Be {{ how }}.\n", {"how": "brief"}, "Be brief.", "jinja2") == {"how": "brief"}
    assert values_of("For {{who}}.", {"who": "a & b"}, "For a &amp; b.", "mustache") == {"who": "a &amp; b"}


def test_blocks_of_a_message_are_joined_by_line_breaks():
    pieces = parse((TemplateText("A {a}", "f-string"), TemplateText("B", "literal")))
    assert pieces is not None
    assert fill_pieces(pieces, {"a": 1}, "A 1\nB") is not None


TEXT = st.text(st.sampled_from("ab{} \n."), max_size=12)


@given(st.lists(st.tuples(TEXT, st.sampled_from(["", "x", "y"]), TEXT), max_size=5), st.booleans())
@example([("a", "x", "b"), ("b", "x", "b")], True)
def test_the_filled_pieces_join_to_the_text(parts: list[tuple[str, str, str]], known: bool):
    values: dict[str, str] = {}
    for _, name, value in parts:
        values.setdefault(name, value)
    template = "".join(t.replace("{", "{{").replace("}", "}}") + ("{" + n + "}" if n else "") for t, n, _ in parts)
    rendered = "".join(text + (values[name] if name else "") for text, name, _ in parts)
    pieces = parse(blocks(template))
    assert pieces is not None
    filled = fill_pieces(pieces, values if known else {}, rendered)
    if filled is not None:
        assert "".join(text for _, text in filled) == rendered
    if known:
        assert filled is not None
        assert {name: text for name, text in filled if name} == {name: values[name] for _, name, _ in parts if name}


@given(
    TEXT,
    st.sampled_from(["f-string", "jinja2", "mustache", "literal", ""]),
    TEXT,
    st.dictionaries(st.just("a"), st.integers()),
)
def test_no_template_raises(text: str, form: str, rendered: str, values: dict[str, Any]):
    pieces = parse(blocks(text, form))
    if pieces is not None:
        fill_pieces(pieces, values, rendered)
