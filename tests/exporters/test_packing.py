from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.exporters.base import OpenRequests, PackedRequest, Request
from gati.exporters.packing import pack_items


def sized(*sizes: int) -> list[tuple[int, int]]:
    return list(enumerate(sizes))


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([40, 40, 40], [([0, 1], 90), ([2], 50)]),
        ([45, 45], [([0, 1], 100)]),
        ([45, 46], [([0], 55), ([1], 56)]),
        ([1, 1, 1, 1], [([0, 1, 2], 13), ([3], 11)]),
        ([500, 1], [([0], 510), ([1], 11)]),
        ([1, 500, 1], [([0], 11), ([1], 510), ([2], 11)]),
    ],
)
def test_items_are_divided_by_count_and_bytes(sizes: list[int], groups: list[tuple[list[int], int]]):
    assert pack_items(sized(*sizes), max_items=3, max_bytes=100, base=10) == groups


def test_requests_need_no_bytes_of_their_own_by_default():
    assert pack_items(sized(50, 50, 50), max_items=3, max_bytes=100) == [([0, 1], 100), ([2], 50)]


@given(st.lists(st.integers(0, 60), min_size=1), st.integers(1, 10), st.integers(0, 30))
def test_groups_keep_all_items_in_order_and_stay_within_the_limits(sizes: list[int], max_items: int, base: int):
    groups = pack_items(sized(*sizes), max_items, 100, base)
    assert [item for group, _ in groups for item in group] == list(range(len(sizes)))
    for group, size in groups:
        assert 1 <= len(group) <= max_items
        assert size == base + sum(sizes[item] for item in group)
        assert size <= 100
    for (group, size), (following, _) in itertools.pairwise(groups):
        assert len(group) == max_items or size + sizes[following[0]] > 100  # no group has space for the next item


def request(
    key: str, *items: str, fields: str = '"user":"u"', max_items: int = 10, max_bytes: int = 1_000
) -> PackedRequest:
    packed = [f'"{item}"'.encode() for item in items]
    return PackedRequest.of(key, "turn", "messages", "messages", fields.encode(), packed, max_items, max_bytes)


def test_a_packed_request_has_the_body_that_it_was_made_of():
    assert request("c-1", "a", "b").body == {"user": "u", "messages": ["a", "b"]}
    assert request("c-1", "a", fields="").body == {"messages": ["a"]}


def test_a_packed_request_may_get_another_body():
    changed = replace(request("c-1", "a", "b"), body={"messages": ["b"]}, items=1)
    assert (changed.body, changed.items, changed.ordering_key) == ({"messages": ["b"]}, 1, "c-1")
    assert not changed.join(request("c-1", "c"))


def test_requests_join_the_latest_one_of_their_key():
    opened = OpenRequests()
    first, other = request("c-1", "a"), request("c-2", "x")
    assert [opened.add(item) for item in (first, other, request("c-1", "b", "c"))] == [False, False, True]
    assert (first.body["messages"], first.items) == (["a", "b", "c"], 3)
    assert (other.body["messages"], other.items) == (["x"], 1)


@pytest.mark.parametrize(
    ("later", "joined"),
    [
        (request("c-1", "b" * 90), True),
        (request("c-1", "b" * 1_000), False),
        (request("c-1", "b", "c"), True),
        (request("c-1", "b", "c", "d"), False),
        (request("c-1", "b", fields='"user":"other"'), False),
        (request("c-1", "b", max_items=0), False),
        (Request("c-1", {"messages": ["b"]}, 1, "turn"), False),
    ],
    ids=["fits", "bytes", "items", "too many items", "fields", "closed", "not packed"],
)
def test_requests_join_only_as_a_whole_with_equal_fields(later: Request, joined: bool):
    first = request("c-1", "a", max_items=3)
    items = later.items
    assert first.join(later) is joined
    assert first.items == (1 + items if joined else 1)


def test_joined_items_count_for_the_next_ones():
    first = request("c-1", "a", max_bytes=200)
    assert first.join(request("c-1", "b" * 100))
    assert not first.join(request("c-1", "c" * 100))


def test_nothing_joins_a_request_that_another_one_follows():
    opened = OpenRequests()
    first = request("c-1", "a")
    opened.add(first)
    opened.add(Request("c-1", {}, 1, "turn", "ratings"))
    assert not opened.add(request("c-1", "b"))
    opened.clear()
    assert not opened.add(request("c-1", "c"))
    assert first.items == 1
