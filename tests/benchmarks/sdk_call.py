"""Measure one small request through the SDK, alone: a unit that makes the figures of different machines comparable.

The limits of queues and relays in `docs/performance.md` are microseconds of a machine on which this request took 407.
"""

from __future__ import annotations

import statistics
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, Value
from typing import Any

import httpx
import orjson
from greenflash import Greenflash

REFERENCE_US = 407
"""CPU time of the request on the machine for which the limits were set, in µs."""
_CALLS = 300
_ROUNDS = 7
_ANSWER = orjson.dumps({"success": True, "conversationId": "c", "messages": []})


class _Api(BaseHTTPRequestHandler):
    """Accepts every request at once."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(201)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(_ANSWER)))
        self.end_headers()
        self.wfile.write(_ANSWER)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


def _serve(port: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    port.value = server.server_port
    server.serve_forever()


def measure_sdk_call() -> float:
    """Return the CPU time in µs of a request with one message, which the client's `post` sends: the median of rounds."""
    port = Value("i", 0)
    server = Process(target=_serve, args=(port,), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    client = Greenflash(api_key="key", base_url=f"http://127.0.0.1:{port.value}/api/v1", max_retries=0)
    message = {"externalMessageId": "m", "messageType": "user_message", "content": "Hello"}
    body = orjson.dumps({"externalUserId": "u", "externalConversationId": "c", "productId": "p", "messages": [message]})
    rounds = []
    for _ in range(_ROUNDS):
        started = time.thread_time()
        for _ in range(_CALLS):
            client.post("/messages", cast_to=httpx.Response, content=body)
        rounds.append((time.thread_time() - started) / _CALLS * 1e6)
    client.close()
    server.terminate()
    return statistics.median(rounds)


def sdk_call_line() -> str:
    """Measure, and say how much slower this machine is than that of the limits."""
    taken = measure_sdk_call()
    return (
        f"a small request through the SDK: {taken:.0f} µs of CPU time, {taken / REFERENCE_US:.1f} times as long as on the machine"
        f" of the limits ({REFERENCE_US} µs)"
    )


if __name__ == "__main__":
    print(sdk_call_line())
