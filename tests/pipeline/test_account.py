"""Which process delivers what another one left: by address, product and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gati.exporters.base import DELIVERED, Outcome, SpoolIdentity, Verdict
from gati.exporters.events_api import EventsApiExporter
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.pipeline.account import read_info
from gati.pipeline.recovery import drain_spool, skipped_accounts, spool_status
from gati.pipeline.spool import spool_for, spool_identity
from gati.settings import Settings
from tests.pipeline.kit import DOWN, QUICK, FakeExporter, record_turn, running

UNKNOWN_KEY = Outcome(Verdict.PAUSE, "HTTP 401", key_refused=True)
FORBIDDEN = Outcome(Verdict.PAUSE, "HTTP 403")


def exporter(key: str, answer: Outcome = DELIVERED, **identity: Any) -> FakeExporter:
    """Return an exporter whose folder belongs to its key."""
    made = FakeExporter(account=key)
    made.answer = lambda request: answer
    made.spool_identity = SpoolIdentity(key, **{"address": "address 1", **identity})  # type: ignore[attr-defined]  # not part of the declared type
    return made


def leave(root: Path, *answers: Outcome, key: str = "wrong", **identity: Any) -> None:
    """Leave a message after a process in which the destination gave these answers, then the last one again."""
    sent = exporter(key, answers[-1], **identity)
    sent.answers.extend(answers)
    with running(root, sent, patience=0) as pipeline:
        for n in range(len(answers)):
            record_turn(pipeline, f"c{n}", "left")
        pipeline.flush(0.5)


def delivered_by(root: Path, key: str, **identity: Any) -> int:
    receiver = exporter(key, **identity)
    with running(root, receiver) as pipeline:
        record_turn(pipeline, "own", "x")
        pipeline.flush(20.0)
    return receiver.total - 1


def test_a_corrected_key_delivers_what_waited(tmp_path: Path) -> None:
    leave(tmp_path, UNKNOWN_KEY)
    assert delivered_by(tmp_path, "right") == 1


def test_a_key_that_was_corrected_twice_delivers_what_waited(tmp_path: Path) -> None:
    leave(tmp_path, UNKNOWN_KEY, key="wrong")
    leave(tmp_path, UNKNOWN_KEY, key="also wrong")
    assert delivered_by(tmp_path, "right") == 2


@pytest.mark.parametrize("answers", [(DOWN,), (FORBIDDEN,), (DELIVERED, UNKNOWN_KEY), (DELIVERED, DOWN)])
def test_an_account_does_not_deliver_what_a_working_key_left(tmp_path: Path, answers: tuple[Outcome, ...]) -> None:
    leave(tmp_path, *answers)
    assert delivered_by(tmp_path, "other") == 0


def test_what_waits_for_another_address_is_not_delivered(tmp_path: Path) -> None:
    leave(tmp_path, UNKNOWN_KEY, address="address 2")
    assert delivered_by(tmp_path, "right") == 0


def test_what_waits_for_a_product_is_not_delivered_to_another(tmp_path: Path) -> None:
    leave(tmp_path, UNKNOWN_KEY, key="product 1", product="1")
    assert delivered_by(tmp_path, "product 2", product="2") == 0


def test_a_product_delivers_what_the_key_left_before_it_had_one(tmp_path: Path) -> None:
    leave(tmp_path, DOWN, key="key")
    assert delivered_by(tmp_path, "product 1", product="1", former=("key",)) == 1


def test_drain_adopts_other_accounts_only_on_request(tmp_path: Path) -> None:
    leave(tmp_path, DELIVERED, DOWN, key="other")
    own = exporter("own")
    assert drain_spool(tmp_path, [own], policy=QUICK).delivered == 0
    (skipped,) = skipped_accounts(tmp_path, [own])
    assert (skipped.account, skipped.messages, skipped.running) == ("fake-other", 1, False)
    assert "--adopt" in skipped.reason
    assert drain_spool(tmp_path, [own], policy=QUICK, adopt=True).delivered == 1
    assert skipped_accounts(tmp_path, [own]) == []


def test_drain_does_not_adopt_the_folders_of_another_exporter(tmp_path: Path) -> None:
    leave(tmp_path, DOWN, key="x")
    other = FakeExporter(name="fak", account="own")
    assert drain_spool(tmp_path, [other], policy=QUICK, adopt=True).delivered == 0
    (skipped,) = skipped_accounts(tmp_path, [other])
    assert "not configured" in skipped.reason


def test_drain_lists_what_running_processes_have(tmp_path: Path) -> None:
    busy = exporter("busy", DOWN)
    with running(tmp_path, busy, patience=0) as pipeline:
        record_turn(pipeline, "c", "x")
        pipeline.flush(0.1)
        (skipped,) = skipped_accounts(tmp_path, [busy])
        assert (skipped.messages, skipped.running) == (1, True)


def test_drain_sends_what_was_rejected_again(tmp_path: Path) -> None:
    refusing = exporter("own", Outcome(Verdict.REJECT, "HTTP 400"))
    with running(tmp_path, refusing) as pipeline:
        for n in range(3):
            record_turn(pipeline, "c", str(n))
            pipeline.flush(20.0)
    own = exporter("own")
    assert drain_spool(tmp_path, [own], policy=QUICK).delivered == 0
    assert drain_spool(tmp_path, [own], policy=QUICK, rejected=True).delivered == 3
    assert own.texts == {"c": ["0", "1", "2"]}
    assert not list(tmp_path.glob("*/rejected/*"))


def test_what_is_rejected_again_is_set_aside_again(tmp_path: Path) -> None:
    refusing = exporter("own", Outcome(Verdict.REJECT, "HTTP 400"))
    with running(tmp_path, refusing) as pipeline:
        record_turn(pipeline, "c", "x")
        pipeline.flush(20.0)
    result = drain_spool(tmp_path, [refusing], policy=QUICK, rejected=True)
    assert (result.rejected, result.spooled) == (1, 0)
    assert len(list(tmp_path.glob("*/rejected/*.json"))) == 1


def test_the_status_names_address_product_and_state_of_the_key(tmp_path: Path) -> None:
    leave(tmp_path, UNKNOWN_KEY, label="https://api.test", product="p")
    (status,) = spool_status(tmp_path)
    assert (status.address, status.product, status.key) == ("https://api.test", "p", "refused")
    leave(tmp_path, DELIVERED, key="works")
    assert {status.account: status.key for status in spool_status(tmp_path)}["fake-works"] == "accepted"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"exporter":1}', b"\xff"])
def test_an_invalid_description_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "account.json").write_bytes(content)
    assert read_info(tmp_path) == ("", "", "", "", "unknown")


def identity(**options: Any) -> SpoolIdentity:
    return spool_identity(GreenflashExporter(Settings(**options)))


PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"


def test_a_greenflash_folder_belongs_to_address_and_product() -> None:
    one = identity(api_key="gf_one", product_id=PRODUCT)
    assert one.account == identity(api_key="gf_two", product_id=PRODUCT).account
    assert one.account != identity(api_key="gf_one", product_id=PRODUCT.replace("0b", "1b")).account
    assert one.account != identity(api_key="gf_one", product_id=PRODUCT, base_url="http://x.test").account
    assert one.former == (identity(api_key="gf_one").account,)


def test_a_greenflash_folder_without_a_product_belongs_to_the_key() -> None:
    assert identity(api_key="gf_one").account != identity(api_key="gf_two").account
    assert identity(api_key="gf_one").address == identity(api_key="gf_two").address


def test_a_description_contains_no_credentials(tmp_path: Path) -> None:
    greenflash = GreenflashExporter(Settings(api_key="gf_s3cret", base_url="https://me:s3cret@x.test/api"))
    backend = EventsApiExporter(Settings(backend_url="https://me:s3cret@x.test", backend_api_key="s3cret"))
    for made in (greenflash, backend):
        spool = spool_for(tmp_path, made)
        spool.open()
        assert b"s3cret" not in (spool.folder / "account.json").read_bytes()
        assert "x.test" in read_info(spool.folder).address
        spool.close()
