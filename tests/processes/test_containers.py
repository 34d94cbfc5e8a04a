"""Containers, made of namespaces: an unknown user without HOME, a read-only root, the program as process 1."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gati._api.runtime import NO_STORE
from gati.pipeline.engine import NO_FOLDER
from gati.testing.server import fault_injection as faults
from tests.processes.conftest import ROOT, SECONDS, Sandbox
from tests.servers import API_KEY

USER = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
"""Run a command as a user who has no entry in `/etc/passwd` and no capability, but may read the files of this one."""
CONTAINER = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
CLI = "from gati.cli import main; main()"
READ_ONLY = "mount -o remount,bind,ro /"
DISK_LINE = "the spool cannot be used (OSError); requests are kept in memory"


def _is_possible() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    trial = subprocess.run(
        [*CONTAINER, "sh", "-c", f"{READ_ONLY} && exec {' '.join(USER)} true"], capture_output=True, check=False
    )
    return trial.returncode == 0


pytestmark = pytest.mark.skipif(not _is_possible(), reason="this system does not let us create namespaces")


def run(
    sandbox: Sandbox,
    name: str = "in_a_container",
    *,
    setup: str = READ_ONLY,
    cwd: Path = Path("/"),
    key: bool = True,
    **environment: object,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run a function of `program` as process 1 with an empty environment; return its reports and its log lines."""
    variables: dict[str, object] = {"PYTHONPATH": ROOT, "PYTHONDONTWRITEBYTECODE": 1, "GATI_FLUSH_INTERVAL": 0.1}
    if key:
        variables |= {"GREENFLASH_API_KEY": API_KEY, "GREENFLASH_BASE_URL": sandbox.server.url}
    given = [f"{name}={value}" for name, value in (variables | environment).items()]
    command = ["env", "-i", *given, sys.executable, "-P", "-m", "tests.processes.program", name]
    done = subprocess.run(
        [*CONTAINER, "sh", "-c", f'{setup}; cd "$0"; exec {" ".join(USER)} "$@"', str(cwd), *command],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.splitlines()


def test_without_home_and_passwd_entry_turns_are_delivered_from_memory_with_one_warning(sandbox: Sandbox) -> None:
    reports, lines = run(sandbox)
    assert reports == [{"pid": 1, "uid": 12345, "delivered": 3, "waiting": 0}]
    assert lines == [NO_FOLDER]
    assert sandbox.user_texts() == {"c": ["1"]}


def test_without_home_and_key_nothing_fails_and_no_deadline_passes(sandbox: Sandbox) -> None:
    reports, lines = run(sandbox, key=False)
    assert reports == [{"pid": 1, "uid": 12345, "delivered": 0, "waiting": 3}]
    assert lines == [NO_STORE, "3 messages were not delivered and are not on disk"]


@pytest.mark.parametrize("home", ["/", "/missing", "/root"])
def test_with_a_home_that_cannot_be_written_turns_are_delivered_with_one_warning(sandbox: Sandbox, home: str) -> None:
    reports, lines = run(sandbox, HOME=home)
    assert reports == [{"pid": 1, "uid": 12345, "delivered": 3, "waiting": 0}]
    assert [line.replace("PermissionError", "OSError") for line in lines] == [DISK_LINE]
    assert sandbox.user_texts() == {"c": ["1"]}


def test_a_store_that_cannot_be_written_delays_no_exit(sandbox: Sandbox) -> None:
    reports, lines = run(sandbox, key=False, HOME="/")
    assert reports == [{"pid": 1, "uid": 12345, "delivered": 0, "waiting": 3}]
    assert lines[0].startswith("no Greenflash key")
    assert lines[1:] == [DISK_LINE, "3 messages were not delivered and are not on disk"]


def test_a_volume_for_the_spool_keeps_what_could_not_be_delivered(sandbox: Sandbox) -> None:
    volume = sandbox.folder / "volume"
    volume.mkdir()
    sandbox.server.faults.add(faults.failing(503, times=None))
    setup = f"mount --bind {volume} {volume} && {READ_ONLY}"
    spool = volume / "spool"
    _, lines = run(sandbox, "ended_by_return", setup=setup, GATI_SPOOL_DIR=spool, GATI_SHUTDOWN_TIMEOUT=5)
    assert [line for line in lines if "disk" in line or "spool" in line] == []
    sandbox.server.faults.clear()
    run(sandbox, "ended_by_return", setup=setup, GATI_SPOOL_DIR=spool)
    assert sorted(sandbox.user_texts()["c"]) == ["1", "1", "2", "2"]


def test_children_of_process_1_are_delivered(sandbox: Sandbox) -> None:
    volume = sandbox.folder / "volume"
    volume.mkdir()
    reports, lines = run(sandbox, "forked_in_a_container", setup="true", GATI_SPOOL_DIR=volume)
    assert (reports, lines) == ([{"pid": 1}], [])
    assert sandbox.user_texts() == {"c": ["1"]}


def test_a_working_directory_that_cannot_be_read_is_no_error(sandbox: Sandbox) -> None:
    closed = sandbox.folder / "closed"
    closed.mkdir(mode=0)
    reports, lines = run(sandbox, cwd=closed)
    assert (reports[0]["delivered"], lines) == (3, [NO_FOLDER])


def test_a_path_below_a_home_that_does_not_exist_is_a_configuration_error(sandbox: Sandbox) -> None:
    (report,), lines = run(sandbox, GATI_SPOOL_DIR="~/spool")
    assert "GATI_SPOOL_DIR" in report["error"]
    assert "needs a home folder" in report["error"]
    assert lines == []


def test_commands_name_the_missing_home_folder(sandbox: Sandbox) -> None:
    for command in ("status", "show"):
        done = subprocess.run(
            [*USER, "env", "-i", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-c", CLI, command],
            capture_output=True, text=True, timeout=SECONDS, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "there is no home folder" in done.stderr
        assert "Traceback" not in done.stderr


EXAMPLE = ROOT / "examples" / "container"
INSTRUCTIONS = [
    tuple(line.split(None, 1))
    for line in (EXAMPLE / "Dockerfile").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


def instruction(name: str) -> str:
    """Return the argument of the only instruction of a kind in the example's Dockerfile."""
    (found,) = [argument for kind, argument in INSTRUCTIONS if kind == name]
    return found


def test_the_dockerfile_of_the_example_gives_the_spool_a_volume_that_its_user_may_write() -> None:
    known = {"FROM", "RUN", "ENV", "VOLUME", "WORKDIR", "COPY", "USER", "CMD"}
    assert INSTRUCTIONS[0][0] == "FROM"
    assert {kind for kind, _ in INSTRUCTIONS} <= known
    volume, user, group = instruction("VOLUME"), *instruction("USER").split(":")
    assert instruction("ENV") == f"GATI_SPOOL_DIR={volume}"
    assert ("RUN", f"install -d -m 0700 -o {user} -g {group} {volume}") in INSTRUCTIONS
    source, _ = instruction("COPY").split()
    assert (EXAMPLE / source).is_file()
    assert json.loads(instruction("CMD")) == ["python", source]


def test_the_page_about_containers_shows_the_dockerfile_of_the_example() -> None:
    _, _, code = (EXAMPLE / "Dockerfile").read_text("utf-8").partition("FROM ")
    assert f"FROM {code}" in (ROOT / "docs" / "guides" / "containers.md").read_text("utf-8")


def test_nothing_installs_gati_from_the_package_index_before_the_first_release() -> None:
    quick_start = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
    (installed,) = [argument for kind, argument in INSTRUCTIONS if kind == "RUN" and "pip install" in argument]
    assert ('"gati-greenflash @ https://' in installed) == ("@ git+https://" in quick_start)


def test_the_program_of_the_example_delivers_when_its_container_is_stopped(sandbox: Sandbox) -> None:
    volume = sandbox.folder / "volume"
    volume.mkdir(mode=0o700)
    environment = {
        "PYTHONPATH": ROOT, "PYTHONDONTWRITEBYTECODE": 1, "GATI_SPOOL_DIR": volume, "GATI_FLUSH_INTERVAL": 3600,
        "GREENFLASH_API_KEY": API_KEY, "GREENFLASH_BASE_URL": sandbox.server.url,
    }  # fmt: skip
    given = [f"{name}={value}" for name, value in environment.items()]
    setup = f'mount --bind {volume} {volume}; {READ_ONLY}; cd /; exec {" ".join(USER)} "$0" "$@"'
    program = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", setup, "env", "-i", *given, sys.executable, str(EXAMPLE / "answers.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    sandbox.programs.append(program)
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("Hello\n")
    program.stdin.flush()
    assert program.stdout.readline() == "You said: Hello\n"
    program.send_signal(signal.SIGTERM)
    _, error = program.communicate(timeout=SECONDS)
    assert (program.returncode, error) == (0, "")
    assert sandbox.user_texts() == {"standard-input": ["Hello"]}
