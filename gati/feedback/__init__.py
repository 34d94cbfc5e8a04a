"""Feedback of the people who read an answer: a signed token for each answer, and a route that takes ratings.

::

    from starlette.applications import Starlette

    from gati.feedback import Feedback

    feedback = Feedback(secret="at least 16 characters")
    app = Starlette(routes=feedback.routes())  # or FastAPI; GET /feedback/widget.js, POST /feedback
    token = feedback.token(run_id="0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10")  # for the page that shows the answer

The token names the answer and cannot be changed, so a page can rate that answer only. It holds no text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gati import observe
from gati._api.arguments import report_call
from gati.errors import ConfigurationError
from gati.feedback.tokens import RatedAnswer, TokenSigner

if TYPE_CHECKING:
    from uuid import UUID

    from starlette.routing import BaseRoute

__all__ = ["Feedback", "RatedAnswer"]

_MIN_SECRET_CHARS = 16
_MAX_SECONDS = 3650 * 86_400
_MAX_STARS = 1_000
_MAX_FEEDBACK_CHARS = 5_000


class Feedback:
    """Signs tokens and takes ratings.

    Args:
        secret: at least 16 characters that only your servers know. Of several, the first one signs, and all are
            accepted, so that a secret can be replaced.
        expires_in: seconds for which a token is valid; default: 90 days.
        max_stars: the most stars that the route accepts.

    Raises:
        gati.errors.ConfigurationError: a secret is too short or no text, there is none, or a number is out of its range.
    """

    def __init__(self, secret: str | Sequence[str], *, expires_in: float = 90 * 86_400, max_stars: int = 5) -> None:
        given: object = secret
        secrets = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
        if not secrets or not all(map(_is_secret, secrets)):
            allowed = f"a text of at least {_MIN_SECRET_CHARS} characters without lone surrogates, or several"
            raise ConfigurationError("secret", "**********", allowed)
        _check_number("expires_in", expires_in, _MAX_SECONDS)
        _check_number("max_stars", max_stars, _MAX_STARS)
        self._signer = TokenSigner(secrets, expires_in)
        self._max_stars = max_stars

    def token(self, *, run_id: str | UUID | None = None, conversation_id: str | int | UUID | None = None) -> str:
        """Return a token for the answer of a root run, or for a conversation; "" for invalid arguments."""
        try:
            return self._signer.sign(RatedAnswer(_optional_text(run_id), _optional_text(conversation_id)))
        except Exception as error:  # noqa: BLE001 - never raises
            report_call("feedback.token", error)
            return ""

    def verify(self, token: object) -> RatedAnswer | None:
        """Return what a token names; None if it was not signed with one of the secrets, or has expired."""
        return self._signer.verify(token)

    def rate(self, token: object, *, rating: object = None, stars: object = None, feedback: object = None) -> bool:
        """Record a rating for what a token names. For servers without the route.

        Args:
            token: the token, as received.
            rating: True for a thumb up, False for a thumb down.
            stars: instead of `rating`, a number from 1 to `max_stars`.
            feedback: a comment; texts of more than 5,000 characters are cut.

        Returns:
            True if the rating was recorded. The same rating of the same token is recorded once.
        """
        answer = self._signer.verify(token)
        if answer is None or (rating is not None and not isinstance(rating, bool)):
            return False
        comment = feedback[:_MAX_FEEDBACK_CHARS] if isinstance(feedback, str) and feedback.strip() else None
        given: Any = {"rating": rating} if stars is None else {"rating": rating, "stars": stars}
        if stars is not None:
            given["rating_max"] = self._max_stars
        key = json.dumps([token, rating, repr(stars), comment])
        return observe.log_rating(
            **given,
            run_id=answer.run_id,
            conversation_id=answer.conversation_id if answer.run_id is None else None,
            feedback=comment,
            rated_at=datetime.now(UTC),
            rating_id=hashlib.sha256(key.encode(errors="replace")).hexdigest()[:32],
        )

    def routes(self, path: str = "/feedback") -> list[BaseRoute]:
        """Return routes for Starlette or FastAPI: `POST {path}` takes ratings, `GET {path}/widget.js` is the script.

        Needs Starlette, which FastAPI includes.
        """
        from gati.feedback.web import feedback_routes  # late: it loads Starlette

        return feedback_routes(self, path)


def _is_secret(value: object) -> bool:
    # Lone surrogates come from bytes that are no text, of which another server may make something else.
    return isinstance(value, str) and len(value) >= _MIN_SECRET_CHARS and not re.search("[\ud800-\udfff]", value)


def _check_number(option: str, value: object, largest: int) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= largest:  # type: ignore[operator]  # it is a number
        # Python does not print the longest numbers.
        is_short = is_number and (isinstance(value, float) or -(2**63) < value < 2**63)  # type: ignore[operator]  # see above
        given = value if is_short else f"<{type(value).__name__}>"
        raise ConfigurationError(option, given, f"a number above 0, at most {largest}")


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)
