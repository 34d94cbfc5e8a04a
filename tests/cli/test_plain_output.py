"""Output of recorded text that holds control characters and markup."""

from __future__ import annotations

import json
import re
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gati.store.store import Store
from tests.cli.programs import invoke, run_in_terminal
from tests.store.bodies import body, said, step

ODD = "[/x] [link=http://evil]\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e\u2066\r<b>"

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def odd_store(tmp_path: Path) -> Path:
    """Create a store whose every id, name and text holds terminal sequences and markup."""
    file = tmp_path / "odd.db"
    prompt = {"externalPromptId": ODD, "content": ODD}
    with closing(Store(file)) as store:
        store.ingest(body(
            f"c{ODD}", said(f"q{ODD}", ODD),
            step(f"r{ODD}", "chain_start", f"q{ODD}", 1, properties={"name": ODD, "agent_name": ODD}, input={ODD: ODD}),
            step(f"m{ODD}", "llm", f"r{ODD}", 2, model=ODD, output={"text": ODD}, properties={"status": ODD}),
            step(f"t{ODD}", "tool_call", f"r{ODD}", 3, toolName=ODD, input={"x": ODD}),
            step(f"e{ODD}", "tool_error", f"t{ODD}", 4, output={"type": ODD, "message": ODD}),
            said(f"a{ODD}", ODD, 5, "final_response"), step(f"z{ODD}", "chain_end", f"r{ODD}", 6, output={"status": ODD}),
            user=ODD, systemPrompt=prompt, properties={ODD: ODD}, externalOrganizationId=ODD,
        ))  # fmt: skip
    return file


@pytest.mark.parametrize(
    "command",
    [
        ["show"], ["show", "--json"], ["show", "--list"], ["show", "--list", "--json"], ["show", f"c{ODD}"],
        ["show", f"no such {ODD}"], ["export"], ["export", "--format", "markdown"], ["status"],
    ],
)  # fmt: skip
def test_no_command_prints_what_a_terminal_obeys(odd_store: Path, command: list[str]):
    done = invoke(*command, GATI_LOCAL=str(odd_store))
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not OBEYED.search(done.output)
    if command not in (["status"], ["show", f"no such {ODD}"]):
        assert "PWNED" in done.output
    if "--json" in command:
        assert any(ODD in str(value) for row in json.loads(done.stdout) for value in row.values())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
def test_a_terminal_shows_markup_and_control_characters_as_text(odd_store: Path):
    for command in (["show"], ["show", "--list"]):
        printed = run_in_terminal(*command, GATI_LOCAL=str(odd_store))
        assert "[/x]" in printed
        assert not OBEYED.search(printed.replace("\r\n", "\n"))
