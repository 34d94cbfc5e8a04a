"""Whose conversation it is. The whole table, with real programs, is in `tests/scenarios/test_identity.py`."""

from __future__ import annotations

from typing import Any

import pytest

from gati.options import Settings
from gati.trace.identity import resolve, user_metadata
from gati.trace.records import Scope

ROOT = "0199-root"


def test_without_any_word_it_is_the_runs_own_and_nobodys():
    found = resolve(ROOT, None, None, None, Settings())
    assert (found.id, found.user_id, found.organization_id, found.properties) == (ROOT, "anonymous", None, {})


def test_each_source_overrides_those_behind_it():
    scope = Scope("c-scope", "u-scope", "o-scope")
    metadata = {"conversation_id": "c-meta", "user_id": "u-meta", "organization_id": "o-meta"}
    configurable = {"conversation_id": "c-conf", "user_id": "u-conf", "organization_id": "o-conf"}
    settings = Settings(conversation_id="c-init", user_id="u-init", organization_id="o-init")
    expected = ["scope", "meta", "conf", "init"]
    sources: list[list[Any]] = [
        [scope, metadata, configurable],
        [None, metadata, configurable],
        [None, None, configurable],
        [None] * 3,
    ]
    for name, (in_scope, in_metadata, in_configurable) in zip(expected, sources, strict=True):
        found = resolve(ROOT, in_scope, in_metadata, in_configurable, settings)
        assert (found.id, found.user_id, found.organization_id) == (f"c-{name}", f"u-{name}", f"o-{name}")


def test_our_own_name_goes_before_the_ecosystems():
    metadata = {"langfuse_session_id": "4", "session_id": "3", "thread_id": "2", "conversation_id": "1"}
    for expected in "1234":
        assert resolve(ROOT, None, metadata, None, Settings()).id == expected
        del metadata[next(reversed(metadata))]


@pytest.mark.parametrize(("value", "expected"), [("x", "x"), (7, "7"), (0, "0"), (-3, "-3")])
def test_texts_and_numbers_are_ids(value: Any, expected: str):
    assert resolve(ROOT, None, {"thread_id": value}, None, Settings()).id == expected


@pytest.mark.parametrize("value", [None, "", True, 1.5, {"id": 1}, ["x"]])
def test_anything_else_names_nobody(value: Any):
    found = resolve(ROOT, None, {"thread_id": value, "user_id": value}, None, Settings())
    assert (found.id, found.user_id) == (ROOT, "anonymous")


def test_an_unusable_value_leaves_the_next_source_its_turn():
    assert resolve(ROOT, None, {"thread_id": None}, {"thread_id": "c-conf"}, Settings()).id == "c-conf"


def test_properties_of_a_scope_are_added_to_those_of_init():
    found = resolve(
        ROOT, Scope(properties={"page": "home"}), None, None, Settings(properties={"plan": "pro", "page": "-"})
    )
    assert found.properties == {"plan": "pro", "page": "home"}


def test_metadata_without_what_langchain_and_we_keep_there():
    metadata = {
        "plan": "pro", "thread_id": "c", "user_id": "u", "system_prompt": "x", "langgraph_node": "n", "ls_provider": "p",
        "lc_agent_name": "a", "__pregel": 1, "checkpoint_ns": "", "langchain_x": 1,
    }  # fmt: skip
    assert user_metadata(metadata) == {"plan": "pro"}
