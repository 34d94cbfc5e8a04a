"""The user's mask over every text of a request, before it touches disk or wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gati.pipeline.internal_errors import note

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

_WORDS = frozenset(
    """
    agent_name args attachments attempt audio_input_tokens audio_output_tokens cache_read_tokens cache_write_tokens
    cached candidates completion content cost cost_usd data dimensions documents duration_ms environment
    error error_message error_type event_type finish_reason goto handled id imported input input_tokens internal
    latency_ms message messages metadata model model_calls name never_run new_messages node node_name output
    output_tokens parameters payload prompt provider query raw reasoning reasoning_tokens requested_by role score
    state_after state_before status step step_name structured_prompt system_prompt tags text
    time_to_first_token_ms tokens_in tokens_out tool_call_id tool_calls tool_input tool_name tool_output tool_requests
    tools total_cost total_duration_ms total_tokens type usage value vectors workflow write
    """.split()  # noqa: SIM905 - seventy words read better as words
)
"""Keys that are gati's own words wherever they stand. Any other key below those may be somebody's name or address."""


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
                below = f"{path}.{key}" if path else str(key)
                seen = self._key(str(key), path, masked) if free else key
                masked[seen] = self.value(member, below, free or plain in _FREE)
        self._kind = outer
        return masked

    def _key(self, key: str, path: str, taken: dict[str, Any]) -> str:
        """A key of the user's own as it may be shown; two that look the same stay two."""
        if key in _WORDS:
            return key
        masked = seen = self._text(key, path)
        number = 1
        while seen in taken:
            number += 1
            seen = f"{masked} ({number})"
        return seen

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
