"""The commands of `gati`, each a few lines: what they do is said here, how is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from gati.cli.output import Exit, fail, say
from gati.errors import ConfigurationError

app = typer.Typer(
    name="gati",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Watch LangChain and LangGraph programs; deliver their conversations to Greenflash, or read them here.",
    epilog="Options of gati come from the environment and `.env`, see `gati doctor`. Exit codes: 0 all is well, "
    "1 a check failed or something was not delivered, 2 a wrong argument or option, 3 no such conversation or store, "
    "4 a package is missing.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StorePath = Annotated[
    Path | None,
    typer.Option("--store", help="The embedded store's file; default: the option `local`, else the usual place."),
]


def _version(wanted: bool) -> None:
    if wanted:
        import gati

        print(gati.__version__)
        raise typer.Exit


@app.callback()
def _gati(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None: ...


@app.command(epilog="Example: `gati demo`, or with a real model `OPENAI_API_KEY=… gati demo`")
def demo(json: Json = False) -> None:
    """Run an agent with a tool and a retriever, deliver its conversation, and show it."""
    from gati.cli import demo as command

    raise typer.Exit(command.run(json_wanted=json))


@app.command(epilog="Example: `gati show`, `gati show demo-1a2b3c4d --json`, `gati show --list`")
def show(
    conversation: Annotated[str | None, typer.Argument(help="Its id; default: the newest one.")] = None,
    list_: Annotated[bool, typer.Option("--list", "-l", help="List the newest conversations instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many to list.")] = 20,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Print a conversation of the embedded store."""
    from gati.cli import show as command

    if list_:
        command.print_list(limit, store, json_wanted=json)
    else:
        command.print_conversation(conversation, store, json_wanted=json)


@app.command(epilog="Example: `gati status`, `gati status --json`")
def status(json: Json = False) -> None:
    """Show what waits in the spool, what was refused, and what the embedded store holds."""
    from gati.cli import spool

    raise typer.Exit(spool.show_status(json_wanted=json))


@app.command(epilog="Example: `gati drain`, `gati drain --timeout 60`")
def drain(
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which to stop; default: when all is done.")
    ] = None,
    json: Json = False,
) -> None:
    """Deliver what programs that are no more left in the spool."""
    from gati.cli import spool

    raise typer.Exit(spool.bring(timeout, json_wanted=json))


@app.command(epilog="Example: `gati doctor`, `gati doctor --no-send`")
def doctor(
    send: Annotated[bool, typer.Option(help="Send one message and read it back.")] = True,
    json: Json = False,
) -> None:
    """Check options, versions, key, product, injection, delivery and spool, and say what to do."""
    from gati.cli import doctor as command

    raise typer.Exit(command.run(send=send, json_wanted=json))


@app.command(epilog="Example: `gati export > all.jsonl`, `gati export c-42 --format markdown -o c-42.md`")
def export(
    conversations: Annotated[list[str] | None, typer.Argument(help="Their ids; default: all that fit.")] = None,
    shape: Annotated[
        Literal["jsonl", "markdown"], typer.Option("--format", help="A line of JSON each, or Markdown.")
    ] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; default: standard output.")] = None,
    words: Annotated[str, typer.Option(help="Only conversations in which these words occur.")] = "",
    user: Annotated[str | None, typer.Option(help="Only conversations of this user.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only conversations with this agent.")] = None,
    store: StorePath = None,
) -> None:
    """Write conversations of the embedded store as JSON lines or Markdown."""
    from gati.cli import export as command
    from gati.store.queries import Filter

    wanted = Filter(words=words, user=user, agent=agent)
    raise typer.Exit(command.run(wanted, conversations or [], shape, output, store))


@app.command(epilog="Example: `gati push`, `gati push --product 0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10`")
def push(
    product: Annotated[str | None, typer.Option(help="Product of conversations that name none; a UUID.")] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Send the embedded store to Greenflash: each message once, resumable."""
    from gati.cli import push as command

    raise typer.Exit(command.run(product, store, json_wanted=json))


@app.command(
    epilog="Example: `gati serve --port 4527 --key gf_test`, then `GREENFLASH_BASE_URL=http://127.0.0.1:4527/api/v1`"
)
def serve(
    host: Annotated[str, typer.Option(help="Loopback only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 4527,
    key: Annotated[
        list[str] | None, typer.Option(help="An accepted API key (repeatable). Default: any request.")
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Inject faults on request at `/__faults__`, for tests.")
    ] = False,
    store: StorePath = None,
) -> None:
    """Run a local Greenflash for tests, with strict validation, over the embedded store."""
    _require_studio_extra()
    from gati.cli.store import place
    from gati.testing.server.app import serve_test_server

    file = place(store)
    _serve_until_interrupted(
        host, port, lambda ready: serve_test_server(host, port, file, api_keys=key, control=faults, ready=ready)
    )


@app.command(epilog="Example: `gati studio`, `gati studio --port 0 --no-browser`")
def studio(
    host: Annotated[str, typer.Option(help="Loopback only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 4527,
    browser: Annotated[bool, typer.Option(help="Open the pages in a browser, if there is one.")] = True,
    store: StorePath = None,
) -> None:
    """Read the embedded store's conversations in a browser."""
    _require_studio_extra()
    from gati.cli.store import place
    from gati.studio.server import create_studio_app, serve_store

    file = place(store)
    _serve_until_interrupted(
        host, port, lambda ready: serve_store(create_studio_app, host, port, file, ready=ready), browser=browser
    )


def _require_studio_extra() -> None:
    """Exit with a message if the packages of the extra `studio` are not installed."""
    try:
        from gati.studio import server  # noqa: F401  imported only to see whether its packages are installed
    except ImportError as missing:
        fail(f"this needs {missing.name}: pip install 'gati-greenflash[studio]'", Exit.MISSING)


def _serve_until_interrupted(
    host: str, port: int, run: Callable[[Callable[[str], None]], None], *, browser: bool = False
) -> None:
    """Run a server; print its address once it is ready, and open it in a browser if asked for."""

    def ready(address: str) -> None:
        print(address, flush=True)
        say("stop with Ctrl-C")
        if browser:
            import webbrowser

            webbrowser.open(address)

    try:
        run(ready)
    except (OSError, ValueError) as fault:
        fail(f"cannot serve on {host}:{port}: {fault}", Exit.USAGE if isinstance(fault, ValueError) else Exit.FAILED)


def main() -> None:
    """Run the command line; a wrong option of gati ends it with a line, not a traceback."""
    try:
        app(prog_name="gati")
    except ConfigurationError as fault:
        fail(str(fault), Exit.USAGE)
