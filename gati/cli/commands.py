"""The commands of `gati`, with their arguments and help. Each imports its implementation when it runs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from gati.cli.delete_commands import delete_app
from gati.cli.numbers import MAX_ROWS, MAX_SECONDS, refuse_nan
from gati.cli.output import NO_SPACE, Exit, fail, print_note
from gati.cli.prompt_commands import prompts_app
from gati.cli.relay_commands import dead_app, relay_app
from gati.cli.store_place import parse_place
from gati.cli.streams import failure_to_write, prepare_streams
from gati.errors import ConfigurationError

app = typer.Typer(
    name="gati",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Record conversations of LangChain and LangGraph programs, and deliver them to Greenflash or read them locally.",
    epilog="gati reads its options from environment variables and `.env`; `gati doctor` checks them. Exit codes: "
    "0 success, 1 a check failed or something was not delivered, 2 invalid argument or option, 3 conversation or store "
    "not found, 4 missing package, 5 the output cannot be written.",
)

app.add_typer(delete_app, name="delete")
app.add_typer(prompts_app, name="prompts")
app.add_typer(relay_app, name="relay")
app.add_typer(dead_app, name="dead")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


StorePath = Annotated[
    Any,  # a `StorePlace`; typer does not support unions
    typer.Option(
        "--store",
        parser=parse_place,
        metavar="PLACE",
        help="File of the embedded store, or `postgresql://…` for the team's store. Default: the option `local`, or the"
        " default location.",
    ),
]

WithMarks = Annotated[
    bool,
    typer.Option("--marks", help="With --html: include tags, notes and other marks, and the names of their authors."),
]


def _print_version(requested: bool) -> None:
    if requested:
        import gati

        print(gati.__version__)
        raise typer.Exit


@app.callback()
def _gati(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


@app.command(name="demo", epilog="Example: `gati demo`, or with a real model `OPENAI_API_KEY=… gati demo`")
def demo_command(json: Json = False) -> None:
    """Run a sample agent with a tool and a retriever, deliver its conversation, and print it."""
    from gati.cli.demo import run_demo

    raise typer.Exit(run_demo(json_wanted=json))


@app.command(
    name="show",
    epilog="Example: `gati show`, `gati show demo-1a2b3c4d --json`, `gati show --list`, `gati show c-42 --html > c-42.html`",
)
def show_command(
    conversation: Annotated[str | None, typer.Argument(help="ID of the conversation. Default: the newest one.")] = None,
    list_: Annotated[bool, typer.Option("--list", "-l", help="List the newest conversations instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MAX_ROWS, help="Number of conversations to list.")] = 20,
    html: Annotated[bool, typer.Option("--html", help="Print it as a self-contained HTML file, to share it.")] = False,
    marks: WithMarks = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Print a conversation from the embedded store."""
    from gati.cli import show

    if html:
        _require_studio_extra()
        show.print_html(conversation, store, with_marks=marks)
    elif list_:
        show.print_list(limit, store, json_wanted=json)
    else:
        show.print_conversation(conversation, store, json_wanted=json)


@app.command(name="status", epilog="Example: `gati status`, `gati status --json`")
def status_command(json: Json = False) -> None:
    """Show messages waiting in the spool, rejected requests, and the size of the embedded store."""
    from gati.cli.spool import show_status

    raise typer.Exit(show_status(json_wanted=json))


@app.command(name="drain", epilog="Example: `gati drain`, `gati drain --timeout 60`")
def drain_command(
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=MAX_SECONDS,
            callback=refuse_nan,
            help="Stop after this many seconds. Default: run until the spool is drained.",
        ),
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Also deliver what was left under other keys or products, with this key.")
    ] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Also send again what was rejected and set aside.")
    ] = False,
    json: Json = False,
) -> None:
    """Deliver messages left in the spool by processes that have exited, and list what was skipped."""
    from gati.cli.spool import run_drain

    raise typer.Exit(run_drain(timeout, adopt=adopt, rejected=rejected, json_wanted=json))


