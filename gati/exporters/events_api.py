"""An existing GATI backend as a destination: ``POST {backend_url}/api/events``. The events: `batches`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from gati.exporters import http_outcome
from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.exporters.events_encoder import Encoder
from gati.exporters.log_suppression import quiet
from gati.exporters.shared_client import Held

if TYPE_CHECKING:
    import httpx

    from gati.events import Item
    from gati.settings import Settings


class EventsApiExporter:
    """A GATI backend as a destination; see `exporters.base.Exporter`. `send` is safe in several threads."""

    name = "events_api"
    durable = False

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.backend_url}/api/events"
        self._key = settings.backend_api_key.get_secret_value() if settings.backend_api_key else ""
        told = f"{self.name}\0{self._url}\0{self._key}"
        self.account = hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16]
        self._timeout = settings.timeout
        self._connections = settings.connections
        self._encoder = Encoder(settings)
        self._client = Held(self._connect)

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """See `Encoder.encode`."""
        return self._encoder.encode(items)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """See `Encoder.split`."""
        return self._encoder.split(request)

    def send(self, request: Request) -> Outcome:
        """Make one attempt."""
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            return Outcome(Verdict.PAUSE, "the API key holds characters that no key has")
        try:
            with quiet():
                return self._send(request)
        except Exception as fault:  # noqa: BLE001 - refused, reset, timed out, shutting down: whatever, it is tried again
            return Outcome(Verdict.RETRY, f"no answer: {type(fault).__name__}")

    def after_fork(self) -> None:
        """A new client in the child."""
        self._client.after_fork()

    def close(self) -> None:
        """Close the connections; later attempts are put off."""
        with quiet():
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
            if _is_answer(response.content):
                return DELIVERED
            return Outcome(Verdict.RETRY, f"HTTP {response.status_code} without the API's answer")
        return http_outcome.of_status(response.status_code, response.headers, response.content, request.items)

    def _connect(self) -> httpx.Client:
        import httpx  # late: comes with the SDK

        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        return httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(self._timeout, connect=min(5.0, self._timeout)),
            limits=httpx.Limits(max_connections=self._connections + 1),
            follow_redirects=False,
        )


def _is_answer(body: bytes) -> bool:
    """Nothing or JSON; a web page is somebody else's answer."""
    try:
        return not body or orjson.loads(body) is not NotImplemented
    except orjson.JSONDecodeError:
        return False
