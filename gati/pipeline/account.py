"""The destination that a folder of the spool belongs to, and the folders that a process may take over.

::

    {folder}/account.json     exporter, address, product
    {folder}/key-accepted     the destination has accepted the key
    {folder}/key-refused      the destination has answered 401

A folder belongs to address and product. Without a product it belongs to address and key. Then a process with another
key for the same address takes it over if the folder's key was only ever refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson

from gati.pipeline.safe_files import UnusableFileError, read_regular, write_atomically

if TYPE_CHECKING:
    from gati.exporters.base import SpoolIdentity

KeyState: TypeAlias = Literal["accepted", "refused", "unknown"]

_INFO = "account.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class AccountInfo(NamedTuple):
    """Description of an account's folder. Texts are empty if the folder does not say."""

    exporter: str = ""
    address: str = ""
    """The destination's address, without credentials."""
    address_id: str = ""
    """Fingerprint of the address."""
    product: str = ""
    key: KeyState = "unknown"


def account_folder(exporter: str, account: str) -> str:
    """Return the name of an account's folder in the spool."""
    return _UNSAFE.sub("_", f"{exporter}-{account}")


def write_info(folder: Path, exporter: str, identity: SpoolIdentity) -> None:
    """Describe a folder, unless it is described already."""
    if (folder / _INFO).exists():
        return
    value = {
        "exporter": exporter,
        "address": identity.label,
        "address_id": identity.address,
        "product": identity.product,
    }
    write_atomically(folder, _INFO, orjson.dumps(value), secrets.token_hex(6))


def read_info(folder: Path) -> AccountInfo:
    """Read the description of a folder; empty if there is none, as in folders of earlier versions."""
    value: object = None
    with contextlib.suppress(OSError, UnusableFileError, ValueError):
        value = orjson.loads(read_regular(folder / _INFO))
    texts = {name: text for name, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}
    state: KeyState = "unknown"
    if os.path.lexists(folder / "key-accepted"):
        state = "accepted"
    elif os.path.lexists(folder / "key-refused"):
        state = "refused"
    known = {name: texts[name][:500] for name in ("exporter", "address", "address_id", "product") if name in texts}
    return AccountInfo(**known, key=state)


def mark_key(folder: Path, *, accepted: bool) -> None:
    """Record that the destination has accepted the folder's key, or has refused it."""
    path = folder / ("key-accepted" if accepted else "key-refused")
    if not os.path.lexists(path):
        write_atomically(folder, path.name, b"", secrets.token_hex(6))


def may_take_over(folder: Path, exporter: str, identity: SpoolIdentity) -> bool:
    """Return True if a process of this identity delivers the files left in another account's folder."""
    if folder.name in {account_folder(exporter, former) for former in identity.former}:
        return True
    if not identity.address:
        return False
    info = read_info(folder)
    same_address = (info.exporter, info.address_id) == (exporter, identity.address)
    return same_address and not info.product and info.key == "refused"


def exporter_of(folder: Path, exporters: list[str]) -> str | None:
    """Return which of the exporters wrote a folder; None if none of them did."""
    if name := read_info(folder).exporter:
        return name if name in exporters else None
    found = [name for name in exporters if folder.name.startswith(account_folder(name, ""))]
    return max(found, key=len, default=None)