@app.command(name="doctor", epilog="Example: `gati doctor`, `gati doctor --no-send`, `gati doctor --queue`")
def doctor_command(
    send: Annotated[bool, typer.Option(help="Send a test message and read it back.")] = True,
    queue: Annotated[
        bool,
        typer.Option("--queue", help="Check the queue only: connection, limits and permissions. Publishes nothing."),
    ] = False,
    json: Json = False,
) -> None:
    """Check options, versions, API key, product, injection, delivery and spool, and suggest fixes."""
    from gati.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(send=send, json_wanted=json, queue_only=queue))


@app.command(
    name="export", epilog="Example: `gati export > all.jsonl`, `gati export c-42 --format markdown -o c-42.md`"
)
def export_command(
    conversations: Annotated[
        list[str] | None, typer.Argument(help="IDs of the conversations. Default: all that match the filters.")
    ] = None,
    file_format: Annotated[
        Literal["jsonl", "markdown", "html"],
        typer.Option("--format", help="One JSON object per line, Markdown, or HTML of a single conversation."),
    ] = "jsonl",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output file. Default: standard output.")
    ] = None,
    words: Annotated[str, typer.Option(help="Only conversations that contain these words.")] = "",
    user: Annotated[str | None, typer.Option(help="Only conversations of this user.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only conversations with this agent.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only conversations with this tag.")] = None,
    marked: Annotated[
        Literal["good", "bad", "yes", "no"] | None,
        typer.Option(help="Only conversations marked as good or bad, as either, or not at all."),
    ] = None,
    marks: Annotated[bool, typer.Option("--marks", help="With HTML: include tags, notes and other marks.")] = False,
    store: StorePath = None,
) -> None:
    """Export conversations from the embedded store as JSON lines, Markdown or HTML."""
    if file_format == "html":
        _require_studio_extra()
    from gati.cli.export import export_conversations
    from gati.store.filters import Filter

    filters = Filter(words=words, user=user, agent=agent, tag=tag, mark=marked)
    raise typer.Exit(export_conversations(filters, conversations or [], file_format, output, store, with_marks=marks))


