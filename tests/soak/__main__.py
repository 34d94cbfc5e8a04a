"""Run the soak test: ``python -m tests.soak --minutes 240``. Prints a line per minute; stops at the first leak."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.soak.runner import leaks, soak_for


def main() -> None:
    """Run turns for the given time, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for reading in soak_for(Path(folder), arguments.minutes * 60, arguments.seed):
            print(
                f"{reading.seconds:8.0f} s  {reading.turns:9,} turns  {reading.rss / 1e6:7.1f} MB  {reading.threads} threads",
                flush=True,
            )
            if leaked := leaks(reading):
                raise SystemExit(f"leaks: {leaked}")


if __name__ == "__main__":
    main()
