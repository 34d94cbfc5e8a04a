"""The user's mask over every text of a request, before it touches disk or wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.pipeline.faults import note

if TYPE_CHECKING:
    from gati.exporters.base import Request
    from gati.settings import Mask

MARKER = "[masked: the mask failed]"
"""Stands where a text was that the mask could not deal with."""

_IDS = frozenset(
    {
        "conversationid",
        "createdat",
        "eventat",
        "eventid",
        "eventtype",
        "externalconversationid",
        "externalmessageid",
        "externalorganizationid",
        "externaluserid",
        "influence",
        "insertid",
        "messageid",
        "messagetype",
        "parentexternalmessageid",
        "parenteventid",
        "parentmessageid",
        "productid",
        "ratedat",
        "role",
        "runid",
        "source",
        "status",
        "timestamp",
        "type",
        "valuetype",
        "externalpromptid",
        "externalcomponentid",
        "promptid",
        "componentid",
    }
)
"""Ids and enumerations, without regard to spelling. They count only where the destination's API
defines them; inside values of the user's own every text is seen by the mask."""

_FREE = frozenset({"input", "output", "properties", "variables", "data", "metadata"})
"""Keys below which everything is the user's own."""


def apply(mask: Mask, request: Request) -> int:
    """Replace the request's body by a masked copy; returns how many texts were dropped because
    the mask raised or returned no text.
    """
    masking = _Masking(mask, request.endpoint)
    request.body = masking.value(request.body, "", False)
    return masking.failed


class _Masking:
    def __init__(self, mask: Mask, kind: str) -> None:
        self._mask = mask
        self._kind = kind
        self.failed = 0

    def value(self, value: Any, path: str, free: bool) -> Any:
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, dict):
            return self._dict(value, path, free)
        if isinstance(value, (list, tuple)):
            return [self.value(member, f"{path}.{n}" if path else str(n), free) for n, member in enumerate(value)]
        return value

    def _dict(self, value: dict[str, Any], path: str, free: bool) -> dict[str, Any]:
        outer = self._kind
        if not free:
            kind = value.get("messageType") or value.get("message_type") or value.get("event_type")
            self._kind = kind if isinstance(kind, str) else outer
        masked = {}
        for key, member in value.items():
            plain = str(key).replace("_", "").lower()
            if not free and isinstance(member, str) and plain in _IDS:
                masked[key] = member
            else:
                masked[key] = self.value(member, f"{path}.{key}" if path else str(key), free or plain in _FREE)
        self._kind = outer
        return masked

    def _text(self, text: str, path: str) -> str:
        try:
            masked: object = self._mask(text, path, self._kind)
        except Exception as error:  # noqa: BLE001 - the user's function may fail in any way; then the text must not go
            note("mask", error)
            self.failed += 1
            return MARKER
        if not isinstance(masked, str):
            self.failed += 1
            return MARKER
        return masked
