"""`gati doctor`: check the installation, the options and the delivery, and suggest fixes."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from gati._api.destinations import active_destinations
from gati.cli.check import Check
from gati.cli.disk_checks import check_journal, check_spool, check_store, store_file
from gati.cli.output import Exit, console, print_json
from gati.errors import ConfigurationError
from gati.settings import Settings, describe_unknown_variables, load

if TYPE_CHECKING:
    from gati.pipeline.stats import FlushResult, Stats

SUPPORTED_VERSIONS = {
    "langchain-core": ("1.3.3", "2"),
    "langgraph": ("1.0.10", "2"),
    "greenflash": ("1.0", "2"),
}
"""Supported versions, as in pyproject.toml: from the first, below the second."""

DELIVERY_SECONDS = 30.0
"""Longest time that the test messages may take."""

_LEFT_BEHIND = "conversation {}, which every run here uses: Greenflash's API cannot delete it"

_MARKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def run_doctor(*, send: bool, json_wanted: bool = False, queue_only: bool = False) -> Exit:
    """Run all checks, or those of the queue only, and print their results. The exit code is 1 if one fails."""
    checks = []
    for check in _check_queue_only() if queue_only else run_checks(send=send):
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
    """Run the checks in order. Stop after the options if they are invalid. Send nothing if the key does not work."""
    yield Check("Python", "pass", platform.python_version())
    yield from (_check_package(name) for name in SUPPORTED_VERSIONS)
    if unknown := describe_unknown_variables():
        yield Check("variables", "warn", f"unknown, without effect: {unknown}", "see docs/options.md for all variables")
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
    reachable = True
    for check in _check_queue(settings) if settings.queue is not None else _check_greenflash(settings):
        reachable &= check.verdict != "fail"
        yield check
    if settings.otlp_endpoint is not None:
        check = _run_guarded("OTLP", lambda: _check_otlp(settings))
        reachable &= check.verdict != "fail"
        yield check
    yield check_spool(settings)
    yield check_journal(settings)
    yield check_store(settings)
    yield _run_guarded("conversations", lambda: _check_conversations(settings, reachable=reachable))
    yield _run_guarded("injection", _check_injection)
    if send and not reachable:
        yield Check("delivery", "fail", "not tried, because of the failure above", "fix the failures above first")
    elif send:
        yield _run_guarded("delivery", lambda: _check_delivery(settings))


def _check_queue_only() -> Iterator[Check]:
    try:
        settings = load()
    except ConfigurationError as fault:
        yield Check("options", "fail", str(fault), "see docs/options.md for all options")
        return
    if settings.queue is None:
        yield Check("queue", "fail", "not set", "set GATI_QUEUE to kafka://host:port/topic or postgresql://…")
        return
    yield from _check_queue(settings)


def _check_queue(settings: Settings) -> Iterator[Check]:
    from gati.cli.queue_check import check_queue  # imported late: needed with a queue only

    if settings.queue is not None:
        yield from check_queue(settings.queue)


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


def _check_otlp(settings: Settings) -> Check:
    """Send an empty request to the OTLP receiver."""
    from gati.exporters.base import Request, Verdict
    from gati.exporters.otlp.exporter import OTLPExporter

    try:
        exporter = OTLPExporter(settings)
    except ConfigurationError as fault:
        return Check("OTLP", "fail", str(fault), 'pip install "gati-greenflash[otel]"')
    with closing(exporter):
        outcome = exporter.send(Request("", {"resource": {}, "spans": []}, 0, "", "traces"))
    receiver = exporter.spool_identity.label
    if outcome.verdict is Verdict.OK:
        return Check("OTLP", "pass", f"{receiver} accepts spans")
    return Check("OTLP", "fail", f"{receiver}: {outcome.reason}", "check GATI_OTLP_ENDPOINT and GATI_OTLP_HEADERS")


def _check_conversations(settings: Settings, *, reachable: bool) -> Check:
    """Check that the newest conversations have ids of the program: in Greenflash, else in the store."""
    advice = 'pass config={"configurable": {"thread_id": ...}}, or use `with observe.conversation(id, user_id=...)`'
    sent = (
        _ids_in_greenflash(settings) if settings.api_key is not None and settings.queue is None and reachable else None
    )
    if sent is not None:
        place, found, without_id = "in Greenflash ", len(sent), sum(map(_is_run_id, sent))
    else:
        place, (found, without_id) = "", _count_in_store(settings)
    if not found:
        return Check("conversations", "pass", f"none yet; {advice}")
    if without_id:
        return Check(
            "conversations", "warn", f"{without_id} of the last {found} {place}have no conversation id", advice
        )
    return Check("conversations", "pass", f"the last {found} {place}have a conversation id")


def _ids_in_greenflash(settings: Settings) -> list[str] | None:
    """Return the ids of the newest conversations; None if they cannot be read."""
    from gati.exporters.greenflash.check import RequestFailedError, UnsupportedSdkError, newest_conversations

    try:
        return [name for name in newest_conversations(settings) if not name.startswith("doctor-")]
    except (RequestFailedError, UnsupportedSdkError):
        return None


def _is_run_id(conversation_id: str) -> bool:
    """Return True for ids like those of LangChain's runs, which name conversations that the program gave no id."""
    try:
        return UUID(conversation_id).version == 7
    except ValueError:
        return False


