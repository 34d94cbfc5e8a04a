"""A program with a queue, for tests that kill it. Forks a child for each line it reads, so that a child needs no imports.

``python -m tests.queues.program ADDRESS`` reads names of conversations. Each child runs turns until it is killed, and
writes a line after each: the number of turns, and that of messages which the broker has acknowledged.
"""

from __future__ import annotations

import os
import sys
import time

from langchain_core.callbacks import get_usage_metadata_callback  # noqa: F401  # loads the callback manager

from gati import observe
from gati.testing import ScriptedChatModel

MODEL = ScriptedChatModel(replies=["certainly"])
PAUSE_SECONDS = 0.005


def run_turns(conversation: str) -> None:
    """Run turns forever."""
    os.write(1, f"{os.getpid()}\n".encode())
    number = 0
    while True:
        number += 1
        with observe.conversation(conversation, user_id="u"):
            MODEL.invoke(str(number))
        os.write(1, f"{number} {observe.stats().published}\n".encode())
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Fork a child for each line."""
    observe.init(queue=sys.argv[1], spool=False)  # as on a disk that is lost with the pod
    with observe.conversation("parent", user_id="u"):
        MODEL.invoke("1")
    observe.flush(timeout=60)
    os.write(1, b"ready\n")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run_turns(line.strip())
        os.waitpid(child, 0)
        os.write(1, b"killed\n")


if __name__ == "__main__":
    main()
