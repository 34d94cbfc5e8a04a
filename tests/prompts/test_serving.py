"""Managed prompts are served from memory, disk or the fallback, and never delay the program after the first call."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gati import observe, prompts
from gati._api.runtime import runtime
from gati.prompts import service as service_module
from gati.prompts.choice import choose_variant
from gati.prompts.service import FIRST_WAIT_SECONDS, service
from gati.store import prompt_records
from gati.store.store import Store
from tests.optional import create_agent, import_optional
from tests.prompts.conftest import PRODUCT, ManagedProgram, wait_until
from tests.servers import greenflash_server

TEXT = "You help {{who}}."


def disk_files() -> list[Path]:
    from gati.pipeline.filesystem import spool_folder

    return sorted((spool_folder(None) / "prompts").glob("*"))


def gati_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "gati-prompts"]


def test_the_active_version_is_served(program: ManagedProgram):
    version = program.add_version("support/agent", TEXT)
    program.add_version("support/agent", "A later one, not activated.", activate=False)
    prompt = prompts.get("support/agent", fallback="Never.")
    assert (prompt.content, prompt.source, prompt.id, prompt.variables) == (TEXT, "greenflash", version, ("who",))
    assert prompt.text(who="Ada") == "You help Ada."
    assert not prompt.is_fallback


def test_threads_end_when_everything_is_fetched(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    prompts.get("support/agent")
    wait_until(lambda: gati_threads() == [])


def test_the_first_call_does_not_wait_for_a_server_that_hangs(program: ManagedProgram, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service_module, "FIRST_WAIT_SECONDS", FIRST_WAIT_SECONDS)
    program.add_version("support/agent", TEXT)
    program.break_prompts("black_hole")
    assert prompts.get("support/agent", fallback="Hi {{who}}.").text(who="Ada") == "Hi Ada."
    wait_until(lambda: program.server.faults.hits["black_hole"] == 1)
    assert gati_threads() == ["gati-prompts"]  # it still waits for the answer, the program does not
    program.server.faults.clear()


async def test_the_first_async_call_does_not_block_the_event_loop(
    program: ManagedProgram, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service_module, "FIRST_WAIT_SECONDS", FIRST_WAIT_SECONDS)
    program.add_version("support/agent", TEXT)
    program.break_prompts("black_hole")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert (await prompts.aget("support/agent", fallback="Hi.")).is_fallback
    ticking.cancel()
    assert ticks > 10
    program.server.faults.clear()


async def test_a_cancelled_call_does_not_cancel_the_fetch(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    program.break_prompts("slow", seconds=0.3)
    task = asyncio.create_task(prompts.aget("support/agent", fallback="Hi."))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: gati_threads() == [])
    assert (await prompts.aget("support/agent", fallback="Hi.")).content == TEXT


def test_without_a_text_and_a_fallback_the_call_raises(program: ManagedProgram):
    with pytest.raises(prompts.PromptUnavailableError, match="'support/agent' is not available"):
        prompts.get("support/agent")


def test_a_stale_text_is_served_while_it_is_fetched_again(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    assert prompts.get("support/agent", ttl=0).content == TEXT
    program.add_version("support/agent", "New.")
    program.break_prompts("black_hole")
    assert prompts.get("support/agent", ttl=0).content == TEXT  # although the server does not answer
    program.server.faults.clear()
    wait_until(lambda: prompts.get("support/agent", ttl=0).content == "New.")


def test_within_the_ttl_nothing_is_fetched(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    prompts.get("support/agent")
    program.break_prompts("failing")
    assert {prompts.get("support/agent").content for _ in range(100)} == {TEXT}
    wait_until(lambda: gati_threads() == [])
    assert program.server.faults.hits == Counter()


def test_an_outage_serves_the_last_text(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    prompts.get("support/agent", ttl=0)
    program.break_prompts("failing", status=503, times=None)
    for _ in range(3):
        assert prompts.get("support/agent", ttl=0, fallback="Never.").content == TEXT
    assert observe.stats().faults == {}


def test_a_failed_fetch_is_repeated_only_after_a_pause(program: ManagedProgram):
    program.break_prompts("failing", times=None)
    for _ in range(50):
        prompts.get("support/agent", ttl=0, fallback="Hi.")
    wait_until(lambda: gati_threads() == [])
    assert program.server.faults.hits["failing 500"] == 1


def test_the_pause_that_the_server_asks_for_is_kept(program: ManagedProgram):
    program.break_prompts("rate_limited", retry_after="300")
    prompts.get("support/agent", fallback="Hi.")
    (entry,) = service._entries.values()
    assert entry.not_before - service_module.Clock.monotonic() > 250


def test_the_next_process_starts_with_the_text_on_disk_during_an_outage(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    prompts.get("support/agent")
    program.restart()
    program.break_prompts("failing", times=None)
    prompt = prompts.get("support/agent", ttl=0, fallback="Never.")
    assert (prompt.content, prompt.source) == (TEXT, "disk")


def test_files_on_disk_are_private_and_of_one_account(program: ManagedProgram, monkeypatch: pytest.MonkeyPatch):
    program.add_version("support/agent", TEXT)
    prompts.get("support/agent")
    (file,) = disk_files()
    assert file.stat().st_mode & 0o777 == 0o600
    observe.init(api_key="gf_another_key", base_url=program.server.url, product_id=PRODUCT)
    assert prompts.get("support/agent", fallback="Hi.").is_fallback


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}', "\x00" * 100, '{"key": null, "text": 1}'])
def test_a_damaged_file_on_disk_is_ignored(program: ManagedProgram, content: str):
    program.add_version("support/agent", TEXT)
    prompts.get("support/agent")
    (file,) = disk_files()
    file.write_text(content)
    program.restart()
    assert prompts.get("support/agent", ttl=0).source == "greenflash"


def test_without_a_spool_nothing_is_written_to_disk(program: ManagedProgram):
    observe.init(api_key=program.server.api_key, base_url=program.server.url, product_id=PRODUCT, spool=False)
    program.add_version("support/agent", TEXT)
    assert prompts.get("support/agent").content == TEXT
    assert disk_files() == []


def test_a_pinned_version_is_served_and_fetched_once(program: ManagedProgram):
    first = program.add_version("support/agent", TEXT)
    program.add_version("support/agent", "New.")
    pinned = prompts.get("support/agent", version=first, ttl=0)
    assert (pinned.content, pinned.id) == (TEXT, first)
    program.break_prompts("failing")
    assert prompts.get("support/agent", version=first, ttl=0).content == TEXT
    wait_until(lambda: gati_threads() == [])
    assert program.server.faults.hits == Counter()


def test_a_version_of_another_prompt_is_not_served(program: ManagedProgram):
    other = program.add_version("sales/agent", "Sell.")
    assert prompts.get("support/agent", version=other, fallback="Hi.").is_fallback


def test_a_pinned_version_is_referred_to_by_its_id(program: ManagedProgram):
    from gati.testing import ScriptedChatModel

    first = program.add_version("support/agent", TEXT)
    program.add_version("support/agent", "New.")
    text = prompts.get("support/agent", version=first).text(who="Ada")
    with observe.conversation("c"):
        create_agent(ScriptedChatModel(replies=["Hello."]), [], system_prompt=text).invoke({"messages": "Hi"})
    assert program.system_prompts() == [{"promptId": first, "variables": {"who": "Ada"}}]
    (call,) = program.model_calls()
    assert call["prompt_id"] == "support/agent"


def test_a_deleted_prompt_is_still_served(program: ManagedProgram):
    first = program.add_version("support/agent", TEXT, activate=False)
    assert prompts.get("support/agent", ttl=0).content == TEXT
    assert prompt_records.archive_prompt(program.server.store, first)
    prompts.get("support/agent", ttl=0)
    wait_until(lambda: gati_threads() == [])
    assert prompts.get("support/agent", ttl=0).content == TEXT


def test_prefetch_fetches_several_prompts_before_they_are_used(program: ManagedProgram):
    names = [f"prompt/{n}" for n in range(10)]
    for name in names:
        program.add_version(name, f"I am {name}.")
    assert prompts.prefetch(*names)
    program.break_prompts("failing", times=None)
    assert [prompts.get(name).content for name in names] == [f"I am {name}." for name in names]
    assert not prompts.prefetch("missing", timeout=5)


async def test_the_async_twin_of_prefetch_fetches(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    assert await prompts.aprefetch("support/agent")
    assert prompts.get("support/agent").content == TEXT


def test_many_threads_cause_one_fetch(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    program.break_prompts("slow", seconds=0.1, times=None)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(prompts.get("support/agent").content)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [TEXT] * 20
    assert program.server.faults.hits["slow"] == 1


def test_memory_is_bounded(program: ManagedProgram, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service_module, "MAX_ENTRIES", 8)
    for number in range(40):
        prompts.get(f"p/{number}", fallback="Hi.")
    assert len(service._entries) <= 9


def test_braces_and_markup_in_a_text_are_safe(program: ManagedProgram):
    text = 'Answer as {"a": [1]} or {} or {x} <b>&amp;</b> {{ who }} {{{who}}} {{&who}}'
    program.add_version("support/agent", text)
    prompt = prompts.get("support/agent")
    expected = 'Answer as {"a": [1]} or {} or {x} <b>&amp;</b> <A&B> <A&B> <A&B>'
    assert prompt.text(who="<A&B>") == expected
    assert prompt.template().invoke({"who": "<A&B>"}).to_messages()[0].content == expected


def test_values_are_rendered_like_langchains(program: ManagedProgram):
    program.add_version("p", "{{a}}|{{b}}|{{c}}|{{d.e}}|{{f}}")
    values = {"a": 0, "b": False, "c": None, "d": {"e": 1.5}, "f": ""}
    prompt = prompts.get("p")
    assert prompt.text(**values) == prompt.template().invoke(values).to_messages()[0].content == "0|False||1.5|"


def test_a_value_that_is_missing_is_empty_and_logged(program: ManagedProgram, caplog: pytest.LogCaptureFixture):
    program.add_version("p", "Hi {{a}} and {{b}}.")
    assert prompts.get("p").text(a="Ada") == "Hi Ada and ."
    wait_until(lambda: "the prompt 'p' got no value for b" in caplog.text)


def test_a_new_variable_in_greenflash_does_not_break_a_template(program: ManagedProgram):
    program.add_version("p", "Hi {{a}} and {{b}}.")
    template = prompts.get("p", fallback="Hi {{a}}.").template()
    assert template.invoke({"a": "Ada"}).to_messages()[0].content == "Hi Ada and ."
    assert template.invoke({"a": "Ada", "b": "Bob"}).to_messages()[0].content == "Hi Ada and Bob."


def test_broken_mustache_is_served_as_it_is(program: ManagedProgram):
    program.add_version("p", "Hi {{a}} {{#open}} and {{")
    assert prompts.get("p").text(a="Ada") == "Hi Ada {{#open}} and {{"


def test_a_value_that_raises_does_not_break_the_program(program: ManagedProgram):
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    program.add_version("p", "Hi {{a}}.")
    assert prompts.get("p").text(a=Broken()) == "Hi {{a}}."
    assert observe.stats().faults == {"prompts.text": 1}


def test_several_components_are_one_text(program: ManagedProgram):
    body = {
        "name": "p", "productId": PRODUCT, "role": "agent", "externalPromptId": "p",
        "components": [{"content": "Be {{how}}."}, {"content": "Never lie.", "type": "guardrail"}],
    }  # fmt: skip
    assert program.server.post(body, "/prompts").status_code == 201
    assert prompts.get("p").text(how="kind") == "Be kind.\n\nNever lie."


# -- A/B ----------------------------------------------------------------------------------------


def test_a_conversation_always_gets_the_same_variant(program: ManagedProgram):
    program.add_version("support/agent", TEXT)
    brief = program.add_version("support/agent", "Be brief, {{who}}.", activate=False)
    variants = {"control": None, "brief": brief}
    served = {}
    for number in range(30):
        for _ in range(3):
            prompt = prompts.get("support/agent", variants=variants, conversation_id=number)
            served.setdefault(number, set()).add((prompt.variant, prompt.content))
    assert all(len(found) == 1 for found in served.values())
    assert {next(iter(found)) for found in served.values()} == {("control", TEXT), ("brief", "Be brief, {{who}}.")}


@pytest.mark.parametrize("place", ["scope", "thread", "argument"])
def test_the_variant_is_decided_by_the_conversation_and_reported(program: ManagedProgram, place: str):
    from gati.testing import ScriptedChatModel

    program.add_version("support/agent", TEXT)
    brief = program.add_version("support/agent", "Be brief, {{who}}.", activate=False)

    @import_optional("langchain.agents.middleware", "dynamic_prompt")
    def prompt(request: Any) -> str:
        variants = {"control": None, "brief": brief}
        given = "c-1" if place == "argument" else None
        return prompts.get("support/agent", variants=variants, conversation_id=given).text(who="Ada")

    agent = create_agent(ScriptedChatModel(replies=["Hello."]), [], middleware=[prompt])
    expected = choose_variant("support/agent", ["control", "brief"], None, "c-1")
    with observe.conversation("c-1" if place == "scope" else None):
        agent.invoke({"messages": "Hi"}, {"configurable": {"thread_id": "c-1"}} if place == "thread" else {})
    (call,) = program.model_calls()
    assert call["prompt_variant"] == expected
    (body,) = program.server.bodies()
    assert body["properties"]["prompt_variants"] == [f"support/agent={expected}"]


def test_weights_decide_how_often_a_variant_is_chosen():
    labels = ["a", "b", "c"]
    found = Counter(choose_variant("p", labels, {"a": 3, "b": 1, "c": 0}, str(n)) for n in range(4000))
    assert found["c"] == 0
    assert 2800 < found["a"] < 3200
    assert choose_variant("p", labels, {"a": 0, "b": 0, "c": 0}, "x") == "a"
    assert choose_variant("p", labels, {"a": float("nan"), "b": -1, "c": 1}, "x") == "c"
    assert choose_variant("p", labels, None, None) == "a"


# -- without Greenflash ---------------------------------------------------------------------------


def test_without_a_key_the_embedded_store_serves_prompts(tmp_path: Path):
    store = Store(tmp_path / "store.db")
    body = {"name": "p", "role": "agent", "externalPromptId": "p", "components": [{"content": TEXT}]}
    prompt_records.create_prompt(store, body)
    store.close()
    observe.init(local=tmp_path / "store.db")
    prompt = prompts.get("p")
    assert (prompt.text(who="Ada"), prompt.source) == ("You help Ada.", "store")


def test_without_a_key_and_a_store_the_fallback_is_served(tmp_path: Path):
    observe.init(local=tmp_path / "store.db")
    assert prompts.get("p", fallback=TEXT).is_fallback
    assert not (tmp_path / "store.db").exists()


def test_prompts_work_before_init(greenflash: Any, monkeypatch: pytest.MonkeyPatch):
    program = ManagedProgram(greenflash)
    program.add_version("p", TEXT)
    monkeypatch.setattr(runtime, "settings", None)
    monkeypatch.setenv("GREENFLASH_API_KEY", greenflash.api_key)
    monkeypatch.setenv("GREENFLASH_BASE_URL", greenflash.url)
    assert prompts.get("p").content == TEXT


def test_an_invalid_option_in_the_environment_serves_the_fallback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "settings", None)
    monkeypatch.setenv("GATI_SAMPLE_RATE", "7")
    assert prompts.get("p", fallback=TEXT).is_fallback


def test_a_disabled_gati_sends_no_request_and_serves_the_text_on_disk(program: ManagedProgram):
    program.add_version("p", TEXT)
    prompts.get("p")
    program.restart()
    observe.init(api_key=program.server.api_key, base_url=program.server.url, product_id=PRODUCT, enabled=False)
    program.break_prompts("failing")
    assert prompts.get("p", ttl=0).source == "disk"
    assert prompts.get("other", fallback="Hi.").is_fallback
    assert program.server.faults.hits == Counter()


def test_an_sdk_without_prompts_serves_the_fallback(
    program: ManagedProgram, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    import greenflash

    program.add_version("p", TEXT)
    monkeypatch.delattr(greenflash.Greenflash, "prompts")
    assert prompts.get("p", fallback="Hi.").is_fallback
    wait_until(lambda: "install greenflash>=1.4" in caplog.text)
    assert observe.stats().faults == {}


@pytest.mark.parametrize(
    ("kind", "options"),
    [("html", {}), ("json_value", {"value": []}), ("json_value", {"value": {"prompt": 1}}), ("empty", {}),
     ("redirect", {}), ("unauthorized", {}), ("reset", {}), ("json_value", {"value": {"prompt": {"components": [{}]}}})],
)  # fmt: skip
def test_answers_that_are_not_the_apis_serve_the_fallback(program: ManagedProgram, kind: str, options: dict[str, Any]):
    program.add_version("p", TEXT)
    program.break_prompts(kind, times=None, **options)
    assert prompts.get("p", fallback="Hi.").is_fallback
    assert observe.stats().faults == {}


# -- processes ------------------------------------------------------------------------------------


def in_child(channel: Any, name: str) -> None:
    served = [prompts.get("p", ttl=0).content]
    wait_until(lambda: prompts.get("p", ttl=0).content == "New.")
    served.append(prompts.get(name, fallback="Never.").content)
    channel.send((served, prompts.get("p").text(who="x")))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_serves_what_it_inherited_and_fetches_by_itself(program: ManagedProgram):
    program.add_version("p", TEXT)
    program.add_version("other", "Other.")
    prompts.get("p", ttl=0)
    program.break_prompts("black_hole")
    prompts.get("p", ttl=0)  # the parent is fetching while it forks
    wait_until(lambda: program.server.faults.hits["black_hole"] == 1)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(sender, "other"))
    child.start()
    program.add_version("p", "New.")
    assert receiver.poll(60)
    assert receiver.recv() == ([TEXT, "Other."], "New.")
    child.join(20)
    assert child.exitcode == 0
    program.server.faults.clear()


def test_a_program_that_ends_during_a_fetch_prints_nothing(tmp_path: Path):
    import subprocess

    with greenflash_server() as server:
        server.faults.add(server.faults.create("black_hole", path="/api/v1/prompts", methods=("GET",)))
        environment = {
            **os.environ, "GREENFLASH_API_KEY": server.api_key, "GREENFLASH_BASE_URL": server.url, "HOME": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }  # fmt: skip
        code = "from gati import prompts; print(prompts.get('p', fallback='Hi.').text())"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        server.faults.clear()
    assert (done.stdout, done.stderr, done.returncode) == ("Hi.\n", "", 0)


def test_the_file_on_disk_names_what_it_belongs_to(program: ManagedProgram):
    version = program.add_version("p", TEXT)
    prompts.get("p")
    (file,) = disk_files()
    stored = json.loads(file.read_text())
    assert (stored["id"], stored["text"], stored["key"][1:]) == (version, TEXT, ["p", None])
