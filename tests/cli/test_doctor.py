"""`gati doctor`."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest
from greenflash import Greenflash

from gati.cli import doctor
from gati.store.store import Store
from gati.testing.server import fault_injection as faults
from tests.cli.programs import PRODUCT, ROOT, destination, gati, invoke
from tests.servers import LocalServer, gati_backend
from tests.store.bodies import body, said


def doctor_checks(*arguments: str, **variables: str) -> dict[str, dict[str, str]]:
    """Return the checks of `gati doctor` by name."""
    return {check["name"]: check for check in json.loads(invoke("doctor", "--json", *arguments, **variables).stdout)}


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in json.loads(done.stdout)}


needs_products = pytest.mark.skipif(
    not hasattr(Greenflash(api_key="gf_k"), "products"), reason="this version of the SDK cannot list products"
)


def test_doctor_only_warns_if_the_sdk_cannot_verify_the_key(greenflash: LocalServer):
    """The SDK has no `products` before 1.3; the attribute is deleted from newer versions."""
    older = (
        "from greenflash import Greenflash; hasattr(Greenflash, 'products') and delattr(Greenflash, 'products');"
        " from gati.cli import main; main()"
    )
    done = gati("doctor", "--json", program=older, **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert (verdicts(done)["key"], done.returncode) == ("warn", 0), done.stdout
    assert "this version of the SDK cannot verify it" in done.stdout


@needs_products
def test_doctor_passes_with_a_valid_key_and_product(greenflash: LocalServer):
    greenflash.store.ingest(
        {
            "productId": PRODUCT,
            "externalUserId": "u",
            "externalConversationId": "c",
            "messages": [{"role": "user", "content": "x"}],
        }
    )
    done = gati("doctor", "--json", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert set(verdicts(done).values()) == {"pass"}, done.stdout
    assert done.returncode == 0
    assert any(message["conversation"].startswith("doctor-") for message in greenflash.messages())


@needs_products
def test_doctor_fails_with_an_invalid_key(greenflash: LocalServer):
    done = gati("doctor", **destination(greenflash, GREENFLASH_API_KEY="gf_wrong"))
    assert done.returncode == 1
    assert "✗ fail  key: rejected (HTTP 401)" in done.stdout
    assert "✗ fail  delivery" in done.stdout
    assert "gf_wrong" not in done.stdout + done.stderr


@needs_products
def test_doctor_sends_nothing_after_a_refused_key(greenflash: LocalServer):
    with patch.object(doctor, "_check_delivery", side_effect=AssertionError):
        checks = doctor_checks(**destination(greenflash, GREENFLASH_API_KEY="gf_wrong"))
    assert checks["delivery"]["found"] == "not tried, because of the failure above"
    assert greenflash.messages() == []


def test_doctor_leaves_nothing_on_this_machine(greenflash: LocalServer, tmp_path: Path):
    temporary, home, work = tmp_path / "tmp", tmp_path / "home", tmp_path / "work"
    for folder in (temporary, home, work):
        folder.mkdir()
    places = {"TMPDIR": str(temporary), "HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    for more in (destination(greenflash, GATI_PRODUCT_ID=PRODUCT), {}):
        assert gati("doctor", cwd=work, **places, **more).returncode in (0, 1)
        assert sorted(tmp_path.rglob("*")) == [home, temporary, work]


@needs_products
def test_doctor_uses_one_conversation_of_greenflash_in_all_runs(greenflash: LocalServer):
    greenflash.store.ingest(body("c", said("a", "Hello")) | {"productId": PRODUCT})
    for _ in range(2):
        check = doctor_checks(**destination(greenflash, GATI_PRODUCT_ID=PRODUCT, GATI_SAMPLE_RATE="0"))["delivery"]
        assert check["verdict"] == "pass"
    conversations = {message["conversation"] for message in greenflash.messages()} - {"c"}
    assert len(conversations) == 1


@needs_products
def test_doctor_describes_failures_in_words(greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch):
    greenflash.store.ingest(body("c", said("a", "Hello")) | {"productId": PRODUCT})
    monkeypatch.setattr(doctor, "DELIVERY_SECONDS", 1.0)
    greenflash.faults.add(faults.failing(503, times=None, path="/api/v1/messages"))
    check = doctor_checks(**destination(greenflash, GATI_PRODUCT_ID=PRODUCT))["delivery"]
    assert check["found"] == "of the test messages: 3 not answered in time"


@needs_products
def test_doctor_counts_conversations_without_an_id_in_greenflash(greenflash: LocalServer):
    for name in ("c-1", "019ac0de-0000-7000-8000-000000000001", "5f0b1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"):
        greenflash.store.ingest(body(name, said(f"{name}:user", "Hello")) | {"productId": PRODUCT})
    check = doctor_checks("--no-send", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))["conversations"]
    assert (check["verdict"], check["found"]) == ("warn", "1 of the last 3 in Greenflash have no conversation id")


def test_doctor_names_unknown_variables_once():
    done = gati("doctor", "--no-send", GATI_FLUSH_INTERVALL="1")
    assert (done.stdout + done.stderr).count("GATI_FLUSH_INTERVALL (did you mean GATI_FLUSH_INTERVAL?)") == 1


@needs_products
def test_doctor_fails_for_an_unreachable_server_and_an_inaccessible_product(greenflash: LocalServer):
    done = gati("doctor", "--json", "--no-send", GREENFLASH_API_KEY="gf_k", GREENFLASH_BASE_URL="http://127.0.0.1:9")
    assert (verdicts(done)["key"], done.returncode) == ("fail", 1)
    done = gati("doctor", "--json", "--no-send", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert (verdicts(done)["key"], verdicts(done)["product"], done.returncode) == ("pass", "fail", 1)
    assert greenflash.messages() == []


def test_doctor_runs_without_an_account_and_fails_for_unwritable_folders(tmp_path: Path):
    done = gati("doctor", "--json")
    checks = verdicts(done)
    assert (checks.pop("key"), set(checks.values()), done.returncode) == ("warn", {"pass"}, 0)
    (tmp_path / "file").write_text("")
    blocked = str(tmp_path / "file" / "folder")
    done = gati("doctor", "--json", "--no-send", GATI_SPOOL_DIR=blocked, GATI_LOCAL=f"{blocked}/store.db")
    assert (verdicts(done)["spool"], verdicts(done)["store"], done.returncode) == ("fail", "fail", 1)


def test_doctor_counts_conversations_without_an_id(tmp_path: Path):
    file = tmp_path / "store.db"
    assert doctor_checks("--no-send", GATI_LOCAL=str(file))["conversations"]["verdict"] == "pass"
    with closing(Store(file)) as store:
        for conversation, run in (("c-1", "r-1"), ("r-2", "r-2")):
            message = {"externalMessageId": f"{run}:user", "messageType": "user_message", "content": "Hello"}
            store.ingest(
                {
                    "productId": PRODUCT,
                    "externalUserId": "u",
                    "externalConversationId": conversation,
                    "messages": [message],
                }
            )
    check = doctor_checks("--no-send", GATI_LOCAL=str(file))["conversations"]
    assert (check["verdict"], check["found"]) == ("warn", "1 of the last 2 have no conversation id")
    assert "thread_id" in check["advice"]


def test_doctor_names_an_invalid_option():
    check = doctor_checks("--no-send", GATI_BATCH_SIZE="x")["options"]
    assert check["verdict"] == "fail"
    assert "GATI_BATCH_SIZE" in check["found"]


def test_doctor_warns_about_disabled_features():
    checks = doctor_checks("--no-send", GATI_ENABLED="false", GATI_SPOOL="false")
    assert (checks["options"]["verdict"], checks["spool"]["verdict"]) == ("warn", "warn")
    assert checks["injection"]["verdict"] == "pass"


@needs_products
def test_doctor_lists_products_to_choose_from(greenflash: LocalServer):
    greenflash.store.ingest(
        {"productId": PRODUCT, "externalUserId": "u", "externalConversationId": "c",
         "messages": [{"role": "user", "content": "x"}]},
    )  # fmt: skip
    check = doctor_checks("--no-send", **destination(greenflash))["product"]
    assert check["verdict"] == "warn"
    assert PRODUCT in check["advice"]


def test_doctor_checks_an_otlp_receiver(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="needs opentelemetry-proto")
    from tests.otlp_receiver import failing, otlp_receiver

    with otlp_receiver() as receiver:
        checks = doctor_checks(GATI_OTLP_ENDPOINT=receiver.url)
        assert (checks["OTLP"]["verdict"], checks["delivery"]["verdict"]) == ("pass", "pass")
        assert [span.attributes["user.id"] for span in receiver.spans] == ["gati-doctor"]
        receiver.script.append(failing(401))
        refused = doctor_checks("--no-send", GATI_OTLP_ENDPOINT=receiver.url)["OTLP"]
        assert (refused["verdict"], "credentials" in refused["found"]) == ("fail", True)
    monkeypatch.setattr("gati.exporters.otlp.exporter._is_installed", lambda: False)
    missing = doctor_checks("--no-send", GATI_OTLP_ENDPOINT="http://127.0.0.1:4318")["OTLP"]
    assert (missing["verdict"], missing["advice"]) == ("fail", 'pip install "gati-greenflash[otel]"')


def test_doctor_does_not_read_back_from_a_gati_backend():
    with gati_backend() as server:
        check = doctor_checks(GATI_BACKEND_URL=server.url, GATI_BACKEND_API_KEY=server.api_key)["delivery"]
        assert (check["verdict"], "does not support reading them back" in check["found"]) == ("pass", True)
        assert server.events()


def test_doctor_reports_what_an_old_sdk_does_not_support(greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch):
    for name in ("products", "interactions"):
        monkeypatch.delattr(Greenflash, name, raising=False)
    checks = doctor_checks(**destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert (checks["key"]["verdict"], checks["delivery"]["verdict"]) == ("warn", "pass")
    assert "cannot verify" in checks["key"]["found"]
    assert "cannot read them back" in checks["delivery"]["found"]


def test_doctor_reports_missing_packages_and_unsupported_versions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "SUPPORTED_VERSIONS", {"greenflash": ("0.1", "0.2"), "no-such-package": ("1", "2")})
    checks = doctor_checks("--no-send")
    assert (checks["greenflash"]["verdict"], checks["no-such-package"]["verdict"]) == ("warn", "fail")
    assert "greenflash>=0.1,<0.2" in checks["greenflash"]["advice"]


def test_doctor_supports_the_same_versions_as_pyproject():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for name, (low, high) in doctor.SUPPORTED_VERSIONS.items():
        assert f'"{name}>={low},<{high}"' in project


def test_doctor_reports_a_check_that_raises():
    def broken_check() -> doctor.Check:
        raise LookupError("nowhere")

    check = doctor._run_guarded("delivery", broken_check)
    assert (check.verdict, check.found) == ("fail", "LookupError: nowhere")
