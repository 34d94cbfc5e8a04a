"""Records the requests that a test server accepted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gati.studio.api import validation


@dataclass
class RecordedRequest:
    """An authorized request. Requests hit by a fault before they are processed are not recorded."""

    method: str
    path: str
    body: Any


@dataclass
class RequestLog:
    """The recorded requests; pass it as `on_request` to `create_test_app`.

    Attributes:
        requests: The requests in order of arrival.
        unknown_keys: Paths of keys that the schemas do not define. They are accepted, but most likely mistakes.
    """

    requests: list[RecordedRequest] = field(default_factory=list)
    unknown_keys: list[str] = field(default_factory=list)

    def __call__(self, method: str, path: str, endpoint: str | None, body: Any) -> None:
        self.requests.append(RecordedRequest(method, path, body))
        if endpoint is not None:
            self.unknown_keys.extend(validation.unknown_keys(endpoint, body))
