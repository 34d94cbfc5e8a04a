"""Run the code blocks of pages.

python -m tests.docs docs/quickstart.md …

Runs in a temporary folder, offline: OPENAI_BASE_URL is a scripted local server, and conversations go to an embedded store.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.docs.blocks import OUTPUT, ROOT, Block, read_blocks
from tests.openai_server import OpenAIServer, Reply, openai_server

SECONDS = 60.0

FREE_PORT = """
gati() {
    case $1 in
        serve | studio) command gati "$@" --port 0 ;;
        *) command gati "$@" ;;
    esac
}
"""
"""Definition for shell blocks: servers take a free port, because a studio may be running on the default one."""

Conversations = dict[str, list[tuple[str, str, str]]]


class Folder:
    """Where a page runs. Its methods are available to hidden code."""

    def __init__(self, path: Path, openai: OpenAIServer) -> None:
        self.path = path
        self.programs: list[subprocess.Popen[str]] = []
        self.names: dict[str, Any] = {
            "conversations": self.conversations, "messages": self.messages, "wait_for": wait_for, "start": self.start, "openai": openai,
            "serve": self.serve, "Reply": Reply,
        }  # fmt: skip

    def conversations(self) -> Conversations:
        """Return the delivered messages by conversation: (user, role, text)."""
        found: Conversations = {}
        roles = {"user_message": "user", "assistant_message": "assistant", "final_response": "assistant"}
        for message in self.messages():
            role = roles.get(message["messageType"])
            texts = found.setdefault(message["conversation"], [])
            if role is not None:
                texts.append((message["user"], role, message["content"]))
        return found

    def messages(self) -> list[dict[str, Any]]:
        """Return all delivered messages, with their type, conversation and user."""
        from gati import observe
        from gati.store import message_columns, queries
        from gati.store.store import Store

        observe.flush()
        file = Path(os.environ["GATI_LOCAL"])
        if not file.exists() or file.stat().st_size == 0:  # another process is creating it
            return []
        with closing(Store(file, read_only=True)) as store:
            users = {row.external_id: row.user for row in queries.list_conversations(store, limit=1000).conversations}
            return [
                {
                    **message,
                    "messageType": message_columns.message_type(message),
                    "user": users[message["conversation"]] or "",
                }
                for message in queries.wire_messages(store)
            ]

    def start(self, *command: object, **environment: object) -> subprocess.Popen[str]:
        """Start a program in the folder. Its output goes to the file `output.txt`."""
        with (self.path / "output.txt").open("a") as output:
            program = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.path,
                env={**os.environ, **{key: str(value) for key, value in environment.items()}},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.programs.append(program)
        return program

    def close(self) -> None:
        """End the programs that still run."""
        for program in self.programs:
            program.kill()
            program.wait()

    @contextmanager
    def serve(self, *command: object, **environment: object) -> Iterator[str]:
        """Run a server while the block runs, and return its address. "PORT" in the command becomes a free port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = self.start(*(str(part).replace("PORT", str(port)) for part in command), **environment)

        def listens() -> bool:
            if server.poll() is not None:
                raise RuntimeError(f"the server exited with {server.returncode}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_for(listens)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(SECONDS)


def wait_for(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait until a condition returns a true value, and return that. Raises TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{condition} is still {value!r}")
        time.sleep(0.05)
    return value


def run_page(page: Path) -> None:
    """Run the blocks of a page in order. Raises an exception that names the line of the block that fails."""
    with (
        tempfile.TemporaryDirectory(prefix="gati-docs-", ignore_cleanup_errors=True) as name,
        openai_server(Reply("The square root of 144 is 12.")) as openai,
        ExitStack() as stack,
    ):
        folder = stack.enter_context(closing(Folder(Path(name), openai)))
        _prepare_environment(folder.path, openai.url)
        module = types.ModuleType("__main__")
        module.__dict__.update(folder.names)
        sys.modules["__main__"] = module
        sys.path.insert(0, name)
        for block in read_blocks(page):
            try:
                run_block(block, page, folder.path, module.__dict__)
            except BaseException as error:
                output = folder.path / "output.txt"
                error.add_note(f"{page.name}:{block.line}\n{output.read_text('utf-8') if output.exists() else ''}")
                raise
        if observe := sys.modules.get("gati.observe"):
            observe.shutdown()
        os.chdir(ROOT)


def _prepare_environment(folder: Path, openai_url: str) -> None:
    for variable in [name for name in os.environ if name.startswith(("GATI_", "GREENFLASH_", "LANGSMITH_"))]:
        del os.environ[variable]
    scripts = sysconfig.get_path("scripts")
    os.environ |= {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "GATI_LOCAL": str(folder / "store.db"),
        "OPENAI_API_KEY": "sk-local",
        "OPENAI_BASE_URL": openai_url,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "BROWSER": "true",
    }
    os.chdir(folder)


def run_block(block: Block, page: Path, folder: Path, namespace: dict[str, Any]) -> None:
    """Run one block. Raises ValueError if its comments and its language do not say how."""
    if (file := block.comments.get("file")) is not None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(block.code, "utf-8")
    elif block.runs_elsewhere is not None or block.language in OUTPUT:
        return
    elif block.language == "python":
        # Leading newlines make line numbers in tracebacks those of the page.
        source = "\n" * (block.line - 1) + block.code
        exec(compile(source, str(page), "exec", dont_inherit=True), namespace)
    elif block.language == "sh":
        _run_shell(block, folder)
    elif block.language == "json":
        json.loads(block.code)
    else:
        raise ValueError(f"{page.name}:{block.line}: no way to run a block of {block.language!r}")


def _run_shell(block: Block, folder: Path) -> None:
    command = ["bash", "-euo", "pipefail", "-c", FREE_PORT + block.code]
    if (text := block.comments.get("until")) is not None:
        _run_until(command, folder, text)
        return
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    expected = int(block.comments.get("exits", "0"))
    if done.returncode != expected:
        raise RuntimeError(f"exit code {done.returncode}, not {expected}:\n{done.stdout}{done.stderr}")


def _run_until(command: list[str], folder: Path, text: str) -> None:
    """Run a command until it prints `text`, then end its whole process group."""
    program = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    seen = []
    assert program.stdout is not None
    try:
        for line in program.stdout:
            seen.append(line)
            if text in line:
                return
    finally:
        # Not SIGINT: commands that a script runs in the background ignore it.
        os.killpg(program.pid, signal.SIGTERM)
        program.communicate(timeout=SECONDS)
    raise RuntimeError(f"{text!r} was not printed:\n{''.join(seen)}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        page = Path(argument).resolve()
        if len(sys.argv) > 2:  # a process for each page, because a page may change the whole process
            subprocess.run([sys.executable, "-m", "tests.docs", str(page)], check=True, cwd=ROOT)
        else:
            run_page(page)
        print(f"{page.relative_to(ROOT)}: all blocks ran", flush=True)
