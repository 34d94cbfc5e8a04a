"""`gati prompts`: code and Greenflash compared, against the local server and the embedded store."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gati.cli.commands import app
from gati.store import prompt_records
from gati.store.store import Store
from tests.prompts.conftest import PRODUCT, ManagedProgram
from tests.servers import LocalServer

TEXT = "You help {{who}}.\nBe kind."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "prompts"


@pytest.fixture
def remote(greenflash: LocalServer, monkeypatch: pytest.MonkeyPatch) -> ManagedProgram:
    monkeypatch.setenv("GREENFLASH_API_KEY", greenflash.api_key)
    monkeypatch.setenv("GREENFLASH_BASE_URL", greenflash.url)
    monkeypatch.setenv("GATI_PRODUCT_ID", PRODUCT)
    return ManagedProgram(greenflash)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def gati(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["prompts", *arguments])


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def pushed(*arguments: str) -> dict[str, str]:
    done = gati("push", "--json", *arguments)
    assert done.exit_code == 0, done.output
    return {row["prompt"]: row["state"] for row in json.loads(done.stdout)}


def states(*arguments: str) -> tuple[int, dict[str, str]]:
    done = gati("diff", "--json", *arguments)
    return done.exit_code, {row["prompt"]: row["state"] for row in json.loads(done.stdout)}


def test_pull_writes_the_active_versions(remote: ManagedProgram, folder: Path):
    remote.add_version("support/agent", TEXT)
    remote.add_version("support/agent", "Not yet.", activate=False)
    remote.add_version("title", "Write a title.", activate=False)
    assert gati("pull").exit_code == 0
    assert {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.md")} == {
        "support/agent.md": TEXT + "\n"
    }
    assert gati("pull", "title").exit_code == 1
    assert gati("pull", "missing").exit_code == 1


def test_pull_overwrites_a_changed_file_only_if_forced(remote: ManagedProgram, folder: Path):
    remote.add_version("support/agent", TEXT)
    path = write(folder, "support/agent", "My draft.")
    done = gati("pull")
    assert (done.exit_code, path.read_text()) == (1, "My draft.")
    assert "use --force" in done.output
    assert gati("pull", "--force").exit_code == 0
    assert path.read_text() == TEXT + "\n"


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_pull_writes_no_file_outside_of_its_folder(remote: ManagedProgram, folder: Path, name: str):
    remote.add_version(name, TEXT)
    done = gati("pull")
    assert done.exit_code == 2
    assert list(folder.parent.rglob("*.md")) == []


def test_push_creates_versions_and_activates_none(remote: ManagedProgram, folder: Path):
    write(folder, "support/agent", TEXT + "\n")
    assert pushed("--dry-run") == {"support/agent": "would be created"}
    assert pushed() == {"support/agent": "created"}
    assert pushed() == {"support/agent": "exists"}
    assert states() == (1, {"support/agent": "not active"})
    answer = prompt_records.list_records(remote.server.store)
    assert [item["externalPromptId"] for item in answer] == ["support/agent"]
    assert prompt_records.list_records(remote.server.store, active_only=True) == []
    assert prompt_records.activate_version(remote.server.store, answer[0]["versionId"])
    assert states() == (0, {"support/agent": "equal"})
    assert pushed() == {"support/agent": "active"}


def test_push_adds_a_version_to_a_prompt_that_exists(remote: ManagedProgram, folder: Path):
    first = remote.add_version("support/agent", TEXT)
    write(folder, "support/agent", "New text.")
    assert pushed() == {"support/agent": "created"}
    versions = prompt_records.list_records(remote.server.store)
    assert len(versions) == 2
    (active,) = prompt_records.list_records(remote.server.store, active_only=True)
    assert active["versionId"] == first


def test_diff_is_a_check_for_ci(remote: ManagedProgram, folder: Path):
    remote.add_version("support/agent", TEXT)
    write(folder, "support/agent", TEXT)
    assert gati("diff").exit_code == 0
    write(folder, "support/agent", "You help {{who}}.\nBe brief.")
    done = gati("diff")
    assert done.exit_code == 1
    assert "-Be kind." in done.stdout
    assert "+Be brief." in done.stdout
    write(folder, "other", "x")
    assert states() == (1, {"support/agent": "different", "other": "missing"})
    assert states("other") == (1, {"other": "missing"})


def test_fallbacks_in_python_files_are_compared_too(remote: ManagedProgram, folder: Path, tmp_path: Path):
    remote.add_version("support/agent", TEXT)
    remote.add_version("title", "Write a title.")
    source = tmp_path / "app" / "agent.py"
    source.parent.mkdir()
    source.write_text(
        "from gati import prompts\n"
        f"FALLBACK = {TEXT!r}\n"
        "name = compute()\n"
        "a = prompts.get('support/agent', fallback=FALLBACK)\n"
        "async def b(): return await prompts.aget('title', fallback='Old.', ttl=5)\n"
        "c = prompts.get(name, fallback='x'), prompts.get('no/fallback'), other.get('y', fallback='z')\n"
    )
    assert states("--source", "app") == (1, {"support/agent": "equal", "title": "different"})
    assert states("--source", "app/agent.py", "support/agent") == (0, {"support/agent": "equal"})
    write(folder, "title", "Another.")
    done = gati("diff", "--source", "app")
    assert done.exit_code == 2
    assert "has two texts" in done.output


def test_list_shows_the_active_and_the_newest_version(remote: ManagedProgram):
    first = remote.add_version("support/agent", TEXT)
    newest = remote.add_version("support/agent", "New.", activate=False)
    (row,) = json.loads(gati("list", "--json").stdout)
    assert (row["prompt"], row["active"], row["newest"], row["versions"]) == ("support/agent", first, newest, 2)


def test_many_prompts_are_listed_page_by_page(remote: ManagedProgram):
    for number in range(130):
        remote.add_version(f"p/{number}", f"Prompt {number}.", activate=False)
    assert len(json.loads(gati("list", "--json").stdout)) == 130


def test_without_a_key_the_embedded_store_is_used(folder: Path, tmp_path: Path):
    write(folder, "support/agent", TEXT)
    store = str(tmp_path / "store.db")
    assert pushed("--store", store) == {"support/agent": "created"}
    opened = Store(store)
    (version,) = prompt_records.list_records(opened)
    assert prompt_records.activate_version(opened, version["versionId"])
    opened.close()
    assert states("--store", store) == (0, {"support/agent": "equal"})
    (row,) = json.loads(gati("list", "--json", "--store", store).stdout)
    assert row["active"] == version["versionId"]


def test_the_store_of_a_team_has_prompts(folder: Path, team_database: str):
    from gati.team_store.store import PostgresStore

    write(folder, "support/agent", TEXT)
    assert pushed("--store", team_database, "--dry-run") == {"support/agent": "would be created"}
    assert pushed("--store", team_database) == {"support/agent": "created"}
    with closing(PostgresStore(team_database)) as store:
        (version,) = prompt_records.list_records(store)
        assert prompt_records.activate_version(store, version["versionId"])
    assert states("--store", team_database) == (0, {"support/agent": "equal"})
    write(folder, "support/agent", "Another text.")
    assert states("--store", team_database) == (1, {"support/agent": "different"})
    assert gati("pull", "--force", "--store", team_database).exit_code == 0
    assert (folder / "support/agent.md").read_text() == TEXT + "\n"


def test_a_store_of_a_team_that_cannot_be_reached_is_reported(folder: Path):
    pytest.importorskip("psycopg")
    done = gati("list", "--store", "postgresql://nobody@127.0.0.1:9/nothing?connect_timeout=2")
    assert (done.exit_code, "the team's store cannot be opened" in done.stderr) == (2, True)


@pytest.mark.parametrize("command", ["list", "pull", "diff", "push --dry-run"])
def test_commands_that_read_leave_the_files_of_a_store_as_they_are(folder: Path, tmp_path: Path, command: str):
    path = tmp_path / "mine.db"
    with closing(Store(path)) as store:
        prompt_records.create_prompt(
            store,
            {
                "name": "a",
                "externalPromptId": "a",
                "productId": PRODUCT,
                "components": [{"type": "system", "content": TEXT}],
            },
        )
    write(folder, "a", TEXT)
    before = files_of(tmp_path)
    gati(*command.split(), "--store", str(path))
    after = files_of(tmp_path)
    assert after == before


@pytest.mark.parametrize("command", ["list", "pull", "diff", "push"])
def test_a_file_that_is_no_store_is_refused(folder: Path, tmp_path: Path, command: str):
    path = tmp_path / "notes.txt"
    path.write_text("notes" * 1000)
    write(folder, "a", TEXT)
    before = files_of(tmp_path)
    done = gati(command, "--store", str(path))
    assert done.exit_code != 0
    assert "no store of gati" in done.stderr
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("command", ["list", "pull", "diff"])
def test_a_store_that_does_not_exist_is_reported_and_not_created(folder: Path, tmp_path: Path, command: str):
    write(folder, "a", TEXT)
    done = gati(command, "--store", str(tmp_path / "none.db"))
    assert (done.exit_code, "there is no store at" in done.stderr) == (3, True)
    assert not (tmp_path / "none.db").exists()


def test_a_dry_push_needs_no_store(folder: Path, tmp_path: Path):
    write(folder, "a", TEXT)
    assert pushed("--dry-run", "--store", str(tmp_path / "none.db")) == {"a": "would be created"}


def test_pull_overwrites_no_database_even_if_forced(remote: ManagedProgram, folder: Path):
    remote.add_version("a", TEXT)
    file = folder / "a.md"
    folder.mkdir()
    with closing(Store(file)):
        pass
    before = file.read_bytes()
    assert gati("pull", "--force").exit_code == 2
    assert file.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_pull_keeps_the_permissions_of_a_file(remote: ManagedProgram, folder: Path):
    remote.add_version("a", TEXT)
    remote.add_version("b", TEXT)
    write(folder, "a", "Another text.").chmod(0o664)
    old = os.umask(0o022)
    try:
        assert gati("pull", "--force").exit_code == 0
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((folder / name).stat().st_mode) for name in ("a.md", "b.md")]
    assert (modes, (folder / "a.md").read_text()) == ([0o664, 0o644], TEXT + "\n")


def test_a_source_that_is_a_device_is_not_read(remote: ManagedProgram, folder: Path):
    done = gati("diff", "--source", os.devnull)
    assert (done.exit_code, "is no Python file" in done.stderr) == (2, True)


def test_nothing_to_compare_is_an_error(remote: ManagedProgram, folder: Path):
    assert gati("diff").exit_code == 3
    assert gati("push").exit_code == 3
    assert gati("diff", "--source", "missing").exit_code == 3


def test_a_new_prompt_needs_a_product(remote: ManagedProgram, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GATI_PRODUCT_ID")
    write(folder, "support/agent", TEXT)
    done = gati("push")
    assert (done.exit_code, "GATI_PRODUCT_ID" in done.output) == (2, True)


@pytest.mark.parametrize("command", ["list", "pull", "diff", "push"])
def test_an_outage_is_reported(remote: ManagedProgram, folder: Path, command: str):
    write(folder, "support/agent", TEXT)
    remote.break_prompts("failing", status=503, times=None)
    done = gati(command)
    assert done.exit_code == 1
    assert "HTTP 503" in done.output


def test_an_old_sdk_is_reported(remote: ManagedProgram, monkeypatch: pytest.MonkeyPatch):
    import greenflash

    monkeypatch.delattr(greenflash.Greenflash, "prompts")
    done = gati("list")
    assert (done.exit_code, "install greenflash>=1.4" in done.output) == (1, True)


@pytest.mark.parametrize("command", ["list", "pull", "diff", "push"])
def test_help_has_an_example(command: str):
    done: Any = gati(command, "--help")
    assert f"Example: gati prompts {command}" in " ".join(done.output.split())
