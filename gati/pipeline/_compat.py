"""A name of Python's import system that is not public."""

from __future__ import annotations

import sys
from types import ModuleType


def unfinished_imports() -> list[str]:
    """Return the modules that some thread is importing.

    Without the attribute none is found: then a child that is forked during an import of ours may wait for it forever.
    """
    found = []
    for name, module in list(sys.modules.items()):
        # Not `getattr` of the module: modules may compute attributes.
        namespace = module.__dict__ if type(module) is ModuleType else {}
        if getattr(namespace.get("__spec__"), "_initializing", False):
            found.append(name)
    return found
