"""What all commands have in common: help, errors, exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from gati import __version__
from gati.cli.commands import app
from tests.cli.programs import GATI, gati, invoke


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (["show", "nothing"], {}, 3, "there is no store at"),
        (["status"], {"GATI_BATCH_SIZE": "x"}, 2, "option 'batch_size' (from GATI_BATCH_SIZE)"),
        (["drain"], {}, 2, "no destination to deliver to"),
        (["serve", "--host", "0.0.0.0"], {}, 2, "only this machine"),
        (["dance"], {}, 2, "No such command"),
        (["show", "--store", "/tmp/" + "a" * 300], {}, 2, "File name too long"),
        (["status"], {"GATI_SPOOL_DIR": "/tmp/" + "a" * 300}, 2, "File name too long"),
        (["show"], {"GATI_LOCAL": "postgresql://me:pw@host/db"}, 2, "got 'postgresql://***@host/db'"),
        (["show", "--list", "--limit", "99999999999999999999"], {}, 2, "Invalid value for '--limit'"),
        (["drain", "--timeout", "nan"], {}, 2, "Invalid value for '--timeout'"),
        (["relay", "run", "--rate", "inf"], {}, 2, "Invalid value for '--rate'"),
        (["show", "--store", "mysql://me:pw@host/db"], {}, 2, "***@host/db is neither a file nor postgresql://"),
    ],
)
def test_errors_have_an_exit_code_and_a_message(arguments: list[str], variables: dict[str, str], code: int, words: str):
    done = gati(*arguments, **variables)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert words in " ".join(done.stderr.replace("│", "").split())
    assert "me:pw" not in done.stderr


def numbers_of(group: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Yield the numbers among the arguments of all commands."""
    for command in group.registered_commands:
        assert command.callback is not None
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            if get_origin(hint) is Annotated and {int, float} & {get_args(hint)[0], *get_args(get_args(hint)[0])}:
                yield f"{command.name} {name}", get_args(hint)[1]
    for child in group.registered_groups:
        assert child.typer_instance is not None
        yield from numbers_of(child.typer_instance)


def test_every_number_has_a_smallest_and_a_largest_value():
    numbers = dict(numbers_of(app))
    assert len(numbers) >= 8
    assert [name for name, limits in numbers.items() if limits.min is None or limits.max is None] == []


def test_exit_code_is_3_for_a_missing_conversation(store: Path):
    done = gati("show", "other", GATI_LOCAL=str(store))
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_commands_name_the_extra_to_install_if_a_package_is_missing(missing: str):
    done = gati("demo", program=f"import sys; sys.modules[{missing!r}] = None; {GATI}")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"gati: the command line needs {missing}: pip install 'gati-greenflash[cli]'\n"


def test_studio_names_the_extra_to_install_if_a_package_is_missing():
    done = gati("studio", program=f"import sys; sys.modules['starlette'] = None; {GATI}")
    assert done.returncode == 4
    assert "pip install 'gati-greenflash[studio]'" in done.stderr


@pytest.mark.parametrize(
    "command", ["demo", "show", "status", "doctor", "drain", "export", "import", "push", "serve", "studio"]
)
def test_every_command_has_help_with_an_example(command: str):
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert f"Example: gati {command}" in " ".join(done.output.split())


def test_version_prints_the_package_version():
    assert invoke("--version").stdout == f"{__version__}\n"
