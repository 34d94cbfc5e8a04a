"""`gati push`."""

from __future__ import annotations

import json
from pathlib import Path

from gati.testing.server import fault_injection as faults
from tests.cli.programs import PRODUCT, destination, gati, invoke
from tests.servers import LocalServer


def test_push_sends_each_message_once(store: Path, greenflash: LocalServer):
    environment = destination(greenflash, GATI_PRODUCT_ID=PRODUCT, GATI_LOCAL=str(store))
    assert gati("push", **environment).stdout == "3 delivered, 0 rejected, 0 left\n"
    assert json.loads(gati("push", "--json", **environment).stdout)["delivered"] == 0
    assert [message["content"] for message in greenflash.messages("c-1", PRODUCT) if "content" in message] == [
        "What is 2 + 2?", "Four.",
    ]  # fmt: skip
    assert gati("push", GATI_LOCAL=str(store)).returncode == 2
    assert gati("push", **(environment | {"GREENFLASH_API_KEY": "gf_wrong"})).returncode == 1


def test_push_reports_rejected_messages_with_the_reason(store: Path, greenflash: LocalServer):
    greenflash.faults.add(faults.failing(400, times=None))
    done = invoke("push", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT, GATI_LOCAL=str(store)))
    assert (done.exit_code, done.stdout) == (1, "0 delivered, 3 rejected, 0 left\n")
    assert "3 rejected: HTTP 400" in done.stderr
