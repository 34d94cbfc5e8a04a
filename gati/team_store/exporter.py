"""Exports to the team's store, with the same requests that Greenflash receives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gati.exporters.base import DELIVERED, Outcome, Request, RequestEncoder, Verdict
from gati.exporters.greenflash.encoder import to_wire_names
from gati.exporters.local import LocalExporter
from gati.store.store import TooLargeError
from gati.team_store.connection import StoreUnavailableError
from gati.team_store.pool import display_address
from gati.team_store.store import PostgresStore


class TeamStoreExporter(LocalExporter):
    """Write conversations to the team's store, without a studio in between.

    Args:
        address: A `postgresql://` address.
        encoder: Encodes items as Greenflash requests.
    """

    name = "postgresql"

    def __init__(self, address: str, encoder: RequestEncoder) -> None:
        super().__init__(None, 0, encoder)
        self.account = hashlib.sha256(f"postgresql\n{display_address(address)}".encode()).hexdigest()[:16]
        self._address = address
        self._team_store: PostgresStore | None = None

    def send(self, request: Request) -> Outcome:
        """Write the request to the store. The verdict is RETRY while the database cannot be reached."""
        try:
            self._write(request)
        except Exception as error:  # noqa: BLE001 - whatever happened, send must not raise
            return _outcome_of(error)
        return DELIVERED

    def send_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """Write several requests, those of messages in one transaction. Return their outcomes in the same order."""
        messages = [request for request in requests if request.endpoint == "messages"]
        try:
            store = self._open()
            results = iter(store.ingest_many([to_wire_names(request.body) for request in messages]))
        except Exception as error:  # noqa: BLE001 - as above
            return [_outcome_of(error)] * len(requests)
        outcomes = []
        for request in requests:
            result = next(results) if request.endpoint == "messages" else None
            if request.endpoint != "messages":
                outcomes.append(self.send(request))
            else:
                outcomes.append(_outcome_of(result) if isinstance(result, Exception) else DELIVERED)
        return outcomes

    def _open(self) -> PostgresStore:
        with self._opening:
            if self._team_store is None:
                self._store = self._team_store = PostgresStore(self._address)
            return self._team_store


def _outcome_of(error: Exception) -> Outcome:
    name = type(error).__name__
    if isinstance(error, TooLargeError):
        return Outcome(Verdict.SPLIT, f"{name}: {error}"[:200])
    if isinstance(error, StoreUnavailableError):
        return Outcome(Verdict.RETRY, f"{name}: {error}"[:200])
    return Outcome(Verdict.REJECT, name)
