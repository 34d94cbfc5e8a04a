"""Suppresses log records of the SDK and its HTTP library for requests that gati sends.

At DEBUG the SDK logs complete request bodies, and httpx logs every request at INFO. A filter on their loggers drops
records of a thread while it sends for gati. Records of the program's own use of the SDK pass.
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
"""A filter applies only to records of its own logger, not to those of child loggers, so each one is listed."""


class _ThreadState(threading.local):
    sending = False


_state = _ThreadState()


class _SendingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _state.sending


_FILTER = _SendingFilter()


@contextmanager
def suppress_sdk_logs() -> Iterator[None]:
    """Drop records that the SDK and its HTTP library log in this thread inside the block."""
    for name in _LOGGERS:  # every time, since the program may have reconfigured logging
        logging.getLogger(name).addFilter(_FILTER)
    before, _state.sending = _state.sending, True
    try:
        yield
    finally:
        _state.sending = before
