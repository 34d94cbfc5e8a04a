"""Publishes to PostgreSQL, through libpq's interface without blocking: it costs the least, and each wait has a limit."""

from __future__ import annotations

import ctypes
import itertools
import re
import selectors
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

_numbers = itertools.count(1)
_INSERT = re.sub("%s", lambda _: f"${next(_numbers)}", postgres_schema.INSERT).encode()
_TYPES = (25, 25, 25, 25, 23, 25, 17)
"""OIDs of text, integer and bytea, in the order of `postgres_schema.INSERT`."""
_FORMATS = (0, 0, 0, 0, 0, 0, 1)
"""The value is binary."""

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
        self._connection: psycopg.Connection[Any] | None = None
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
            self._disconnect()
            return [_outcome(getattr(error, "sqlstate", None) or "", _first_line(error))] * len(messages)
        return [DELIVERED] * len(messages)

    def after_fork(self) -> None:
        """Use another connection in a forked child. Closing the inherited one would end the parent's."""
        if self._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))  # no finalizer, even at exit
        self._connection = None

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._disconnect()

    def _insert(self, messages: Sequence[QueueMessage]) -> None:
        """Insert and commit; create missing tables and partitions. All of it takes at most `timeout` seconds."""
        until = Clock.monotonic() + self._timeout
        if self._connection is None:
            # Names are resolved and statements executed without a time limit, for example behind a lock.
            self._connection = call_with_deadline(self._connect, until)
        connection = self._connection
        try:
            _insert_all(connection.pgconn, messages, until)
        except _StatementError as error:
            if error.sqlstate not in (_NO_PARTITION, _NO_TABLE):
                raise
            call_with_deadline(lambda: postgres_schema.ensure_schema(connection), until)
            _insert_all(connection.pgconn, messages, until)

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect(self._address, self._timeout)
        try:
            postgres_schema.ensure_schema(connection)
        except BaseException:  # also if it is abandoned: the connection would leak
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


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
    """What a database allows: see `check_database`."""

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


def _insert_all(pgconn: PGconn, messages: Sequence[QueueMessage], until: float) -> None:
    """Insert all messages in one transaction and one round trip. Raises `_StatementError` and `_NoAnswerError`."""
    from psycopg.pq import ExecStatus

    pgconn.nonblocking = 1
    pgconn.enter_pipeline_mode()
    for message in messages:
        pgconn.send_query_params(_INSERT, _parameters(message), _TYPES, _FORMATS)
    pgconn.pipeline_sync()
    failed: PGresult | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ)
        done = False
        while not done:
            unsent = pgconn.flush()
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
            selector.modify(pgconn.socket, wanted)
            if not selector.select(max(0.0, until - Clock.monotonic())):
                raise _NoAnswerError("no answer")
            pgconn.consume_input()
            while not done and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    continue
                done = result.status == ExecStatus.PIPELINE_SYNC
                if result.status == ExecStatus.FATAL_ERROR:
                    failed = failed or result
    pgconn.exit_pipeline_mode()
    pgconn.nonblocking = 0
    if failed is not None:
        raise _StatementError(failed)


def _parameters(message: QueueMessage) -> list[bytes]:
    texts = (message.key, message.account, message.endpoint, message.turn, str(message.items), message.format)
    # PostgreSQL has no text with a NUL.
    return [*(text.replace("\0", "").encode(errors="replace") for text in texts), message.value]


def _concerns_one(sqlstate: str) -> bool:
    """Return True if one message may be the cause, so that the others can be published without it."""
    return sqlstate.startswith(("22", "23", "54"))


def _outcome(sqlstate: str, reason: str) -> Outcome:
    if sqlstate.startswith("54"):
        return Outcome(Verdict.SPLIT, reason[:200])
    if sqlstate.startswith("22"):
        return Outcome(Verdict.REJECT, reason[:200])
    return Outcome(Verdict.PAUSE if sqlstate in _FORBIDDEN else Verdict.RETRY, reason[:200])


def _first_line(error: Exception) -> str:
    """Return the first line of an error. libpq's contains host and port, but no password."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
