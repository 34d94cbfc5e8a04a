"""Start programs, kill and stop them, disturb their server, and check what was delivered. All choices come from a seed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gati.pipeline.recovery import spool_status
from gati.testing.server import fault_injection as faults
from gati.testing.server.fault_injection import InjectedFault
from tests.processes.conftest import Sandbox, wait_for_exit
from tests.servers import LocalServer, greenflash_server

PROGRAMS = 3
"""Programs that run at the same time."""

TURNS = 150
BUFFER_BYTES = 16_000_000
MAX_GROWTH_BYTES = 120_000_000
"""Memory of a program beyond its first turn: the buffer, libraries loaded later, and the allocator's share."""

MAX_OMISSIONS = 2
"""Times that a response omits a message; after a third one the message is set aside."""

LIFE_SECONDS = 90
"""Time after which a program is considered hung."""


class Storm:
    """Programs and their server, and what the programs reported."""

    def __init__(self, seed: int, server: LocalServer, folder: Path) -> None:
        self.seed = seed
        self.lives = 0
        self.signals: Counter[str] = Counter()
        self.reports: list[dict[str, Any]] = []
        self._rng = random.Random(seed)
        self._server = server
        self._sandbox = Sandbox(server, folder)
        self._omitted: Counter[str] = Counter()
        self._errors: list[str] = []
        self._over = False

    def run(self, seconds: float) -> None:
        """Run programs for this time, and let the last ones end."""
        slots = [
            threading.Thread(target=self._run_lives, args=(k, random.Random(f"{self.seed} {k}")))
            for k in range(PROGRAMS)
        ]
        for slot in slots:
            slot.start()
        while not self.reports and any(slot.is_alive() for slot in slots):  # until libraries are loaded
            time.sleep(0.05)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._server.faults.clear()  # ends hanging requests, too
            if self._rng.random() < 0.8:
                self._server.faults.add(self._rng.choice(self._server_faults())())
            time.sleep(self._rng.uniform(0.1, 0.8))
        self._over = True
        self._server.faults.clear()
        for slot in slots:
            slot.join()

    def _server_faults(self) -> list[Callable[[], InjectedFault]]:
        return [
            lambda: faults.failing(503, times=5),
            lambda: faults.failing(500, times=2, when="after"),
            lambda: faults.rate_limited("0.2"),
            lambda: faults.unauthorized(),
            lambda: faults.html(),
            lambda: faults.html(400),
            lambda: faults.json_value(["unexpected"]),
            lambda: faults.redirect(),
            lambda: faults.slow(0.3, times=5),
            lambda: faults.black_hole(times=2),
            lambda: faults.black_hole(after_commit=True),
            lambda: faults.connection_reset(times=3),
            lambda: faults.connection_reset(after_commit=True),
            lambda: faults.trickling("headers"),
            lambda: faults.trickling("body"),
            lambda: faults.endless_informational(),
            lambda: faults.partial_answer(listed=1, applies=self._may_omit),
        ]

    def _may_omit(self, body: dict[str, Any], _: int) -> bool:
        omitted = [message["externalMessageId"] for message in body.get("messages", [])[1:]]
        if not omitted or any(self._omitted[name] >= MAX_OMISSIONS for name in omitted):
            return False
        self._omitted.update(omitted)
        return True

    def _run_lives(self, slot: int, rng: random.Random) -> None:
        life = 0
        while not self._over:
            self._run_life(f"p{slot}.{life}", rng)
            life += 1

    def _run_life(self, name: str, rng: random.Random) -> None:
        self.lives += 1
        command = [
            sys.executable,
            "-m",
            "tests.chaos.program",
            name,
            f"{self.seed} {name}",
            str(rng.randrange(1, TURNS)),
        ]
        program = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self._sandbox.folder, start_new_session=True,
            env=self._sandbox.environment(GATI_BUFFER_MAX_BYTES=BUFFER_BYTES),
        )  # fmt: skip
        started = threading.Event()
        reader = threading.Thread(target=self._read_reports, args=(program, started))
        reader.start()
        pause = rng.uniform(0.0, 4.0)  # before the signal, if it is still running then
        action = rng.choice(["SIGKILL", "SIGSTOP", ""])
        try:
            started.wait(LIFE_SECONDS)
            self._signal_later(program, action, pause, rng.uniform(0.1, 2.0))
            program.wait(LIFE_SECONDS)
            reader.join(LIFE_SECONDS)  # its forks have the pipe, too
            if reader.is_alive():
                self._errors.append(f"{name}: a fork hung")
        except subprocess.TimeoutExpired:
            self._errors.append(f"{name}: the program hung")
        finally:
            if reader.is_alive() or program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
            reader.join()
        if program.returncode not in (0, -signal.SIGKILL):
            self._errors.append(f"{name}: exit code {program.returncode}")

    def _signal_later(self, program: subprocess.Popen[bytes], action: str, pause: float, stopped: float) -> None:
        try:
            program.wait(pause)
            return
        except subprocess.TimeoutExpired:
            pass
        self.signals[action] += 1
        if action == "SIGKILL":
            program.kill()
        elif action == "SIGSTOP":
            program.send_signal(signal.SIGSTOP)
            time.sleep(stopped)
            program.send_signal(signal.SIGCONT)

    def _read_reports(self, program: subprocess.Popen[bytes], started: threading.Event) -> None:
        assert program.stdout
        with program.stdout:
            for line in program.stdout:
                self.reports.append(json.loads(line))
                started.set()
        started.set()

    def deliver_the_rest(self) -> None:
        """Let one more process deliver what the others left."""
        spool = self._sandbox.spool
        wait_for_exit(self._sandbox.program("flush_without_turns"))
        waiting = sum(account.messages for account in spool_status(spool))
        assert waiting == 0, f"{waiting} messages still wait"

    def check(self) -> None:
        """Check counters, completeness, order, parents and memory."""
        assert self._errors == []
        ended: dict[str, list[tuple[str, str]]] = defaultdict(list)
        safe: dict[str, int] = {}
        ends: dict[str, dict[str, Any]] = {}
        for report in self.reports:
            if "text" in report:
                ended[report["name"]].append((report["conversation"], report["text"]))
            elif "safe" in report:
                safe[report["name"]] = report["safe"]
            else:
                ends[report["name"]] = report["stats"]
        delivered = _delivered_turns(self._server)
        _check_arrival(self._server)
        for name, turns in ended.items():
            missing = [text for conversation, text in turns if text not in delivered.get(conversation, ())]
            lost_safe = [text for text in missing if int(text) < safe.get(name, 0)]
            assert not lost_safe, f"{name}: turns {lost_safe} were on disk or delivered, and are gone"
            if name in ends:
                _check_end(name, ends[name], len(missing))

    def summary(self) -> str:
        """Return what happened, in one line."""
        turns = sum("text" in report for report in self.reports)
        hits = sum(self._server.faults.hits.values())
        return f"seed {self.seed}: {self.lives} programs, {dict(self.signals)}, {turns} turns, {hits} server faults"


