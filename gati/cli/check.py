"""The result of one check of `gati doctor`."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass
class Check:
    """The result of one check. `advice` is empty if there is nothing to fix."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    found: str
    advice: str = ""
