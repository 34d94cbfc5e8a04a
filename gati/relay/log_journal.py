"""The journal of a relay's outbox: the records that it has read from the queue and not settled."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from gati.pipeline.codec import unpack, unpack_lazily
from gati.queues.log import LogError

if TYPE_CHECKING:
    from gati.exporters.base import Request
    from gati.pipeline.journal import Lines
    from gati.queues.log import LogRecord, TurnLog
    from gati.relay.conversation_times import ConversationTimes

MAX_TURNS = 2_000
MAX_BYTES = 32 * 1024**2
"""What a relay holds; above it, it reads no more."""

LANE_PART = 4
"""A single lane may hold this part of it, so that a conversation with many turns does not stop the others."""

UNKNOWN_FORMAT = "unknown format"
DAMAGED = "damaged"


class LogJournal:
    """Records of a queue. Thread-safe. See `pipeline.journal.Journal`."""

    def __init__(self, log: TurnLog, times: ConversationTimes, accepts: Callable[[Request], bool]) -> None:
        """`accepts` returns True if the destination can send a request."""
        self.dead: Counter[str] = Counter()
        """Dead letters by reason: the first words, without numbers."""
        self._log = log
        self._times = times
        self._accepts = accepts
        self._changed = threading.Condition()
        self._received: deque[LogRecord] = deque()
        self._done: list[LogRecord] = []
        self._turns: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self._all_turns = self._all_bytes = 0
        self._was_full = False
        self._paused: set[int] = set()

    # The relay's side

    def receive(self, records: Iterable[LogRecord]) -> None:
        """Hold records that were read from the queue."""
        with self._changed:
            for record in records:
                self._received.append(record)
                self._turns[record.lane] += 1
                self._bytes[record.lane] += record.size
                self._all_turns += 1
                self._all_bytes += record.size

    def take_done(self) -> list[LogRecord]:
        """Return the records that were delivered, buried or dropped since the last call."""
        with self._changed:
            done, self._done = self._done, []
            return done

    def paused(self, lanes: Collection[int]) -> set[int]:
        """Return the lanes of which no more is to be read: all if the journal is full, or those that hold too much."""
        with self._changed:
            if self._is_full():
                return set(lanes)
            # A lane that was paused continues when half is done.
            half = 0.5 / LANE_PART
            loaded = {lane for lane, turns in self._turns.items() if turns >= MAX_TURNS * half}
            loaded |= {lane for lane, size in self._bytes.items() if size >= MAX_BYTES * half}
            self._paused = {
                lane
                for lane in loaded
                if lane in self._paused or self._is_above(self._turns[lane], self._bytes[lane], 2 * half)
            }
            return self._paused & set(lanes)

    def _is_full(self) -> bool:
        """Return True if no more is to be read. A journal that was full is so until half is done: reads cost time."""
        part = 0.5 if self._was_full else 1.0
        self._was_full = self._is_above(self._all_turns, self._all_bytes, part)
        return self._was_full

    @staticmethod
    def _is_above(turns: int, size: int, part: float) -> bool:
        return turns >= MAX_TURNS * part or size >= MAX_BYTES * part

    def held(self, lanes: Collection[int] | None = None) -> int:
        """Return how many records are held, of these lanes or of all."""
        with self._changed:
            return self._all_turns if lanes is None else sum(self._turns[lane] for lane in lanes)

    def wait_released(self, lanes: Collection[int], timeout: float) -> bool:
        """Wait until no record of these lanes is held; return False after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._turns[lane] for lane in lanes), timeout)

    def wait_for_space(self, timeout: float) -> None:
        """Wait until more is to be read, or for some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_full(), timeout)

    # The outbox's side

    def adopt(self, *, everything: bool = False) -> list[LogRecord]:
        """See `Journal.adopt`."""
        with self._changed:
            received, self._received = list(self._received), deque()
            return received

    def read(self, entry: LogRecord) -> Lines | None:
        """See `Journal.read`. What this version cannot read becomes a dead letter."""
        message = entry.message
        reason = UNKNOWN_FORMAT
        if message.is_known_format:
            reason = DAMAGED
            try:
                request = unpack(message.value)
                if self._accepts(request):
                    self._times.saw(request.ordering_key, entry.lane)
                    return [(unpack_lazily(message.value), message.value)]
            except (ValueError, KeyError, TypeError):
                pass
        self._bury(entry, message.value, reason)
        return []

    def remove(self, entry: LogRecord) -> bool:
        """See `Journal.remove`."""
        with self._changed:
            self._done.append(entry)
            self._release(entry)
        return True

    def set_aside(self, line: bytes, reason: str, entry: LogRecord | None) -> bool:
        """See `Journal.set_aside`."""
        if entry is None:
            return False
        try:
            self._bury(entry, line, reason)
        except LogError:
            return False
        return True

    def _bury(self, entry: LogRecord, value: bytes, reason: str) -> None:
        self._log.bury(entry, value, reason)
        with self._changed:
            self.dead[_kind(reason)] += 1

    def withdraw(self, entry: LogRecord) -> None:
        """See `Journal.withdraw`."""
        with self._changed:
            self._release(entry)

    def _release(self, entry: LogRecord) -> None:
        self._turns[entry.lane] -= 1
        self._bytes[entry.lane] -= entry.size
        self._all_turns -= 1
        self._all_bytes -= entry.size
        self._changed.notify_all()

    def close(self) -> None:
        """See `Journal.close`."""


def _kind(reason: str) -> str:
    """Return a reason without numbers and details, since each reason is a series of a metric."""
    if reason.startswith("gave up"):
        return "gave up"
    return reason.split(":")[0][:40]
