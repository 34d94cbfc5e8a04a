"""Write sample files of the spool and of the embedded store with the gati that Python finds.

Run it once for each released version whose files later versions must read, with that version installed or on
`PYTHONPATH`, and commit what it writes::

    PYTHONPATH=<checkout> python tests/upgrades/generate.py tests/upgrades/samples/0.1.0-d2ae724

The folder is named after the version and its commit. `test_upgrades.py` finds every folder in `samples`. Never edit or
regenerate the samples of a version that has been released: they stand for files on users' disks.

Samples so far:

- `0.1.0-d2ae724`: gati 0.1.0 at commit d2ae724, with langchain-core 1.7.2, langgraph 1.2.22 and greenflash 1.4.0.

A sample holds:

- `spool/`: what programs (`program.py`) leave when neither Greenflash nor the GATI backend can be reached. Included are
  requests that were refused, the lock file of a process that ended without a shutdown, and a file whose last line is cut.
- `store.db`: the embedded store of the same program, with a conversation of another client, events that arrived through
  `POST /api/events`, and the position of a push that was made before the last conversations were written.
- `expected.json`: what that version itself delivers, lists, exports, finds and pushes from copies of these files.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

PORT = 45271
"""Port of the addresses in the samples. Nothing listens there while the spool is written."""

ADDRESS = f"http://127.0.0.1:{PORT}"
BASE_URL = f"{ADDRESS}/api/v1"
API_KEY = "gf_sample"
BACKEND_KEY = "backend_sample"
PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"
SEARCHES = ("tandem", "multiply 54", "grüße", "你好", "upgraded", "pushed bef", "nothing of the kind")

GREENFLASH = {"GREENFLASH_API_KEY": API_KEY, "GREENFLASH_BASE_URL": BASE_URL, "GATI_PRODUCT_ID": PRODUCT}
BACKEND = {"GATI_BACKEND_URL": ADDRESS, "GATI_BACKEND_API_KEY": BACKEND_KEY}

OTHER_CLIENT = {
    "productId": PRODUCT,
    "externalUserId": "bob",
    "externalConversationId": "sample-other-client",
    "messages": [{"role": "user", "content": "Sent by another client"}, {"role": "assistant", "content": "Fine."}],
}
"""A request whose messages have no ids, as the plain Greenflash SDK sends it."""


def _event(number: int, kind: str, **data: Any) -> dict[str, Any]:
    return {
        "event_type": kind,
        "run_id": "5f0c1b9e-0000-4000-8000-000000000000",
        "run_name": "temp_upgrade",
        "agent_name": "old-sdk",
        "timestamp": f"2026-01-02T03:04:0{number}Z",
        "event_id": f"5f0c1b9e-0000-4000-8000-00000000000{number}",
        "parent_event_id": None if number == 1 else "5f0c1b9e-0000-4000-8000-000000000001",
        "data": {"conversation_id": "sample-events", "user_id": "carla", **data},
    }


EVENTS = [
    _event(1, "agent_start", input={"input": "Which plan am I on?"}),
    _event(2, "tool_call", tool_name="find_plan", tool_input={"user": "carla"}, tool_output={"plan": "pro"}),
    _event(3, "llm_call", model="gpt-4o-mini", prompt="Which plan am I on?", completion="You upgraded to pro.",
           tokens_in=12, tokens_out=6, latency_ms=321.5),
    _event(4, "agent_end", output={"output": "You upgraded to pro."}, total_duration_ms=400.0),
]  # fmt: skip

Requests = list[dict[str, Any]]
"""Requests that a destination received: ``{"path": …, "body": …}``."""


@contextmanager
def destination(status: int = 200) -> Iterator[Requests]:
    """Serve Greenflash and a GATI backend at `ADDRESS`: accept everything, or refuse everything with `status`."""
    received: Requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append({"path": self.path, "body": body})
            answer = json.dumps({"success": status == 200, "conversationId": "c", "error": "not today"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class Generator:
    """Runs the program and the commands of the gati that Python finds."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.spool, self.store, self.home = folder / "spool", folder / "store.db", home

    def _environment(self, options: dict[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
        return kept | {"HOME": str(self.home), "XDG_DATA_HOME": str(self.home), "PYTHONUTF8": "1"} | options

    def program(self, options: dict[str, str], *arguments: str, seconds: float = 30.0) -> None:
        """Run parts of `program.py`; flush for at most `seconds`."""
        times = {"SAMPLE_FLUSH_SECONDS": str(seconds), "GATI_FLUSH_INTERVAL": "5", "GATI_SHUTDOWN_TIMEOUT": "1"}
        command = [sys.executable, str(Path(__file__).with_name("program.py")), *arguments]
        subprocess.run(command, env=self._environment(options | times), cwd=self.home, check=True)

    def gati(self, options: dict[str, str], *arguments: str, code: int = 0) -> str:
        """Run a command, check its exit code, and return what it prints."""
        command = [sys.executable, "-c", "from gati.cli import main; main()", *arguments]
        done = subprocess.run(
            command,
            env=self._environment(options),
            cwd=self.home,
            check=False,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def write_spool(self) -> None:
        """Leave requests of several processes in the spool."""
        here = {"GATI_SPOOL_DIR": str(self.spool)}
        with destination(400):
            self.program(here | GREENFLASH | BACKEND, "refused")
        self.program(here | GREENFLASH, "agent", "texts", "failure", "manual", seconds=1.0)
        self.program(here | BACKEND | {"GATI_DETAIL": "conversation"}, "agent", "texts", "manual", seconds=1.0)
        incremental = {"GATI_SUBMISSION": "incremental"}
        self.program(here | GREENFLASH | BACKEND | incremental, "later", "--crash", seconds=1.0)
        self.program(here | GREENFLASH, "damaged", "--crash", seconds=1.0)
        (file,) = (file for file in self.spool.glob("*/ready/*.jsonl") if b"sample-damaged" in file.read_bytes())
        data = file.read_bytes()
        assert data.count(b"\n") == 3
        file.write_bytes(data[:-300])

    def write_store(self) -> None:
        """Fill the embedded store, and push a part of it."""
        here = {"GATI_LOCAL": str(self.store)}
        self.program(here, "agent", "texts", "failure", "manual")
        with destination():
            self.gati(here | GREENFLASH, "push")
        self.program(here, "later")
        command = [sys.executable, "-c", "from gati.cli import main; main()", "serve", "--port", "0"]
        with subprocess.Popen(
            command, env=self._environment(here), cwd=self.home, stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().strip()
                _post(f"{address}/api/events", {"events": EVENTS})
                _post(f"{address}/api/v1/messages", OTHER_CLIENT)
            finally:
                server.terminate()
        with closing(sqlite3.connect(self.store, isolation_level=None)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def expected(self) -> dict[str, Any]:
        """Return what this version makes of copies of the samples."""
        names = ("langchain-core", "langgraph", "greenflash")
        return {
            "versions": {"gati": self.gati({}, "--version").strip()} | {name: version(name) for name in names},
            "options": GREENFLASH | BACKEND,
            "spool": self._expected_of_spool(),
            "store": self._expected_of_store(),
            "events": EVENTS,
        }

    def _expected_of_spool(self) -> dict[str, Any]:
        copy = self.home / "spool"
        shutil.copytree(self.spool, copy)
        here = {"GATI_SPOOL_DIR": str(copy)}
        accounts = json.loads(self.gati(here, "status", "--json"))["spool"]["accounts"]
        with destination() as requests:
            # Exit code 1: the cut line is lost.
            drained = self.gati(here | GREENFLASH | BACKEND, "drain", "--json", "--timeout", "30", code=1)
        assert not list(copy.glob("*/ready/*"))
        return {"accounts": accounts, "drained": json.loads(drained), "requests": requests}

    def _expected_of_store(self) -> dict[str, Any]:
        here = {"GATI_LOCAL": str(self.home / "store.db")}
        shutil.copy(self.store, here["GATI_LOCAL"])
        found = {words: self._exported(here, "--words", words) for words in SEARCHES}
        return {
            "list": json.loads(self.gati(here, "show", "--list", "--limit", "100", "--json")),
            "conversations": self._exported(here),
            "found": {words: [line["conversationId"] for line in lines] for words, lines in found.items()},
            "push_of_the_rest": self._pushed(here, API_KEY),
            "push_of_all": _ids(self._pushed(here, "gf_another")),
        }

    def _exported(self, options: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.gati(options, "export", *arguments).splitlines()]

    def _pushed(self, options: dict[str, str], key: str) -> dict[str, Any]:
        with destination() as requests:
            result = json.loads(self.gati(options | GREENFLASH | {"GREENFLASH_API_KEY": key}, "push", "--json"))
        return {"delivered": result["delivered"], "requests": requests}


def _ids(pushed: dict[str, Any]) -> dict[str, Any]:
    """Return what was pushed, of messages only their ids: their contents are in the exported conversations."""
    bodies = [request["body"] for request in pushed["requests"] if request["path"].endswith("/messages")]
    actions = [request for request in pushed["requests"] if not request["path"].endswith("/messages")]
    ids: dict[str, list[str]] = {body["externalConversationId"]: [] for body in bodies}
    for body in bodies:
        ids[body["externalConversationId"]] += [message["externalMessageId"] for message in body["messages"]]
    return {"delivered": pushed["delivered"], "messages": ids, "actions": actions}


def _post(url: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status in (200, 201)


def main(folder: Path) -> None:
    """Write a sample into a new folder."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as home:
        generator = Generator(folder.resolve(), Path(home))
        generator.write_spool()
        generator.write_store()
        expected = generator.expected()
    (folder / "expected.json").write_text(_lines(expected) + "\n", "utf-8")


def _lines(value: Any, depth: int = 0) -> str:
    """Write JSON with one line for each value of the outer three levels: compact, and readable in a diff."""
    if depth == 3 or not value or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_lines(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(parts) + "\n}"
    return "[\n" + ",\n".join(_lines(item, depth + 1) for item in value) + "\n]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
