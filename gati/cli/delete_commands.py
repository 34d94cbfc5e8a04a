"""The commands of `gati delete`, with their arguments and help."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gati.cli.store_place import parse_place

delete_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Delete conversations from the embedded store and from what waits in the spool. What arrives late stays out. "
    "What was delivered to Greenflash is not deleted there.",
)

_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted, and delete nothing.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")]
_Store = Annotated[
    Any,  # a `StorePlace`; typer does not support unions
    typer.Option(
        "--store",
        parser=parse_place,
        metavar="PLACE",
        help="File of the embedded store, or `postgresql://…` for the team's store. Default: the option `local`, or the"
        " default location.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@delete_app.command(name="conversation", epilog="Example: `gati delete conversation c-42`")
def conversation_command(
    conversation: Annotated[str, typer.Argument(help="ID of the conversation.")],
    dry_run: _DryRun = False,
    yes: _Yes = False,
    store: _Store = None,
    json: _Json = False,
) -> None:
    """Delete a conversation with its ratings and events."""
    from gati.cli.delete import run_delete
    from gati.store.deletion import Target

    target = Target("conversation", conversation)
    raise typer.Exit(run_delete(target, store, dry_run=dry_run, yes=yes, json_wanted=json))


@delete_app.command(name="user", epilog="Example: `gati delete user u-7 --dry-run`")
def user_command(
    user: Annotated[str, typer.Argument(help="ID of the user.")],
    dry_run: _DryRun = False,
    yes: _Yes = False,
    store: _Store = None,
    json: _Json = False,
) -> None:
    """Delete everything of a user: conversations, ratings, events, name and other reported properties."""
    from gati.cli.delete import run_delete
    from gati.store.deletion import Target

    raise typer.Exit(run_delete(Target("user", user), store, dry_run=dry_run, yes=yes, json_wanted=json))


@delete_app.command(name="before", epilog="Example: `gati delete before 2026-01-31 --yes`")
def before_command(
    date: Annotated[str, typer.Argument(help="Date or time (ISO 8601). Without a time zone, it is this machine's.")],
    dry_run: _DryRun = False,
    yes: _Yes = False,
    store: _Store = None,
    json: _Json = False,
) -> None:
    """Delete all turns that began before a date. Conversations that continue after it keep their later turns."""
    from gati.cli.delete import parse_date, run_delete
    from gati.store.deletion import Target

    target = Target("before", at=parse_date(date))
    raise typer.Exit(run_delete(target, store, dry_run=dry_run, yes=yes, json_wanted=json))
