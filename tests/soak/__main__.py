"""The long form: ``python -m tests.soak --minutes 240``. Prints a line a minute; fails at the first leak."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from gati import observe
from tests.servers import greenflash_server
from tests.soak.soak import Soak, leaks


def main() -> None:
    """Talk for so long, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, greenflash_server(path=Path(folder) / "store.db") as server:
        soak = Soak(server, Path(folder) / "spool", given.seed)
        soak.talk(500)
        first = soak.reading()
        end, next_line = time.monotonic() + given.minutes * 60, 0.0
        while time.monotonic() < end:
            soak.talk(200)
            server.requests.clear()
            if time.monotonic() >= next_line:
                next_line = time.monotonic() + 60
                now = soak.reading()
                print(
                    f"{now.seconds:8.0f} s  {now.turns:9,} turns  {now.rss / 1e6:7.1f} MB  {now.threads} threads",
                    flush=True,
                )
                if found := leaks(now):
                    raise SystemExit(f"leaks: {found}")
        last = soak.reading()
        print(f"memory grew by {(last.rss - first.rss) / 1e6:.1f} MB over {last.turns - first.turns:,} turns")
        print(observe.stats())
        observe.shutdown()


if __name__ == "__main__":
    main()
