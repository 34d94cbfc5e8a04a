"""Reads the queue in PostgreSQL. See `postgres_lanes` for who owns a lane.

One connection does everything in the relay's thread. The server ends it when no query has come for the session timeout, so
the lanes of a relay that hangs become free, too. Dead letters have a connection of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import psycopg

from gati.queues import postgres_lanes
from gati.queues.bounded_connection import BoundedConnection
from gati.queues.log import Lag, LogError, LogRecord
from gati.queues.message import QueueMessage
from gati.queues.postgres_schema import DEAD, LANES, TURNS, NewerSchemaError, ensure_schema, make_partitions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from gati.queues.address import QueueAddress
    from gati.queues.log import LogListener

BALANCE_SECONDS = 1.0
"""Interval at which relays share the lanes."""

FETCH = 500
"""Most records of one poll."""

FETCH_BYTES = 8 * 1024**2
"""Size of the records of one poll, without the last one."""

# `octet_length` reads no value. Those of the rows that are left out are not read at all.
_FETCH = f"""
SELECT id, lane, key, account, endpoint, turn, items, format, value, (extract(epoch FROM published_at) * 1000)::bigint
FROM (
    SELECT *, sum(octet_length(value)) OVER (ORDER BY id) - octet_length(value) AS size_before FROM (
        SELECT * FROM {TURNS} WHERE lane = ANY(%s::smallint[]) AND id <> ALL(%s::bigint[]) ORDER BY id LIMIT {FETCH}
    ) AS next
) AS measured WHERE size_before < {FETCH_BYTES} ORDER BY id
"""  # noqa: S608  # our own names

_LAG = f"""
SELECT count(*), coalesce(extract(epoch FROM now() - min(published_at)), 0)::float8 FROM {TURNS}
WHERE lane = ANY(%s::smallint[])
"""  # noqa: S608  # our own names

_BURY = f"""
INSERT INTO {DEAD} (key, account, endpoint, turn, items, format, value, published_at, reason, origin)
SELECT %s, %s, %s, %s, %s, %s, %s, to_timestamp(%s / 1000.0), %s, %s
WHERE NOT EXISTS (SELECT FROM {DEAD} WHERE origin = %s)
"""  # noqa: S608  # our own names

# One statement: in a transaction of several, a process that is stopped in between would keep the locks of its rows. The
# rows are in order, so that two relays cannot wait for each other.
_SETTLE = f"""
WITH floors AS (
    INSERT INTO gati_lanes AS l SELECT * FROM unnest(%s::smallint[], %s::bigint[])
    ON CONFLICT (lane) DO UPDATE SET floor_ms = greatest(l.floor_ms, excluded.floor_ms)
)
DELETE FROM {TURNS} WHERE id = ANY(%s::bigint[])
"""  # noqa: S608  # our own name

_SEEN = """
INSERT INTO gati_relays VALUES (%s, %s, %s, now(), now(), %s)
ON CONFLICT (id) DO UPDATE SET pid = excluded.pid, lanes = excluded.lanes, seen_at = now(), state = excluded.state
"""


class PostgresLog:
    """The queue in PostgreSQL, as one relay reads it. See `log.TurnLog`."""

    total_lanes = LANES

    def __init__(self, address: QueueAddress, session_seconds: float = 15.0) -> None:
        self.label = address.label
        self.session_seconds = session_seconds
        self.state: Mapping[str, object] = {}
        """What `gati relay status` shows about this relay."""
        self._url = address.url
        self._id = uuid.uuid4().hex
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._connection: psycopg.Connection[Any] | None = None
        self._dead_connection: psycopg.Connection[Any] | None = None
        self._dead_lock = threading.Lock()
        self._lanes: set[int] = set()
        self._held: dict[int, int] = {}
        """Lane of each record that was returned and is not settled, by id."""
        self._unsettled: dict[int, LogRecord] = {}
        self._floors: dict[int, int] = {}
        self._next_balance = 0.0

    @property
    def lanes(self) -> frozenset[int]:
        """See `TurnLog.lanes`."""
        return frozenset(self._lanes)

    def poll(self, timeout: float, paused: Collection[int], listener: LogListener) -> Sequence[LogRecord]:
        """See `TurnLog.poll`."""
        with self._contained(listener):
            connection = self._connected()
            now = time.monotonic()
            if now >= self._next_balance:
                self._next_balance = now + BALANCE_SECONDS
                self._balance(connection, listener)
            wanted = sorted(self._lanes - set(paused))
            rows = self._fetch(connection, wanted)
            if not rows:
                # Not in the database: a query that waits would keep old row versions.
                time.sleep(min(timeout, max(0.0, self._next_balance - time.monotonic())))
            return rows

    def _fetch(self, connection: psycopg.Connection[Any], lanes: list[int]) -> list[LogRecord]:
        records = []
        rows = connection.execute(_FETCH, (_array_of(lanes), _array_of(self._held)), binary=True).fetchall()
        for id_, lane, key, account, endpoint, turn, items, format_, value, published_ms in rows:
            message = QueueMessage(key, bytes(value), endpoint, turn, max(0, items), account, published_ms, format_)
            records.append(LogRecord(message, lane, id_, f"{TURNS}/{id_}"))
            self._held[id_] = lane
        return records

    def keep_alive(self) -> None:
        """See `TurnLog.keep_alive`."""
        with self._errors():
            self._connected().execute("SELECT 1")

    def settle(self, records: Sequence[LogRecord], floors: Mapping[int, int], *, wait: bool = False) -> None:
        """See `TurnLog.settle`. What could not be deleted is kept here, since it is delivered whoever owns its lane."""
        self._unsettled |= {record.position: record for record in records}
        for lane, floor in floors.items():
            self._floors[lane] = max(floor, self._floors.get(lane, floor))
        if not self._unsettled and not self._floors:
            return
        with self._errors():
            connection = self._connected()
            ids = list(self._unsettled)
            lanes = sorted(self._floors)
            connection.execute(
                _SETTLE, (_array_of(lanes), _array_of(self._floors[lane] for lane in lanes), _array_of(ids))
            )
            for id_ in ids:
                self._held.pop(id_, None)
            self._unsettled.clear()
            self._floors.clear()

    def bury(self, record: LogRecord, value: bytes, reason: str) -> None:
        """See `TurnLog.bury`."""
        message, origin = record.message, record.origin
        row = (message.key, message.account, message.endpoint, message.turn, message.items, message.format, value)
        with self._dead_lock, self._errors():
            if self._dead_connection is None or self._dead_connection.closed:
                self._dead_connection = self._connect()
            self._dead_connection.execute(_BURY, (*row, message.published_ms, reason[:500], origin, origin))

    def lag(self) -> Lag:
        """See `TurnLog.lag`. Also shows this relay in `gati relay status`."""
        with self._errors():
            connection = self._connected()
            row = connection.execute(_LAG, (sorted(self._lanes),)).fetchone()
            lag = Lag(row[0], row[1]) if row else Lag()
            state = json.dumps(
                {"name": self._name, "turns": lag.turns, "oldest_seconds": lag.oldest_seconds, **self.state}
            )
            pid = connection.info.backend_pid
            connection.execute(_SEEN, (self._id, pid, len(self._lanes), state))
            connection.execute("DELETE FROM gati_relays WHERE seen_at < now() - interval '1 hour'")
            make_partitions(connection)
            return lag

    def reset(self, listener: LogListener) -> None:
        """See `TurnLog.reset`."""
        lost, self._lanes = self._lanes, set()
        self._next_balance = 0.0
        self._held = {id_: lane for id_, lane in self._held.items() if id_ in self._unsettled}
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None
        if lost:
            listener.lost(lost)

    def close(self) -> None:
        """See `TurnLog.close`. The server frees the locks with the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.execute("DELETE FROM gati_relays WHERE id = %s", (self._id,))
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None
        with self._dead_lock:
            if self._dead_connection is not None:
                with contextlib.suppress(Exception):
                    self._dead_connection.close()

    # Lanes

    def _balance(self, connection: psycopg.Connection[Any], listener: LogListener) -> None:
        """Take free lanes, or give some away, until every relay has its share."""
        shares = postgres_lanes.look(connection, self.session_seconds)
        if len(self._lanes) > shares.of_each:
            self._give_away(connection, set(sorted(self._lanes)[shares.of_each :]), listener)
        elif len(self._lanes) < shares.of_each:
            if taken := postgres_lanes.take(connection, shares, shares.of_each - len(self._lanes)):
                self._lanes |= taken.keys()
                listener.assigned(taken.keys(), taken)

    def _give_away(self, connection: psycopg.Connection[Any], lanes: set[int], listener: LogListener) -> None:
        listener.revoked(lanes)
        self._lanes -= lanes
        self._held = {id_: lane for id_, lane in self._held.items() if lane not in lanes or id_ in self._unsettled}
        postgres_lanes.release(connection, lanes)

    # Connections

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self._connect()
            try:
                ensure_schema(connection)
                postgres_lanes.join(connection, self.session_seconds)
            except BaseException:  # also if interrupted: a half-open session would hold its locks
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        milliseconds = int(self.session_seconds * 1000)
        connection = BoundedConnection.connect(
            self._url,
            autocommit=True,
            prepare_threshold=None,  # a generic plan would compare each row with each id that is held
            connect_timeout=max(2, int(self.session_seconds)),
            application_name="gati relay",
            keepalives_idle=max(1, int(self.session_seconds / 3)),
            keepalives_interval=max(1, int(self.session_seconds / 3)),
            keepalives_count=2,
            tcp_user_timeout=milliseconds,
        )
        connection.answer_seconds = self.session_seconds
        return connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise LogError(f"PostgreSQL: {type(error).__name__}") from error
        except NewerSchemaError as error:
            raise LogError(f"PostgreSQL: {error}") from error

    @contextlib.contextmanager
    def _contained(self, listener: LogListener) -> Iterator[None]:
        """Give up the lanes after an error: the connection may be gone, and the locks with it."""
        try:
            with self._errors():
                yield
        except LogError:
            self.reset(listener)
            raise


def _array_of(numbers: Iterable[int]) -> str:
    """Return an array as text. psycopg would look at each number of a list."""
    return "{" + ",".join(map(str, numbers)) + "}"
