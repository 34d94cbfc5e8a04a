"""A connection to PostgreSQL with the methods and rows of one to SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from gati.queues.bounded_connection import BoundedConnection
from gati.team_store import translation
from gati.team_store.text_index import TextIndex
from gati.team_store.translation import Values

SCHEMA = "gati"
"""The schema of all tables."""

_ANSWER_SECONDS = 310.0
"""Longest time without an answer of the server, which itself ends a statement earlier (see `statement_timeout`)."""

_SESSION = {
    "application_name": "gati",
    "connect_timeout": "10",
    "options": (
        f"-c search_path={SCHEMA} -c client_encoding=UTF8 -c lock_timeout=20s"
        # A process that is stopped in the middle of a transaction must not keep all others from writing.
        " -c idle_in_transaction_session_timeout=60s -c statement_timeout=300s"
    ),
}


class StoreUnavailableError(ConnectionError):
    """The database cannot be reached, ended the connection, or did not answer in time."""


class Row(tuple[Any, ...]):
    """A row whose values are found by position and by the column's name, as in `sqlite3.Row`."""

    _positions: ClassVar[dict[str, int]] = {}

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self._positions[key] if type(key) is str else key)

    def keys(self) -> list[str]:
        """Return the names of the columns."""
        return list(self._positions)


@lru_cache(maxsize=512)
def _row_class(names: tuple[str, ...]) -> type[Row]:
    return type("Row", (Row,), {"_positions": {name: position for position, name in enumerate(names)}})


def _make_rows(cursor: Any) -> Any:
    """The row factory: rows of one class for each list of columns."""
    if cursor.description is None:
        return Row
    return _row_class(tuple(column.name for column in cursor.description))


class _NumberLoader(Loader):
    """Loads sums of integers as int instead of Decimal."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text or b"N" in text else int(text)


class _Cursor(psycopg.ClientCursor[Row]):
    """A cursor that writes values into the statement, so that PostgreSQL infers their types as SQLite does."""

    @property
    def lastrowid(self) -> int:
        """The row id that was assigned last in this session."""
        row = self.connection.execute("SELECT lastval()").fetchone()
        return int(row[0]) if row else 0


class PostgresConnection:
    """A connection to the team's store. Statements are those of `gati.store`, see `translation`."""

    def __init__(self, address: str, *, read_only: bool = False) -> None:
        with translated_errors():
            self.session: BoundedConnection = BoundedConnection.connect(
                address,
                autocommit=True,
                cursor_factory=_Cursor,
                row_factory=_make_rows,
                prepare_threshold=None,
                **_session_options(address),
            )
            self.session.answer_seconds = _ANSWER_SECONDS
            self.session.adapters.register_loader("numeric", _NumberLoader)
            if read_only:
                self.session.execute("SET default_transaction_read_only = on")
        self.engine = TextIndex(self.run)

    def execute(self, statement: str, values: Values = ()) -> Any:
        """Execute a statement of `gati.store`; return its cursor."""
        translated = translation.translate(statement)
        with translated_errors():
            return self.session.execute(translated.text, translation.adapt_values(translated, values))

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for each row of values."""
        translated = translation.translate(statement)
        given = [translation.adapt_values(translated, row) for row in rows]
        if given:
            with translated_errors(), self.session.cursor() as cursor:
                cursor.executemany(translated.text, given)

    def run(self, statement: str, values: Values = ()) -> Any:
        """Execute a statement that is written for PostgreSQL, with its values sent apart from it."""
        with translated_errors():
            cursor: psycopg.Cursor[Row] = psycopg.Cursor(self.session, row_factory=_make_rows)
            return cursor.execute(statement, values or None)

    @contextmanager
    def copying(self, statement: str) -> Iterator[psycopg.Copy]:
        """Provide a `COPY … FROM STDIN` to write rows to."""
        with translated_errors(), self.session.cursor() as cursor, cursor.copy(statement) as copy:
            yield copy

    @property
    def is_usable(self) -> bool:
        """The connection is open and outside a transaction."""
        return not self.session.closed and self.session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def close(self) -> None:
        """Close the connection."""
        self.session.close()


def _session_options(address: str) -> dict[str, Any]:
    """Return the options of a session. Those in the address win."""
    given = psycopg.conninfo.conninfo_to_dict(address)
    options = {name: value for name, value in _SESSION.items() if name not in given}
    if "options" in given:
        options["options"] = f"{_SESSION['options']} {given['options']}"
    return options


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise `StoreUnavailableError` for what may pass: a lost connection, a timeout, a deadlock, a server that stops."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if isinstance(error, psycopg.errors.ProgramLimitExceeded):
            raise
        raise StoreUnavailableError(str(error).strip() or type(error).__name__) from error


def too_large_error(error: BaseException) -> bool:
    """Return True if a value does not fit into an index."""
    return isinstance(error, psycopg.errors.ProgramLimitExceeded)
