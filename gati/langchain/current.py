"""The process's current recorder, in one place.

Handlers, spans and manual events all read `current.recorder`. This module loads no LangChain, so
`import gati` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gati.langchain.recorder import Recorder


class Current:
    """Holds the current recorder.

    Attributes:
        recorder: records runs; None before `init`, after `shutdown` and when gati is disabled.
        report_error: counts an internal error, given its place and the exception.
    """

    __slots__ = ("recorder", "report_error")

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        self.report_error: Callable[[str, Exception], None] = _ignore_error


def _ignore_error(place: str, error: Exception) -> None: ...


current = Current()
