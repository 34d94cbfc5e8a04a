from __future__ import annotations

import logging

import greenflash as sdk
import pytest

from gati.exporters.base import Verdict
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.testing.server import fault_injection as faults
from tests.exporters.turns import agent_turn, settings
from tests.servers import LocalServer


@pytest.fixture
def exporter(greenflash: LocalServer) -> GreenflashExporter:
    return GreenflashExporter(settings(api_key=greenflash.api_key, base_url=greenflash.url))


def test_gatis_requests_are_not_logged_at_debug(
    greenflash: LocalServer, exporter: GreenflashExporter, caplog: pytest.LogCaptureFixture
):
    greenflash.faults.add(faults.failing(500), faults.connection_reset())
    with caplog.at_level(logging.DEBUG):
        sent = exporter.encode([agent_turn()])[0]
        assert [exporter.send(sent).verdict for _ in range(3)] == [Verdict.RETRY, Verdict.RETRY, Verdict.OK]
        exporter.close()
    ours = [r for r in caplog.records if r.name.startswith(("greenflash", "httpx", "httpcore", "gati"))]
    assert ours == []


def test_users_own_requests_are_logged(
    greenflash: LocalServer, exporter: GreenflashExporter, caplog: pytest.LogCaptureFixture
):
    exporter.send(exporter.encode([agent_turn()])[0])
    with caplog.at_level(logging.DEBUG), sdk.Greenflash(api_key=greenflash.api_key, base_url=greenflash.url) as client:
        client.users.create(external_user_id="ada")
    assert {"greenflash._base_client", "httpx", "httpcore.http11"} <= {record.name for record in caplog.records}
    exporter.close()
