"""Where every contender delivers: a server on loopback, in a process of its own, that keeps what came.

It answers at once, and takes the requests apart only when it is asked for its count, so that
counting costs the contenders nothing. Run it as `python -m tests.benchmarks.sink`; it prints its
address. `POST /sink/count` answers what came since the last count, and forgets it; after
`POST /sink/refuse` everything is answered with 503 until `POST /sink/take`.
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
"""What LangSmith's service says of itself; without it the client falls back to its slower way."""

_RUN = re.compile(rb'name="(?:post|patch)\.([0-9a-f-]{36})"')


@dataclass
class Count:
    """What came: `items` are messages, spans or runs, each counted once; `faults` are requests
    that the contract of Greenflash forbids."""

    requests: int = 0
    wire_bytes: int = 0
    bytes: int = 0
    items: int = 0
    faults: int = 0
    fault: str = ""


@dataclass
class _Kept:
    path: str
    encoding: str
    body: bytes


class Sink:
    """The ASGI application."""

    def __init__(self) -> None:
        self.kept: list[_Kept] = []
        self.refuses = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            if part["type"] == "http.disconnect":
                return  # given up by its sender: nothing has arrived
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        path = scope["path"]
        if path == "/sink/count":
            status, answer = 200, orjson.dumps(asdict(self._count()))
        elif path in ("/sink/refuse", "/sink/take"):
            self.refuses = path == "/sink/refuse"
            status, answer = 200, b"{}"
        elif self.refuses:
            status, answer = 503, b"{}"
        else:
            encoding = dict(scope["headers"]).get(b"content-encoding", b"").decode()
            if scope["method"] in ("POST", "PATCH", "PUT"):
                self.kept.append(_Kept(path, encoding, body))
            status, answer = self._answer(path, body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    @staticmethod
    def _answer(path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/info":
            return 200, orjson.dumps(_LANGSMITH_INFO)
        if path.endswith("/traces"):
            return 200, b""  # an empty protobuf message: all spans taken
        if path.endswith("/messages"):
            told = orjson.loads(body)
            answers = [
                {
                    "messageId": str(number),
                    "messageType": message.get("messageType", "user_message"),
                    "status": "success",
                    "externalMessageId": message.get("externalMessageId"),
                }
                for number, message in enumerate(told["messages"])
            ]
            conversation = str(told.get("externalConversationId") or told.get("conversationId"))
            return 201, orjson.dumps({"success": True, "conversationId": conversation, "messages": answers})
        return 200, b"{}"

    def _count(self) -> Count:
        kept, self.kept = self.kept, []
        count = Count(requests=len(kept), wire_bytes=sum(len(request.body) for request in kept))
        seen: set[Any] = set()
        for request in kept:
            plain = _plain(request)
            count.bytes += len(plain)
            if request.path.endswith("/traces"):
                count.items += _spans(plain)
            elif request.path.endswith("/messages"):
                _messages(plain, seen, count)
            else:
                seen.update(_RUN.findall(plain))
        count.items += len(seen)
        return count


def _plain(request: _Kept) -> bytes:
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

    told = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in told.resource_spans for scope in resource.scope_spans)


def _messages(body: bytes, seen: set[Any], count: Count) -> None:
    """Count messages once each, and hold each request against the contract."""
    from gati.studio.api import validation

    told = orjson.loads(body)
    fault = validation.find_error("messages", told) or ", ".join(validation.unknown_keys("messages", told))
    if fault:
        count.faults += 1
        count.fault = fault
    conversation = told.get("externalConversationId")
    seen.update((conversation, message["externalMessageId"]) for message in told["messages"])


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
