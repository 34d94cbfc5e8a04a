"""Forks a talking child for each line of stdin; tells its process id once it talks, and when it is dead, when its turns ended."""

from __future__ import annotations

import os
import sys
import time

from gati import observe
from tests.processes.program import run_turn


def run_turns_until_killed(name: str, pause: float, pipe: int) -> None:
    """Talk until killed, with `pause` seconds between turns. The time of each turn's end goes into the pipe,
    which outlives the child.
    """
    observe.init()
    n = 0
    while True:
        run_turn(name, str(n))
        os.write(pipe, f"{time.time()}\n".encode())
        n += 1
        time.sleep(pause)


def main() -> None:
    """One life after the other."""
    observe.init()
    run_turn("first life", "everything is loaded, so that the others can be short")
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
            times += end_times.read().split()  # ends with the child's death
        os.waitpid(child, 0)
        print(*times, flush=True)


if __name__ == "__main__":
    main()
