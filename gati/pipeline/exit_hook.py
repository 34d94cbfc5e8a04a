"""The exit hook of this process, registered when gati is imported.

Exit hooks run in the reverse order of their registration, and one that is registered while they run is not called. So this
one has to be older than those of the program in which turns run, which may be registered before `init`.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

callbacks: list[Callable[[], object]] = []
"""Called when the process exits. They contain their exceptions."""


def _run() -> None:
    for callback in callbacks:
        callback()


atexit.register(_run)
