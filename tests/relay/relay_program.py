"""Starts relays in processes of their own: one for each line of standard input, by a fork, which is quick.

A line has the session timeout. Arguments: address of the queue, base URL and key of the destination. Prints the id of each process.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import Any


def stop(relay: Any, *_: object) -> None:
    relay.stop()


def main(queue: str, base_url: str, key: str, connections: str = "4") -> None:
    from gati.exporters.greenflash.exporter import GreenflashExporter
    from gati.pipeline.retry import Policy
    from gati.queues.address import QueueAddress
    from gati.relay.engines import open_log
    from gati.relay.relay import Relay, RelayOptions
    from gati.settings import load

    address = QueueAddress.parse(queue)
    open_log(address, 1.0)  # loads the client library
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        exporter = GreenflashExporter(load(api_key=key, base_url=base_url, connections=int(connections)))
        options = RelayOptions(connections=int(connections))
        policy = Policy(first=0.02, cap=0.2, retry_after_cap=1.0, probe=0.2)
        relay = Relay(open_log(address, float(line)), exporter, options, policy)
        signal.signal(signal.SIGTERM, partial(stop, relay))
        relay.run()
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
