"""Managed prompts: texts that are edited in Greenflash, or in the studio, and served to the program.

::

    from gati import prompts

    prompt = prompts.get("support/agent", fallback="You help {{who}}.")
    print(prompt.text(who="Ada"))

`get` is cheap, so call it where the prompt is used. The first call for a prompt waits up to a second; later ones return
what is in memory, and it is refreshed in the background. Without a key, the prompts are those of the embedded store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gati.errors import PromptUnavailableError
from gati.prompts.managed_prompt import ManagedPrompt
from gati.prompts.service import service as _service

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["ManagedPrompt", "PromptUnavailableError", "aget", "aprefetch", "get", "prefetch"]


def get(
    name: str,
    *,
    fallback: str | None = None,
    ttl: float = 60.0,
    version: str | None = None,
    variants: Mapping[str, str | None] | None = None,
    weights: Mapping[str, float] | None = None,
    conversation_id: str | int | UUID | None = None,
) -> ManagedPrompt:
    """Return a prompt.

    Args:
        name: external id of the prompt in Greenflash.
        fallback: text in mustache format that is served if the prompt cannot be fetched and is in no cache.
        ttl: seconds after which the text is fetched again, in the background; the known text is served meanwhile.
        version: id of a version; default: the active version. A version never changes, so it is fetched once.
        variants: versions to choose from, by label; the version None is the active one. A conversation always gets the
            same one, and its label is among the conversation's properties.
        weights: relative frequency of variants, by label; default: 1.
        conversation_id: the conversation that `variants` is decided for; default: the enclosing `observe.conversation`,
            then the thread of the enclosing run. Without one, the first variant is served.

    Raises:
        PromptUnavailableError: no text is known, and `fallback` was not given.
    """
    request = _service.request(name, fallback, ttl, version, variants, weights, conversation_id)
    return _service.get(request)


async def aget(
    name: str,
    *,
    fallback: str | None = None,
    ttl: float = 60.0,
    version: str | None = None,
    variants: Mapping[str, str | None] | None = None,
    weights: Mapping[str, float] | None = None,
    conversation_id: str | int | UUID | None = None,
) -> ManagedPrompt:
    """Like `get`, without blocking the event loop when it waits."""
    request = _service.request(name, fallback, ttl, version, variants, weights, conversation_id)
    return await _service.aget(request)


def prefetch(*names: str, timeout: float = 10.0) -> bool:
    """Fetch prompts at the start of the program, so that the first `get` does not wait.

    Args:
        names: the prompts.
        timeout: longest time to wait, in seconds. Fetching continues in the background.

    Returns:
        True if all of them have a text now.
    """
    return _service.prefetch(_names(names), timeout)


async def aprefetch(*names: str, timeout: float = 10.0) -> bool:
    """Like `prefetch`, without blocking the event loop."""
    return await _service.aprefetch(_names(names), timeout)


def _names(names: Sequence[object]) -> list[str]:
    return [name for name in names if isinstance(name, str) and name]
