"""Exports to the embedded store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gati.events import Action, ChatMessage, Conversation, Item, Prompt, PromptComponent, Turn
from gati.exporters.base import DELIVERED, Request, Verdict
from gati.exporters.greenflash.encoder import GreenflashEncoder, to_wire_names
from gati.exporters.local import LocalExporter
from gati.settings import Settings
from gati.store import queries
from gati.store.filters import Filter
from gati.store.store import Store
from gati.studio.api import validation
from tests.store.bodies import body, said, turn


class PlainEncoder:
    """Encodes actions with their bodies unchanged."""

    def encode(self, items: Sequence[Item]) -> list[Request]:
        return [Request("key", item.body, 1, "turn", item.endpoint) for item in items if isinstance(item, Action)]

    def split(self, request: Request) -> tuple[Request, Request] | None:
        return None


def request(body: dict[str, Any], endpoint: str = "messages") -> Request:
    return Request("c", body, 1, "r", endpoint)


@pytest.fixture
def exporter(tmp_path: Path) -> Any:
    made = LocalExporter(tmp_path / "store.db", 1024**2, PlainEncoder())
    yield made
    made.close()


def test_request_is_stored_when_send_returns(exporter: LocalExporter, tmp_path: Path) -> None:
    assert exporter.send(request(body("c", said("a", "hello")))) == DELIVERED
    assert exporter.send(request(body("c", said("a", "hello")))) == DELIVERED
    with closing(Store(tmp_path / "store.db")) as store:
        assert [m["content"] for m in queries.wire_messages(store)] == ["hello"]


def test_turn_is_stored_as_greenflash_would_receive_it(tmp_path: Path) -> None:
    settings = Settings(product_id="11111111-1111-4111-8111-111111111111")
    exporter = LocalExporter(tmp_path / "store.db", 1024**2, GreenflashEncoder(settings))
    prompt = Prompt("Hi Ada", "tutor", [PromptComponent("Hi {{a_b}}")], {"a_b": "Ada"})
    turn = Turn("r", Conversation("c", prompt=prompt), messages=[ChatMessage("r:user", "user", "hello", 10**18)])
    for made in exporter.encode([turn]):
        assert validation.find_error("messages", to_wire_names(made.body)) is None
        assert exporter.send(made) == DELIVERED
    exporter.close()
    with closing(Store(tmp_path / "store.db")) as store:
        (message,) = queries.wire_messages(store, "c", settings.product_id)
    assert (message["externalMessageId"], message["content"]) == ("r:user", "hello")
    assert message["prompt"]["externalPromptId"] == "tutor"
    assert message["prompt"]["variables"] == {"a_b": "Ada"}


def test_several_requests_are_stored_in_one_transaction_and_a_bad_one_keeps_no_other_out(
    exporter: LocalExporter, tmp_path: Path
) -> None:
    unknown = {**body("c", said("a", "x")), "conversationId": "33333333-3333-4333-8333-333333333333"}
    user = request({"externalUserId": "ada", "name": "Ada"}, "users")
    good = [request(body(f"c{number}", *turn(f"r{number}", f"hello number{number}"))) for number in range(3)]
    surrogate = request(body("c9", said("a", "\ud800")))
    assert exporter.send_many([*good, user]) == [DELIVERED] * 4
    verdicts = [outcome.verdict for outcome in exporter.send_many([good[0], request(unknown), surrogate, good[1]])]
    assert verdicts == [Verdict.OK, Verdict.REJECT, Verdict.REJECT, Verdict.OK]
    with closing(Store(tmp_path / "store.db")) as store, closing(Store(tmp_path / "one.db")) as one_by_one:
        for sent in good:
            one_by_one.ingest(sent.body)
        assert _numbers(store) == _numbers(one_by_one)
        assert len(queries.list_conversations(store, Filter(words="hello number2")).conversations) == 1


def _numbers(store: Store) -> list[list[str]]:
    """What the tables of sums and messages hold."""
    with store.connections.reading() as db:
        tables = ("sums", "durations", "facets", "messages")
        return [sorted(map(repr, map(tuple, db.execute(f"SELECT * FROM {table}")))) for table in tables]


def test_actions_are_stored(exporter: LocalExporter) -> None:
    (made,) = exporter.encode([Action("users", {"external_user_id": "u", "name": "Ada"})])
    assert exporter.send(made) == DELIVERED


def test_unwritable_folder_is_retried(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    exporter = LocalExporter(tmp_path / "file" / "store.db", 1024**2, PlainEncoder())
    outcome = exporter.send(request(body("c", said("a", "hello"))))
    assert outcome.verdict is Verdict.RETRY


def test_too_large_request_is_split(exporter: LocalExporter) -> None:
    assert exporter.send(request(body("c", said("a", "x" * 3 * 1024**2)))).verdict is Verdict.SPLIT


def test_invalid_request_is_rejected_without_quoting_content(exporter: LocalExporter) -> None:
    outcome = exporter.send(request({"messages": [{"content": "secret"}]}))
    assert outcome.verdict is Verdict.REJECT
    assert "secret" not in outcome.reason


def test_sqlite_is_imported_on_first_write() -> None:
    program = "import sys, gati.exporters.local; sys.exit('sqlite3' in sys.modules)"
    root = Path(__file__).parents[2]
    plain = {**os.environ, "COVERAGE_PROCESS_CONFIG": ""}  # measuring coverage imports sqlite3
    assert subprocess.run([sys.executable, "-c", program], cwd=root, env=plain, check=False).returncode == 0


def test_concurrent_senders_share_one_store(exporter: LocalExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Store] = []
    opened = Store.__init__

    def counted(self: Store, *arguments: Any) -> None:
        made.append(self)
        opened(self, *arguments)

    monkeypatch.setattr(Store, "__init__", counted)
    together = threading.Barrier(4)

    def send(number: int) -> None:
        together.wait()
        assert exporter.send(request(body(f"c{number}", said("a", "hello")))) == DELIVERED

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    assert len(made) == 1
