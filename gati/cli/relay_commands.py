"""The commands `gati relay` and `gati dead`, with their arguments and help."""

from __future__ import annotations

from typing import Annotated

import typer

from gati.cli.numbers import MAX_RATE, MAX_ROWS, refuse_nan

relay_app = typer.Typer(no_args_is_help=True, help="Deliver what programs publish to a queue, and show its state.")
dead_app = typer.Typer(no_args_is_help=True, help="Look at requests that no relay could deliver; replay or drop them.")

Queue = Annotated[
    str | None, typer.Option("--queue", help="kafka://host:port/topic or postgresql://…. Default: GATI_QUEUE.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ids = Annotated[list[str] | None, typer.Argument(help="IDs from `gati dead list`.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]


@relay_app.command(name="run", epilog="Example: `gati relay run --queue postgresql://host/database --rate 50`")
def run_command(
    queue: Queue = None,
    connections: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 16,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=MAX_RATE,
            callback=refuse_nan,
            help="Requests per second of all relays together. Default: no limit.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="postgresql:// address of the team's store, to deliver to it instead."),
    ] = None,
    session_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=300,
            callback=refuse_nan,
            help="Seconds after which others take over from a relay that hangs.",
        ),
    ] = 15.0,
    metrics: Annotated[
        str | None, typer.Option(help="Port or host:port for /metrics and /health. Default: none.")
    ] = None,
) -> None:
    """Deliver the queue until SIGTERM or Ctrl-C. Several relays share it.

    A relay that stops finishes the requests that are in flight. The destination comes from the environment, as for
    programs: GREENFLASH_API_KEY. All relays of a queue need the same one.
    """
    from gati.cli.relay import run_relay
    from gati.relay.relay import RelayOptions

    raise typer.Exit(run_relay(queue, RelayOptions(connections, rate), session_timeout, metrics, to))


@relay_app.command(name="status", epilog="Example: `gati relay status`, `gati relay status --json`")
def relay_status_command(queue: Queue = None, json: Json = False) -> None:
    """Show how many requests wait, how old they are, the relays, and the number of dead letters."""
    from gati.cli.relay import show_relay_status

    raise typer.Exit(show_relay_status(queue, json_wanted=json))


@dead_app.command(name="list", epilog="Example: `gati dead list --limit 100`")
def list_dead_command(
    queue: Queue = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_ROWS, help="Number of dead letters to list.")] = 50,
    json: Json = False,
) -> None:
    """List dead letters with the reason, oldest first."""
    from gati.cli.dead import list_dead

    raise typer.Exit(list_dead(queue, limit, json_wanted=json))


@dead_app.command(name="show", epilog="Example: `gati dead show 12`")
def show_dead_command(
    letter: Annotated[str, typer.Argument(help="ID from `gati dead list`.")], queue: Queue = None
) -> None:
    """Print a dead letter with its content, as JSON."""
    from gati.cli.dead import show_dead

    raise typer.Exit(show_dead(queue, letter))


@dead_app.command(name="replay", epilog="Example: `gati dead replay 12 13`, `gati dead replay --all`")
def replay_command(ids: Ids = None, everything: All = False, queue: Queue = None) -> None:
    """Publish dead letters again, at the end of the queue."""
    from gati.cli.dead import replay_dead

    raise typer.Exit(replay_dead(queue, ids or [], everything=everything))


@dead_app.command(name="drop", epilog="Example: `gati dead drop 12`, `gati dead drop --all`")
def drop_command(ids: Ids = None, everything: All = False, queue: Queue = None) -> None:
    """Remove dead letters for good."""
    from gati.cli.dead import drop_dead

    raise typer.Exit(drop_dead(queue, ids or [], everything=everything))
