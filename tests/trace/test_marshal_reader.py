"""The reader of stored records equals `marshal` for what gati packs, and refuses everything else with a ValueError."""

from __future__ import annotations

import marshal
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gati.trace.marshal_reader import MAX_NESTING, read_packed
from gati.trace.record_codec import VERSION, pack_record
from tests.trace.test_record_codec import RECORDS

KEYS = st.text() | st.integers() | st.none() | st.booleans() | st.floats(allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


@given(VALUES)
def test_a_packed_value_is_read_as_marshal_reads_it(value: Any) -> None:
    data = marshal.dumps(value, VERSION)
    assert repr(read_packed(data)) == repr(marshal.loads(data))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_packed_record_is_read_as_marshal_reads_it(record: Any) -> None:
    data = pack_record(record)
    assert type(data) is bytes
    assert repr(read_packed(data)) == repr(marshal.loads(data))


def test_damaged_data_is_refused_and_raises_nothing_else() -> None:
    rng = random.Random(20)
    packed = [pack_record(record) for record in RECORDS]
    for _ in range(4_000):
        data = bytearray(rng.choice([data for data in packed if type(data) is bytes]))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0, 255, ord("("), ord("{"), ord("l"), rng.randrange(256)])
        try:
            read_packed(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]))
        except ValueError:
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"c\0\0\0\0",  # code
        b"[\xff\xff\xff\x7f",  # two billion items
        b"[\xff\xff\xff\xff",  # -1 items
        b"s\xff\xff\xff\x7fx",
        b"l\xff\xff\xff\x7f",
        b"l\0\0\0\x80",
        b"u\2\0\0\0\xff\xff",  # not UTF-8
        b"{N",
        b"{[\0\0\0\0N0",  # a list as a key
        b"(\1\0\0\0" * (MAX_NESTING + 1) + b"N",
        b"r\0\0\0\0",  # a reference
        b"NN",
        marshal.dumps(compile("1", "", "eval")),
    ],
)
def test_what_is_no_plain_value_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a packed record|codec|decode"):
        read_packed(data)
