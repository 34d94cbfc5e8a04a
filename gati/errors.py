"""Every exception that gati raises of its own accord.

::

    GatiError
    └── ConfigurationError    a bad option, raised by ``observe.init`` and the command line only

After ``init`` gati raises nothing into the program it watches: faults are counted
in ``observe.stats()`` and logged once per kind.
"""

from __future__ import annotations


class GatiError(Exception):
    """Base of all exceptions of gati."""


class ConfigurationError(GatiError, ValueError):
    """An option is unknown or has a value that cannot be used.

    Attributes:
        option: name of the option as passed to ``observe.init``.
        given: the value as it may be shown; secrets are masked.
        allowed: what would have been accepted, in words.
        source: the environment variable that holds the value; None for an argument.
    """

    def __init__(self, option: str, given: object, allowed: str, source: str | None = None) -> None:
        self.option = option
        self.given = given
        self.allowed = allowed
        self.source = source
        place = f" (from {source})" if source else ""
        super().__init__(f"option {option!r}{place}: got {given!r}, allowed: {allowed}")

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[str, object, str, str | None]]:
        # The message is made from the arguments; the default would pass only the message.
        return type(self), (self.option, self.given, self.allowed, self.source)
