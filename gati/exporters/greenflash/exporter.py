"""Sends requests through the Greenflash SDK. Nothing else in gati imports the SDK.

`messages.create` is called for its raw response, since `_is_success` checks the response itself, and with everything
in `extra_body`, since the body is encoded already. CPU time of one call with 14 and with 100 messages (greenflash
1.4.0): plain `create` 3.6 and 9.5 ms, with camelCase messages 3.1 and 5.5 ms, with the raw response 0.7 and 3.1 ms,
with the raw response and `extra_body` 0.3 and 0.5 ms.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from gati.exporters import http_outcome
from gati.exporters.base import DELIVERED, Outcome, PackedRequest, Request, RequestLimits, Verdict
from gati.exporters.greenflash.connection import make_http_client, resolve_access
from gati.exporters.log_suppression import suppress_sdk_logs
from gati.exporters.shared_client import SharedClient

if TYPE_CHECKING:
    from greenflash import Greenflash

    from gati.events import Item
    from gati.exporters.greenflash.encoder import GreenflashEncoder
    from gati.settings import Settings

_ACCEPTED = frozenset({"created", "deduplicated"})
"""Statuses of accepted messages."""
_ENDPOINTS = ("messages", "users", "organizations", "ratings", "events")

_MIN_MESSAGE_BYTES = 2000
"""A single message that the server finds too large is truncated down to this size before it is rejected."""


class GreenflashExporter:
    """Send requests to Greenflash. `send` is thread-safe. See `exporters.base.Exporter`."""

    name = "greenflash"
    durable = False

    def __init__(self, settings: Settings) -> None:
        self._access = resolve_access(settings)
        self.account = self._access.account
        self.spool_identity = self._access.spool_identity(settings.product_id)
        self.request_limits = RequestLimits(settings.batch_size, settings.max_request_bytes)
        self._timeout = settings.timeout
        self._connections = settings.connections
        self._settings = settings
        self._client: SharedClient[Greenflash] = SharedClient(self._connect)

    @cached_property
    def _encoder(self) -> GreenflashEncoder:
        from gati.exporters.greenflash.encoder import (
            GreenflashEncoder,
        )  # late: loaded in the background instead of in the user's `init`

        return GreenflashEncoder(self._settings)

    def encode(self, items: Sequence[Item]) -> list[Request]:
        """See `GreenflashEncoder.encode`."""
        return self._encoder.encode(items)

    def new_encoder(self) -> GreenflashEncoder:
        """Return an encoder that has encoded nothing yet, for the items of another process."""
        from gati.exporters.greenflash.encoder import GreenflashEncoder  # late, as above

        return GreenflashEncoder(self._settings)

    def split(self, request: Request) -> tuple[Request, Request] | None:
        """See `GreenflashEncoder.split`."""
        return self._encoder.split(request)

    def accepts(self, request: Request) -> bool:
        """Return False for a request that the SDK cannot send, because its file was damaged."""
        if request.endpoint not in _ENDPOINTS:
            return False
        if request.endpoint != "messages":
            return bool(request.body) and request.items == 1
        messages = request.body.get("messages")
        return (
            isinstance(request.body.get("external_user_id"), str)
            and isinstance(messages, list)
            and len(messages) == request.items
            and all(isinstance(m, dict) and isinstance(m.get("externalMessageId"), str) for m in messages)
        )

    def send(self, request: Request) -> Outcome:
        """Make one attempt.

        A request rejected for a reference to a prompt, for a parent link or for its size is corrected and sent again at
        once.
        """
        if self._access.problem:
            return Outcome(Verdict.PAUSE, self._access.problem, key_refused=True)
        try:
            with suppress_sdk_logs():
                return self._send(request)
        except Exception as error:  # noqa: BLE001 - whatever happened, send must not raise
            return Outcome(Verdict.RETRY, f"unexpected {type(error).__name__}")

    def prepare(self) -> None:
        """Import the SDK and the modules that it imports on first use."""
        client = self._sdk_client()
        for name in _ENDPOINTS:
            getattr(client, name, None)

    def after_fork(self) -> None:
        """Use a new client in a forked child."""
        self._client.after_fork()

    def close(self) -> None:
        """Close the connections. The verdict of later attempts is RETRY."""
        with suppress_sdk_logs():
            self._client.close()

    def _send(self, request: Request) -> Outcome:
        from gati.exporters.greenflash.encoder import shorten_message  # late, as above

        outcome, status, answer = self._attempt(request)
        if request.endpoint != "messages" or outcome.verdict is Verdict.OK:
            return outcome
        body = request.body
        while not outcome.retry_after and http_outcome.rejects_prompt(status, answer):
            if (simpler := without_prompt_reference(body)) is None:
                break
            body = simpler
            outcome, status, answer = self._attempt(replace(request, body=body))
        for all_links in (False, True):
            linked = any("parentExternalMessageId" in message for message in body["messages"])
            if outcome.retry_after or not linked or not http_outcome.rejects_parent_link(status, answer):
                break
            body = without_parent_links(body, http_outcome.error_message(answer), all_links)
            outcome, status, answer = self._attempt(replace(request, body=body))
        size = len(orjson.dumps(body)) if request.items == 1 else 0
        while size > _MIN_MESSAGE_BYTES and not outcome.retry_after and http_outcome.rejects_size(status, answer):
            size //= 4
            body = {**body, "messages": [shorten_message(body["messages"][0], size)]}
            outcome, status, answer = self._attempt(replace(request, body=body))
        return outcome

    def _attempt(self, request: Request) -> tuple[Outcome, int, bytes]:
        """Make one call. Return its outcome, and the response's status and body (0 and b"" without a response)."""
        items = request.items
        try:
            import greenflash  # late: loaded by the sender instead of at the program's start

            client = self._sdk_client()
        except Exception as error:  # noqa: BLE001 - importing or creating the SDK client may fail in any way
            return Outcome(Verdict.RETRY, f"the SDK cannot be used: {type(error).__name__}"), 0, b""
        if client is None:
            return Outcome(Verdict.RETRY, "the exporter is closed"), 0, b""
        try:
            response = _call(client, request)
        except greenflash.APIStatusError as error:
            answer, status = error.response.content, error.status_code
            return http_outcome.from_status(status, error.response.headers, answer, items), status, answer
        except greenflash.APIConnectionError as error:  # including timeouts
            return Outcome(Verdict.RETRY, f"no answer: {type(error.__cause__ or error).__name__}"), 0, b""
        except (TypeError, ValueError, RecursionError) as error:  # the SDK cannot serialize the body
            verdict = Verdict.SPLIT if items > 1 else Verdict.REJECT
            return Outcome(verdict, f"the SDK refuses it: {type(error).__name__}"), 0, b""
        answer, status = response.content, response.status_code
        return _outcome_of_success(request, status, response.headers, answer), status, answer

    def _sdk_client(self) -> Greenflash | None:
        return self._client.get()

    def _connect(self) -> Greenflash:
        from greenflash import Greenflash  # late: as above

        transport = make_http_client(self._access, self._timeout, self._connections)
        return Greenflash(
            api_key=self._access.api_key or "",
            base_url=self._access.base_url,
            max_retries=0,  # the pipeline retries
            default_headers=self._access.headers or None,
            default_query=self._access.query or None,
            timeout=transport.timeout,
            http_client=transport,
        )


