"""Examples of snapshots. `test_snapshot_properties.py` tests properties of all values."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy
import pytest
from langchain_core.documents import Document
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.types import Command, Interrupt
from pydantic import BaseModel

from gati.langchain.snapshot import BUDGET, TRUNCATED, error_info, is_command, take_snapshot
from gati.trace.records import COMMAND, ErrorInfo

Point = namedtuple("Point", "x y")


class Color(Enum):
    red = "r"


class Fact(BaseModel):
    name: str
    tags: list[str] = []


@dataclass
class Box:
    size: int
    inside: Any = None


@pytest.mark.parametrize(
    ("value", "copied"),
    [
        ({"a": [1, (2, {"b": None})]}, {"a": [1, [2, {"b": None}]]}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Fact(name="x", tags=["y"]), {"name": "x", "tags": ["y"]}),
        (Box(3, Box(4)), {"size": 3, "inside": {"size": 4, "inside": None}}),
        (Color.red, "r"),
        ({3: "x", None: "y", Color.red: "z"}, {"3": "x", "None": "y", "r": "z"}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 11, 20, tzinfo=UTC), "2026-11-20 00:00:00+00:00"),
        (Decimal("1.50"), "1.50"),
        (PurePosixPath("/a/b"), "/a/b"),
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        (b"\x00", b"\x00"),
        (len, "<builtins.builtin_function_or_method>"),
    ],
)
def test_values_are_converted_to_plain_values(value: Any, copied: Any):
    assert take_snapshot(value) == copied


def test_other_objects_are_replaced_by_their_type():
    class Session:
        def __repr__(self) -> str:
            raise AssertionError("a query to the database")

    assert take_snapshot({"db": Session()})["db"].endswith("Session>")


def test_the_methods_of_a_time_zone_of_the_users_are_not_called():
    class Zone(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta:
            raise AssertionError("user code")

    moment, local = datetime(2026, 11, 27, 4, 5, 6, tzinfo=Zone()), time(4, 5, tzinfo=Zone())
    assert take_snapshot({"at": moment, "daily": [local]}) == {"at": "2026-11-27 04:05:06", "daily": ["04:05:00"]}
    assert take_snapshot(moment.replace(tzinfo=ZoneInfo("Europe/Oslo"))) == "2026-11-27 04:05:06+01:00"


def test_numpy_scalars_become_numbers():
    assert float(take_snapshot(numpy.float64(1.5))) == 1.5


def test_cycles_are_cut():
    value: dict[str, Any] = {"a": 1}
    value["self"] = value
    assert take_snapshot(value) == {"a": 1, "self": TRUNCATED}


def test_a_large_value_is_truncated_with_a_count_of_the_rest():
    copied = take_snapshot(list(range(BUDGET + 5)))
    assert len(copied) == BUDGET + 1
    assert copied[-1] == f"{TRUNCATED} 5 more"


def test_a_document_becomes_its_fields():
    copied = take_snapshot(Document("text", metadata={"page": 1}))
    assert (copied["page_content"], copied["metadata"]) == ("text", {"page": 1})


def test_commands_are_marked():
    assert is_command(Command(goto="x"))
    assert take_snapshot(Command(goto="x"))[COMMAND]["goto"] == "x"
    assert not is_command(Box(1))


def test_control_flow_exceptions_are_distinguished_from_errors():
    assert error_info(ValueError("no")) == ErrorInfo("ValueError", "no")
    waiting = error_info(GraphInterrupt([Interrupt(value="Sure?", id="i1")]))
    assert (waiting.control, [asked["value"] for asked in waiting.payload]) == ("interrupt", ["Sure?"])
    assert error_info(ParentCommand(Command(goto="x"))).control == "parent_command"


def test_an_exception_whose_text_raises_keeps_its_type():
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert error_info(Odd()) == ErrorInfo("Odd", "")
