"""Both stores for tests: the embedded one and the team's store in a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from gati.store.store import Store
from tests.brokers import PostgresServer
from tests.optional import needs

STORES = ["sqlite", "postgresql"]

_numbers = itertools.count(1)


@pytest.fixture(params=STORES)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store; each test runs once with an embedded store, and once with one in PostgreSQL."""
    if request.param == "sqlite":
        store = Store(tmp_path / "store.db")
    else:
        needs("psycopg")
        from gati.team_store.store import PostgresStore

        store = PostgresStore(request.getfixturevalue("team_database"))
    yield store
    store.close()


@pytest.fixture
def team_database(team_template: PostgresServer) -> str:
    """The address of a PostgreSQL database with the tables of an empty store."""
    return create_team_database(team_template)


@pytest.fixture(scope="session")
def team_template(postgres_server: PostgresServer) -> PostgresServer:
    """A PostgreSQL server with a database `gati_template`. Copying it is faster than creating the tables."""
    import psycopg

    from gati.team_store.store import PostgresStore

    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE gati_template")
    PostgresStore(postgres_server.url("gati_template")).close()
    return postgres_server


def create_team_database(server: PostgresServer) -> str:
    """Create a database with the tables of an empty store; return its address."""
    import psycopg

    name = f"store{next(_numbers)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE gati_template".encode())
    return server.url(name)
