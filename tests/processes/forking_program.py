"""Fork a child per line of stdin. The child runs turns until it is killed."""

from __future__ import annotations

import os
import sys
import time

from gati import observe
from tests.processes.program import run_turn


def run_turns_until_killed(name: str, pause: float, pipe: int) -> None:
    """Run turns until killed, `pause` seconds apart. Write the end time of each turn to the pipe, which outlives
    the child.
    """
    observe.init()
    n = 0
    while True:
        run_turn(name, str(n))
        os.write(pipe, f"{time.time()}\n".encode())
        n += 1
        time.sleep(pause)


def main() -> None:
    """Fork the children. Print the pid of each when it has started, and its end times when it is dead."""
    observe.init()
    run_turn("first life", "load everything, so that children start fast")
    observe.flush(60.0)
    observe.shutdown()
    print("ready", flush=True)
    for line in sys.stdin:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            name, _, pause = line.strip().rpartition(" ")
            run_turns_until_killed(name, float(pause), write_end)
        os.close(write_end)
        with os.fdopen(read_end) as end_times:
            times = [end_times.readline().strip()]
            print(child, flush=True)
            times += end_times.read().split()  # until the child is dead
        os.waitpid(child, 0)
        print(*times, flush=True)


if __name__ == "__main__":
    main()
