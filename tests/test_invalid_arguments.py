"""Functions of `observe` never raise: a call with invalid arguments is logged, counted, and returns False."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati._api.arguments import MAX_TIMEOUT, to_timeout
from gati.pipeline import internal_errors


class Hostile:
    """An object whose methods raise."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __bool__ = __float__ = __eq__ = __hash__ = __str__  # type: ignore[assignment]  # they only have to raise


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("track_event", (5,), {}),
    ("track_event", (), {}),
    ("identify_user", (None,), {}),
    ("identify_user", ("u",), {"properties": 5}),
    ("identify_user", ("u",), {"name": 5}),
    ("identify_user", ("u",), {"unknown": 1}),
    ("identify_organization", (["o"],), {}),
    ("log_rating", (), {}),
    ("log_rating", (), {"rating": "good", "conversation_id": "c"}),
    ("log_rating", (), {"rating": float("nan"), "conversation_id": "c"}),
    ("log_rating", (), {"rating": 7, "conversation_id": "c"}),
    ("log_rating", (), {"rating": 1.0}),
    ("log_rating", (), {"rating": 1.0, "run_id": "r", "rated_at": "yesterday"}),
    ("log_event", (None,), {}),
    ("log_event", ("e",), {"value_type": "money"}),
    ("log_event", ("e",), {"influence": Hostile()}),
    ("log_event", ("e",), {"value": Hostile()}),
    ("log_event", ("e",), {"quality_impact_score": 5}),
    ("flush", ("soon",), {}),
    ("flush", (None,), {}),
    ("shutdown", (float("nan"),), {}),
]


@pytest.mark.parametrize(("name", "arguments", "more"), CALLS)
def test_an_invalid_call_returns_false_and_is_counted(
    name: str, arguments: tuple[Any, ...], more: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(internal_errors, "RAISE", False)
    internal_errors.reset()
    observe.init(local=tmp_path / "store.db")
    for _ in range(2):
        assert not getattr(observe, name)(*arguments, **more)
    assert sum(observe.stats().faults.values()) == 2
    assert internal_errors.log.writer.drain(20.0)
    assert sum(f"observe.{name}" in line for line in caplog.messages) == 1
    assert observe.track_event is not None
    assert observe.stats().records == 0


def test_a_valid_call_returns_true(tmp_path: Path) -> None:
    observe.init(local=tmp_path / "store.db")
    assert observe.identify_user("u", properties={"plan": "pro"})
    assert observe.log_rating(rating=1, conversation_id="c")
    assert observe.log_event("upgrade", user_id=7)
    assert observe.flush(30.0)
    assert observe.shutdown(20.0)


def test_wrappers_return_what_they_cannot_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)
    observe.init(local=tmp_path / "store.db")
    thing: Any = 5
    observe.wrap_embeddings(thing)
    observe.wrap_store(thing)


class HostileText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError

    __bool__ = __len__ = strip = encode = __str__  # type: ignore[assignment]  # they only have to raise


class HostileDict(dict[str, Any]):
    def __iter__(self) -> Any:
        raise ValueError

    __bool__ = __len__ = keys = items = get = __iter__  # type: ignore[assignment]  # they only have to raise


@pytest.mark.parametrize("value", [Hostile(), HostileText("text"), HostileDict(a=1), 10**400, float("inf")], ids=type)
def test_an_argument_of_any_kind_raises_nothing(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)
    observe.init(local=tmp_path / "store.db", spool_dir=tmp_path)
    with observe.conversation(value, user_id=value, organization_id=value, product_id=value, properties=value):
        observe.log_event(value, value=value, properties=value, conversation_id=value, insert_id=value)
    with observe.conversation("c", system_prompt=value):
        observe.log_rating(rating=value, feedback=value)
    observe.identify_user(value, name=value, properties=value)
    observe.identify_organization("o", name=value, properties=value)
    observe.flush(value if not isinstance(value, (int, float)) else 0)
    assert observe.stats().balanced


def test_a_timeout_of_any_size_is_accepted() -> None:
    assert to_timeout(10**400) == to_timeout(float("inf")) == MAX_TIMEOUT
