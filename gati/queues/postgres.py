"""Publishes to PostgreSQL, through libpq's interface without blocking: it costs the least, and each wait has a limit."""

from __future__ import annotations

import ctypes
import select
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.clock import Clock
from gati.exporters.base import DELIVERED, Outcome, Verdict
from gati.exporters.deadline_call import DeadlineExceededError, call_with_deadline
from gati.queues import postgres_schema

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGconn, PGresult

    from gati.queues.address import QueueAddress
    from gati.queues.message import QueueMessage

CONNECT_SECONDS = 5.0
"""Longest time for a connection."""

MISSING = "the package psycopg is missing: pip install 'gati-greenflash[postgres]'"

_INSERT = b"""
INSERT INTO gati_turns (key, account, endpoint, turn, items, format, value)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::bytea[])
"""
_ELEMENTS = (25, 25, 25, 25, 23, 25, 17)
"""OIDs of text, integer and bytea, in the order of the columns."""
_ARRAYS = (1009, 1009, 1009, 1009, 1007, 1009, 1001)
"""OIDs of the arrays of these types."""
_BINARY = (1,) * len(_ARRAYS)
_ARRAY_HEADER = struct.Struct("!iiIii")
"""Dimensions, flags, type of the elements, number of elements, index of the first one."""
_LENGTH = struct.Struct("!i")

_NO_PARTITION = "23514"
_NO_TABLE = "42P01"
_FORBIDDEN = ("42501", "28000", "28P01", "3D000")
"""Missing permission, refused credentials, unknown database."""


class _StatementError(Exception):
    """The server refused a statement, and with it all of the call."""

    def __init__(self, result: PGresult) -> None:
        from psycopg.pq import DiagnosticField

        self.sqlstate = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        super().__init__(f"{self.sqlstate}: {message}")


class _NoAnswerError(Exception):
    """The server did not answer in time, or the connection broke."""


class PostgresPublisher:
    """Publishes to the table `gati_turns`. See `queues.exporter.Publisher`.

    Args:
        address: The database.
        timeout: Seconds after which an attempt has failed.
    """

    def __init__(self, address: QueueAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._link: _Link | None = None
        self._closed = False

    def prepare(self) -> None:
        """Import the client library."""
        import psycopg  # noqa: F401  # an extra, imported late

    def publish(self, messages: Sequence[QueueMessage]) -> list[Outcome]:
        """Publish messages in one transaction, and wait until it is committed."""
        try:
            import psycopg  # late: an extra
        except ImportError:
            return [Outcome(Verdict.RETRY, MISSING, local_fault=True)] * len(messages)
        if self._closed:
            return [Outcome(Verdict.RETRY, "the exporter is closed")] * len(messages)
        try:
            self._insert(messages)
        except _StatementError as error:
            if len(messages) > 1 and _concerns_one(error.sqlstate):
                return [self.publish([message])[0] for message in messages]
            return [_outcome(error.sqlstate, str(error))] * len(messages)
        except DeadlineExceededError:
            self._disconnect()
            return [Outcome(Verdict.RETRY, "no answer")] * len(messages)
        except (psycopg.Error, _NoAnswerError, OSError, postgres_schema.NewerSchemaError) as error:
            from gati.queues.bounded_connection import reason_of  # late, as psycopg

            self._disconnect()
            return [
                _outcome(getattr(error, "sqlstate", None) or "", f"{type(error).__name__}: {reason_of(error)}")
            ] * len(messages)
        return [DELIVERED] * len(messages)

    def after_fork(self) -> None:
        """Use another connection in a forked child. Closing the inherited one would end the parent's."""
        if self._link is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._link))  # no finalizer, even at exit
        self._link = None

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._disconnect()

    def _insert(self, messages: Sequence[QueueMessage]) -> None:
        """Insert and commit; create missing tables and partitions. All of it takes at most `timeout` seconds."""
        until = Clock.monotonic() + self._timeout
        if self._link is None:
            # Names are resolved and statements executed without a time limit, for example behind a lock.
            self._link = call_with_deadline(self._connect, until)
        link = self._link
        try:
            link.insert(messages, until)
        except _StatementError as error:
            if error.sqlstate not in (_NO_PARTITION, _NO_TABLE):
                raise
            call_with_deadline(lambda: postgres_schema.ensure_schema(link.connection), until)
            link.insert(messages, until)

    def _connect(self) -> _Link:
        connection = connect(self._address, self._timeout)
        try:
            postgres_schema.ensure_schema(connection)
        except BaseException:  # also if it is abandoned: the connection would leak
            connection.close()
            raise
        return _Link(connection)

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.connection.close()


