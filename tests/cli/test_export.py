"""`gati export`."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from gati.cli.output_file import output_file
from gati.store import export, marks, queries
from gati.store.store import Store
from tests.cli.programs import GATI, ROOT, gati, invoke
from tests.disks import fill, small_disk
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


@pytest.mark.parametrize("arguments", [(), ("c-1", "--format", "html")])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_an_export_onto_the_store_is_refused(store: Path, arguments: tuple[str, ...], suffix: str):
    output = f"{store}{suffix}"
    done = invoke("export", *arguments, "-o", output, GATI_LOCAL=str(store))
    assert (done.exit_code, done.stderr) == (2, f"gati: {output} is the store; give another file\n")
    assert invoke("show", "c-1", "--store", str(store)).exit_code == 0
    assert [path.name for path in store.parent.glob(f"{store.name}*")] == [store.name]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_export_onto_a_link_to_the_store_is_refused(store: Path, link: Callable[[Path, Path], None]):
    other = store.with_name("conversations.jsonl")
    link(store, other)
    assert invoke("export", "-o", str(other), "--store", str(store)).exit_code == 2
    assert invoke("show", "c-1", "--store", str(store)).exit_code == 0


def test_an_export_onto_another_database_is_refused(store: Path, tmp_path: Path):
    other = tmp_path / "other.db"
    shutil.copy(store, other)
    done = invoke("export", "-o", str(other), "--store", str(store))
    assert (done.exit_code, "is a database" in done.stderr) == (2, True)
    assert other.read_bytes() == store.read_bytes()


def test_an_export_replaces_the_file_to_which_a_link_leads(store: Path, tmp_path: Path):
    file, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    file.write_text("old")
    link.symlink_to(file)
    assert invoke("export", "-o", str(link), GATI_LOCAL=str(store)).exit_code == 0
    assert link.is_symlink()
    assert json.loads(file.read_text("utf-8"))["externalConversationId"] == "c-1"


def test_an_export_that_fails_in_between_leaves_the_old_file(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> str:
        raise sqlite3.OperationalError("the disk is gone")

    output = tmp_path / "folder" / "c.jsonl"
    output.parent.mkdir()
    output.write_text("precious")
    monkeypatch.setattr(export, "export_jsonl", fail)
    assert invoke("export", "-o", str(output), GATI_LOCAL=str(store)).exit_code != 0
    assert (output.read_text(), list(output.parent.iterdir())) == ("precious", [output])


def test_a_full_disk_leaves_the_old_file(store: Path, tmp_path: Path):
    with closing(Store(store)) as opened:
        opened.ingest(body("c-2", said("long", "x" * 60_000)))
    with small_disk(tmp_path / "disk", 1024**2) as disk:
        output = disk / "c.jsonl"
        output.write_text("precious")
        fill(disk, but=16 * 1024)
        done = invoke("export", "-o", str(output), GATI_LOCAL=str(store))
        assert (done.exit_code, "No space left" in done.stderr, output.read_text()) == (5, True, "precious")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_an_export_to_a_pipe_or_the_standard_output_is_written_at_once(store: Path, tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text, "utf-8")
        assert invoke("export", "-o", str(pipe), GATI_LOCAL=str(store)).exit_code == 0
        assert json.loads(read.result(10))["externalConversationId"] == "c-1"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert '"c-1"' in gati("export", "-o", "/dev/stdout", GATI_LOCAL=str(store)).stdout
    with (tmp_path / "out").open("w+", encoding="utf-8") as file:
        command = [sys.executable, "-c", GATI, "export", "-o", "/dev/stdout"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GATI_LOCAL": str(store)}
        subprocess.run(command, stdout=file, env=environment, check=True)
        assert '"c-1"' in file.read()


def test_an_export_removes_what_a_killed_one_has_left(store: Path, tmp_path: Path):
    output = tmp_path / "folder" / "c.jsonl"
    output.parent.mkdir()
    program = (
        "import os, signal\n"
        "from gati.store import export\n"
        "export.export_jsonl = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n" + GATI
    )
    assert gati("export", "-o", str(output), program=program, GATI_LOCAL=str(store)).returncode != 0
    assert len(list(output.parent.iterdir())) == 1
    assert invoke("export", "-o", str(output), GATI_LOCAL=str(store)).exit_code == 0
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no file in this way")
def test_two_exports_to_one_file_leave_each_others_unfinished_file(tmp_path: Path):
    output = tmp_path / "c.jsonl"
    with output_file(output) as first:
        first.write("first")
        with output_file(output) as second:
            second.write("second")
        assert output.read_text() == "second"
    assert output.read_text() == "first"


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