def _call(client: Greenflash, request: Request) -> Any:
    """Call the SDK and return the HTTP response."""
    if isinstance(request, PackedRequest) and request.content is not None and posts_bytes(client):
        import httpx  # late: a dependency of the SDK

        # With bytes, the SDK encodes nothing; the request is the same as that of `messages.create`.
        return client.post("/messages", cast_to=httpx.Response, content=wire_json(request))
    endpoint, body = request.endpoint, request.body
    if endpoint == "messages":
        from gati.exporters.greenflash.encoder import to_wire_names  # late, as above

        # Values in extra_body take precedence over the arguments, as documented by the SDK.
        raw = client.messages.with_raw_response.create(
            external_user_id=body["external_user_id"], messages=(), extra_body=to_wire_names(body)
        )
    elif endpoint == "users":
        raw = client.users.with_raw_response.create(**body)  # type: ignore[assignment]  # response types differ; only their common part is used
    elif endpoint == "organizations":
        raw = client.organizations.with_raw_response.create(**body)  # type: ignore[assignment]  # response types differ; only their common part is used
    elif endpoint == "ratings":
        if "insert_id" in body and "insert_id" not in inspect.signature(client.ratings.log).parameters:
            body = {key: value for key, value in body.items() if key != "insert_id"}  # SDK 1.4 has no such key
        raw = client.ratings.with_raw_response.log(**body)  # type: ignore[assignment]  # response types differ; only their common part is used
    else:
        raw = client.events.with_raw_response.create(**body)  # type: ignore[assignment]  # response types differ; only their common part is used
    return raw.http_response


