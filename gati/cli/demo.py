"""`gati demo`: run the sample agent, deliver its conversation, read it back and print it."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import closing
from pathlib import Path

from gati import demo, observe
from gati._api.destinations import active_destinations
from gati.cli.output import Exit, console, gati_command, print_json, print_note
from gati.cli.show import print_messages
from gati.cli.store import store_path
from gati.settings import load
from gati.store import queries
from gati.store.store import Store
from gati.testing.scripted_model import ScriptedChatModel


def run_demo(*, json_wanted: bool = False) -> Exit:
    """Run the demo. The exit code is 1 if not everything was delivered."""
    settings = load()
    remote = [d.label for d in active_destinations(settings) if d.kind != "local"]
    conversation_id = f"demo-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="gati-demo-") as folder:
        # With a remote destination, a temporary store receives the conversation too, to read it back from.
        file = Path(folder) / "demo.db" if remote else store_path(settings=settings)
        model = demo.create_model()
        observe.init(agent_name="wheelhouse", local=file)
        demo.ask_questions(model, conversation_id)
        result = observe.flush(timeout=30.0)
        observe.shutdown()
        messages = []
        if file.exists():
            with closing(Store(file, read_only=True)) as store:
                messages = queries.wire_messages(store, conversation_id)
    if json_wanted:
        print_json({"conversation": conversation_id, "delivered": bool(result), "messages": messages})
    else:
        name = "a scripted model" if isinstance(model, ScriptedChatModel) else "ChatOpenAI"
        print_messages(conversation_id, messages, f"user ada, agent wheelhouse, {name}")
        _print_outcome(result, remote, file, conversation_id)
    return Exit.OK if result and messages else Exit.FAILED


def _print_outcome(result: observe.FlushResult, remote: list[str], file: Path, conversation_id: str) -> None:
    destination = " and ".join(remote) or f"the embedded store, {file}"
    gati = gati_command()
    if result:
        console().print(f"{result.delivered} messages delivered to {destination}.", markup=False, soft_wrap=True)
    else:
        print_note(
            f"Not everything was delivered to {destination}: {result.delivered} messages delivered, "
            f"{result.rejected} rejected, {result.spooled + result.pending} waiting, {result.dropped} dropped."
        )
        print_note(f"Find out why:          {gati} doctor")
    if not remote:
        print_note(f"Print it again:        {gati} show {conversation_id}")
        print_note(f"Read it in a browser:  {gati} studio")
        print_note("Send to Greenflash:    set GREENFLASH_API_KEY")
