"""The next process assembles what a killed one had not stored, and reads nothing that it must not."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gati import observe
from gati._api.recovered import recovering_assembler
from gati.clock import epoch_offset_ns
from gati.events import Turn
from gati.exporters import sanitize
from gati.exporters.base import Request
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.langchain.callback import handler
from gati.langchain.current import current
from gati.langchain.recorder import Recorder
from gati.pipeline.buffer import Buffer
from gati.pipeline.codec import pack, unpack
from gati.pipeline.owner_lock import close_lock_file, open_lock_file, try_lock
from gati.pipeline.record_journal.format import HEAD_BYTES, JOURNAL_VERSION, Checkpoint, read_head
from gati.pipeline.record_journal.journal import MIN_JOURNAL_BYTES, RecordJournal, describe_process
from gati.pipeline.record_journal.recovery import JournalRecovery, recover_journals
from gati.pipeline.record_journal.start import describe_options
from gati.pipeline.spool import Spool
from gati.pipeline.spool_file import FileOrigin
from gati.settings import Settings, load
from gati.testing import ScriptedChatModel
from gati.trace.assembler import Assembler

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there are no journals")


class Exporter:
    """Keeps items; makes no requests."""

    name = "kept"

    def __init__(self) -> None:
        self.items: list[Any] = []

    def encode(self, items: Any) -> list[Any]:
        self.items += items
        return []


def kept_items() -> Any:
    return Exporter()


class Killed:
    """A process that was killed: the records of a program, its journal, and what it would have delivered."""

    def __init__(self, spool: Spool, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spool = spool
        self.settings = settings
        self.buffer = Buffer(10**9)
        description = describe_process(
            describe_options(settings), masked=settings.mask is not None, capture_content=settings.capture_content
        )
        self.journal = self.buffer.journal = RecordJournal(
            [spool.folder], MIN_JOURNAL_BYTES, description, files := FileOrigin()
        )
        self.own_spool = Spool(spool.root, spool.exporter, "account", origin=files)
        self.assembler = Assembler(settings)
        monkeypatch.setattr(current, "recorder", Recorder(self.buffer.put))
        monkeypatch.setattr(current, "report_error", pytest.fail)

    def take(self, *, store: bool = False) -> list[Any]:
        """Assemble the records so far; return the items that they complete."""
        items = []
        while (record := self.buffer.take()) is not None:
            items += self.assembler.feed([record])
        if store:
            assert not self.assembler.has_leftovers
            self.journal.mark_stored(Checkpoint(self.buffer.taken))
        return items

    def die(self) -> None:
        self.journal.close(remove=False)
        if self.own_spool._lock_fd is not None:  # as the kernel does: the lock's file stays
            close_lock_file(self.own_spool._lock_fd)

    def requests(self, settings: Settings) -> list[Request]:
        """Return what another process makes of the journal, with a new exporter."""
        data = self.path.read_bytes()
        recovery = JournalRecovery.of(partial(recovering_assembler, self.settings), self.settings)
        return recovery.requests(data, read_head(data), GreenflashExporter(settings))

    @property
    def path(self) -> Path:
        return next((self.spool.folder / "journals").iterdir())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path, "kept", "account")
    spool.open()
    return spool


@pytest.fixture
def killed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Killed:
    return Killed(spool, load(name="killed", local=False, properties={"team": "x"}), monkeypatch)


CALLBACKS: Any = {"callbacks": [handler]}
OTHER = {"name": "another", "local": False}


def recover(spool: Spool, **options: Any) -> list[Any]:
    """Return the items that another process makes of the journals."""
    settings, exporter = load(**{**OTHER, **options}), kept_items()
    recovery = JournalRecovery.of(partial(recovering_assembler, settings), settings)
    recover_journals(spool, recovery, exporter, [spool.folder])
    assert spool.files() == []
    return exporter.items


TIMES = frozenset({"started_ns", "ended_ns", "at_ns", "timestamp"})


def comparable(value: Any) -> Any:
    """Leave out what differs in every assembly: random ids of events, and the last digits of times."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {"class": type(value).__name__, **{f.name: getattr(value, f.name) for f in fields(value)}}
    if isinstance(value, dict):
        return {
            key: item // 10**10 if key in TIMES and isinstance(item, int) else comparable(item)
            for key, item in value.items()
            if key not in ("event_id", "timestamp")
        }
    return [comparable(item) for item in value] if isinstance(value, list | tuple) else value