@app.command(
    name="import",
    epilog="Example: `gati import checkpoints checkpoints.sqlite`, `gati import langsmith runs.jsonl --dry-run`",
)
def import_command(
    source: Annotated[
        Literal["checkpoints", "langsmith", "langfuse", "phoenix"],
        typer.Argument(help="LangGraph checkpoints, or the tool that wrote the file."),
    ],
    place: Annotated[
        str,
        typer.Argument(
            help="File of the export. For checkpoints: a SQLite file, postgresql://…, or module:name of a checkpointer."
        ),
    ],
    thread: Annotated[
        list[str] | None, typer.Option(help="Only this conversation. May be given several times.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only turns that began at this date or time (ISO 8601) or later.")
    ] = None,
    before: Annotated[str | None, typer.Option(help="Only turns that ended before this date or time.")] = None,
    mask: Annotated[
        str | None, typer.Option(help="Function that masks texts, as module:function. Required for Greenflash.")
    ] = None,
    no_mask: Annotated[bool, typer.Option("--no-mask", help="Send texts to Greenflash as they are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Import earlier conversations: into Greenflash if there is a key, else (or with --store) into the embedded store.

    Importing again changes nothing. Turns that gati has reported itself are left out.
    """
    from gati.cli.importing import ImportOptions, run_import

    options = ImportOptions(tuple(thread or ()), since, before, mask, no_mask, dry_run, store, json)
    raise typer.Exit(run_import(source, place, options))


@app.command(name="push", epilog="Example: `gati push`, `gati push --product 0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10`")
def push_command(
    product: Annotated[str | None, typer.Option(help="Product UUID for conversations without a product.")] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Send the embedded store to Greenflash. Each message is sent once; run it again to resume."""
    from gati.cli.push import run_push

    raise typer.Exit(run_push(product, store, json_wanted=json))


@app.command(
    name="serve",
    epilog="Example: `gati serve --port 4527 --key gf_test`, then `GREENFLASH_BASE_URL=http://127.0.0.1:4527/api/v1`",
)
def serve_command(
    host: Annotated[str, typer.Option(help="Address to listen on. Any other than loopback needs --key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 4527,
    key: Annotated[
        list[str] | None, typer.Option(help="API key to accept (repeatable). Default: accept any request.")
    ] = None,
    faults: Annotated[bool, typer.Option("--faults", help="Let tests inject faults through `/__faults__`.")] = False,
    store: StorePath = None,
) -> None:
    """Run a local Greenflash server for tests, with strict validation, on the embedded store or the team's."""
    _require_studio_extra()
    from gati.cli.store import servable_store
    from gati.testing.server.app import serve_test_server

    place = servable_store(store)
    _serve_until_interrupted(
        host, port, lambda ready: serve_test_server(host, port, place, api_keys=key, control=faults, ready=ready)
    )


@app.command(
    name="studio",
    epilog="Example: `gati studio`, `gati studio --port 0 --no-browser`, `gati studio --public-url https://studio.example.org`",
)
def studio_command(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any other than loopback opens the store to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 4527,
    browser: Annotated[bool, typer.Option(help="Open the studio in a web browser, if there is one.")] = True,
    public_url: Annotated[
        str | None,
        typer.Option(help="Address at which a reverse proxy serves the studio, with its path if it has one."),
    ] = None,
    store: StorePath = None,
) -> None:
    """Browse the conversations of a store in a web browser.

    The printed address contains a token, which is also the API key. Without it, nobody can read or write the store.
    """
    _require_studio_extra()
    from gati.cli.delete import remove_waiting
    from gati.cli.store import servable_store
    from gati.settings import load
    from gati.studio.public_address import parse_public_address
    from gati.studio.server import LOOPBACK, serve_studio

    file, settings = servable_store(store), load()
    try:
        public = parse_public_address(public_url) if public_url else None
    except ValueError as fault:
        fail(f"--public-url: {fault}", Exit.USAGE)
    if host not in LOOPBACK:
        print_note(
            f"Listening on {host}: whoever reaches this machine and has the token can read and write all conversations"
            f" in {getattr(file, 'path', file)}. The connection is not encrypted."
        )
    remove = partial(remove_waiting, settings)
    serve = partial(serve_studio, host, port, file, public=public, remove_waiting=remove, retention=settings.retention)
    _serve_until_interrupted(host, port, lambda ready: serve(ready=ready), browser=browser)


def _require_studio_extra() -> None:
    """Exit with a message if the packages of the extra `studio` are not installed."""
    try:
        from gati.studio import server  # noqa: F401  imported only to see whether its packages are installed
    except ImportError as missing:
        fail(f"this command needs {missing.name}: pip install 'gati-greenflash[studio]'", Exit.MISSING)


def _serve_until_interrupted(
    host: str, port: int, serve: Callable[[Callable[[str], None]], None], *, browser: bool = False
) -> None:
    """Run a server. Once it is ready, print its address and optionally open it in a web browser."""
    with ExitStack() as stack:

        def ready(address: str) -> None:
            print(address, flush=True)
            print_note("Press Ctrl-C to stop.")
            if browser:
                from gati.cli.browser import open_privately

                open_privately(address, stack)

        try:
            serve(ready)
        except (OSError, ValueError) as fault:
            code = Exit.USAGE if isinstance(fault, ValueError) else Exit.FAILED
            fail(f"cannot serve on {host}:{port}: {fault}", code)


def run_app() -> None:
    """Run the command line. An invalid gati option, path or store, or an output that cannot be written, ends it with a
    message instead of a traceback.
    """
    prepare_streams()
    try:
        _run_app()
    except OSError as fault:
        if (unwritten := failure_to_write() or (fault if fault.errno in NO_SPACE else None)) is None:
            raise
        _fail_to_write(unwritten)
    except SystemExit:
        if (unwritten := failure_to_write()) is not None:
            _fail_to_write(unwritten)
        raise


def _fail_to_write(fault: OSError) -> NoReturn:
    if fault.errno == errno.EPIPE:  # as `| head` ends it
        raise SystemExit(int(Exit.FAILED)) from None
    fail(f"the output cannot be written: {fault.strerror}", Exit.OUTPUT)


def _run_app() -> None:
    import sqlite3

    from gati.store.store_file import NotAStoreError

    try:
        app(prog_name="gati")
    except ConfigurationError as fault:
        fail(str(fault), Exit.USAGE)
    except (sqlite3.Error, NotAStoreError) as fault:
        fail(f"the store cannot be used: {fault}")
    except OSError as fault:
        if fault.errno not in (errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP) or fault.filename is None:
            raise
        fail(f"{fault.filename}: {fault.strerror}", Exit.USAGE)
