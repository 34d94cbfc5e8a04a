"""`observe.init(exporters=[…])`: the user's own exporters receive requests, and invalid ones are rejected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gati import observe
from gati._api.destinations import active_destinations
from gati.errors import ConfigurationError
from gati.events import Item, Turn
from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.pipeline import internal_errors
from gati.settings import load
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer, greenflash_server


def texts_of(turn: Turn) -> list[str]:
    return [message.text for message in (*turn.messages, turn.answer) if message is not None]


class MemoryExporter:
    """Keeps the requests it sends, one per turn."""

    name = "memory"
    account = "test"
    durable = False

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.requests: list[Request] = []
        self.closed = False

    def encode(self, items: Sequence[Item]) -> list[Request]:
        return [
            Request(turn.conversation.id, {"texts": texts_of(turn)}, 1, turn.run_id)
            for turn in items
            if isinstance(turn, Turn)
        ]

    def send(self, request: Request) -> Outcome:
        self.requests.append(request)
        return DELIVERED

    def split(self, request: Request) -> tuple[Request, Request] | None:
        return None

    def after_fork(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class RaisingExporter(MemoryExporter):
    """Violates the protocol: each of its methods raises."""

    def __init__(self, place: str) -> None:
        super().__init__("raising")
        self.place = place

    def encode(self, items: Sequence[Item]) -> list[Request]:
        if self.place == "encode":
            raise RuntimeError("encode failed")
        return super().encode(items)

    def send(self, request: Request) -> Outcome:
        raise RuntimeError("send failed")


@pytest.fixture(autouse=True)
def _spool_in_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATI_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.chdir(tmp_path)


def run_program() -> None:
    with observe.conversation("c-1"):
        assert ScriptedChatModel(replies=["4"]).invoke("2 + 2?").content == "4"


def texts(exporter: MemoryExporter) -> list[Any]:
    return [request.body["texts"] for request in exporter.requests]


def test_an_exporter_receives_the_turns_and_is_closed():
    exporter = MemoryExporter()
    observe.init(exporters=[exporter])
    run_program()
    result = observe.flush()
    observe.shutdown()
    assert result
    assert (result.delivered, texts(exporter)) == (1, [["2 + 2?", "4"]])
    assert exporter.requests[0].ordering_key == "c-1"
    assert exporter.closed


def test_exporters_replace_the_default_store_only(tmp_path: Path):
    first, second = MemoryExporter("first"), MemoryExporter("second")

    def kinds(**options: Any) -> list[str]:
        return [destination.kind for destination in active_destinations(load(**options))]

    assert kinds() == ["local"]
    assert kinds(exporters=[first, second]) == ["custom", "custom"]
    assert kinds(exporters=[first], local=True) == ["custom", "local"]
    assert kinds(exporters=[]) == ["local"]
    assert kinds(exporters=[first], api_key="gf_x", backend_url="https://b.example") == [
        "greenflash",
        "backend",
        "custom",
    ]


def test_labels_of_destinations_contain_no_credentials():
    destinations = active_destinations(load(backend_url="https://me:secret@b.example", local=True))
    assert [destination.label for destination in destinations] == ["https://***@b.example", "the embedded store"]


def test_an_exporter_works_next_to_greenflash():
    exporter = MemoryExporter()
    with greenflash_server() as server:
        observe.init(exporters=[exporter], api_key=server.api_key, base_url=server.url)
        run_program()
        assert observe.flush()
        observe.shutdown()
        assert_delivered_to(server)
    assert texts(exporter) == [["2 + 2?", "4"]]


def assert_delivered_to(server: LocalServer) -> None:
    assert [text for message in server.messages() if (text := message.get("content"))] == ["2 + 2?", "4"]


@pytest.mark.parametrize("place", ["encode", "send"])
def test_an_exporter_that_raises_affects_neither_the_program_nor_other_exporters(
    place: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(internal_errors, "RAISE", False)
    exporter = MemoryExporter()
    observe.init(exporters=[RaisingExporter(place), exporter])
    run_program()
    result = observe.flush(timeout=1.0)
    faults = observe.stats().faults
    observe.shutdown(timeout=0.1)
    assert (bool(result), result.delivered, result.turns_dropped) == (False, 1, int(place == "encode"))
    assert list(faults) == ["exporter.encode" if place == "encode" else "exporter.raising.send"]
    assert texts(exporter) == [["2 + 2?", "4"]]


def test_an_object_that_is_not_an_exporter_is_rejected_with_what_it_lacks():
    class Incomplete:
        name = "incomplete"
        durable = False
        encode = send = after_fork = lambda *_: None

    running = MemoryExporter()
    observe.init(exporters=[running])
    with pytest.raises(ConfigurationError) as caught:
        observe.init(exporters=[Incomplete()])  # type: ignore[list-item]  # the test is about this mistake
    assert str(caught.value) == (
        "option 'exporters': got '<Incomplete>', allowed: objects that implement gati.exporters.base.Exporter; "
        "this one lacks account, split(), close()"
    )
    run_program()
    assert observe.flush()
    assert len(running.requests) == 1, "the running configuration is kept"


@pytest.mark.parametrize("exporters", ["memory", 3, {"a": 1}])
def test_a_value_that_is_not_a_list_is_rejected(exporters: Any):
    with pytest.raises(ConfigurationError, match="a list of objects"):
        observe.init(exporters=exporters)


@pytest.mark.parametrize("name", ["", None, "greenflash", "same"])
def test_names_of_exporters_are_texts_and_unique(name: Any):
    with pytest.raises(ConfigurationError, match="`name`"):
        observe.init(exporters=[MemoryExporter("same"), MemoryExporter(name)])


class _Interrupted(BaseException):
    """Stands for an interrupt or an exit."""


@pytest.mark.parametrize(
    "first",
    [None, True, DELIVERED._replace(verdict="ok"), Outcome(Verdict.RETRY, "busy", "3"), ValueError(), _Interrupted()],  # type: ignore[arg-type]  # what an exporter returns by mistake
    ids=["None", "True", "a verdict of text", "a wait of text", "exception", "interrupt"],
)
def test_a_request_is_sent_again_if_send_returns_no_outcome(
    first: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)

    class Mistaken(MemoryExporter):
        def send(self, request: Request) -> Outcome:
            super().send(request)
            if len(self.requests) > 1:
                return DELIVERED
            if isinstance(first, BaseException):
                raise first
            return first  # type: ignore[no-any-return]  # the mistake

    observe.init(exporters=[Mistaken()], local=False, spool_dir=tmp_path, conversation_id="c")
    ScriptedChatModel(replies=["yes"]).invoke("Ready?")
    assert observe.flush(20).delivered == 1
    observe.shutdown()
    assert "Exception in thread" not in capfd.readouterr().err


@pytest.mark.parametrize(("refused", "rejected"), [(99, 1), (-3, 0), ("1", 0)])
def test_no_more_is_counted_as_refused_than_was_sent(refused: Any, rejected: int, tmp_path: Path) -> None:
    class Refusing(MemoryExporter):
        def send(self, request: Request) -> Outcome:
            return DELIVERED._replace(refused_items=refused)

    observe.init(exporters=[Refusing()], local=False, spool_dir=tmp_path, conversation_id="c")
    ScriptedChatModel(replies=["yes"]).invoke("Ready?")
    observe.flush(20)
    stats = observe.stats()
    assert (stats.rejected, stats.delivered) == (rejected, 1 - rejected)
    observe.shutdown()
