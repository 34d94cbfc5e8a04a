"""Exports to an existing GATI backend: `POST {backend_url}/api/events`. See `events_encoder` for the bodies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from gati.exporters import http_outcome
from gati.exporters.base import DELIVERED, Outcome, Request, SpoolIdentity, Verdict
from gati.exporters.events_encoder import EventsEncoder
from gati.exporters.log_suppression import suppress_sdk_logs
from gati.exporters.shared_client import SharedClient
from gati.settings import hide_credentials

if TYPE_CHECKING:
    import httpx

    from gati.events import Item
    from gati.settings import Settings


class EventsApiExporter:
    """Send events to a GATI backend. `send` is thread-safe. See `exporters.base.Exporter`."""

    name = "events_api"
    durable = False

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.backend_url}/api/events"
        self._key = settings.backend_api_key.get_secret_value() if settings.backend_api_key else ""
        identity = f"{self.name}\0{self._url}\0{self._key}"
        self.account = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
        address = hashlib.sha256(f"{self.name}\0{self._url}".encode(errors="replace")).hexdigest()[:16]
        self.spool_identity = SpoolIdentity(self.account, address, hide_credentials(self._url))
        self._timeout = settings.timeout
        self._connections = settings.connections
        self._settings = settings
        self._encoder = EventsEncoder(settings)
        self._client = SharedClient(self._connect)

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """See `EventsEncoder.encode`."""
        return self._encoder.encode(items)

    def new_encoder(self) -> EventsEncoder:
        """Return an encoder that has encoded nothing yet, for the items of another process."""
        return EventsEncoder(self._settings)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """See `EventsEncoder.split`."""
        return self._encoder.split(request)

    def accepts(self, request: Request) -> bool:
        """Return False for a request that was read from a damaged file."""
        events = request.body.get("events")
        return isinstance(events, list) and len(events) == request.items

    def send(self, request: Request) -> Outcome:
        """Make one attempt."""
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            return Outcome(Verdict.PAUSE, "the API key contains invalid characters", key_refused=True)
        try:
            with suppress_sdk_logs():
                return self._send(request)
        except Exception as error:  # noqa: BLE001 - refused, reset, timed out or shutting down: retry in any case
            return Outcome(Verdict.RETRY, f"no answer: {type(error).__name__}")

    def after_fork(self) -> None:
        """Use a new client in a forked child."""
        self._client.after_fork()

    def close(self) -> None:
        """Close the connections. The verdict of later attempts is RETRY."""
        with suppress_sdk_logs():
            self._client.close()

    def prepare(self) -> None:
        """Load the HTTP library."""
        self._client.get()

    def _send(self, request: Request) -> Outcome:
        client = self._client.get()
        if client is None:
            return Outcome(Verdict.RETRY, "the exporter is closed")
        response = client.post(self._url, content=orjson.dumps(request.body))
        if response.is_success:
            if _is_empty_or_json(response.content):
                return DELIVERED
            wait = http_outcome.retry_after(response.headers)
            return Outcome(Verdict.RETRY, f"HTTP {response.status_code} without the API's answer", wait)
        return http_outcome.from_status(response.status_code, response.headers, response.content, request.items)

    def _connect(self) -> httpx.Client:
        import httpx  # late: a dependency of the SDK

        from gati.exporters.bounded_client import BoundedClient

        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        return BoundedClient(
            total_timeout=self._timeout,
            headers=headers,
            timeout=httpx.Timeout(self._timeout, connect=min(5.0, self._timeout)),
            limits=httpx.Limits(max_connections=self._connections + 1),
            follow_redirects=False,
        )


def _is_empty_or_json(body: bytes) -> bool:
    """Return True for an empty body or JSON. A web page comes from a proxy or another server."""
    try:
        return not body or orjson.loads(body) is not NotImplemented
    except orjson.JSONDecodeError:
        return False
