"""What `gati doctor` asks Greenflash: does the key work, is the product there, did a message arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from gati.exporters.greenflash.exporter import GreenflashExporter
from gati.exporters.log_suppression import quiet

if TYPE_CHECKING:
    from gati.settings import Settings

_Answer = TypeVar("_Answer")


class NotAskable(Exception):  # noqa: N818  as below
    """The installed SDK is too old for the question."""


class Refused(Exception):  # noqa: N818  a word of the trade, not a fault of the program
    """Greenflash did not answer as hoped.

    Attributes:
        status: HTTP status; None when there was no answer at all.
    """

    def __init__(self, status: int | None, reason: str) -> None:
        self.status = status
        super().__init__(f"HTTP {status}" if status else f"no answer: {reason}")


def products(settings: Settings) -> dict[str, str]:
    """Products that the key can see, id → name. Raises Refused, NotAskable."""
    found = _ask(settings, lambda client: client.products.list())
    return {str(product.id).lower(): str(product.name) for product in found}


def has_conversation(settings: Settings, conversation_id: str) -> bool:
    """Whether the conversation is among the newest of the product. Raises Refused, NotAskable."""
    which = {"product_id": settings.product_id} if settings.product_id else {}
    found = _ask(settings, lambda client: client.interactions.list(limit=50, **which))
    return any(interaction.external_id == conversation_id for interaction in found)


def _ask(settings: Settings, question: Callable[[Any], _Answer]) -> _Answer:
    exporter = GreenflashExporter(settings)
    try:
        with quiet():
            return question(exporter._ready())
    except (AttributeError, TypeError) as fault:  # no such method, or none that takes what we ask for
        raise NotAskable(str(fault)) from fault
    except Exception as fault:
        raise Refused(getattr(fault, "status_code", None), type(fault).__name__) from fault
    finally:
        exporter.close()
