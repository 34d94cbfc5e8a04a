"""Attaching the handler to every run without patching anything: LangChain's configure hook."""

from __future__ import annotations

import logging

from gati._context import paused
from gati.langchain._compat import attach_to_all
from gati.langchain.callback import GatiLangChainCallback, handler

logger = logging.getLogger("gati")


class _Switch:
    """What LangChain takes for a context variable. It answers for the whole process, so threads
    and tasks that are older than `init` are watched too."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False

    def get(self) -> GatiLangChainCallback | None:
        return handler if self.on and not paused.get() else None


_switch = _Switch()
_registered = False


def switch_on() -> None:
    """Attach the handler to all runs from now on. Registers the hook at the first call only:
    LangChain has no way to take one back."""
    global _registered
    if not _registered:
        _registered = attach_to_all(_switch)
        if not _registered:
            logger.warning("gati cannot attach itself to this version of LangChain: pass observe.get_callbacks()")
    _switch.on = True


def switch_off() -> None:
    """Attach it to no further run."""
    _switch.on = False
