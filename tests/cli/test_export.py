"""`gati export`."""

from __future__ import annotations

import json
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gati.store import marks, queries
from gati.store.store import Store
from tests.cli.programs import gati, invoke
from tests.store.bodies import body, said


def test_export_writes_json_lines_and_markdown(store: Path, tmp_path: Path):
    environment = {"GATI_LOCAL": str(store)}
    done = gati("export", **environment)
    (line,) = done.stdout.splitlines()
    assert (json.loads(line)["externalConversationId"], done.stderr) == ("c-1", "1 conversation exported\n")
    assert gati("export", "c-1", "--format", "markdown", "-o", str(tmp_path / "c.md"), **environment).returncode == 0
    assert "> Four." in (tmp_path / "c.md").read_text("utf-8")
    assert gati("export", "--user", "nobody", **environment).stdout == ""
    assert gati("export", "c-2", **environment).returncode == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_an_export_is_readable_by_its_owner_only(store: Path, tmp_path: Path):
    new, existing = tmp_path / "new.jsonl", tmp_path / "existing.jsonl"
    existing.write_text("something longer than the export\n" * 1000)
    existing.chmod(0o644)
    for file in (new, existing):
        assert invoke("export", "-o", str(file), GATI_LOCAL=str(store)).exit_code == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text("utf-8"))["externalConversationId"] == "c-1"
    assert invoke("export", "no such id", "-o", str(new), GATI_LOCAL=str(store)).exit_code == 3
    assert new.read_text("utf-8") == existing.read_text("utf-8")
    assert invoke("export", "-o", str(tmp_path / "none" / "x"), GATI_LOCAL=str(store)).exit_code == 2
    assert invoke("export", "-o", "/dev/null", GATI_LOCAL=str(store)).exit_code == 0


def test_a_conversation_is_shared_as_one_html_file(store: Path, tmp_path: Path):
    environment = {"GATI_LOCAL": str(store)}
    with closing(Store(store)) as opened:
        opened.ingest(body("c-2", said("other", "Another conversation")))
        summary = queries.find_conversation(opened, "c-1")
        assert summary is not None
        marks.add_tag(opened, summary.id, "needs review", None)
    shown = invoke("show", "c-1", "--html", **environment)
    assert "<h1>What is 2 + 2?</h1>" in shown.stdout
    assert "needs review" not in shown.stdout
    assert "needs review" in invoke("show", "c-1", "--html", "--marks", **environment).stdout
    assert invoke("show", "c-3", "--html", **environment).exit_code == 3
    file = tmp_path / "c.html"
    assert invoke("export", "--format", "html", "-o", str(file), **environment).exit_code == 2
    assert not file.exists()
    assert invoke("export", "c-1", "--format", "html", "-o", str(file), **environment).exit_code == 0
    assert file.read_text("utf-8") == shown.stdout.removesuffix("\n")


def test_export_chooses_by_marks(store: Path):
    with closing(Store(store)) as opened:
        summary = queries.find_conversation(opened, "c-1")
        assert summary is not None
        marks.set_verdict(opened, summary.id, "bad", None)
    for options, exported in (
        (("--marked", "bad"), "1 conversation"),
        (("--marked", "good"), "0 "),
        (("--tag", "x"), "0 "),
    ):
        assert invoke("export", *options, GATI_LOCAL=str(store)).stderr.startswith(exported)
