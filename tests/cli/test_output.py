"""Output that does not depend on a command."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from gati.cli.output import gati_command

SCRIPT = "gati.exe" if os.name == "nt" else "gati"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that gati is installed in a virtual environment that is not active, and return the project's folder."""
    scripts = tmp_path / "my project" / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / SCRIPT).touch(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(scripts))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path / "my project")
    return tmp_path / "my project"


def test_gati_command_is_gati_if_it_is_on_path(environment: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(environment / ".venv" / "bin"))
    assert gati_command() == "gati"


def test_gati_command_is_relative_to_the_working_directory(environment: Path):
    assert gati_command() == str(Path(".venv", "bin", SCRIPT))


def test_gati_command_is_quoted_if_it_contains_a_space(environment: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(environment.parent)
    assert gati_command() == f'"{Path("my project", ".venv", "bin", SCRIPT)}"'
    (environment / "folder").mkdir()
    monkeypatch.chdir(environment / "folder")
    assert gati_command() == f'"{environment / ".venv" / "bin" / SCRIPT}"'


def test_gati_command_is_absolute_in_the_folder_of_the_script(environment: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(environment / ".venv" / "bin")
    assert gati_command() == f'"{environment / ".venv" / "bin" / SCRIPT}"'


def test_gati_command_is_gati_if_the_script_is_not_installed(environment: Path):
    (environment / ".venv" / "bin" / SCRIPT).unlink()
    assert gati_command() == "gati"
