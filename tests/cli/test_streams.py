"""Commands whose output leads elsewhere: another encoding, a full disk, a closed output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gati.store.store import Store
from tests.cli.programs import GATI, ROOT
from tests.optional import WARNINGS
from tests.store.bodies import body, said

ODD = "вопрос ☃ 😀"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full and a POSIX shell")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    file = tmp_path / "store.db"
    with closing(Store(file)) as made:
        made.ingest(body(ODD, said("q", ODD), said("a", ODD, 5, "final_response")))
    return file


def gati(*arguments: object, after: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a shell, with a redirection after it. It must end without a traceback."""
    command = [sys.executable, *WARNINGS, "-c", GATI, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        ["sh", "-c", f'"$@" {after}', "sh", *command], env=environment, capture_output=True, check=False, timeout=100
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    "command", [("show",), ("show", ODD), ("show", "--list"), ("doctor", "--no-send"), ("status",), ("--help",)]
)
def test_characters_that_the_outputs_encoding_lacks_are_escaped(
    store: Path, tmp_path: Path, command: tuple[str, ...], encoding: str
) -> None:
    done = gati(*command, PYTHONIOENCODING=encoding, GATI_LOCAL=str(store), GATI_SPOOL_DIR=str(tmp_path / "spool"))
    assert done.returncode == 0, done.stderr
    if command[0] == "show":
        assert rb"\u2603 \U0001f600" in done.stdout


def test_json_is_valid_in_every_encoding(store: Path) -> None:
    for encoding in ("cp1252", "ascii", "utf-8"):
        done = gati("show", "--json", "--store", store, PYTHONIOENCODING=encoding)
        assert ODD in [message.get("content") for message in json.loads(done.stdout.decode(encoding))]


@pytest.mark.parametrize("command", [("export",), ("export", "--format", "markdown"), ("show", "--html")])
def test_the_content_of_a_file_is_utf_8_in_every_encoding(store: Path, command: tuple[str, ...]) -> None:
    done = gati(*command, "--store", store, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert ODD in done.stdout.decode()


@pytest.mark.parametrize(
    ("redirection", "reason"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
@pytest.mark.parametrize("command", [("show", "--list"), ("show", "--json"), ("export",), ("--version",), ("--help",)])
def test_an_output_that_cannot_be_written_is_one_line_and_an_exit_code(
    store: Path, command: tuple[str, ...], redirection: str, reason: str
) -> None:
    done = gati(*command, after=redirection, GATI_LOCAL=str(store))
    assert done.returncode == 5
    assert done.stderr.decode().splitlines()[-1] == f"gati: the output cannot be written: {reason}"


def test_an_export_to_a_file_on_a_full_disk_is_one_line_and_an_exit_code(store: Path) -> None:
    done = gati("export", "--store", store, "-o", "/dev/full")
    assert done.returncode == 5
    assert done.stderr.decode() == "gati: cannot write /dev/full: No space left on device\n"


def test_a_reader_that_stops_reading_ends_a_command_silently(store: Path) -> None:
    done = gati("show", "--json", "--store", store, after="| true")
    assert done.stderr == b""


def test_errors_that_cannot_be_written_change_no_exit_code(store: Path) -> None:
    for redirection in ("2> /dev/full", "2>&-"):
        assert gati("show", "no such conversation", "--store", store, after=redirection).returncode == 3
        assert gati("export", "--store", store, after=redirection).returncode == 0
