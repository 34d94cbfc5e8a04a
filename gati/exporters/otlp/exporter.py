"""Exports turns as spans to an OTLP receiver, such as an OpenTelemetry collector: `POST {otlp_endpoint}/v1/traces`.

OTLP over HTTP with protocol buffers, compressed with gzip. See `span_encoder` for the spans.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gati.errors import ConfigurationError
from gati.exporters import http_outcome
from gati.exporters.base import DELIVERED, Outcome, Request, SpoolIdentity, Verdict
from gati.exporters.log_suppression import suppress_sdk_logs
from gati.exporters.otlp.span_encoder import SpanEncoder
from gati.exporters.shared_client import SharedClient
from gati.settings import hide_credentials

if TYPE_CHECKING:
    import httpx

    from gati.events import Item
    from gati.settings import Settings

PATH = "/v1/traces"
_PAUSE_STATUSES = frozenset({401, 402, 403, 407})
_RETRY_STATUSES = frozenset({404, 405, 408, 409, 425, 429})
"""The address is wrong, or the receiver is busy. 502 to 504 are among the statuses from 500 on."""
_ANSWER_TYPES = frozenset({"application/x-protobuf", "application/protobuf", "application/json"})
"""Types of a receiver's error. Others come from a proxy or a firewall, which refuse nothing for good."""


class OTLPExporter:
    """Send spans to an OTLP receiver. `send` is thread-safe. See `exporters.base.Exporter`.

    Raises:
        ConfigurationError: `opentelemetry-proto` is not installed.
    """

    name = "otlp"
    durable = False

    def __init__(self, settings: Settings) -> None:
        if not _is_installed():
            needed = 'unset unless opentelemetry-proto is installed: pip install "gati-greenflash[otel]"'
            raise ConfigurationError("otlp_endpoint", hide_credentials(settings.otlp_endpoint or ""), needed)
        self._url = traces_url(settings.otlp_endpoint or "")
        self._headers = {name: value.get_secret_value() for name, value in (settings.otlp_headers or {}).items()}
        secrets = "\0".join(f"{name}\0{value}" for name, value in sorted(self._headers.items()))
        self.account = _short_hash(f"{self.name}\0{self._url}\0{secrets}")
        address = _short_hash(f"{self.name}\0{self._url}")
        self.spool_identity = SpoolIdentity(self.account, address, hide_credentials(self._url))
        self._timeout = settings.timeout
        self._connections = settings.connections
        self._settings = settings
        self._encoder = self.new_encoder()
        self._client = SharedClient(self._connect)

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """See `SpanEncoder.encode`."""
        return self._encoder.encode(items)

    def new_encoder(self) -> SpanEncoder:
        """Return an encoder that has encoded nothing yet, for the items of another process."""
        return SpanEncoder(self._settings, resource_attributes(self._settings))

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """See `SpanEncoder.split`."""
        return self._encoder.split(request)

    def accepts(self, request: Request) -> bool:
        """Return False for a request that was read from a damaged file."""
        body = request.body
        spans = body.get("spans")
        return isinstance(spans, list) and len(spans) == request.items and isinstance(body.get("resource"), dict)

    def send(self, request: Request) -> Outcome:
        """Make one attempt."""
        try:
            with suppress_sdk_logs():
                return self._send(request)
        except (KeyError, TypeError, ValueError) as error:
            # The request comes from a damaged file.
            return Outcome(Verdict.SPLIT if request.items > 1 else Verdict.REJECT, f"invalid: {type(error).__name__}")
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
        """Load the HTTP library and the wire format."""
        import_module("gati.exporters.otlp.wire")  # takes 50 ms
        self._client.get()

    def _send(self, request: Request) -> Outcome:
        from gati.exporters.otlp import wire

        client = self._client.get()
        if client is None:
            return Outcome(Verdict.RETRY, "the exporter is closed")
        content = gzip.compress(wire.encode(request.body, _own_version()), 6, mtime=0)
        response = client.post(self._url, content=content)
        wait = http_outcome.retry_after(response.headers)
        if not response.is_success:
            return _outcome_of_response(response, request.items, wait)
        rejected = wire.rejected_spans(response.content, response.headers.get("content-type", ""))
        if rejected is None:
            return Outcome(Verdict.RETRY, f"HTTP {response.status_code} without an OTLP answer", wait)
        if not rejected:
            return DELIVERED if wait is None else DELIVERED._replace(retry_after=wait)
        refused = min(rejected, request.items)
        return Outcome(Verdict.OK, f"HTTP {response.status_code}: partial success", wait, refused_items=refused)

    def _connect(self) -> httpx.Client:
        import httpx  # late: a dependency of the SDK

        from gati.exporters.bounded_client import BoundedClient

        return BoundedClient(
            total_timeout=self._timeout,
            headers={
                "user-agent": f"gati-greenflash/{_own_version()}",
                **self._headers,
                "content-type": "application/x-protobuf",
                "content-encoding": "gzip",
            },
            timeout=httpx.Timeout(self._timeout, connect=min(5.0, self._timeout)),
            limits=httpx.Limits(max_connections=self._connections + 1),
            follow_redirects=False,
        )


def traces_url(endpoint: str) -> str:
    """Return the address of the traces, given a receiver's: `"http://c:4318"` → `"http://c:4318/v1/traces"`."""
    return endpoint if endpoint.endswith(PATH) else endpoint + PATH


def resource_attributes(settings: Settings) -> dict[str, str]:
    """Return the attributes of the program. OpenTelemetry's own variables win over gati's options."""
    attributes = {"service.name": settings.agent_name, "telemetry.sdk.language": "python", "telemetry.sdk.name": "gati"}
    if settings.environment:
        attributes["deployment.environment.name"] = settings.environment
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            attributes[name.strip()] = unquote(value.strip())
    if name := os.environ.get("OTEL_SERVICE_NAME", "").strip():
        attributes["service.name"] = name
    return attributes


def _outcome_of_response(response: httpx.Response, items: int, wait: float | None) -> Outcome:
    """Return the outcome for a response that is not a success.

    The specification lets clients retry after 429, 502, 503 and 504 only. gati also waits where the receiver is not
    reached or refuses the credentials, because its requests are on disk until then.
    """
    status = response.status_code
    reason = f"HTTP {status}"
    if status in _PAUSE_STATUSES:
        return Outcome(Verdict.PAUSE, f"{reason}: the credentials are refused", wait, key_refused=status == 401)
    if status in (404, 405) or status < 400:
        return Outcome(Verdict.RETRY, f"{reason}: is the address right?", wait)
    if status in _RETRY_STATUSES or status >= 500:
        return Outcome(Verdict.RETRY, reason, wait)
    if status == 413 and items > 1:
        return Outcome(Verdict.SPLIT, f"{reason}: too large", wait)
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() not in _ANSWER_TYPES:
        return Outcome(Verdict.RETRY, f"{reason}: not an answer of the receiver", wait)
    if status in (400, 422) and items > 1:
        return Outcome(Verdict.SPLIT, f"{reason}: refused", wait)
    return Outcome(Verdict.REJECT, f"{reason}: {'too large' if status == 413 else 'refused'}", wait)


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:  # nothing of OpenTelemetry is installed
        return False


@cache
def _own_version() -> str:
    try:
        return version("gati-greenflash")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
