"""`gati demo`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gati.store import message_columns
from tests.cli.programs import PRODUCT, ROOT, destination, gati
from tests.servers import LocalServer


def test_demo_prints_its_conversation_from_the_embedded_store(tmp_path: Path):
    file = tmp_path / "store.db"
    done = gati("demo", GATI_LOCAL=str(file))
    assert done.returncode == 0, done.stderr
    for text in (
        "What does it cost to rent two city bikes for three days?", "Two city bikes for three days come to 97.20",
        "And if we bring them back two hours late?", "calculate", "2 documents", "tokens", "$0.0000", " ms", "run ",
        f"messages delivered to the embedded store, {file}.",
    ):  # fmt: skip
        assert text in done.stdout
    assert "unknown" not in done.stdout
    assert "gati studio" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="runs the command in a POSIX shell")
def test_demo_prints_commands_that_can_be_copied_without_an_active_environment(tmp_path: Path):
    scripts = Path(sysconfig.get_path("scripts"))
    if not (scripts / "gati").exists():
        pytest.skip("gati is not installed in this environment")
    folder = scripts.parent
    environment = {"GATI_LOCAL": str(tmp_path / "store.db"), "PATH": "/nowhere"}
    done = gati("demo", cwd=folder, **environment)
    (command,) = re.findall(r"^Print it again: +(.+)$", done.stderr, re.MULTILINE)
    assert command.startswith(f"{scripts.relative_to(folder)}/gati show demo-")
    shown = subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "97.20" in shown.stdout


def test_demo_delivers_to_greenflash_if_a_key_is_set(greenflash: LocalServer):
    done = gati("demo", **destination(greenflash, GATI_PRODUCT_ID=PRODUCT))
    assert done.returncode == 0, done.stderr
    messages = greenflash.messages(product=PRODUCT)
    assert f"{2 * len(messages)} messages delivered to Greenflash" in done.stdout
    assert {message_columns.message_type(message) for message in messages} >= {
        "user_message", "task", "retrieval", "llm", "tool_call", "observation", "final_response",
    }  # fmt: skip


def test_demo_fails_if_greenflash_rejects_the_key(greenflash: LocalServer, tmp_path: Path):
    done = gati("demo", **destination(greenflash, GREENFLASH_API_KEY="gf_wrong", GATI_SPOOL_DIR=str(tmp_path)))
    assert done.returncode == 1
    assert "Not everything was delivered" in done.stderr
    assert "gf_wrong" not in done.stdout + done.stderr
    assert greenflash.messages() == []