def chat(text: str, conversation: str = "c") -> None:
    with observe.conversation(conversation, user_id="ada"):
        ScriptedChatModel(replies=["Certainly."]).invoke(text, CALLBACKS)


def test_turns_that_had_ended_are_recovered_as_they_were(killed: Killed, spool: Spool) -> None:
    chat("one")
    assert len(killed.take(store=True)) == 1
    chat("two")
    chat("three", "other")
    killed.die()
    found = recover(spool)
    assert comparable(found) == comparable(killed.take())
    assert [turn.agent_name for turn in found] == ["killed", "killed"]
    assert recover(spool) == []
    assert list((spool.folder / "journals").iterdir()) == []


def test_recovered_messages_follow_those_that_are_stored(
    killed: Killed, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Turns without duration: the times of messages, which strictly increase by milliseconds, run ahead of the clock.
    began = time.perf_counter_ns()
    monkeypatch.setattr("gati.langchain.recorder.perf_counter_ns", lambda: began)
    for number in range(20):
        chat(str(number))
    settings = load(local=False, api_key="gf_test")
    stored = times_in(GreenflashExporter(settings).encode(killed.take(store=True)))
    chat("the last")
    killed.die()
    recovered = times_in(killed.requests(settings))
    assert recovered
    assert min(recovered) > max(stored)


@pytest.mark.parametrize("hours", [-2, 1])
def test_recovered_messages_follow_those_that_are_stored_also_if_the_clock_was_set(
    killed: Killed, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    settings = load(local=False, api_key="gf_test")
    steps = [0, hours * 3_600_000_000_000]
    monkeypatch.setattr("gati.trace.assembler.time_ns", lambda: time.time_ns() + steps[0])
    stored = []
    for _ in range(2):
        killed.journal.note_clock(epoch_offset_ns() + steps[0])
        chat("before it is stored")
        stored += times_in(GreenflashExporter(settings).encode(killed.take(store=True)))
        steps.pop(0)
        steps.append(0)
    chat("the last")
    killed.die()
    recovered = times_in(killed.requests(settings))
    assert recovered
    assert min(recovered) > max(stored)


def test_a_recovery_that_is_repeated_gives_the_same_requests(killed: Killed) -> None:
    settings = load(local=False, api_key="gf_test")
    chat("stored")
    killed.take(store=True)
    chat("new")
    killed.die()
    data = killed.path.read_bytes()
    recovery, exporter = (
        JournalRecovery.of(partial(recovering_assembler, settings), settings),
        GreenflashExporter(settings),
    )
    first, second = ([r.body for r in recovery.requests(data, read_head(data), exporter)] for _ in range(2))
    assert first
    assert comparable(first) == comparable(second)


def adopted_texts(spool: Spool, settings: Settings) -> list[str]:
    """Recover journals and take over files, like a process that delivers them; return the user messages in order."""
    recovery = JournalRecovery.of(partial(recovering_assembler, settings), settings)
    recover_journals(spool, recovery, GreenflashExporter(settings), [spool.folder])
    lines = [line for file in spool.adopt() for line in spool.read(file)]
    messages = [message for line in lines for message in unpack(line).body["messages"]]
    return [message["content"] for message in messages if message["messageType"] == "user_message"]


def write(killed: Killed, items: list[Any]) -> None:
    encoder = GreenflashExporter(load(local=False, api_key="gf_test"))
    killed.own_spool.write([pack(request) for request in encoder.encode(items)], len(items))


def test_recovered_turns_follow_those_in_the_files_of_their_process(killed: Killed, spool: Spool) -> None:
    chat("one")
    write(killed, killed.take())
    killed.journal.mark_stored(Checkpoint(killed.buffer.taken))
    chat("two")
    killed.take()  # the disk refuses it for a while
    chat("three")
    write(killed, killed.take())
    chat("four")
    killed.die()
    # The third turn is in the journal, too. It arrives once: the server knows its messages when they come again.
    assert adopted_texts(spool, killed.settings) == ["one", "two", "three", "four", "three"]


def test_a_journal_waits_while_another_process_has_files_of_its_process(killed: Killed, spool: Spool) -> None:
    chat("one")
    write(killed, killed.take())
    killed.journal.mark_stored(Checkpoint(killed.buffer.taken))
    chat("two")
    killed.die()
    other = Spool(spool.root, spool.exporter, "account")
    assert len(other.adopt()) == 1
    assert adopted_texts(spool, killed.settings) == []
    assert killed.path.exists()
    other.close()
    assert adopted_texts(spool, killed.settings) == ["one", "two"]


def test_a_journal_waits_until_its_process_has_exited_completely(killed: Killed, spool: Spool) -> None:
    chat("one")
    write(killed, killed.take())
    killed.journal.mark_stored(Checkpoint(killed.buffer.taken))
    chat("two")
    killed.journal.close(remove=False)
    assert adopted_texts(spool, killed.settings) == []
    killed.die()
    assert adopted_texts(spool, killed.settings) == ["one", "two"]


def times_in(requests: Any) -> list[str]:
    return [message["createdAt"] for request in requests for message in request.body["messages"]]


def test_a_turn_that_had_not_ended_is_recovered_as_unfinished(killed: Killed, spool: Spool) -> None:
    found: list[Any] = []

    def die(answer: Any) -> Any:
        killed.die()
        found.extend(recover(spool))
        return answer

    (ScriptedChatModel(replies=["Certainly."]) | die).invoke("Hi", CALLBACKS)
    (turn,) = found
    assert isinstance(turn, Turn)
    assert turn.status == "unfinished"
    assert [message.text for message in turn.messages] == ["Hi"]
    assert any("Certainly." in str(event) for event in turn.events)


def test_a_turn_that_begins_before_a_checkpoint_and_ends_after_it_is_recovered_whole(
    killed: Killed, spool: Spool
) -> None:
    def store(answer: Any) -> Any:
        assert killed.take(store=True) == []
        return [answer]

    with observe.conversation("c"):
        (ScriptedChatModel(replies=["Certainly."]) | store | ScriptedChatModel(replies=["Yes."])).invoke(
            "Hi", CALLBACKS
        )
    killed.die()
    assert comparable(recover(spool)) == comparable(killed.take())


def test_the_options_of_a_killed_process_may_hold_anything(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {"ids": {1}, "large": 10**100, "numbers": {1: float("nan"), (2, 3): uuid4()}, "own": object()}
    prompt = {"content": "Help {{who}}.", "variables": {"who": "ada"}, "external_prompt_id": "helper"}
    killed = Killed(spool, load(name="killed", local=False, properties=properties, system_prompt=prompt), monkeypatch)
    chat("Hi")
    killed.die()
    (turn,) = recover(spool)
    (expected,) = killed.take()
    assert turn.conversation.properties == sanitize.bounded_json(properties, 10_000)[0]
    assert turn.conversation.prompt == expected.conversation.prompt == load(system_prompt=prompt).system_prompt


def test_events_and_ratings_that_were_not_stored_are_recovered(killed: Killed, spool: Spool) -> None:
    from gati.events import Action, Event
    from gati.trace.records import ManualEvent

    killed.buffer.put(ManualEvent(Action("ratings", {"rating": 1})))
    killed.take(store=True)
    chat("Hi")
    killed.take(store=True)
    event, rating = Event(event_type="shipped", conversation_id="c", started_ns=1), Action("ratings", {"rating": 2})
    killed.buffer.put(ManualEvent(event))
    killed.buffer.put(ManualEvent(rating))
    killed.die()
    assert recover(spool) == killed.take()


def test_a_journal_of_a_running_process_is_left_alone(killed: Killed, spool: Spool) -> None:
    chat("Hi")
    assert recover(spool) == []
    assert killed.path.exists()


def test_two_processes_do_not_recover_the_same_journal(killed: Killed, spool: Spool) -> None:
    chat("Hi")
    killed.die()
    fd = open_lock_file(killed.path)
    assert try_lock(fd)
    try:
        assert recover(spool) == []
    finally:
        close_lock_file(fd)
    assert len(recover(spool)) == 1


def test_texts_before_masking_reach_a_process_with_a_mask_only(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def mask(text: str, path: str, kind: str) -> str:
        return text.replace("secret", "***")

    killed = Killed(spool, load(name="killed", local=False, mask=mask, journal=True), monkeypatch)
    chat("my secret")
    killed.die()
    assert recover(spool) == []
    (turn,) = recover(spool, mask=mask)
    assert [message.text for message in turn.messages] == ["my ***"]


def test_texts_of_a_process_that_sends_none_reach_no_other_one(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = Killed(spool, load(name="killed", local=False, capture_content=False, journal=True), monkeypatch)
    chat("Hi")
    killed.die()
    assert recover(spool) == []
    assert len(recover(spool, capture_content=False)) == 1


def test_a_journal_of_a_later_version_is_left_alone(killed: Killed, spool: Spool) -> None:
    chat("Hi")
    killed.journal.memory[8:12] = (JOURNAL_VERSION + 1).to_bytes(4, "little")
    killed.die()
    assert recover(spool) == []
    assert killed.path.exists()


def test_a_file_that_is_no_journal_is_set_aside(spool: Spool) -> None:
    folder = spool.folder / "journals"
    folder.mkdir()
    (folder / "aaaaaaaaaaaa.journal").write_bytes(os.urandom(2 * HEAD_BYTES))
    (folder / "bbbbbbbbbbbb.journal").write_bytes(b"")
    assert recover(spool) == []
    assert list(folder.iterdir()) == []
    assert len(list(spool.rejected.glob("*.damaged"))) == 2


def test_links_and_pipes_are_not_opened(spool: Spool, tmp_path: Path) -> None:
    folder = spool.folder / "journals"
    folder.mkdir()
    (tmp_path / "target").write_bytes(b"mine")
    (folder / "aaaaaaaaaaaa.journal").symlink_to(tmp_path / "target")
    os.mkfifo(folder / "bbbbbbbbbbbb.journal")
    assert recover(spool) == []
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["anywhere", "entries"])
def test_a_damaged_journal_costs_only_what_was_damaged(
    killed: Killed, spool: Spool, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        chat(str(number), f"c{number}")
    data = bytes(killed.journal.memory)
    used = killed.journal.position
    killed.die()
    path, rng = killed.path, random.Random(20)
    whole = len(killed.take())
    for _ in range(15):
        changed = bytearray(data)
        for _ in range(3):
            changed[rng.randrange(HEAD_BYTES if damage == "entries" else 0, used)] = rng.randrange(256)
        path.write_bytes(changed)
        found = recover(spool)
        assert len(found) <= whole + 3
        if damage == "entries":
            assert len(found) >= whole - 6
        for left in spool.rejected.iterdir():
            left.unlink()


def test_an_entry_that_was_only_reserved_does_not_hide_later_ones(killed: Killed, spool: Spool) -> None:
    chat("first")
    killed.journal.position += 300  # as by a thread that was stopped before it wrote
    chat("second")
    killed.die()
    texts = [message.text for turn in recover(spool) for message in turn.messages]
    assert texts == ["first", "second"]


def test_options_that_are_unknown_or_invalid_set_the_journal_aside(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, killed: Killed
) -> None:
    chat("Hi")
    head = read_head(bytes(killed.journal.memory))
    make: Callable[..., Any] = partial(recovering_assembler, load(**OTHER))
    for options in ({"mask": "x"}, {"agent_name": 5.5}, {"api_key": "k"}):
        recovery = JournalRecovery(make)
        with pytest.raises(ValueError, match=r"option|agent_name"):
            recovery.requests(
                bytes(killed.journal.memory),
                head._replace(description={"options": options}),
                kept_items(),
            )