def connect(address: QueueAddress, timeout: float) -> psycopg.Connection[Any]:
    """Connect, with autocommit. What the address says about timeout and application name wins.

    Raises:
        psycopg.Error: the server cannot be reached, or refuses.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(address.url)
    options: dict[str, Any] = {
        "connect_timeout": max(1, int(min(CONNECT_SECONDS, timeout))),
        "application_name": "gati",
    }
    options = {name: value for name, value in options.items() if name not in given}
    return psycopg.connect(address.url, autocommit=True, **options)


class DatabaseInfo(NamedTuple):
    """The rights of the user in a database; see `check_database`."""

    version: int
    """The server's version, as in `server_version_num`."""
    has_tables: bool
    may_publish: bool
    """True if this user may insert, or may create the tables if there are none."""


def check_database(address: QueueAddress, timeout: float) -> DatabaseInfo:
    """Return what a database allows. Changes nothing.

    Raises:
        psycopg.Error: the server cannot be reached, or refuses.
    """
    with connect(address, timeout) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version_num')::int, to_regclass('gati_turns') IS NOT NULL, coalesce("
            "has_table_privilege(to_regclass('gati_turns')::oid, 'INSERT') "
            "AND has_sequence_privilege(to_regclass('gati_turns_id')::oid, 'USAGE'), "
            "has_schema_privilege(current_schema(), 'CREATE'), false)"
        ).fetchone()
    return DatabaseInfo(*row) if row else DatabaseInfo(0, False, False)


class _Link:
    """A connection that sends one statement at a time without blocking.

    Turns that are published alone pay for every Python call here, so what a call needs is prepared once.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        from psycopg.pq import ExecStatus  # late, as psycopg

        self.connection = connection
        self._failure = ExecStatus.FATAL_ERROR
        self._pgconn: PGconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._poll = None
        if hasattr(select, "poll"):  # takes any number of open files, unlike `select`
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)

    def insert(self, messages: Sequence[QueueMessage], until: float) -> None:
        """Insert all messages with one statement. Raises `_StatementError` and `_NoAnswerError`."""
        pgconn = self._pgconn
        pgconn.nonblocking = 1
        pgconn.send_query_params(_INSERT, _parameters(messages), _ARRAYS, _BINARY)
        failed: PGresult | None = None
        while True:
            self._wait(bool(pgconn.flush()), until - Clock.monotonic())
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    if failed is not None:
                        raise _StatementError(failed)
                    return
                if result.status == self._failure:
                    failed = failed or result

    def _wait(self, for_write: bool, seconds: float) -> None:
        """Wait until the socket can be used. Raises `_NoAnswerError` after the time."""
        if self._poll is None:
            readable, writable, _ = select.select(
                [self._socket], [self._socket] if for_write else [], [], max(0.0, seconds)
            )
            ready: list[Any] = readable + writable
        else:
            if for_write:
                self._poll.modify(self._socket, select.POLLIN | select.POLLOUT)
            ready = self._poll.poll(max(0.0, seconds) * 1000)
            if for_write:
                self._poll.modify(self._socket, select.POLLIN)
        if not ready:
            raise _NoAnswerError("no answer")


def _parameters(messages: Sequence[QueueMessage]) -> list[bytes]:
    """Return the columns of messages as arrays in PostgreSQL's binary format."""
    rows = [
        (
            *(_text(m.key), _text(m.account), _text(m.endpoint), _text(m.turn)),
            *(_LENGTH.pack(m.items), _text(m.format), m.value),
        )
        for m in messages
    ]
    return [_array(element, column) for element, column in zip(_ELEMENTS, zip(*rows, strict=True), strict=True)]


def _array(element: int, values: Sequence[bytes]) -> bytes:
    parts = [_ARRAY_HEADER.pack(1, 0, element, len(values), 1)]
    for value in values:
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def _text(text: str) -> bytes:
    """Return a text without NUL, which PostgreSQL cannot store."""
    return (text.replace("\0", "") if "\0" in text else text).encode(errors="replace")


def _concerns_one(sqlstate: str) -> bool:
    """Return True if one message may be the cause, so that the others can be published without it."""
    return sqlstate.startswith(("22", "23", "54"))


def _outcome(sqlstate: str, reason: str) -> Outcome:
    if sqlstate.startswith("54"):
        return Outcome(Verdict.SPLIT, reason[:200])
    if sqlstate.startswith("22"):
        return Outcome(Verdict.REJECT, reason[:200])
    return Outcome(Verdict.PAUSE if sqlstate in _FORBIDDEN else Verdict.RETRY, reason[:200])
