"""Access to the studio for its owner: a token in the printed address, then a cookie, or the token as a bearer key.

The store's file is readable by its owner only. On loopback, though, every user of the machine can connect.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from gati.studio.public_address import PublicAddress

_COOKIE_SECONDS = 30 * 24 * 3600
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")

_UNAUTHORIZED_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>gati studio</title>
<h1>401: token required</h1>
<p>Open the address that <code>gati studio</code> printed. It contains the token.</p></html>"""


def token_path(store: Path) -> Path:
    """Return the file of a store's token: ``<store>.token``."""
    return store.with_name(f"{store.name}.token")


def load_token(store: Path) -> str:
    """Return the token of a store, created on first use and the same afterwards.

    A file that somebody else owns, may read or may write is replaced by a new one.

    Raises:
        OSError: The file cannot be written.
    """
    path = token_path(store)
    for attempt in range(5):  # another process may create or replace the file at the same time
        token = _read_private(path)
        if token is not None:
            return token
        if attempt:  # after an attempt to create the file it exists, and it cannot be trusted
            with suppress(FileNotFoundError):
                path.unlink()
        _create_file(path, secrets.token_urlsafe(32))
    raise OSError(f"{path} cannot be kept private")


def _read_private(path: Path) -> str | None:
    """Return the token in the file; None if there is none, or if it may be known to somebody else."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        private = os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
        text = file.read(200).decode("ascii", "replace").strip() if private and stat.S_ISREG(status.st_mode) else ""
    return text if _TOKEN.fullmatch(text) else None


def _create_file(path: Path, token: str) -> None:
    """Write the file as a whole, unless it exists."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{token}\n")
        with suppress(FileExistsError):
            os.rename(partial, path) if os.name == "nt" else os.link(partial, path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


class TokenRequired:
    """Answers 401 unless a request carries the token: as a bearer key, in the address, or as a cookie made from it.

    An address with ``?token=`` sets the cookie and redirects to the address without it, so that the token stays out of
    the browser's history. With `public`, the cookie is for that address only.
    """

    def __init__(self, app: ASGIApp, token: str, public: PublicAddress | None = None) -> None:
        self.app, self._token, self._public = app, token.encode(), public
        # Cookies do not distinguish ports, so each store has its own.
        self._cookie = f"gati_studio_{hashlib.sha256(self._token).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and self._is_token(query.pop("token", [""])[-1]):
            await self._signed_in(scope["path"], query)(scope, receive, send)
        elif self._is_authorized(headers):
            await self.app(scope, receive, send)
        else:
            await _unauthorized(headers)(scope, receive, send)

    def _is_authorized(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(key.strip())
        cookies: SimpleCookie = SimpleCookie()
        with suppress(Exception):  # browsers send the cookies of all servers on this host, whatever they contain
            cookies.load(headers.get("cookie", ""))
        if (morsel := cookies.get(self._cookie)) is None:
            return False
        expiry, _, signature = morsel.value.partition(".")
        return (
            expiry.isdecimal()
            and len(expiry) < 16
            and int(expiry) > time.time()
            and hmac.compare_digest(signature.encode(), self._sign(expiry).encode())
        )

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self._token)

    def _sign(self, expiry: str) -> str:
        return hmac.new(self._token, f"cookie {expiry}".encode(), hashlib.sha256).hexdigest()

    def _signed_in(self, path: str, query: dict[str, list[str]]) -> Response:
        target = f"/{path.lstrip('/')}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        response = RedirectResponse(target, 303, {"cache-control": "no-store", "referrer-policy": "no-referrer"})
        expiry = str(int(time.time()) + _COOKIE_SECONDS)
        public = self._public
        response.set_cookie(
            self._cookie, f"{expiry}.{self._sign(expiry)}", max_age=_COOKIE_SECONDS, httponly=True,
            path=(public and public.path) or "/", secure=public is not None and public.is_encrypted,
            # "lax": a link in a page of another site, such as a chat, opens the page. Forms of other sites get no cookie.
            samesite="lax" if public else "strict",
        )  # fmt: skip
        return response


def _unauthorized(headers: Headers) -> Response:
    more = {"www-authenticate": "Bearer", "cache-control": "no-store"}
    if "text/html" in headers.get("accept", ""):
        return HTMLResponse(_UNAUTHORIZED_PAGE, 401, {**more, "content-security-policy": "default-src 'none'"})
    error = "Token required: use the one in the address that `gati studio` printed as the API key."
    return JSONResponse({"success": False, "error": error, "message": error}, 401, more)
