"""The protocol of sources of managed prompts: Greenflash and the embedded store, with the same JSON."""

from __future__ import annotations

from typing import Any, Protocol


class PromptSourceError(Exception):
    """A request for prompts failed.

    Attributes:
        status: HTTP status; None if there was no response.
        retry_after: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class PromptSource(Protocol):
    """A place that has prompts. Bodies and results have the names of Greenflash's API, in camelCase.

    All methods may block, and raise `PromptSourceError`.
    """

    def get(self, prompt_id: str) -> dict[str, Any] | None:
        """Return ``{"prompt": …, "composedPrompt": …}`` of an id or an external id; None if it does not exist."""
        ...

    def list_all(
        self, *, active_only: bool = False, version_id: str | None = None, include_archived: bool = False
    ) -> list[dict[str, Any]]:
        """Return all prompts without their texts."""
        ...

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a prompt with its first version, which is not activated."""
        ...

    def update(self, prompt_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create a version of a prompt, which is not activated."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...
