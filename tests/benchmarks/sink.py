"""The server to which every contender exports: it runs in a separate process and stores what it receives.

It responds at once and parses requests only when a count is requested, so that counting does not slow the
contenders. Run it as `python -m tests.benchmarks.sink`; it prints its address. `POST /sink/count` returns
the counts since the last call and resets them. After `POST /sink/refuse`, every request gets a 503 until
`POST /sink/take`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import orjson

_LANGSMITH_INFO = {
    "version": "0.14.0",
    "batch_ingest_config": {
        "use_multipart_endpoint": True, "size_limit": 100, "size_limit_bytes": 20_971_520,
        "scale_up_qsize_trigger": 1000, "scale_up_nthreads_limit": 16, "scale_down_nempty_trigger": 4,
    },
    "instance_flags": {"zstd_compression_enabled": True},
}  # fmt: skip
"""LangSmith's server info. Without it, the client uses a slower protocol."""

_RUN = re.compile(rb'name="(?:post|patch)\.([0-9a-f-]{36})"')


@dataclass
class Count:
    """Counts of received data. `items` are distinct messages, spans or runs. `faults` are requests that violate
    the Greenflash API."""

    requests: int = 0
    wire_bytes: int = 0
    bytes: int = 0
    items: int = 0
    faults: int = 0
    fault: str = ""


@dataclass
class _Request:
    path: str
    encoding: str
    body: bytes


class Sink:
    """The ASGI application."""

    def __init__(self) -> None:
        self.received: list[_Request] = []
        self.rejects = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            if part["type"] == "http.disconnect":
                return  # abandoned by the client
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        path = scope["path"]
        if path == "/sink/count":
            status, answer = 200, orjson.dumps(asdict(self._count()))
        elif path in ("/sink/refuse", "/sink/take"):
            self.rejects = path == "/sink/refuse"
            status, answer = 200, b"{}"
        elif self.rejects:
            status, answer = 503, b"{}"
        else:
            encoding = dict(scope["headers"]).get(b"content-encoding", b"").decode()
            if scope["method"] in ("POST", "PATCH", "PUT"):
                self.received.append(_Request(path, encoding, body))
            status, answer = self._answer(path, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    @staticmethod
    def _answer(path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/info":
            return 200, orjson.dumps(_LANGSMITH_INFO)
        if path.endswith("/traces"):
            return 200, b""  # an empty protobuf message: all spans accepted
        if path.endswith("/messages"):
            payload = orjson.loads(body)
            answers = [
                {
                    "messageId": str(number),
                    "messageType": message.get("messageType", "user_message"),
                    "status": "created",
                    "externalMessageId": message.get("externalMessageId"),
                }
                for number, message in enumerate(payload["messages"])
            ]
            conversation = str(payload.get("externalConversationId") or payload.get("conversationId"))
            return 201, orjson.dumps({"success": True, "conversationId": conversation, "messages": answers})
        return 200, b"{}"

    def _count(self) -> Count:
        received, self.received = self.received, []
        count = Count(requests=len(received), wire_bytes=sum(len(request.body) for request in received))
        item_ids: set[Any] = set()
        for request in received:
            body = _decompress(request)
            count.bytes += len(body)
            if request.path.endswith("/traces"):
                count.items += _spans(body)
            elif request.path.endswith("/messages"):
                _messages(body, item_ids, count)
            else:
                item_ids.update(_RUN.findall(body))
        count.items += len(item_ids)
        return count


def _decompress(request: _Request) -> bytes:
    if request.encoding == "gzip":
        return gzip.decompress(request.body)
    if request.encoding == "deflate":
        return zlib.decompress(request.body)
    if request.encoding == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(request.body)
    return request.body


def _spans(body: bytes) -> int:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    payload = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in payload.resource_spans for scope in resource.scope_spans)


def _messages(body: bytes, item_ids: set[Any], count: Count) -> None:
    """Count distinct messages, and validate each request."""
    from gati.studio.api import validation

    payload = orjson.loads(body)
    fault = validation.find_error("messages", payload) or ", ".join(validation.unknown_keys("messages", payload))
    if fault:
        count.faults += 1
        count.fault = fault
    conversation = payload.get("externalConversationId")
    item_ids.update((conversation, message["externalMessageId"]) for message in payload["messages"])


def main() -> None:
    """Serve until killed."""
    import uvicorn

    from gati.studio.server import listen

    listener = listen()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(Sink(), ws="none", lifespan="off", log_level="critical", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
