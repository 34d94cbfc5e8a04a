"""The exceptions that gati raises.

::

    GatiError
    ├── ConfigurationError        an invalid option, raised by `observe.init` and the command line only
    └── PromptUnavailableError    `prompts.get` has neither the prompt nor a fallback

After `init`, gati raises no other exception in the watched program. Internal errors are counted in `observe.stats()` and
logged once per kind.
"""

from __future__ import annotations


class GatiError(Exception):
    """Base class of all exceptions of gati."""


class ConfigurationError(GatiError, ValueError):
    """An option is unknown or has an invalid value.

    Attributes:
        option: the name of the option, as passed to `observe.init`.
        given: the value; secrets are masked.
        allowed: the accepted values, in words.
        source: the environment variable that contains the value; None for an argument.
    """

    def __init__(self, option: str, given: object, allowed: str, source: str | None = None) -> None:
        self.option = option
        self.given = given
        self.allowed = allowed
        self.source = source
        place = f" (from {source})" if source else ""
        super().__init__(f"option {option!r}{place}: got {given!r}, allowed: {allowed}")

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[str, object, str, str | None]]:
        # The default passes only the message to `__init__`.
        return type(self), (self.option, self.given, self.allowed, self.source)


class PromptUnavailableError(GatiError, LookupError):
    """A managed prompt could not be fetched, is in no cache, and has no fallback.

    Attributes:
        name: the name of the prompt.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the prompt {name!r} is not available and has no fallback")

    def __reduce__(self) -> tuple[type[PromptUnavailableError], tuple[str]]:
        return type(self), (self.name,)
