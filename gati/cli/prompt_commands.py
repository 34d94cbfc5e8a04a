"""The commands of `gati prompts`, with their arguments and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gati.cli.store_place import parse_place

prompts_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Compare the prompts of your code with those of Greenflash, or of the embedded store if no key is set.",
)

_Names = Annotated[list[str] | None, typer.Argument(help="External ids of the prompts. Default: all.")]
_Folder = Annotated[
    Path, typer.Option("--dir", help="Folder of prompt files: `support/agent.md` is the prompt `support/agent`.")
]
_Sources = Annotated[
    list[Path] | None,
    typer.Option("--source", help="Python file or folder whose fallbacks of `prompts.get` count, too (repeatable)."),
]
_Store = Annotated[
    Any,  # a `StorePlace`; typer does not support unions
    typer.Option(
        "--store",
        parser=parse_place,
        metavar="PLACE",
        help="File of an embedded store, or postgresql://… for the team's store, to use instead of Greenflash.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_FOLDER = Path("prompts")


@prompts_app.command(name="list", epilog="Example: `gati prompts list --json`")
def list_command(store: _Store = None, json: _Json = False) -> None:
    """List the prompts with their versions."""
    from gati.cli.prompts import list_all_prompts

    raise typer.Exit(list_all_prompts(store, json_wanted=json))


@prompts_app.command(name="pull", epilog="Example: `gati prompts pull`, `gati prompts pull support/agent --force`")
def pull_command(
    names: _Names = None,
    folder: _Folder = _FOLDER,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that have another text.")] = False,
    store: _Store = None,
) -> None:
    """Write the active versions to files."""
    from gati.cli.prompts import pull_prompts

    raise typer.Exit(pull_prompts(names or [], folder, store, force=force))


@prompts_app.command(name="diff", epilog="Example: `gati prompts diff`, `gati prompts diff --source src`")
def diff_command(
    names: _Names = None,
    folder: _Folder = _FOLDER,
    source: _Sources = None,
    store: _Store = None,
    json: _Json = False,
) -> None:
    """Compare your prompts with the active versions. The exit code is 1 if one differs, as a check for CI."""
    from gati.cli.prompts import diff_prompts

    raise typer.Exit(diff_prompts(names or [], folder, source or [], store, json_wanted=json))


@prompts_app.command(name="push", epilog="Example: `gati prompts push --dry-run`, `gati prompts push support/agent`")
def push_prompts_command(
    names: _Names = None,
    folder: _Folder = _FOLDER,
    source: _Sources = None,
    role: Annotated[str, typer.Option(help="Role of a new prompt in the product, as in Greenflash.")] = "agent",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be created.")] = False,
    store: _Store = None,
    json: _Json = False,
) -> None:
    """Create new versions of prompts that have changed. They are never activated: a person does that."""
    from gati.cli.prompts import push_prompts

    raise typer.Exit(
        push_prompts(names or [], folder, source or [], store, role=role, dry_run=dry_run, json_wanted=json)
    )
