"""`gati demo`: run the agent, deliver what it did, read it back and show it."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import closing
from pathlib import Path

from gati import demo, observe
from gati._api.destinations import active_destinations
from gati.cli.output import Exit, as_json, console, say
from gati.cli.show import print_messages
from gati.cli.store import place
from gati.settings import load
from gati.store import queries
from gati.store.store import Store
from gati.testing.scripted_model import ScriptedChatModel


def run(*, json_wanted: bool = False) -> Exit:
    """The whole demo; the exit code says whether everything was delivered."""
    settings = load()
    remote = [d.label for d in active_destinations(settings) if d.kind != "local"]
    conversation_id = f"demo-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="gati-demo-") as folder:
        # What goes elsewhere is kept in a store of the demo's own too, to be read back from there.
        file = Path(folder) / "demo.db" if remote else place(settings=settings)
        model = demo.model()
        observe.init(agent_name="wheelhouse", local=file)
        demo.talk(model, conversation_id)
        result = observe.flush(timeout=30.0)
        observe.shutdown()
        with closing(Store(file, settings.local_max_bytes)) as store:
            messages = queries.wire_messages(store, conversation_id)
    if json_wanted:
        as_json({"conversation": conversation_id, "delivered": bool(result), "messages": messages})
    else:
        name = "a scripted model" if isinstance(model, ScriptedChatModel) else "ChatOpenAI"
        print_messages(conversation_id, messages, f"user ada, agent wheelhouse, {name}")
        _tell(result, remote, file, conversation_id)
    return Exit.OK if result and messages else Exit.FAILED


def _tell(result: observe.FlushResult, remote: list[str], file: Path, conversation_id: str) -> None:
    where = " and ".join(remote) or f"the embedded store, {file}"
    if result:
        console().print(f"{result.delivered} messages delivered to {where}.", markup=False, soft_wrap=True)
    else:
        say(
            f"not everything was delivered to {where}: {result.delivered} messages were, {result.rejected} were refused,"
        )
        say(f"{result.spooled + result.pending} wait, {result.dropped} were given up. `gati doctor` says why.")
    if not remote:
        say(f"again: gati show {conversation_id} · in a browser: gati studio · to Greenflash: set GREENFLASH_API_KEY")
