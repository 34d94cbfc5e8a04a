from __future__ import annotations

import json
import math
import threading
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati import limits
from gati.exporters import sanitize


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class Colour(Enum):
    RED = "red"


_ODD: dict[str, Any] = {
    "huge": 10**5000, "hostile": Hostile(), "lock": threading.Lock(), "enum": Colour.RED, "decimal": Decimal("1.5"),
    "class": object, "uuid": uuid.uuid4(), "generator": (n for n in range(3)),
}  # fmt: skip

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))  # with lone surrogates and NUL
    | st.binary()
    | st.sampled_from(sorted(_ODD)).map(lambda name: _ODD[name])
    | st.datetimes()
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(exclude_categories=())) | st.integers() | st.none(), inner)
        | st.tuples(inner)
    ),
    max_leaves=40,
)


def strict(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@given(_values)
def test_any_value_becomes_valid_json(value: Any):
    clean, _ = sanitize.bounded_json({"value": value}, 64 * 1024)
    assert json.loads(strict(clean)) == clean
    assert b"\\u0000" not in strict(clean)


@given(_values, st.integers(256, 5000))
def test_size_is_bounded(value: Any, limit: int):
    clean, size = sanitize.bounded_json({"value": value}, limit)
    raw = strict(clean)
    assert len(raw) <= 6 * limit + 500  # control characters become six
    assert size <= 2 * limit + 500


def test_valid_values_are_unchanged():
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": "ü"}}
    assert sanitize.bounded_json(value, 1000)[0] == value


def test_large_text_leaves_space_for_other_entries():
    clean, _ = sanitize.bounded_json({"html": "x" * 100_000, "status": 200, "title": "home"}, 1000)
    assert clean["status"] == 200
    assert clean["title"] == "home"
    assert clean["html"].endswith("… [shortened by gati, 100000 bytes in all]")


def test_entries_that_do_not_fit_are_counted():
    clean, _ = sanitize.bounded_json([f"{n:0100d}" for n in range(100)], 2000)
    assert clean[-1] == f"… [{100 - len(clean) + 1} of 100 entries left out by gati]"


def test_cycle_is_cut():
    value: dict[str, Any] = {}
    value["self"] = value
    assert "nested too deep" in json.dumps(sanitize.bounded_json(value, 10_000)[0])


def test_numbers_without_json_form():
    clean, _ = sanitize.bounded_json(
        {"nan": math.nan, "inf": math.inf, "big": 2**70, "huge": 10**5000, "d": Decimal("1.5")}, 5000
    )
    assert clean == {"nan": None, "inf": None, "big": str(2**70), "huge": "<integer of 16610 bits>", "d": "1.5"}


def test_objects_are_described_and_exceptions_contained():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    clean, _ = sanitize.bounded_json(
        {"h": Hostile(), "at": at, "e": Colour.RED, "b": b"123", "s": {1}, 3: {None: 1}}, 5000
    )
    assert clean == {"h": "<Hostile>", "at": at.isoformat(), "e": "red", "b": {"bytes": 3}, "s": [1], "3": {"None": 1}}


@pytest.mark.parametrize("filler", ["a", "ü", "€", "😀"])
@pytest.mark.parametrize("limit", range(300, 308))
def test_truncated_text_ends_with_a_complete_character(filler: str, limit: int):
    short = sanitize.text(filler * 1000, limit)
    head, _, marker = short.partition("…")
    assert set(head) == {filler}
    assert len(head.encode()) <= limit
    assert marker == f" [shortened by gati, {len(filler.encode()) * 1000} bytes in all]"


def test_text_truncated_twice_keeps_its_original_size():
    assert sanitize.text(sanitize.text("x" * 5000, 1000), 300).endswith("[shortened by gati, 5000 bytes in all]")


@pytest.mark.parametrize("limit", [50, 99, 100, 120, 5000])
def test_text_cut_when_it_was_taken_has_one_marker_without_hash(limit: int):
    cut = limits.cut_text("word " * 1000, 100, whole_hash=True)
    expected = ("word " * 20)[:limit] + "… [shortened by gati, 5000 bytes in all]"
    assert sanitize.text(cut, limit) == expected
    assert sanitize.bounded_json({"a": cut}, 10_000)[0] == {"a": sanitize.text(cut, 10_000)}


def test_text_within_the_limit_is_not_copied():
    text = "x" * 1000
    assert sanitize.text(text, 1000) is text


def test_surrogate_pairs_are_joined_and_lone_ones_replaced():
    assert sanitize.text("a\ud83d\ude00b\ud83dc\0", 100) == "a😀b\ufffdc\ufffd"


def test_long_ids_stay_distinct():
    first, second = sanitize.identifier("x" * 2000 + "1"), sanitize.identifier("x" * 2000 + "2")
    assert first != second
    assert len(first) <= limits.MAX_ID_CHARS


@pytest.mark.parametrize("value", [7, uuid.UUID(int=7), "c-1"])
def test_ids_become_text(value: object):
    assert sanitize.identifier(value) == str(value)


@pytest.mark.parametrize("written", ["2027-01-15T08:00:00Z", "2027-01-15T08:00:00", "2027-01-15T10:00:00+02:00"])
def test_timestamp_formats(written: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sanitize, "time_ns", lambda: 2**62)
    assert sanitize.parse_nanoseconds(written) == 1_800_000_000_000_000_000


@pytest.mark.parametrize("written", ["-", "", "tomorrow", "9999-01-01T00:00:00Z"])
def test_invalid_timestamp_is_now(written: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sanitize, "time_ns", lambda: 5)
    assert sanitize.parse_nanoseconds(written) == 5


def test_trim_cache_drops_the_older_half():
    cache = dict.fromkeys(range(11))
    sanitize.trim_cache(cache, 10)
    assert list(cache) == list(range(5, 11))
