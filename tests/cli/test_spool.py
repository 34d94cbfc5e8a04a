"""`gati status` and `gati drain`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.programs import LEAVE_A_TURN, destination, gati, invoke
from tests.servers import LocalServer, greenflash_server


def test_status_and_drain_find_messages_left_by_an_outage(tmp_path: Path):
    home = {"GATI_SPOOL_DIR": str(tmp_path / "spool")}
    with greenflash_server(path=tmp_path / "server.db") as server:
        port, environment = int(server.address.rsplit(":", 1)[-1]), destination(server, **home)
    assert gati(program=LEAVE_A_TURN, **environment).returncode == 0
    waiting = json.loads(gati("status", "--json", **environment).stdout)["spool"]["accounts"]
    assert [(account["messages"], account["orphaned"]) for account in waiting] == [(3, 3)]
    assert "3" in gati("status", **environment).stdout
    with greenflash_server(path=tmp_path / "server.db", port=port) as server:
        done = gati("drain", "--timeout", "30", **environment)
        assert (done.returncode, done.stdout) == (0, "3 messages delivered, 0 rejected, 0 waiting\n"), done.stderr
        assert len(server.messages()) == 3
    assert json.loads(gati("drain", "--json", "--timeout", "5", **environment).stdout)["delivered"] == 0


def test_drain_delivers_what_waits_for_the_embedded_store(tmp_path: Path):
    store = tmp_path / "store.db"
    environment = {"GATI_SPOOL_DIR": str(tmp_path / "spool"), "GATI_LOCAL": str(store)}
    store.mkdir()  # so that it cannot be written
    assert gati(program=LEAVE_A_TURN, **environment).returncode == 0
    store.rmdir()
    done = gati("drain", "--timeout", "30", **environment)
    assert (done.returncode, done.stdout) == (0, "3 messages delivered, 0 rejected, 0 waiting\n"), done.stderr
    assert gati("drain", **environment).returncode == 2


def test_status_names_journals_that_were_never_finished_and_drain_removes_them(tmp_path: Path):
    home = {"GATI_SPOOL_DIR": str(tmp_path), "GATI_LOCAL": str(tmp_path / "store.db")}
    folder = tmp_path / "greenflash-1"
    (folder / "ready").mkdir(parents=True)
    (folder / "journals").mkdir()
    (folder / "journals" / ".aaaaaaaaaaaa.part").write_bytes(bytes(1000))
    (account,) = json.loads(invoke("status", "--json", **home).stdout)["spool"]["accounts"]
    assert (account["unfinished"], account["size_bytes"]) == (1, 1000)
    assert "removes unfinished files" in " ".join(invoke("status", **home).stdout.split())
    assert invoke("drain", **home).exit_code == 2
    assert list((folder / "journals").iterdir()) == []


def test_status_counts_the_contents_of_the_store(store: Path, tmp_path: Path):
    home = {"GATI_SPOOL_DIR": str(tmp_path / "spool"), "GATI_LOCAL": str(store)}
    lines = invoke("status", **home).stdout.splitlines()
    assert lines[1:] == ["no messages are waiting", f"store  {store}", "1 conversations  3 messages"]
    contents = json.loads(invoke("status", "--json", **home).stdout)["store"]
    assert (contents["conversations"], contents["messages"]) == (1, 3)


def test_drain_reports_a_rejected_key(tmp_path: Path, greenflash: LocalServer):
    home = {"GATI_SPOOL_DIR": str(tmp_path / "spool")}
    environment = destination(greenflash, GREENFLASH_API_KEY="gf_wrong", **home)
    assert gati(program=LEAVE_A_TURN, **environment).returncode == 0
    done = gati("drain", "--timeout", "60", **environment)  # it stops as soon as the key is refused
    assert (done.returncode, done.stdout) == (1, "0 messages delivered, 0 rejected, 3 waiting\n")
    assert "rejected the API key; run `gati doctor` for details" in done.stderr
