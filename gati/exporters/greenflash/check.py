"""Queries for the commands: the key's products, and the conversations that Greenflash has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.exporters.log_suppression import suppress_sdk_logs

if TYPE_CHECKING:
    from gati.settings import Settings

_Result = TypeVar("_Result")

PAGE = 100
"""Conversations in one response."""


class UnsupportedSdkError(Exception):
    """The installed SDK is too old for this query."""


class RequestFailedError(Exception):
    """Greenflash rejected the query or could not be reached.

    Attributes:
        status: HTTP status; None if there was no response.
    """

    def __init__(self, status: int | None, reason: str) -> None:
        self.status = status
        super().__init__(f"HTTP {status}" if status else f"no answer: {reason}")


def fetch_products(settings: Settings) -> dict[str, str]:
    """Return the products that the key can access, id → name. Raises RequestFailedError, UnsupportedSdkError."""
    products = _call_sdk(settings, lambda client: client.products.list())
    return {str(product.id).lower(): str(product.name) for product in products}


def newest_conversations(settings: Settings) -> list[str]:
    """Return the ids of the product's 50 newest conversations. Raises RequestFailedError, UnsupportedSdkError."""
    arguments = {"product_id": settings.product_id} if settings.product_id else {}
    interactions = _call_sdk(settings, lambda client: client.interactions.list(limit=50, **arguments))
    return [str(interaction.external_id) for interaction in interactions if interaction.external_id]


def fetch_conversations(settings: Settings) -> dict[str, str]:
    """Return the conversations of the product, external id → id. Raises RequestFailedError, UnsupportedSdkError."""
    arguments = {"product_id": settings.product_id} if settings.product_id else {}

    def list_all(client: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        offset = 0
        while page := list(client.interactions.list(limit=PAGE, offset=offset, **arguments)):
            before = len(found)
            found.update({one.external_id: one.id for one in page if one.external_id})
            offset += len(page)
            if len(page) < PAGE or len(found) == before:  # the last page, or a server that ignores `offset`
                break
        return found

    return _call_sdk(settings, list_all)


def fetch_message_times(settings: Settings, interaction_id: str) -> list[str]:
    """Return the times of a conversation's messages, as ISO 8601. Raises RequestFailedError, UnsupportedSdkError."""
    detail: Any = _call_sdk(settings, lambda client: client.get(f"/interactions/{interaction_id}", cast_to=object))
    messages = detail.get("messages") if isinstance(detail, dict) else None
    return [str(message["timestamp"]) for message in messages or () if message.get("timestamp")]


def _call_sdk(settings: Settings, call: Callable[[Any], _Result]) -> _Result:
    exporter = GreenflashExporter(settings)
    try:
        with suppress_sdk_logs():
            return call(exporter._sdk_client())
    except (AttributeError, TypeError) as error:  # no such method, or one without our arguments
        raise UnsupportedSdkError(str(error)) from error
    except Exception as error:  # errors of any SDK version, or of the user's client
        raise RequestFailedError(getattr(error, "status_code", None), type(error).__name__) from error
    finally:
        exporter.close()
