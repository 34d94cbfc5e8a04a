"""Runs the `gati` command line in tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from gati.cli.commands import app
from tests.optional import WARNINGS
from tests.servers import LocalServer

ROOT = Path(__file__).parent.parent.parent
PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"
GATI = "from gati.cli import main; main()"
LEAVE_A_TURN = """
from gati import observe
from gati.testing import ScriptedChatModel

observe.init(shutdown_timeout=0.1)
ScriptedChatModel(replies=["x"]).invoke("y")
while not observe.stats().spool_bytes:
    observe.flush(0.5)
observe.shutdown(0.1)
"""
"""A program that ends before its three messages are delivered, and after they are on disk."""


def gati(
    *arguments: str, program: str = GATI, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *WARNINGS, "-c", program, *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=100)


def destination(server: LocalServer, **more: str) -> dict[str, str]:
    return {"GREENFLASH_API_KEY": server.api_key, "GREENFLASH_BASE_URL": server.url, **more}


def invoke(*arguments: str, **variables: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments), env=variables)


def run_in_terminal(*arguments: str, **variables: str) -> str:
    """Return what a command prints to a terminal."""
    import pty  # imported late: not available on Windows

    terminal, stdout = pty.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "300",
        "TERM": "xterm",
        "NO_COLOR": "1",
        **variables,
    }
    with subprocess.Popen([sys.executable, "-c", GATI, *arguments], env=environment, stdout=stdout) as command:
        os.close(stdout)
        output = b""
        try:
            while chunk := os.read(terminal, 4096):
                output += chunk
        except OSError:  # raised on Linux when the other end is closed
            pass
        assert command.wait(100) == 0
    os.close(terminal)
    return re.sub(r"\x1b\[[\d;]*m", "", output.decode())  # remove colors
