"""Signed tokens: what is rated and until when, as JSON with an HMAC."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from typing import NamedTuple

_MAX_TOKEN_CHARS = 2_000
_PURPOSE = b"gati feedback 1\n"
"""Part of what is signed, so that another use of the secret cannot produce a token."""


class RatedAnswer(NamedTuple):
    """The answer of a root run or, without one, the conversation that a rating is for."""

    run_id: str | None
    conversation_id: str | None


class TokenSigner:
    """Signs and verifies tokens.

    Args:
        secrets: the first one signs, all are accepted.
        expires_in: seconds for which a token is valid.
    """

    def __init__(self, secrets: Sequence[str], expires_in: float) -> None:
        self._keys = [hashlib.sha256(_PURPOSE + secret.encode(errors="surrogatepass")).digest() for secret in secrets]
        self._expires_in = expires_in

    def sign(self, answer: RatedAnswer) -> str:
        """Return a token, which may be part of a URL.

        Raises:
            ValueError: the answer has neither a run nor a conversation, or an id is too long.
        """
        if not (answer.run_id or answer.conversation_id):
            raise ValueError("a run id or a conversation id is required")
        expires = int(time.time() + self._expires_in)
        payload = json.dumps([answer.run_id, answer.conversation_id, expires], separators=(",", ":")).encode()
        token = f"{_encode_part(payload)}.{_encode_part(_sign(self._keys[0], payload))}"
        if len(token) > _MAX_TOKEN_CHARS:
            raise ValueError("the ids are too long")
        return token

    def verify(self, token: object) -> RatedAnswer | None:
        """Return what a token names; None if it is not valid or has expired."""
        if not isinstance(token, str) or len(token) > _MAX_TOKEN_CHARS or not token.isascii():
            return None
        encoded, _, signature = token.partition(".")
        try:
            payload, given = _decode(encoded), _decode(signature)
            if f"{_encode_part(payload)}.{_encode_part(given)}" != token:  # bits that base64 does not use
                return None
            if not any(hmac.compare_digest(given, _sign(key, payload)) for key in self._keys):
                return None
            run_id, conversation_id, expires = json.loads(payload)
        except ValueError:
            return None
        return RatedAnswer(run_id, conversation_id) if expires > time.time() else None


def _sign(key: bytes, payload: bytes) -> bytes:
    return hmac.new(key, payload, hashlib.sha256).digest()


def _encode_part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
