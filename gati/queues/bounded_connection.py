"""A connection to PostgreSQL whose operations end in time, whatever the server does."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.pq.abc import PGconn

from gati.clock import Clock

T = TypeVar("T")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server has not answered for `answer_seconds`.

    A server that is stopped, or that vanished without closing its connections, would block the caller for ever: the limits
    of the server do not help then.

    Raises:
        psycopg.OperationalError: From each operation that takes too long.
    """

    answer_seconds = 300.0

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """See `psycopg.Connection.wait`. The time begins again with each answer of the server."""
        return super().wait(_limited(gen, self.pgconn, self.answer_seconds), *args, **options)


def _limited(operation: Generator[Any, Any, T], pgconn: PGconn, seconds: float) -> Generator[Any, Any, T]:
    """Pass on what psycopg reports to an operation: that the server has answered, or regularly that it has not."""
    until = Clock.monotonic() + seconds
    try:
        wanted = next(operation)
        while True:
            ready = yield wanted
            if ready:
                until = Clock.monotonic() + seconds
            elif Clock.monotonic() > until:
                operation.close()
                pgconn.finish()
                raise psycopg.OperationalError("no answer of the server in time")
            wanted = operation.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # of the operation


def reason_of(error: Exception) -> str:
    """Return the first line of an error without credentials.

    libpq's errors name host, port and user, never the password. Only those about the address itself quote parts of it.
    """
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return "the address is invalid: in user and password, write %2F for /, %40 for @ and %25 for %"
    return (str(error).splitlines() or [type(error).__name__])[0]
