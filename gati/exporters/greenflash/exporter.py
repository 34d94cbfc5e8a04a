"""Sends requests through the Greenflash SDK; the only importer of it.

The SDK's `messages.create` is the documented door. It is used with its raw response, since
success is judged by the contract, and with everything in `extra_body`, since the wire form is
made already. CPU of one call with 14 and with 100 messages, network not counted: `create`
3.6 and 9.5 ms, with camelCase messages 3.1 and 5.5, its raw response 0.7 and 3.1, the same
with `extra_body` 0.3 and 0.5 (greenflash 1.4.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from gati.exporters import http_outcome
from gati.exporters.base import DELIVERED, Outcome, Request, Verdict
from gati.exporters.greenflash.connection import access, http_client
from gati.exporters.log_suppression import quiet
from gati.exporters.shared_client import Held

if TYPE_CHECKING:
    from greenflash import Greenflash

    from gati.events import Item
    from gati.exporters.greenflash.encoder import Encoder
    from gati.settings import Settings

_LEAST = 2000
"""Bytes to which a single message is shortened when a server refuses its size, before it is given up."""


class GreenflashExporter:
    """Greenflash as a destination; see `exporters.base.Exporter`. `send` is safe in several threads."""

    name = "greenflash"
    durable = False

    def __init__(self, settings: Settings) -> None:
        self._access = access(settings)
        self.account = self._access.account
        self._timeout = settings.timeout
        self._connections = settings.connections
        self._settings = settings
        self._client: Held[Greenflash] = Held(self._connect)

    @cached_property
    def _encoder(self) -> Encoder:
        from gati.exporters.greenflash.encoder import Encoder  # late: in the background, not in the user's `init`

        return Encoder(self._settings)

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """See `Encoder.encode`."""
        return self._encoder.encode(items)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """See `Encoder.split`."""
        return self._encoder.split(request)

    def send(self, request: Request) -> Outcome:
        """Make one attempt; what the server refuses for its form only is put right and sent again."""
        if self._access.fault:
            return Outcome(Verdict.PAUSE, self._access.fault)
        try:
            with quiet():
                return self._send(request)
        except Exception as fault:  # noqa: BLE001 - the worker must live: whatever this is, it is tried again and counted
            return Outcome(Verdict.RETRY, f"unexpected {type(fault).__name__}")

    def prepare(self) -> None:
        """Load the SDK with what it loads at first use."""
        client = self._ready()
        for name in ("messages", "users", "organizations", "ratings", "events"):
            getattr(client, name, None)

    def after_fork(self) -> None:
        """A new client in the child."""
        self._client.after_fork()

    def close(self) -> None:
        """Close the connections; later attempts are put off."""
        with quiet():
            self._client.close()

    def _send(self, request: Request) -> Outcome:
        from gati.exporters.greenflash.encoder import shorten  # late, as above

        body = request.body
        outcome, status, answer = self._attempt(request.endpoint, body, request.items)
        if request.endpoint != "messages":
            return outcome
        for all_links in (False, True):
            linked = any("parentExternalMessageId" in message for message in body["messages"])
            if not linked or not http_outcome.names_a_parent(status, answer):
                break
            body = unlinked(body, http_outcome.message(answer), all_links)
            outcome, status, answer = self._attempt(request.endpoint, body, request.items)
        size = len(orjson.dumps(body)) if request.items == 1 else 0
        while size > _LEAST and http_outcome.names_size(status, answer):
            size //= 4
            body = {**body, "messages": [shorten(body["messages"][0], size)]}
            outcome, status, answer = self._attempt(request.endpoint, body, request.items)
        return outcome

    def _attempt(self, endpoint: str, body: dict[str, Any], items: int) -> tuple[Outcome, int, bytes]:
        """One call: its outcome, and status and answer if there was one."""
        try:
            import greenflash  # late: in the sender, not in the program's start

            client = self._ready()
        except Exception as fault:  # noqa: BLE001 - an SDK that cannot be loaded or built, for whatever reason
            return Outcome(Verdict.RETRY, f"the SDK cannot be used: {type(fault).__name__}"), 0, b""
        if client is None:
            return Outcome(Verdict.RETRY, "the exporter is closed"), 0, b""
        try:
            response = _call(client, endpoint, body)
        except greenflash.APIStatusError as refusal:
            answer, status = refusal.response.content, refusal.status_code
            return http_outcome.of_status(status, refusal.response.headers, answer, items), status, answer
        except greenflash.APIConnectionError as fault:  # timeouts too
            return Outcome(Verdict.RETRY, f"no answer: {type(fault.__cause__ or fault).__name__}"), 0, b""
        except (TypeError, ValueError, RecursionError) as fault:  # what the SDK raises for a body it cannot send
            verdict = Verdict.SPLIT if items > 1 else Verdict.REJECT
            return Outcome(verdict, f"the SDK refuses it: {type(fault).__name__}"), 0, b""
        answer, status = response.content, response.status_code
        if _is_success(endpoint, body, answer):
            return DELIVERED, status, answer
        return Outcome(Verdict.RETRY, f"HTTP {status} without the API's answer"), status, answer

    def _ready(self) -> Greenflash | None:
        return self._client.get()

    def _connect(self) -> Greenflash:
        from greenflash import Greenflash  # late: as above

        transport = http_client(self._access, self._timeout, self._connections)
        return Greenflash(
            api_key=self._access.api_key or "",
            base_url=self._access.base_url,
            max_retries=0,  # one retry policy in the whole stack: the pipeline's
            default_headers=self._access.headers or None,
            default_query=self._access.query or None,
            timeout=transport.timeout,
            http_client=transport,
        )


def _call(client: Greenflash, endpoint: str, body: dict[str, Any]) -> Any:
    """The HTTP response of one call of the SDK."""
    if endpoint == "messages":
        from gati.exporters.greenflash.encoder import wire  # late, as above

        # What stands in extra_body wins over the arguments (the SDK's documentation).
        raw = client.messages.with_raw_response.create(
            external_user_id=body["external_user_id"], messages=(), extra_body=wire(body)
        )
    elif endpoint == "users":
        raw = client.users.with_raw_response.create(**body)  # type: ignore[assignment]  # each endpoint has an answer of its own type; only what all share is read
    elif endpoint == "organizations":
        raw = client.organizations.with_raw_response.create(**body)  # type: ignore[assignment]  # each endpoint has an answer of its own type; only what all share is read
    elif endpoint == "ratings":
        raw = client.ratings.with_raw_response.log(**body)  # type: ignore[assignment]  # each endpoint has an answer of its own type; only what all share is read
    else:
        raw = client.events.with_raw_response.create(**body)  # type: ignore[assignment]  # each endpoint has an answer of its own type; only what all share is read
    return raw.http_response


def _is_success(endpoint: str, body: dict[str, Any], answer: bytes) -> bool:
    """A JSON object, `success` not false, with a conversation's id. What a sampled-out request is
    answered is not known: there the id may be missing.
    """
    found = http_outcome.fields(answer)
    if found is None or found.get("success") is False:
        return False
    sampled = body.get("sample_rate", 1) < 1 and not body.get("force_sample")
    return endpoint != "messages" or bool(found.get("conversationId")) or sampled


def unlinked(body: dict[str, Any], said: str, all_links: bool) -> dict[str, Any]:
    """The body without the links that the server refuses: those it names, else those out of the request,
    else all. Their ids are kept in the messages' properties.
    """
    messages = body["messages"]
    inside = {m["externalMessageId"] for m in messages}
    links = {m["parentExternalMessageId"] for m in messages if "parentExternalMessageId" in m}
    refused = {link for link in links if link in said} or (links - inside) or links
    if all_links:
        refused = (links - inside) or links
    freed = []
    for message in messages:
        link = message.get("parentExternalMessageId")
        if link in refused:
            properties = {**message.get("properties", {}), "parent_id": link}
            message = {k: v for k, v in message.items() if k != "parentExternalMessageId"} | {"properties": properties}
        freed.append(message)
    return {**body, "messages": freed}
