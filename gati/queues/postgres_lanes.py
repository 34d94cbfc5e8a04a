"""Lanes of the queue in PostgreSQL: whoever holds the advisory lock of a lane owns it, so it is free once a relay dies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from gati.queues.postgres_schema import LANES

if TYPE_CHECKING:
    from collections.abc import Collection

    import psycopg

LANE_LOCK = 0x6761746C
"""First key of the advisory lock of a lane; the second one is the lane."""

MEMBER_LOCK = 0x6761746D
"""First key of the advisory lock that every relay shares, so that they can be counted."""

_LIMITS = """
SELECT set_config('idle_session_timeout', %(ms)s, false), set_config('idle_in_transaction_session_timeout', %(ms)s, false)
"""

_LOCKED = """
SELECT l.classid::bigint, l.objid::int, l.pid, a.usename = current_user AND a.wait_event_type = 'Client'
AND a.state_change < clock_timestamp() - %s * interval '1 second'
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.classid::bigint = ANY(%s)
"""


class LaneShares(NamedTuple):
    """Who owns what: the number of relays, and the lanes that are taken."""

    members: int
    taken: frozenset[int]

    @property
    def of_each(self) -> int:
        """The number of lanes that a relay may own."""
        return -(-LANES // max(1, self.members))


def join(connection: psycopg.Connection[Any], session_seconds: float) -> None:
    """Make a connection one of a relay. The server ends it when the relay sends nothing for `session_seconds`.

    There are two time limits, because a session inside a transaction is not idle to PostgreSQL.
    """
    connection.execute(_LIMITS, {"ms": str(int(session_seconds * 1000))})
    connection.execute("SELECT pg_advisory_lock_shared(%s::int, 0)", (MEMBER_LOCK,))


def look(connection: psycopg.Connection[Any], session_seconds: float) -> LaneShares:
    """Return who owns what. End the sessions of relays from which the server has heard nothing for `session_seconds`.

    The server itself has no time limit for an answer: it waits as long as the process lives that does not read it.
    """
    rows = connection.execute(_LOCKED, (session_seconds, [LANE_LOCK, MEMBER_LOCK])).fetchall()
    for pid in {pid for _, _, pid, is_stopped in rows if is_stopped}:
        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    members = sum(kind == MEMBER_LOCK for kind, *_ in rows)
    return LaneShares(members, frozenset(lane for kind, lane, *_ in rows if kind == LANE_LOCK))


def take(connection: psycopg.Connection[Any], shares: LaneShares, count: int) -> dict[int, int]:
    """Take up to `count` free lanes; return them, and the times that their former owners saved, 0 if there is none."""
    free = list(set(range(LANES)) - shares.taken)
    random.shuffle(free)
    if not free[:count]:
        return {}
    locked = "SELECT lane FROM unnest(%s::int[]) AS lane WHERE pg_try_advisory_lock(%s::int, lane)"
    got = {lane: 0 for (lane,) in connection.execute(locked, (free[:count], LANE_LOCK))}
    # Another statement, since the former owner may have saved a time after the first one began.
    saved = "SELECT lane, floor_ms FROM gati_lanes WHERE lane = ANY(%s::smallint[])"
    return got | dict(connection.execute(saved, (list(got),)).fetchall())


def release(connection: psycopg.Connection[Any], lanes: Collection[int]) -> None:
    """Let others take lanes."""
    connection.execute(
        "SELECT pg_advisory_unlock(%s::int, lane) FROM unnest(%s::int[]) AS lane", (LANE_LOCK, list(lanes))
    )
