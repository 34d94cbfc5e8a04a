"""`gati doctor`: check the installation, the options and the delivery, and suggest fixes."""

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

from gati._api.destinations import active_destinations
from gati.cli.output import Exit, console, print_json
from gati.cli.store import store_path
from gati.errors import ConfigurationError
from gati.settings import Settings, load

SUPPORTED_VERSIONS = {
    "langchain-core": ("1.3.3", "2"),
    "langgraph": ("1.0.10", "2"),
    "greenflash": ("1.0", "2"),
}
"""Supported versions, as in pyproject.toml: from the first, below the second."""

_MARKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@dataclasses.dataclass
class Check:
    """The result of one check. `advice` is empty if there is nothing to fix."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    found: str
    advice: str = ""


def run_doctor(*, send: bool, json_wanted: bool = False) -> Exit:
    """Run all checks and print their results. The exit code is 1 if one fails."""
    checks = []
    for check in run_checks(send=send):
        checks.append(check)
        if not json_wanted:
            _print_check(check)
    if json_wanted:
        print_json([dataclasses.asdict(check) for check in checks])
    return Exit.FAILED if any(check.verdict == "fail" for check in checks) else Exit.OK


def _print_check(check: Check) -> None:
    mark, style = _MARKS[check.verdict]
    screen = console()
    screen.print(f"{mark} {check.verdict}", style=style, end="")
    screen.print(f"  {check.name}: {check.found}", soft_wrap=True)
    if check.advice:
        screen.print(f"        → {check.advice}", style="dim", soft_wrap=True)


def run_checks(*, send: bool) -> Iterator[Check]:
    """Run the checks in order. Stop after the options if they are invalid."""
    yield Check("Python", "pass", platform.python_version())
    yield from (_check_package(name) for name in SUPPORTED_VERSIONS)
    try:
        settings = load()
    except ConfigurationError as fault:
        yield Check("options", "fail", str(fault), "see docs/options.md for all options")
        return
    if not settings.enabled:
        yield Check("options", "warn", "gati is disabled", "unset GATI_ENABLED")
        settings = settings.model_copy(update={"enabled": True})
    else:
        yield Check("options", "pass", "valid")
    yield from _check_greenflash(settings)
    yield _check_spool(settings)
    yield _check_store(settings)
    yield _run_guarded("conversations", lambda: _check_conversations(settings))
    yield _run_guarded("injection", _check_injection)
    if send:
        yield _run_guarded("delivery", lambda: _check_delivery(settings))


def _run_guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as fault:  # noqa: BLE001 - a check that raises is reported, and the next ones still run
        return Check(name, "fail", f"{type(fault).__name__}: {fault}", "this is a bug in gati, please report it")


def _check_package(name: str) -> Check:
    from packaging.version import Version  # imported late: installed with langchain-core

    low, high = SUPPORTED_VERSIONS[name]
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "fail", "not installed", f"pip install '{name}>={low},<{high}'")
    if Version(low) <= Version(found) < Version(high):
        return Check(name, "pass", found)
    return Check(name, "warn", found, f"gati supports {name}>={low},<{high}")


def _check_greenflash(settings: Settings) -> Iterator[Check]:
    if settings.api_key is None:
        destination = " and ".join(d.label for d in active_destinations(settings))
        yield Check(
            "key", "warn", f"not set; conversations go to {destination}", "set GREENFLASH_API_KEY to send to Greenflash"
        )
        return
    # Imported late, because it loads the SDK.
    from gati.exporters.greenflash.check import RequestFailedError, UnsupportedSdkError, fetch_products

    try:
        accessible = fetch_products(settings)
    except UnsupportedSdkError:
        yield Check(
            "key", "warn", "set, but this version of the SDK cannot verify it", "pip install -U 'greenflash>=1.3'"
        )
        return
    except RequestFailedError as refusal:
        if refusal.status in (401, 403):
            yield Check(
                "key", "fail", f"rejected ({refusal})", "compare GREENFLASH_API_KEY with the key in the web app"
            )
        else:
            yield Check("key", "fail", str(refusal), "check the network connection and GREENFLASH_BASE_URL")
        return
    yield Check("key", "pass", f"accepted, has access to {len(accessible)} product{'s' * (len(accessible) != 1)}")
    choices = ", ".join(f"{product} ({name})" for product, name in list(accessible.items())[:5])
    if settings.product_id is None:
        yield Check("product", "warn", "not set", f"set GATI_PRODUCT_ID to one of: {choices}")
    elif settings.product_id in accessible:
        yield Check("product", "pass", accessible[settings.product_id])
    else:
        yield Check(
            "product", "fail", f"{settings.product_id} is not accessible with this key", f"accessible: {choices}"
        )


def _check_spool(settings: Settings) -> Check:
    from gati.pipeline.spool import spool_folder

    if not settings.spool:
        return Check("spool", "warn", "disabled", "messages not delivered when the program exits are lost")
    folder = spool_folder(settings.spool_dir)
    if fault := _unwritable(folder):
        return Check("spool", "fail", f"{folder}: {fault}", "set GATI_SPOOL_DIR to a writable folder")
    return Check("spool", "pass", f"{folder} is writable")


def _check_store(settings: Settings) -> Check:
    file = store_path(settings=settings)
    if fault := _unwritable(file.parent):
        used = any(d.kind == "local" for d in active_destinations(settings))
        return Check(
            "store", "fail" if used else "warn", f"{file}: {fault}", "set GATI_LOCAL to a file in a writable folder"
        )
    return Check("store", "pass", f"{file} is writable")


def _check_conversations(settings: Settings) -> Check:
    """Check that the newest conversations in the store have ids of the program."""
    from gati.store import queries
    from gati.store.store import Store

    advice = 'pass config={"configurable": {"thread_id": ...}}, or use `with observe.conversation(id, user_id=...)`'
    file = store_path(settings=settings)
    if not file.exists():
        return Check("conversations", "pass", f"none in {file} yet; {advice}")
    with closing(Store(file, settings.local_max_bytes)) as store:
        page = queries.list_conversations(store, limit=100)
    found, without_id = len(page.conversations), len(page.without_id)
    if without_id:
        return Check("conversations", "warn", f"{without_id} of the last {found} have no conversation id", advice)
    return Check("conversations", "pass", f"the last {found} have a conversation id")


def _unwritable(folder: Path) -> str | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as fault:
        return fault.strerror or type(fault).__name__


def _check_injection() -> Check:
    from gati.testing import capture
    from gati.testing.scripted_model import ScriptedChatModel

    with capture(
        enabled=True, auto_inject=True, conversation_id="doctor"
    ) as captured:  # the environment may disable them
        ScriptedChatModel(replies=["well"]).invoke("How are you?")
    if captured.transcript() == [("user", "How are you?"), ("assistant", "well")]:
        return Check("injection", "pass", "a run was recorded without passing callbacks")
    return Check(
        "injection", "fail", f"a run was recorded as {captured.transcript()}",
        "pass callbacks=observe.get_callbacks(), and report your LangChain versions",
    )  # fmt: skip


def _check_delivery(settings: Settings) -> Check:
    """Send a conversation through the whole pipeline to the configured destinations."""
    from gati import observe
    from gati.store import queries
    from gati.store.store import Store
    from gati.testing.scripted_model import ScriptedChatModel

    conversation_id = f"doctor-{secrets.token_hex(4)}"
    remote = any(d.kind != "local" for d in active_destinations(settings))
    with tempfile.TemporaryDirectory(prefix="gati-doctor-") as folder:
        # A temporary store, to keep test messages out of the user's store.
        file = Path(folder) / "doctor.db"
        observe.init(enabled=True, auto_inject=True, local=False if remote else file, spool=False)
        with observe.conversation(conversation_id, user_id="gati-doctor"):
            ScriptedChatModel(replies=["well"]).invoke("How are you?")
        result = observe.flush(timeout=30.0)
        paused = observe.stats().paused
        observe.shutdown(timeout=1.0)
        if not result or not result.delivered:
            reason = ", ".join(paused.values()) or str(result)
            return Check("delivery", "fail", f"a message was not delivered: {reason}", "fix the failures above first")
        if not remote:
            with closing(Store(file, read_only=True)) as store:
                found = len(queries.wire_messages(store, conversation_id)) == result.delivered
            return Check("delivery", "pass" if found else "fail", f"{result.delivered} messages sent and read back")
    if settings.api_key is None:
        return Check(
            "delivery",
            "pass",
            f"{result.delivered} messages accepted; a GATI backend does not support reading them back",
        )
    return _read_back(settings, conversation_id, result.delivered)


def _read_back(settings: Settings, conversation_id: str, count: int) -> Check:
    from gati.exporters.greenflash.check import RequestFailedError, UnsupportedSdkError, has_conversation

    try:
        found = has_conversation(settings, conversation_id)
    except UnsupportedSdkError:
        return Check("delivery", "pass", f"{count} messages accepted; this version of the SDK cannot read them back")
    except RequestFailedError as refusal:
        return Check("delivery", "warn", f"{count} messages accepted, but reading them back failed: {refusal}")
    if found:
        return Check("delivery", "pass", f"{count} messages sent and read back, conversation {conversation_id}")
    return Check(
        "delivery", "warn", f"{count} messages accepted, but {conversation_id} is not listed yet",
        "look for it in the web app in a minute",
    )  # fmt: skip
