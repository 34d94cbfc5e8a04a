"""`gati prompts`: compare the prompts of a code base with those of Greenflash or a store."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gati.cli.output import Exit, console, fail, print_json, print_note, print_rows
from gati.cli.output_file import output_file
from gati.cli.prompt_files import CodePrompt, find_prompts, path_of, read_source
from gati.cli.store import open_store, open_team_store, store_path
from gati.cli.store_place import StorePlace
from gati.exporters.prompt_source import PromptSource, PromptSourceError
from gati.prompts.fetcher import template_text
from gati.prompts.sources import StorePrompts, source_of
from gati.settings import Settings, load


@dataclass
class RemotePrompt:
    """A prompt with its versions, newest first.

    Attributes:
        name: its external id.
        versions: the entries of the API's list.
        active: the entry of the active version; None if no version is active.
    """

    name: str
    versions: list[dict[str, Any]]
    active: dict[str, Any] | None = None


@contextmanager
def open_source(
    store: StorePlace | None, *, write: bool = False, may_be_missing: bool = False
) -> Iterator[tuple[PromptSource, Settings]]:
    """Open the source of prompts, for reading only unless `write`. Exits if there is none.

    `store` is used instead of Greenflash. With `may_be_missing`, its file need not exist.
    """
    settings = load()
    if isinstance(store, str):
        source = _team_prompts(store, write)
    else:
        source = _connect(settings, store, write, may_be_missing)
    try:
        yield source, settings
    except PromptSourceError as fault:
        fail(f"prompts cannot be read or written: {fault}")
    finally:
        source.close()


def _team_prompts(address: str, write: bool) -> PromptSource:
    return StorePrompts(partial(open_team_store, address, write=write))


def _connect(settings: Settings, file: Path | None, write: bool, may_be_missing: bool) -> PromptSource:
    """Connect to the store in `file`, or to the source that the options name."""
    spec = source_of(settings, file, read_only=not write)
    if spec is None:
        fail("there are no prompts: set GREENFLASH_API_KEY, or use the embedded store", Exit.USAGE)
    if spec.kind == "store" and ((file := store_path(file, settings)).exists() or not may_be_missing):
        open_store(file, write=write).close()  # exits unless it is one
    return spec.connect()


def read_remote(source: PromptSource) -> dict[str, RemotePrompt]:
    """Return the prompts of a source by name. Prompts without an external id are left out."""
    found: dict[str, RemotePrompt] = {}
    for item in source.list_all():
        if isinstance(name := item.get("externalPromptId"), str):
            found.setdefault(name, RemotePrompt(name, [])).versions.append(item)
    for prompt in found.values():
        prompt.versions.sort(key=lambda item: str(item.get("createdAt")), reverse=True)
    for item in source.list_all(active_only=True):
        name = str(item.get("externalPromptId"))
        if name in found:
            found[name].active = item
    return found


def read_text(source: PromptSource, version: dict[str, Any]) -> str:
    """Return the text of a version with its placeholders."""
    answer = source.get(str(version["id"]))
    return "" if answer is None else template_text(answer["prompt"], answer.get("composedPrompt"))


def list_all_prompts(store: StorePlace | None, *, json_wanted: bool) -> Exit:
    """Print each prompt with its active version."""
    with open_source(store) as (source, _):
        rows = [
            {
                "prompt": prompt.name,
                "active": prompt.active and prompt.active.get("versionId"),
                "versions": len(prompt.versions),
                "newest": prompt.versions[0].get("versionId"),
                "created": str(prompt.versions[0].get("createdAt"))[:19],
            }
            for prompt in sorted(read_remote(source).values(), key=lambda prompt: prompt.name)
        ]
    if not rows and not json_wanted:
        print_note("There are no prompts with an external id yet; `gati prompts push` creates one.")
    print_rows(rows, json_wanted=json_wanted)
    return Exit.OK


def pull_prompts(names: Sequence[str], folder: Path, store: StorePlace | None, *, force: bool) -> Exit:
    """Write the active versions to files. A file with another text is overwritten only with `force`."""
    code = Exit.OK
    with open_source(store) as (source, _):
        remote = read_remote(source)
        for name in names or sorted(remote):
            prompt = remote.get(name)
            if prompt is None or prompt.active is None:
                code = max(code, Exit.FAILED) if names else code
                print_note(f"{name}: no active version" if prompt else f"{name}: there is no such prompt")
                continue
            path, text = path_of(folder, name), read_text(source, prompt.active)
            old = read_source(path) if path.is_file() else None
            if old is not None and old.rstrip("\n") != text.rstrip("\n") and not force:
                print_note(f"{path}: has another text; use --force to overwrite it")
                code = Exit.FAILED
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with output_file(path, private=False) as file:
                file.write(text.rstrip("\n") + "\n")
            console().print(f"{path}: {_version_of(prompt.active)}", soft_wrap=True)
    return code


def diff_prompts(
    names: Sequence[str], folder: Path, sources: Sequence[Path], store: StorePlace | None, *, json_wanted: bool
) -> Exit:
    """Print how the prompts of the code differ from the active versions. Exit code 1 if one differs."""
    rows: list[dict[str, Any]] = []
    with open_source(store) as (source, _):
        remote = read_remote(source)
        for prompt in _prompts_of_code(folder, sources, names):
            found = remote.get(prompt.name)
            active = found.active if found is not None else None
            text = read_text(source, active) if active is not None else None
            state = "equal" if text is not None and _is_equal(text, prompt.text) else "different"
            if active is None:
                state = "missing" if found is None else "not active"
            rows.append({"prompt": prompt.name, "place": prompt.place, "state": state, "active": _version_of(active)})
            if not json_wanted:
                _print_difference(prompt, text, state, _version_of(active))
    if json_wanted:
        print_json(rows)
    return Exit.OK if all(row["state"] == "equal" for row in rows) else Exit.FAILED


def push_prompts(
    names: Sequence[str], folder: Path, sources: Sequence[Path], store: StorePlace | None, *, role: str, dry_run: bool,
    json_wanted: bool,
) -> Exit:  # fmt: skip
    """Create versions of the prompts of the code whose text no version has. None of them is activated."""
    rows: list[dict[str, Any]] = []
    with open_source(store, write=not dry_run, may_be_missing=True) as (source, settings):
        remote = read_remote(source)
        for prompt in _prompts_of_code(folder, sources, names):
            row = _push(source, remote.get(prompt.name), prompt, settings.product_id, role, dry_run)
            rows.append({"prompt": prompt.name, **row})
            if not json_wanted:
                console().print(f"{prompt.name}: {row['state']} {row['version'] or ''}".rstrip(), soft_wrap=True)
    if json_wanted:
        print_json(rows)
    elif any(row["state"] == "created" for row in rows):
        print_note("New versions are not active. Activate them in Greenflash, or in the studio.")
    return Exit.OK


def _push(
    source: PromptSource, found: RemotePrompt | None, prompt: CodePrompt, product: str | None, role: str, dry_run: bool
) -> dict[str, Any]:
    for version in found.versions if found is not None else ():
        if _is_equal(read_text(source, version), prompt.text):
            is_active = found is not None and _is_unchanged(version, found.active)
            return {"state": "active" if is_active else "exists", "version": _version_of(version)}
    if dry_run:
        return {"state": "would be created", "version": None}
    components = [{"content": prompt.text, "type": "system"}]
    if found is not None:
        base = found.active or found.versions[0]
        return {"state": "created", "version": source.update(str(base["id"]), {"components": components})["versionId"]}
    body: dict[str, Any] = {
        "name": prompt.name, "externalPromptId": prompt.name, "role": role, "components": components,
    }  # fmt: skip
    if product is None and not isinstance(source, StorePrompts):
        fail("a new prompt belongs to a product: set GATI_PRODUCT_ID", Exit.USAGE)
    if product is not None:
        body["productId"] = product
    return {"state": "created", "version": source.create(body)["versionId"]}


def _prompts_of_code(folder: Path, sources: Sequence[Path], names: Sequence[str]) -> list[CodePrompt]:
    found = find_prompts(folder, sources, names)
    if not found:
        fail(f"there are no prompts in {folder}; `gati prompts pull` writes them there", Exit.NOT_FOUND)
    return found


def _print_difference(prompt: CodePrompt, text: str | None, state: str, version: str | None) -> None:
    console().print(f"{prompt.name}: {state}" + (f" ({version})" if version else ""), soft_wrap=True)
    if state == "different" and text is not None:
        lines = difflib.unified_diff(
            text.splitlines(), prompt.text.splitlines(), f"active {version}", prompt.place, lineterm=""
        )
        for line in lines:
            console().print(line, soft_wrap=True)


def _is_equal(text: str, other: str) -> bool:
    """Compare texts without line breaks at their ends, which editors add."""
    return text.rstrip("\n") == other.rstrip("\n")


def _is_unchanged(version: dict[str, Any], other: dict[str, Any] | None) -> bool:
    return other is not None and version.get("id") == other.get("id")


def _version_of(version: dict[str, Any] | None) -> str | None:
    if version is None:
        return None
    found = version.get("versionId") or version.get("id")
    return str(found) if found else None
