"""Standard output and standard error of a command, wherever they lead: another encoding, a full disk, nowhere."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO


class _Closed(io.StringIO):
    """Stands for a standard output that is closed, as by `>&-`: what is written cannot be written."""

    def flush(self) -> None:
        if self.getvalue():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def prepare_streams() -> None:
    """Let both streams take any text: they exist, and show the codes of characters that their encoding lacks."""
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def encodes_all_text(stream: TextIO) -> bool:
    """Return True if the stream's encoding has all characters."""
    return (stream.encoding or "utf-8").lower().replace("-", "").replace("_", "").startswith("utf")


def file_output() -> TextIO:
    """Return standard output for the content of a file: UTF-8 as in a file that gati opens itself, unless it is a terminal."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and not out.isatty():
        out.reconfigure(encoding="utf-8")
    return out


def failure_to_write() -> OSError | None:
    """Write what waits for standard output; return the error if that fails. Python then does not try it again at its end."""
    try:
        sys.stdout.flush()
    except OSError as fault:
        if isinstance(sys.stdout, _Closed):
            sys.stdout = io.StringIO()
            return fault
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return fault
    return None
