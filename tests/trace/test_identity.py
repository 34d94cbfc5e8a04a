"""`gati.trace.identity`. `tests/scenarios/test_identity.py` tests the whole precedence with real programs."""

from __future__ import annotations

from typing import Any

import pytest

from gati.options import Settings
from gati.trace.identity import active_span_of, resolve, user_metadata
from gati.trace.records import ACTIVE_SPAN, Scope

ROOT = "0199-root"


def test_without_ids_the_conversation_is_the_run_and_the_user_anonymous():
    conversation = resolve(ROOT, None, None, None, Settings())
    assert (conversation.id, conversation.user_id, conversation.organization_id, conversation.properties) == (
        ROOT,
        "anonymous",
        None,
        {},
    )


def test_each_source_overrides_the_later_ones():
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
        conversation = resolve(ROOT, in_scope, in_metadata, in_configurable, settings)
        assert (conversation.id, conversation.user_id, conversation.organization_id) == (
            f"c-{name}",
            f"u-{name}",
            f"o-{name}",
        )


def test_gatis_own_key_takes_precedence():
    metadata = {"langfuse_session_id": "4", "session_id": "3", "thread_id": "2", "conversation_id": "1"}
    for expected in "1234":
        assert resolve(ROOT, None, metadata, None, Settings()).id == expected
        del metadata[next(reversed(metadata))]


@pytest.mark.parametrize(("value", "expected"), [("x", "x"), (7, "7"), (0, "0"), (-3, "-3")])
def test_strings_and_integers_are_ids(value: Any, expected: str):
    assert resolve(ROOT, None, {"thread_id": value}, None, Settings()).id == expected


@pytest.mark.parametrize("value", [None, "", True, 1.5, {"id": 1}, ["x"]])
def test_other_values_are_not_ids(value: Any):
    conversation = resolve(ROOT, None, {"thread_id": value, "user_id": value}, None, Settings())
    assert (conversation.id, conversation.user_id) == (ROOT, "anonymous")


def test_an_unusable_value_falls_back_to_the_next_source():
    assert resolve(ROOT, None, {"thread_id": None}, {"thread_id": "c-conf"}, Settings()).id == "c-conf"


def test_properties_of_a_scope_are_added_to_those_of_init():
    conversation = resolve(
        ROOT, Scope(properties={"page": "home"}), None, None, Settings(properties={"plan": "pro", "page": "-"})
    )
    assert conversation.properties == {"plan": "pro", "page": "home"}


def test_user_metadata_excludes_ids_and_langchains_keys():
    metadata = {
        "plan": "pro", "thread_id": "c", "user_id": "u", "system_prompt": "x", "langgraph_node": "n", "ls_provider": "p",
        "lc_agent_name": "a", "__pregel": 1, "checkpoint_ns": "", "langchain_x": 1,
    }  # fmt: skip
    assert user_metadata(metadata) == {"plan": "pro"}


def test_the_active_span_is_sampled_if_the_lowest_bit_of_its_flags_is_set():
    for flags in range(256):
        span = active_span_of({ACTIVE_SPAN: f"0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags:02x}"})
        assert span == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", bool(flags & 1))


@pytest.mark.parametrize("value", [None, 1, "", "a-b", "a-b-c-d"])
def test_what_is_no_active_span_is_ignored(value: Any):
    assert active_span_of({ACTIVE_SPAN: value}) is None
    assert active_span_of({}) is None
