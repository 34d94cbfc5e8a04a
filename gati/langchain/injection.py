"""Attach the handler to every run through LangChain's configure hook, without patching."""

from __future__ import annotations

import logging

from gati._context import is_paused
from gati.langchain._compat import register_hook
from gati.langchain.callback import GatiLangChainCallback, handler

logger = logging.getLogger("gati")


class _HookVariable:
    """A substitute for the context variable that LangChain expects.

    It holds one value for the whole process, so runs in threads and tasks that started before `init` are recorded too.
    """

    __slots__ = ("enabled",)

    def __init__(self) -> None:
        self.enabled = False

    def get(self) -> GatiLangChainCallback | None:
        return handler if self.enabled and not is_paused.get() else None


_hook_variable = _HookVariable()
_registered = False


def switch_on() -> None:
    """Attach the handler to all runs that start from now on.

    The hook is registered by the first call only, because LangChain cannot remove one.
    """
    global _registered
    if not _registered:
        _registered = register_hook(_hook_variable)
        if not _registered:
            logger.warning(
                "gati cannot attach itself to this version of LangChain: pass callbacks=observe.get_callbacks()"
            )
    _hook_variable.enabled = True


def switch_off() -> None:
    """Attach the handler to no further run."""
    _hook_variable.enabled = False
