"""Sampling of whole conversations, in the program (the option `sample_rate`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from gati.events import Action, Turn

if TYPE_CHECKING:
    from gati.events import Item
    from gati.options import Settings


class Sampler:
    """Decides which items are delivered: all items of a conversation, or none.

    The decision follows from a hash of the conversation's id, so that every process makes the same one.

    Args:
        rate: fraction of conversations that are delivered.

    Attributes:
        sampled_out: number of items that were not delivered.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.sampled_out = 0

    def keeps(self, conversation_id: str) -> bool:
        """Return True if the conversation is delivered."""
        digest = hashlib.sha256(conversation_id.encode("utf-8", "replace")).digest()
        return int.from_bytes(digest[:8]) < self._rate * 2**64

    def filter(self, items: list[Item], conversation_of: Callable[[str], str | None]) -> list[Item]:
        """Return the items that are delivered.

        A business event of another conversation is delivered without its conversation.

        Args:
            items: the items.
            conversation_of: returns the conversation of a message, given the message's id; None if it is unknown.
        """
        kept = []
        for item in items:
            conversation = _conversation_of_item(item, conversation_of)
            if conversation is None or self.keeps(conversation):
                kept.append(item)
            elif isinstance(item, Action) and item.endpoint == "events":
                del item.body["external_conversation_id"]
                kept.append(item)
        self.sampled_out += len(items) - len(kept)
        return kept


def _conversation_of_item(item: Item, conversation_of: Callable[[str], str | None]) -> str | None:
    if isinstance(item, Turn):
        return item.conversation.id
    if not isinstance(item, Action):
        return item.conversation_id
    conversation: str | None = item.body.get("external_conversation_id")
    if conversation is None and (message := item.body.get("external_message_id")) is not None:
        return conversation_of(message)
    return conversation


def sampler_of(settings: Settings) -> Sampler | None:
    """Return the sampler of the options; None if every conversation is delivered, or if Greenflash decides."""
    rate = settings.sample_rate
    return Sampler(rate) if rate is not None and rate < 1 and settings.force_sample is None else None