def posts_bytes(client: Any) -> bool:
    """Return True if the client's `post` takes `content`, which the SDK has since version 1.4."""
    kind = type(client)
    if kind not in _posts_bytes:
        post = getattr(kind, "post", None)
        _posts_bytes[kind] = callable(post) and "content" in inspect.signature(post).parameters
    return _posts_bytes[kind]


_posts_bytes: dict[type, bool] = {}


def wire_json(request: PackedRequest) -> bytes:
    """Return the request's body as the API expects it. Its messages are not parsed."""
    from gati.exporters.greenflash.encoder import to_wire_names  # late, as above

    fields = to_wire_names(orjson.loads(b"{%b}" % request.fields))
    return b"{%b}" % request.body_json(orjson.dumps(fields)[1:-1])


def _outcome_of_success(request: Request, status: int, headers: Mapping[str, str], answer: bytes) -> Outcome:
    """Return the outcome of a 2xx response: delivered, partly delivered, or not an answer of the API."""
    retry_after = http_outcome.retry_after(headers)
    response = http_outcome.json_object(answer)
    if response is None or not _is_success(request, response):
        return Outcome(Verdict.RETRY, f"HTTP {status} without the API's answer", retry_after)
    body = request.body if request.endpoint == "messages" else {}
    missing = _unaccepted(body["messages"], response) if body else []
    if not missing:
        return DELIVERED._replace(retry_after=retry_after, deduplicated=_count_deduplicated(response))
    body = {**body, "messages": missing}
    rest = replace(request, body=body, items=len(missing), omissions=request.omissions + 1)
    return Outcome(Verdict.PARTIAL, f"HTTP {status} without these messages in the answer", retry_after, rest)


def _count_deduplicated(response: dict[str, Any]) -> int:
    """Return how many messages the server had already, as far as it says so."""
    listed = response.get("messages")
    entries = listed if isinstance(listed, list) else []
    return sum(isinstance(entry, dict) and entry.get("status") == "deduplicated" for entry in entries)


def _is_success(request: Request, response: dict[str, Any]) -> bool:
    """Return True for an answer with a conversation id and `success` not false.

    The response to a request that sampling discards is undocumented, so there the id may be missing.
    """
    if response.get("success") is False:
        return False
    if request.endpoint != "messages" or response.get("conversationId"):
        return True
    body = request.body
    sampled: bool = body.get("sample_rate", 1) < 1 and not body.get("force_sample")
    return sampled


def _unaccepted(messages: list[dict[str, Any]], response: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those of a request's messages that the response does not list as accepted.

    A response without any external id says nothing about single messages: then all of them are accepted, unless it
    lists one with a status that is not known.
    """
    listed = response.get("messages")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    ids = {id_: _is_accepted(entry) for entry in entries if isinstance(id_ := entry.get("externalMessageId"), str)}
    if not ids:
        return [] if all(map(_is_accepted, entries)) else messages
    return [message for message in messages if not ids.get(message["externalMessageId"])]


def _is_accepted(entry: dict[str, Any]) -> bool:
    status = entry.get("status")
    return status is None or (isinstance(status, str) and status in _ACCEPTED)


def without_prompt_reference(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the body with a reference to a managed prompt that has no variables; if it has none, without the prompt.

    The server may not have the prompt any more, or may not accept variables for it. The messages keep the prompt's id
    in their properties. Returns None if the body has no reference.
    """
    prompt = body.get("system_prompt")
    if not isinstance(prompt, dict) or "components" in prompt or "content" in prompt:
        return None
    if "variables" in prompt:
        return {**body, "system_prompt": {key: value for key, value in prompt.items() if key != "variables"}}
    return {key: value for key, value in body.items() if key != "system_prompt"}


def without_parent_links(body: dict[str, Any], error: str, all_links: bool) -> dict[str, Any]:
    """Remove parent links that the server rejects; keep their ids in the messages' properties as `parent_id`.

    Args:
        body: The request's body.
        error: The server's error message. Links whose ids it contains are removed.
        all_links: Ignore the error and remove all links to messages outside the request, or all if there are none.
    """
    messages = body["messages"]
    inside = {m["externalMessageId"] for m in messages}
    links = {m["parentExternalMessageId"] for m in messages if "parentExternalMessageId" in m}
    refused = {link for link in links if link in error} or (links - inside) or links
    if all_links:
        refused = (links - inside) or links
    cleared = []
    for message in messages:
        link = message.get("parentExternalMessageId")
        if link in refused:
            properties = {**message.get("properties", {}), "parent_id": link}
            message = {k: v for k, v in message.items() if k != "parentExternalMessageId"} | {"properties": properties}
        cleared.append(message)
    return {**body, "messages": cleared}