def _count_in_store(settings: Settings) -> tuple[int, int]:
    """Return how many of the newest conversations there are in the store, and how many have no id. Changes nothing."""
    from gati.store import queries
    from gati.store.store import Store

    file, _ = store_file(settings)
    if file is None or not file.exists():
        return 0, 0
    with closing(Store(file, read_only=True)) as store:
        page = queries.list_conversations(store, limit=100)
    return len(page.conversations), len(page.without_id)


def _check_injection() -> Check:
    from gati.testing import capture
    from gati.testing.scripted_model import ScriptedChatModel

    with capture(
        enabled=True, auto_inject=True, conversation_id="doctor"
    ) as captured:  # the environment may disable them
        ScriptedChatModel(replies=["well"]).invoke("How are you?")
    if captured.transcript() == [("user", "How are you?"), ("assistant", "well")]:
        return Check("injection", "pass", "a run was recorded without passing callbacks")
    found = "; ".join(f"{role}: {text}" for role, text in captured.transcript()) or "nothing"
    return Check(
        "injection", "fail", f"a run was recorded as {found}",
        "pass callbacks=observe.get_callbacks(), and report your LangChain versions",
    )  # fmt: skip


def _check_delivery(settings: Settings) -> Check:
    """Send a conversation through the whole pipeline to the configured destinations."""
    from gati import observe
    from gati.testing.scripted_model import ScriptedChatModel

    conversation_id = f"doctor-{_machine_id()}"
    remote = any(d.kind != "local" for d in active_destinations(settings))
    with tempfile.TemporaryDirectory(prefix="gati-doctor-") as folder:
        # A temporary store, to keep test messages out of the user's store.
        file = Path(folder) / "doctor.db"
        options: dict[str, Any] = {"enabled": True, "auto_inject": True, "force_sample": True, "spool": False}
        observe.init(local=False if remote else file, **options)
        with observe.conversation(conversation_id, user_id="gati-doctor"):
            ScriptedChatModel(replies=["well"]).invoke("How are you?")
        result = observe.flush(timeout=DELIVERY_SECONDS)
        stats = observe.stats()
        observe.shutdown(timeout=0.0 if not result else 1.0)
        if not result or not result.delivered + result.published:
            return Check("delivery", "fail", _describe_failure(result, stats), "fix the failures above first")
        if not remote:
            return _read_store(file, conversation_id, result.delivered)
    if settings.queue is not None:
        return Check("delivery", "pass", f"{result.published} messages published; see `gati relay status`")
    if settings.api_key is None:
        return Check(
            "delivery",
            "pass",
            f"{result.delivered} messages accepted; a GATI backend or OTLP receiver does not support reading them back",
        )
    return _read_back(settings, conversation_id, result.delivered)


def _machine_id() -> str:
    """Return a short id of this user on this machine: all runs share one conversation, since the API deletes none."""
    return hashlib.sha256(f"{platform.node()}\n{Path.cwd()}".encode(errors="surrogateescape")).hexdigest()[:8]


def _describe_failure(result: FlushResult, stats: Stats) -> str:
    """Describe in words what a flush left."""
    counts = {
        "delivered": result.delivered,
        "rejected": result.rejected,
        "not answered in time": result.pending + result.spooled,
        "dropped": result.dropped + result.turns_dropped + result.records_refused,
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    reasons = [*stats.paused.values(), *stats.dropped, *stats.turns_dropped]
    parts += [f"internal error in {place}" for place in stats.faults]
    return f"of the test messages: {', '.join(parts) or 'none was recorded'}" + (
        f" ({', '.join(reasons)})" * bool(reasons)
    )


def _read_store(file: Path, conversation_id: str, count: int) -> Check:
    from gati.store import queries
    from gati.store.store import Store

    with closing(Store(file, read_only=True)) as store:
        found = len(queries.wire_messages(store, conversation_id))
    verdict: Literal["pass", "fail"] = "pass" if found == count else "fail"
    return Check("delivery", verdict, f"{count} messages sent, {found} read back; they are deleted again")


def _read_back(settings: Settings, conversation_id: str, count: int) -> Check:
    from gati.exporters.greenflash.check import RequestFailedError, UnsupportedSdkError, newest_conversations

    try:
        found = conversation_id in newest_conversations(settings)
    except UnsupportedSdkError:
        return Check("delivery", "pass", f"{count} messages accepted; this version of the SDK cannot read them back")
    except RequestFailedError as refusal:
        return Check("delivery", "warn", f"{count} messages accepted, but reading them back failed: {refusal}")
    if found:
        return Check("delivery", "pass", f"{count} messages sent and read back, {_LEFT_BEHIND.format(conversation_id)}")
    return Check(
        "delivery", "warn", f"{count} messages accepted, but {conversation_id} is not listed yet",
        "look for it in the web app in a minute",
    )  # fmt: skip
