"""`gati doctor`: is everything as it has to be, and if not, what to do."""

from __future__ import annotations

import dataclasses
import platform
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from gati.cli.output import Exit, as_json, console
from gati.cli.store import place
from gati.errors import ConfigurationError
from gati.settings import Settings, load

RANGES = {
    "langchain-core": ("1.0", "2"),
    "langgraph": ("1.0", "2"),
    "greenflash": ("1.0", "2"),
}
"""Versions that gati is made for, as in pyproject.toml: at least the first, below the second."""

_MARKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@dataclasses.dataclass
class Check:
    """One finding. `advice` says what to do, and is empty when there is nothing to do."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    found: str
    advice: str = ""


def run(*, send: bool, json_wanted: bool = False) -> Exit:
    """All checks; fails when one fails."""
    checks = []
    for check in examine(send=send):
        checks.append(check)
        if not json_wanted:
            _print(check)
    if json_wanted:
        as_json([dataclasses.asdict(check) for check in checks])
    return Exit.FAILED if any(check.verdict == "fail" for check in checks) else Exit.OK


def _print(check: Check) -> None:
    mark, style = _MARKS[check.verdict]
    screen = console()
    screen.print(f"[{style}]{mark} {check.verdict}[/]  {check.name}: ", end="")
    screen.print(check.found, markup=False, soft_wrap=True)
    if check.advice:
        screen.print(f"        → {check.advice}", style="dim", markup=False, soft_wrap=True)


def examine(*, send: bool) -> Iterator[Check]:
    """The checks, one after the other."""
    yield Check("Python", "pass", platform.python_version())
    yield from (_package(name) for name in RANGES)
    try:
        settings = load()
    except ConfigurationError as fault:
        yield Check("options", "fail", str(fault), "docs/options.md lists all options")
        return
    if not settings.enabled:
        yield Check("options", "warn", "gati is switched off", "unset GATI_ENABLED")
        settings = settings.model_copy(update={"enabled": True})
    else:
        yield Check("options", "pass", "valid")
    yield from _greenflash(settings)
    yield _spool(settings)
    yield _store(settings)
    yield _guarded("injection", _injection)
    if send:
        yield _guarded("delivery", lambda: _delivery(settings))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as fault:  # noqa: BLE001 - a check that breaks is a finding, not the end of the examination
        return Check(name, "fail", f"{type(fault).__name__}: {fault}", "this is a fault of gati's: please report it")


def _package(name: str) -> Check:
    from packaging.version import Version  # late: LangChain brings it

    low, high = RANGES[name]
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "fail", "not installed", f"pip install '{name}>={low},<{high}'")
    if Version(low) <= Version(found) < Version(high):
        return Check(name, "pass", found)
    return Check(name, "warn", found, f"gati is made for {name} from {low} to below {high}")


def _greenflash(settings: Settings) -> Iterator[Check]:
    if settings.api_key is None:
        where = settings.backend_url or "the embedded store"
        yield Check("key", "warn", f"none; conversations go to {where}", "set GREENFLASH_API_KEY to send to Greenflash")
        return
    # late: loads the SDK
    from gati.exporters.greenflash.check import RequestFailedError, UnsupportedSdkError, fetch_products

    try:
        known = fetch_products(settings)
    except UnsupportedSdkError:
        yield Check("key", "warn", "set, but this SDK cannot ask whether it works", "pip install -U 'greenflash>=1.3'")
        return
    except RequestFailedError as refusal:
        if refusal.status in (401, 403):
            yield Check("key", "fail", f"refused ({refusal})", "compare GREENFLASH_API_KEY with the web app's key")
        else:
            yield Check("key", "fail", str(refusal), "is the network up, and GREENFLASH_BASE_URL right?")
        return
    yield Check("key", "pass", f"accepted, sees {len(known)} product{'s' * (len(known) != 1)}")
    choices = ", ".join(f"{product} ({name})" for product, name in list(known.items())[:5])
    if settings.product_id is None:
        yield Check("product", "warn", "none", f"set GATI_PRODUCT_ID to one of: {choices}")
    elif settings.product_id in known:
        yield Check("product", "pass", known[settings.product_id])
    else:
        yield Check("product", "fail", f"{settings.product_id} is not this key's", f"the key sees: {choices}")


def _spool(settings: Settings) -> Check:
    from gati.pipeline.engine import spool_folder

    if not settings.spool:
        return Check("spool", "warn", "switched off", "what is not delivered when the program ends is lost")
    folder = spool_folder(settings.spool_dir)
    if fault := _unwritable(folder):
        return Check("spool", "fail", f"{folder}: {fault}", "set GATI_SPOOL_DIR to a folder that can be written")
    return Check("spool", "pass", f"{folder} can be written")


def _store(settings: Settings) -> Check:
    file = place(settings=settings)
    if fault := _unwritable(file.parent):
        used = settings.local or (settings.local is None and settings.api_key is None and not settings.backend_url)
        return Check("store", "fail" if used else "warn", f"{file}: {fault}", "set GATI_LOCAL to a file elsewhere")
    return Check("store", "pass", f"{file} can be written")


def _unwritable(folder: Path) -> str | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as fault:
        return fault.strerror or type(fault).__name__


def _injection() -> Check:
    from gati.testing import capture
    from gati.testing.scripted_model import ScriptedChatModel

    with capture(enabled=True, auto_inject=True) as captured:  # else an option could hide what is asked here
        ScriptedChatModel(replies=["well"]).invoke("How are you?")
    if captured.transcript() == [("user", "How are you?"), ("assistant", "well")]:
        return Check("injection", "pass", "a run was seen without any callback given")
    return Check(
        "injection", "fail", f"a run was seen as {captured.transcript()}",
        "pass callbacks=observe.get_callbacks(), and report your versions of LangChain",
    )  # fmt: skip


def _delivery(settings: Settings) -> Check:
    """One conversation through the whole pipeline, to where they really go."""
    from gati import observe
    from gati.store import queries
    from gati.store.store import Store
    from gati.testing.scripted_model import ScriptedChatModel

    conversation_id = f"doctor-{secrets.token_hex(4)}"
    remote = settings.api_key is not None or settings.backend_url is not None
    with tempfile.TemporaryDirectory(prefix="gati-doctor-") as folder:
        # A store of its own, so that the user's is not filled with the doctor's questions.
        file = Path(folder) / "doctor.db"
        observe.init(enabled=True, auto_inject=True, local=False if remote else file, spool=False)
        with observe.conversation(conversation_id, user_id="gati-doctor"):
            ScriptedChatModel(replies=["well"]).invoke("How are you?")
        result = observe.flush(timeout=30.0)
        paused = observe.stats().paused
        observe.shutdown(timeout=1.0)
        if not result or not result.delivered:
            why = ", ".join(paused.values()) or str(result)
            return Check("delivery", "fail", f"a message was not delivered: {why}", "mend what failed above first")
        if not remote:
            with closing(Store(file)) as store:
                seen = len(queries.wire_messages(store, conversation_id)) == result.delivered
            return Check("delivery", "pass" if seen else "fail", f"{result.delivered} messages sent and read back")
    if settings.api_key is None:
        return Check("delivery", "pass", f"{result.delivered} messages were taken; a GATI backend is not read back")
    return _read_back(settings, conversation_id, result.delivered)


def _read_back(settings: Settings, conversation_id: str, count: int) -> Check:
    from gati.exporters.greenflash.check import RequestFailedError, UnsupportedSdkError, has_conversation

    try:
        seen = has_conversation(settings, conversation_id)
    except UnsupportedSdkError:
        return Check("delivery", "pass", f"{count} messages were taken; this SDK cannot read them back")
    except RequestFailedError as refusal:
        return Check("delivery", "warn", f"{count} messages were taken, reading them back: {refusal}")
    if seen:
        return Check("delivery", "pass", f"{count} messages sent and read back, conversation {conversation_id}")
    return Check(
        "delivery", "warn", f"{count} messages were taken, but {conversation_id} is not listed yet",
        "look for it in the web app in a minute",
    )  # fmt: skip
