from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.exporters.base import Request
from gati.pipeline.codec import pack, unpack

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(body=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values))
def test_a_request_survives_a_round_trip(body: dict[str, object]) -> None:
    request = Request("c", body, 3, "t", "ratings")
    line = pack(request)
    assert b"\n" not in line
    assert unpack(line) == request


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (2**70, str(2**70)),
        ("a\ud800b", "a?b"),
        ({1: "x"}, {"1": "x"}),
        ({"s": {1}}, {"s": [1]}),
        (object(), "[object]"),
        (float("nan"), None),
        # With one such value, the whole request takes the slow path.
        ([{1, 2.5}, None, True, "x"], [[1, 2.5], None, True, "x"]),
    ],
)
def test_values_that_json_cannot_hold_do_not_lose_the_message(value: object, kept: object) -> None:
    assert unpack(pack(Request("c", {"v": value, "w": "well"}, 1, "t"))).body == {"v": kept, "w": "well"}


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"lane":"c"}', b'{"lane":"c","body":[]}', b"null"])
def test_an_invalid_line_raises(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        unpack(line)


def test_a_recursive_value_is_cut_off() -> None:
    value: list[object] = []
    value.append(value)
    kept: Any = unpack(pack(Request("c", {"v": value}, 1, "t"))).body["v"]
    depth = 0
    while isinstance(kept, list):
        (kept,), depth = kept, depth + 1
    assert kept == "[too deep]"
    assert depth > 100
