"""WSGI and ASGI applications: every request is one turn of its own conversation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from gati import observe
from gati.testing import ScriptedChatModel

MODEL = ScriptedChatModel(replies=["certainly"])
observe.init()
if os.environ.get("TURN_AT_IMPORT"):  # with --preload, before the workers are forked
    with observe.conversation("preloaded", user_id="u"):
        MODEL.invoke("1")


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Application for gunicorn."""
    with observe.conversation(environ["PATH_INFO"].strip("/"), user_id="u"):
        answer = str(MODEL.invoke("1").content)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    return [answer.encode()]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Application for uvicorn. Its workers end by the signal, so no exit hook runs: flush in the lifespan."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            if event == "shutdown":
                await observe.aflush()
            await send({"type": f"lifespan.{event}.complete"})
        return
    async with observe.conversation(scope["path"].strip("/"), user_id="u"):
        answer = str((await MODEL.ainvoke("1")).content)
    await asyncio.sleep(0)
    headers = [(b"content-type", b"text/plain"), (b"x-pid", str(os.getpid()).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer.encode()})