def _check_end(name: str, stats: dict[str, Any], missing: int) -> None:
    """Check the counters of a process that ended by itself."""
    assert stats["balanced"], f"{name}: {stats}"
    counted = (sum(stats["turns_dropped"].values()), sum(stats["dropped"].values()), stats["records_refused"])
    in_memory = stats["pending"] + stats["turns_open"] + stats["turns_waiting"] + stats["records_waiting"]
    assert not missing or sum(counted) + in_memory, f"{name}: {missing} turns were lost silently; {stats}"
    assert stats["rejected"] == 0, f"{name}: {stats}"
    assert stats["memory_bytes"] <= BUFFER_BYTES, f"{name}: {stats}"
    assert stats["growth"] < MAX_GROWTH_BYTES, f"{name}: {stats}"


def _delivered_turns(server: LocalServer) -> dict[str, list[str]]:
    """Return the texts of the delivered turns by conversation, in order, each once and with parents.

    Each is complete, except for the last one of a process that was killed.
    """
    by_conversation: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in server.messages():
        by_conversation[message["conversation"]].append(message)
    delivered = {}
    for name, messages in by_conversation.items():
        ids = [message["externalMessageId"] for message in messages]
        assert len(ids) == len(set(ids)), name
        questions = [m["content"] for m in messages if m["messageType"] == "user_message"]
        answers = [m["content"] for m in messages if m["messageType"] == "final_response"]
        # The turn in which a process was killed is recovered from its journal, unfinished: it may have no answer.
        assert len(questions) - len(answers) <= 1, name
        assert answers == [f"Here is about {text}." for text in questions][: len(answers)], name
        assert questions == sorted(set(questions), key=int), f"{name}: {questions}"
        _check_parents(name, messages)
        delivered[name] = questions
    return delivered


def _check_arrival(server: LocalServer) -> None:
    """Check that messages arrived in order and after their parents, whatever was sent again."""
    arrived: dict[str, list[dict[str, Any]]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for body in server.bodies():
        conversation = body["externalConversationId"]
        for message in body["messages"]:
            key = (conversation, message["externalMessageId"])
            if key not in seen:
                seen.add(key)
                arrived[conversation].append(message)
    for name, messages in arrived.items():
        texts = [m["content"] for m in messages if m["messageType"] == "user_message"]
        assert texts == sorted(texts, key=int), f"{name} arrived in another order: {texts}"
        _check_parents(name, messages)


def _check_parents(name: str, messages: list[dict[str, Any]]) -> None:
    earlier: set[str] = set()
    for message in messages:
        parent = message.get("parentExternalMessageId")
        assert parent is None or parent in earlier, f"{name}: {message}"
        earlier.add(message["externalMessageId"])


def run_storm(seed: int, seconds: float, folder: Path) -> str:
    """Run one storm and check it. Returns a summary; an AssertionError names the seed."""
    with greenflash_server() as server:
        storm = Storm(seed, server, folder)
        try:
            storm.run(seconds)
            storm.deliver_the_rest()
            storm.check()
        except AssertionError as error:
            raise AssertionError(f"{storm.summary()}\n{error}") from error
        assert server.unknown_keys == []
        return storm.summary()
