"""The queue in PostgreSQL as commands see it. See `admin.QueueAdmin`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from gati.queues.admin import DeadLetter, QueueStatus
from gati.queues.log import LogError
from gati.queues.message import QueueMessage
from gati.queues.postgres_schema import DEAD, INSERT, LANES, TURNS, NewerSchemaError, ensure_schema, has_tables

if TYPE_CHECKING:
    from gati.queues.address import QueueAddress

_PAGE = 500

_DEAD = f"""
SELECT id, key, value, endpoint, turn, items, account, (extract(epoch FROM published_at) * 1000)::bigint, format, reason,
origin, (extract(epoch FROM dead_at) * 1000)::bigint FROM {DEAD} WHERE id > %s ORDER BY id LIMIT {_PAGE}
"""  # noqa: S608  # our own names

_TURNS = f"SELECT count(*), extract(epoch FROM now() - min(published_at))::float8 FROM {TURNS}"  # noqa: S608  # our own name

_RELAYS = """
SELECT r.id, r.pid, r.lanes, extract(epoch FROM now() - r.started_at)::float8,
extract(epoch FROM now() - r.seen_at)::float8, r.state
FROM gati_relays r JOIN pg_stat_activity a ON a.pid = r.pid AND a.application_name = 'gati relay' ORDER BY r.started_at
"""


class PostgresAdmin:
    """One connection, made at the first use."""

    def __init__(self, address: QueueAddress) -> None:
        self._url = address.url
        self._made: psycopg.Connection[Any] | None = None

    def exists(self) -> bool:
        """See `QueueAdmin.exists`."""
        with self._connected() as connection:
            return has_tables(connection)

    def status(self) -> QueueStatus:
        """See `QueueAdmin.status`."""
        if not self.exists():
            return QueueStatus(0, None, 0, 0)
        with self._connected() as connection:
            turns, oldest = connection.execute(_TURNS).fetchone() or (0, None)
            (dead,) = connection.execute(f"SELECT count(*) FROM {DEAD}").fetchone() or (0,)  # noqa: S608  # our own name
            relays = [
                {"relay": state.pop("name", id_), "lanes": lanes, "up_seconds": up, "seen_seconds": seen, **state}
                for id_, _, lanes, up, seen, state in connection.execute(_RELAYS)
            ]
        return QueueStatus(turns, oldest, dead, LANES, relays)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """See `QueueAdmin.dead_letters`."""
        last, exists = 0, self.exists()
        while exists:
            with self._connected() as connection:
                rows = connection.execute(_DEAD, (last,)).fetchall()
            for id_, key, value, *rest in rows:
                last = id_
                yield DeadLetter(str(id_), QueueMessage(key, bytes(value), *rest))
            exists = len(rows) == _PAGE

    def replay(self, letters: Sequence[DeadLetter]) -> None:
        """See `QueueAdmin.replay`."""
        rows = [
            (m.key, m.account, m.endpoint, m.turn, m.items, m.format, m.value)
            for m in (letter.message for letter in letters)
        ]
        with self._connected() as connection, connection.transaction():
            ensure_schema(connection)  # today's partition
            with connection.cursor() as cursor:
                cursor.executemany(INSERT, rows)
            self._delete(connection, letters)

    def drop(self, letters: Sequence[DeadLetter]) -> None:
        """See `QueueAdmin.drop`."""
        with self._connected() as connection:
            self._delete(connection, letters)

    @staticmethod
    def _delete(connection: psycopg.Connection[Any], letters: Sequence[DeadLetter]) -> None:
        ids = [int(letter.id) for letter in letters]
        connection.execute(f"DELETE FROM {DEAD} WHERE id = ANY(%s::bigint[])", (ids,))  # noqa: S608  # our own name

    def close(self) -> None:
        """See `QueueAdmin.close`."""
        if self._made is not None:
            self._made.close()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            if self._made is None:
                self._made = psycopg.connect(self._url, autocommit=True, connect_timeout=10)
            yield self._made
        except psycopg.Error as error:
            raise LogError(f"PostgreSQL: {type(error).__name__}") from error
        except NewerSchemaError as error:
            raise LogError(f"PostgreSQL: {error}") from error
