"""No log lines of the SDK and its HTTP library for what gati itself sends.

With the root logger at DEBUG the SDK logs whole request bodies, and httpx logs each request
at INFO. A filter on their loggers drops what the sending thread says while it sends; what
the user's own use of the SDK logs, in whatever thread, is let through.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gati.exporters.greenflash._compat import LOGGERS

_LOGGERS = (
    "greenflash",
    *LOGGERS,
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)
"""A logger's filters see only what is logged to it, not to those below: each is named."""


class _Sending(threading.local):
    now = False


_sending = _Sending()


class _NotOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.now


_NOT_OURS = _NotOurs()


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that this thread does here is logged by the SDK or below."""
    for name in _LOGGERS:  # each time: logging may have been configured anew
        logging.getLogger(name).addFilter(_NOT_OURS)
    before, _sending.now = _sending.now, True
    try:
        yield
    finally:
        _sending.now = before
