"""The long form by hand: ``python -m tests.soak --minutes 240``. A line a minute; ends at the first leak."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.soak.runner import leaks, live


def main() -> None:
    """Talk for so long, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for now in live(Path(folder), given.minutes * 60, given.seed):
            print(
                f"{now.seconds:8.0f} s  {now.turns:9,} turns  {now.rss / 1e6:7.1f} MB  {now.threads} threads",
                flush=True,
            )
            if found := leaks(now):
                raise SystemExit(f"leaks: {found}")


if __name__ == "__main__":
    main()
