"""`gati studio` and `gati serve`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gati.studio.access import load_token
from tests.cli.programs import GATI, ROOT, gati


def test_serve_prints_its_address_and_accepts_messages(tmp_path: Path):
    command = [sys.executable, "-c", GATI, "serve", "--port", "0", "--key", "gf_k", "--store", str(tmp_path / "s.db")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        done = gati("demo", GREENFLASH_API_KEY="gf_k", GREENFLASH_BASE_URL=f"{address}/api/v1")
        server.terminate()
    assert done.returncode == 0, done.stderr
    assert "97.20" in gati("show", "--store", str(tmp_path / "s.db")).stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_studio_prints_an_address_with_a_token_and_answers_nobody_else(store: Path, host: str):
    command = [
        sys.executable, "-c", GATI, "studio", "--port", "0", "--no-browser", "--host", host, "--store", str(store),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as studio:
        assert studio.stdout is not None
        assert studio.stderr is not None
        address = studio.stdout.readline().strip()
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(address.partition("?")[0]).status_code == 401
            assert "What is 2 + 2?" in client.get(address).text
            port = address.partition("?")[0].rsplit(":", 1)[1]
            other_name = client.get(f"http://127.0.0.1:{port}", headers={"host": "elsewhere.example"})
        studio.terminate()
        notes = studio.stderr.read()
    assert other_name.status_code == (200 if host == "0.0.0.0" else 403)
    assert ("read and write all conversations" in notes) == (host == "0.0.0.0")
    assert address.endswith(f"/?token={load_token(store)}")
