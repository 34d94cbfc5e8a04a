"""Values as one line."""

from __future__ import annotations

from gati.store.value_text import outline


def test_values_keep_their_names():
    assert outline({"order": "8613"}) == "order: 8613"
    assert outline({"a": 1, "b": [True, None]}) == "a: 1, b: [true, null]"
    assert outline({"finish_reason": "stop"}) == "finish_reason: stop"


def test_a_key_whose_meaning_is_clear_is_left_out_if_it_is_the_only_one():
    assert outline({"output": "12.0"}, "output") == "12.0"
    assert outline({"output": "12.0", "more": 1}, "output") == "output: 12.0, more: 1"


def test_long_values_are_cut_and_media_described():
    assert len(outline("x" * 500)) == 140
    assert outline({"mime": "image/png", "bytes": 3, "sha256": "ab"}) == "[image/png, 3 bytes, sha256 ab]"
