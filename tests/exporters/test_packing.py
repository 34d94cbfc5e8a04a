from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.exporters.base import Request
from gati.exporters.packing import OpenRequests, pack_items


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


def request(key: str, *items: str) -> Request:
    return Request(key, {"messages": list(items)}, len(items), "turn")


def test_items_join_the_latest_request_of_their_key():
    requests = OpenRequests("messages", max_items=10, max_bytes=100)
    first, second, other = request("c-1", "a"), request("c-1", "b"), request("c-2", "x")
    for opened in (first, second, other):
        requests.open(opened, 10)
    assert requests.join("c-1", [("c", 5), ("d", 5)])
    assert (first.body["messages"], second.body["messages"], other.items) == (["a"], ["b", "c", "d"], 1)
    assert second.items == 3


@pytest.mark.parametrize(
    ("items", "fields", "joined"),
    [
        ([("b", 90)], "same", True),
        ([("b", 91)], "same", False),
        ([("b", 1), ("c", 1)], "same", True),
        ([("b", 1), ("c", 1), ("d", 1)], "same", False),
        ([("b", 1)], "different", False),
    ],
)
def test_items_join_only_as_a_whole_with_equal_fields(items: list[tuple[str, int]], fields: str, joined: bool):
    requests = OpenRequests("messages", max_items=3, max_bytes=100)
    opened = request("c-1", "a")
    requests.open(opened, 10, "same")
    assert requests.join("c-1", items, fields) is joined
    assert opened.items == (1 + len(items) if joined else 1)


def test_joined_items_count_for_the_next_ones():
    requests = OpenRequests("messages", max_items=10, max_bytes=100)
    requests.open(request("c-1", "a"), 10)
    assert requests.join("c-1", [("b", 60)])
    assert not requests.join("c-1", [("c", 31)])


def test_nothing_joins_a_closed_request():
    requests = OpenRequests("messages", max_items=10, max_bytes=100)
    requests.open(request("c-1", "a"), 10)
    requests.open(request("c-2", "a"), 10)
    requests.close("c-1")
    requests.close("unknown")
    assert not requests.join("c-1", [("b", 1)])
    requests.clear()
    assert not requests.join("c-2", [("b", 1)])
