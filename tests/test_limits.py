from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati import limits


def test_a_long_id_is_its_beginning_and_a_hash() -> None:
    long = "é" + "x" * 1000
    bounded = limits.bounded_id(long)
    assert bounded == f"{long[:222]}-{hashlib.sha256(long.encode()).hexdigest()[:32]}"
    assert len(bounded) == 255
    assert limits.bounded_id("x" * 255) == "x" * 255


@given(st.text(min_size=250, max_size=300), st.text(min_size=250, max_size=300))
def test_ids_never_merge(one: str, other: str) -> None:
    assert (limits.bounded_id(one) == limits.bounded_id(other)) == (one == other)
    assert limits.bounded_id(limits.bounded_id(one)) == limits.bounded_id(one)


@given(st.text(max_size=400), st.integers(1, 300), st.booleans())
def test_a_cut_text_is_a_beginning_with_its_size(text: str, limit: int, whole_hash: bool) -> None:
    cut = limits.cut_text(text, limit, whole_hash)
    if len(text) <= limit:
        assert cut is text
        return
    split = limits.split_marker(cut)
    assert split is not None
    head, size = split
    assert text.startswith(head)
    assert len(head) <= limit
    assert size == len(text.encode("utf-8", "surrogatepass"))
    assert limits.cut_text(cut, max(len(head), 1), whole_hash) == cut or len(head) > limit - 80


@pytest.mark.parametrize(
    ("text", "limit", "head"),
    [
        ("the key is sk-abcdef0123456789 and more", 20, "the key is "),
        ("the key is sk-abcdef0123456789 and more", 31, "the key is "),
        ("whole words stay here", 11, "whole words"),
        ('{"key":"sk-abcdef0123456789"}', 15, '{"key":"'),
        ("mail john.doe@example.com now", 18, "mail "),
        ("pay with 4111 1111 1111 1111 now", 20, "pay with "),
        ("pay with 4111 1111 1111 1111 now", 28, "pay with "),
        ("DE89 3704 0044 0532 0130 00 is mine", 17, ""),
    ],
)
def test_the_cut_leaves_no_part_of_a_word_or_number(text: str, limit: int, head: str) -> None:
    before = "word " * 50
    cut = limits.cut_text(before + text, len(before) + limit)
    assert limits.split_marker(cut) == (before + head, len(before + text))


def test_a_very_long_word_is_cut() -> None:
    assert limits.split_marker(limits.cut_text("x" * 10_000, 9_000)) == ("x" * 9_000, 10_000)


def test_texts_with_the_same_beginning_and_size_differ_by_their_hash() -> None:
    one, other = ("x " * 1000 + end for end in ("yes", "why"))
    assert limits.cut_text(one, 100) == limits.cut_text(other, 100)
    assert limits.cut_text(one, 100, whole_hash=True) != limits.cut_text(other, 100, whole_hash=True)
    assert limits.cut_text(one, 100, whole_hash=True) == limits.cut_text(str(one), 100, whole_hash=True)


def test_the_size_of_a_very_long_text_is_estimated() -> None:
    text = "é" * (5 * 1024**2)
    assert limits.split_marker(limits.cut_text(text, 100)) == ("é" * 100, 10 * 1024**2)


@pytest.mark.parametrize(
    "text", ["", "]", "a [shortened by gati, 5 bytes in all]", "… [shortened by gati, x bytes in all]"]
)
def test_other_texts_have_no_marker(text: str) -> None:
    assert limits.split_marker(text) is None


@given(st.text(min_size=300, max_size=700))
def test_the_hash_of_a_text_survives_the_cut(text: str) -> None:
    assert limits.hash_of_text(text, 200) == limits.hash_of_text(limits.cut_text(text, 200, whole_hash=True))


def test_texts_that_begin_alike_have_different_hashes() -> None:
    texts = ["same " * 20_000 + ending for ending in ("", "one", "two")] + ["same " * 10_000 + "x" + "same " * 10_000]
    assert len({limits.hash_of_text(text, 65536) for text in texts}) == len(texts)
    assert len({limits.hash_of_text(limits.cut_text(text, 65536, whole_hash=True)) for text in texts}) == len(texts)
