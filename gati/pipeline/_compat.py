"""Names of Python's import system and of `logging` that are not public."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any


def existing_handlers() -> list[logging.Handler]:
    """Return all handlers of the process, which `logging.shutdown` closes. Without the list none is found."""
    found = [reference() for reference in list(getattr(logging, "_handlerList", ()))]
    return [handler for handler in found if handler is not None]


def unfinished_imports() -> list[str]:
    """Return the modules that some thread is importing.

    Without the attribute none is found: then a child that is forked during an import of ours may wait for it forever.
    """
    return [name for name, module in list(sys.modules.items()) if getattr(_spec_of(module), "_initializing", False)]


def forget_imports_of_other_threads() -> bool:
    """Let a forked child import again what threads that it does not have were importing.

    Half of such a module exists, and its lock is never released. Without the locks' table, return False: the modules
    can then never be imported in this process.
    """
    bootstrap = getattr(importlib, "_bootstrap", None)
    locks = getattr(bootstrap, "_module_locks", None)
    if type(locks) is not dict:
        return False
    own = threading.get_ident()
    held = {name for name, lock in list(locks.items()) if getattr(lock(), "owner", None) == own}
    for name in unfinished_imports():
        if name in held:
            continue  # this thread forked while it was importing, and goes on
        sys.modules.pop(name, None)
        # The rest of a package would not be bound to the new one. Extension modules cannot be loaded twice.
        for below in [below for below in sys.modules if below.startswith(f"{name}.") and below not in held]:
            if isinstance(getattr(_spec_of(sys.modules[below]), "loader", None), SourceFileLoader):
                del sys.modules[below]
    for name in list(locks):
        if name not in held:
            del locks[name]
    return True


def _spec_of(module: Any) -> Any:
    # Not `getattr` of the module: modules may compute attributes.
    return module.__dict__.get("__spec__") if type(module) is ModuleType else None


def runs_one_thread_at_a_time() -> bool:
    """Return False in an interpreter whose threads run at the same time."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())
