"""Reads and writes Greenflash's prompts through the SDK. See `exporters.prompt_source`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gati.exporters import http_outcome
from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.exporters.log_suppression import suppress_sdk_logs
from gati.exporters.prompt_source import PromptSourceError

if TYPE_CHECKING:
    from gati.settings import Settings

_PAGE_SIZE = 100
_MAX_PAGES = 100
NO_PROMPTS = "the installed greenflash SDK has no prompts; install greenflash>=1.4"


class GreenflashPrompts:
    """The prompts that the configured key can access. Implements `PromptSource`.

    Args:
        settings: The options: address, key or client, product and timeout.
    """

    def __init__(self, settings: Settings) -> None:
        self._exporter = GreenflashExporter(settings)
        self._product = settings.product_id

    def prepare(self) -> None:
        """Import the SDK and create its client. The caller keeps forks from happening meanwhile."""
        try:
            self._resource()
        except PromptSourceError:
            pass  # the request reports it

    def get(self, prompt_id: str) -> dict[str, Any] | None:
        """See `PromptSource.get`."""
        try:
            answer = self._call(lambda prompts: prompts.get(prompt_id))
        except PromptSourceError as error:
            if error.status == 404:
                return None
            raise
        if not isinstance(answer, dict) or not isinstance(answer.get("prompt"), dict):
            raise PromptSourceError("not an answer of the API")
        return answer

    def list_all(
        self, *, active_only: bool = False, version_id: str | None = None, include_archived: bool = False
    ) -> list[dict[str, Any]]:
        """See `PromptSource.list_all`. Reads all pages."""
        arguments: dict[str, Any] = {"active_only": True} if active_only else {}
        if include_archived:
            arguments["include_archived"] = True
        if version_id is not None:
            arguments["version_id"] = version_id
        if self._product is not None:
            arguments["product_id"] = self._product
        found: dict[str, dict[str, Any]] = {}
        for page in range(1, _MAX_PAGES + 1):
            items = self._page(arguments, page)
            new = {str(item.get("id")): item for item in items if str(item.get("id")) not in found}
            found |= new
            if len(items) < _PAGE_SIZE or not new:  # a server may ignore the number of the page
                break
        return [*found.values()]

    def _page(self, arguments: dict[str, Any], page: int) -> list[dict[str, Any]]:
        answer = self._call(lambda prompts: prompts.list(page=page, page_size=_PAGE_SIZE, **arguments))
        if not isinstance(answer, list):
            raise PromptSourceError("not an answer of the API")
        return [item for item in answer if isinstance(item, dict)]

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """See `PromptSource.create`."""
        return self._written(lambda prompts: prompts.create(**_to_arguments(body)))

    def update(self, prompt_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """See `PromptSource.update`."""
        return self._written(lambda prompts: prompts.update(prompt_id, **_to_arguments(body)))

    def _written(self, call: Callable[[Any], Any]) -> dict[str, Any]:
        answer = self._call(call)
        if not isinstance(answer, dict):
            raise PromptSourceError("not an answer of the API")
        return answer

    def close(self) -> None:
        """See `PromptSource.close`."""
        self._exporter.close()

    def _resource(self) -> Any:
        """Return the SDK's prompts, whose methods return raw responses."""
        try:
            client = self._exporter._sdk_client()
        except Exception as error:  # a client of the user, or one that cannot be created
            raise PromptSourceError(f"the SDK cannot be used: {type(error).__name__}") from error
        prompts = getattr(getattr(client, "prompts", None), "with_raw_response", None)
        if prompts is None:
            raise PromptSourceError(NO_PROMPTS)
        return prompts

    def _call(self, call: Callable[[Any], Any]) -> Any:
        prompts = self._resource()
        if (problem := self._exporter._access.problem) is not None:
            raise PromptSourceError(problem, 401)
        try:
            with suppress_sdk_logs():
                response = call(prompts).http_response
            return response.json()
        except (AttributeError, TypeError) as error:  # no such method, or one without these arguments
            raise PromptSourceError(NO_PROMPTS) from error
        except Exception as error:  # errors of any SDK version, or of the user's client
            response = getattr(error, "response", None)
            status = getattr(error, "status_code", None)
            if response is None or status is None:
                raise PromptSourceError(f"no answer: {type(error.__cause__ or error).__name__}") from error
            if status == 404 and not http_outcome.is_api_error(status, response.content):
                raise PromptSourceError("HTTP 404: is the address right?") from error
            raise PromptSourceError(f"HTTP {status}", status, http_outcome.retry_after(response.headers)) from error


_SNAKE_CASE = {"productId": "product_id", "externalPromptId": "external_prompt_id"}


def _to_arguments(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with the argument names of the SDK, which passes names inside components as they are."""
    return {_SNAKE_CASE.get(name, name): value for name, value in body.items()}
