"""A reverse proxy for tests: real HTTP on both sides, with or without the path, as nginx, Caddy and others are set up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def reverse_proxy(
    upstream: str, path: str = "", *, removes_path: bool = False, keeps_host: bool = False, listener_port: int = 0
) -> Iterator[str]:
    """Serve `upstream` below a path and yield the address. With `keeps_host`, the header `Host` is passed on."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_HOP}
            if not keeps_host:
                headers.pop("Host", None)
            headers["X-Forwarded-For"], headers["X-Forwarded-Proto"] = "203.0.113.7", "http"
            if not self.path.startswith(path):
                self.send_error(404)
                return
            target = self.path[len(path) :] if removes_path else self.path
            answer = client.request(self.command, f"{upstream}{target}", content=body, headers=headers)
            self.send_response(answer.status_code)
            for name, value in answer.headers.multi_items():
                if name not in _OF_ONE_HOP:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = _forward  # noqa: N815  # names that http.server calls

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", listener_port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    with httpx.Client(follow_redirects=False, timeout=30) as client:
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{path}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join(10)
