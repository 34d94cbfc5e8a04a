from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from gati import observe
from gati.testing import ScriptedChatModel
from tests.servers import LocalServer


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    """Return the values as a scraper reads them, by name without suffix, and with the label's value if there is one."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            label = "".join(value for name, value in sample.labels.items() if name != "pid")
            values[sample.name.removeprefix("gati_").removesuffix("_total") + (f" {label}" if label else "")] = (
                sample.value
            )
    return values


def expected(stats: observe.Stats) -> dict[str, float]:
    values: dict[str, float] = {}
    for field in fields(stats):
        value = getattr(stats, field.name)
        if isinstance(value, int):
            values[field.name] = value
        else:
            values |= {f"{field.name} {key}": 1 if isinstance(number, str) else number for key, number in value.items()}
    return values


def talk(turns: int) -> None:
    model = ScriptedChatModel(replies=["Hello"] * turns)
    with observe.conversation("c1", user_id="ada"):
        for _ in range(turns):
            model.invoke("Hi")


def test_a_scrape_equals_the_statistics(greenflash: LocalServer, tmp_path: Path):
    registry = CollectorRegistry()
    assert observe.metrics(registry=registry)
    observe.init(agent_name="a", api_key=greenflash.api_key, base_url=greenflash.url, spool_dir=tmp_path)
    talk(3)
    assert observe.flush()
    stats = observe.stats()
    assert stats.delivered > 0
    assert scraped(registry) == expected(stats)


def test_losses_have_their_reason_as_a_label(tmp_path: Path):
    registry = CollectorRegistry()
    observe.metrics(registry=registry)

    def fail(text: str) -> str:
        raise ValueError

    observe.init(agent_name="a", local=tmp_path / "studio.db", mask=fail)
    talk(1)
    observe.flush()
    assert scraped(registry)["mask_failures"] == observe.stats().mask_failures > 0
    observe.log_rating(rating="?", rating_min=1, rating_max=5)  # type: ignore[arg-type]  # what a program may pass
    assert scraped(registry)["faults arguments.log_rating"] == 1


def test_registering_twice_changes_nothing():
    registry = CollectorRegistry()
    assert observe.metrics(registry=registry)
    assert observe.metrics(registry=registry)
    assert scraped(registry)["delivered"] == 0


def test_an_object_that_is_no_registry_is_refused():
    assert not observe.metrics(registry="metrics")  # type: ignore[arg-type]  # what a program may pass


WORKERS = """
import os, sys
from gati import observe
from gati.testing import ScriptedChatModel

observe.metrics()
observe.init(agent_name="a", local=sys.argv[1])

def serve(turns):
    model = ScriptedChatModel(replies=["Hello"] * turns)
    with observe.conversation("c1", user_id="ada"):
        for _ in range(turns):
            model.invoke("Hi")
    assert observe.flush()
    print(os.getpid(), observe.stats().delivered, observe.stats().records, flush=True)

serve(1)
workers = []
for turns in (2, 3):
    pid = os.fork()
    if not pid:
        serve(turns)
        os._exit(0)
    workers.append(pid)
for pid in workers:
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_worker_processes_are_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "metrics"
    folder.mkdir()
    program = subprocess.run(
        [sys.executable, "-c", WORKERS, str(tmp_path / "studio.db")],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [list(map(int, line.split())) for line in program.stdout.splitlines()]
    assert len({pid for pid, _, _ in lines}) == 3
    registry = CollectorRegistry()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    MultiProcessCollector(registry)
    values = scraped(registry)
    assert values["delivered"] == sum(delivered for _, delivered, _ in lines) > 0
    assert values["records"] == sum(records for _, _, records in lines)
    assert values["turns"] == 6


def test_the_counters_of_a_second_init_are_added_in_the_files_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = """
import sys
from gati import observe
from gati.testing import ScriptedChatModel

observe.metrics()
delivered = 0
for name in ("a", "b"):
    observe.init(agent_name=name, local=sys.argv[1])
    ScriptedChatModel(replies=["Hello"]).invoke("Hi")
    assert observe.flush()
    delivered += observe.stats().delivered
print(delivered)
"""
    folder = tmp_path / "metrics"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "studio.db")],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    registry = CollectorRegistry()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    MultiProcessCollector(registry)
    assert scraped(registry)["delivered"] == int(done.stdout) > 0
