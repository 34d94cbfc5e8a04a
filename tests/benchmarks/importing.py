"""Measure `gati import checkpoints`: `python -m tests.benchmarks.importing [--messages 100000]`.

Runs an agent with LangGraph's SQLite checkpointer until its turns amount to that number of messages in gati, then imports
the file into a new embedded store with the command line, as a user would. Prints the time and the CPU time of the
command, its start included, and fails if a message did not arrive.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver

from tests.benchmarks.environments import ROOT
from tests.benchmarks.workloads import SYSTEM, Model, calculate

MESSAGES_PER_TURN = 8
"""Messages that gati imports for a turn of the agent."""
TURNS_PER_THREAD = 5


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.importing", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder) / "checkpoints.sqlite", Path(folder) / "studio.db"
        _run_agents(source, options.messages // MESSAGES_PER_TURN)
        print(_import(source, store), flush=True)


def _run_agents(file: Path, turns: int) -> None:
    """Run the turns of an agent, and keep their checkpoints in the file."""
    with SqliteSaver.from_conn_string(str(file)) as saver:
        saver.setup()
        saver.conn.execute("PRAGMA synchronous=OFF")
        agent = create_agent(Model(uses="calculate"), [calculate], system_prompt=SYSTEM, checkpointer=saver)
        for turn in range(turns):
            config: Any = {"configurable": {"thread_id": f"thread-{turn // TURNS_PER_THREAD}"}}
            question = f"Question {turn}: what does it cost to rent two city bikes for {turn % 9} days?"
            agent.invoke({"messages": [HumanMessage(question)]}, config)


def _import(source: Path, store: Path) -> str:
    """Import the file; return a line that describes the time it took."""
    gati = shutil.which("gati", path=Path(sys.executable).parent) or "gati"
    command = [gati, "import", "checkpoints", str(source), "--store", str(store), "--json"]
    wall = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall, spent = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    result = json.loads(done.stdout)
    if result["messages"] != MESSAGES_PER_TURN * result["turns"] or result["left"] or result["lost"]:
        raise SystemExit(f"not all messages arrived: {result}")
    cpu = spent.ru_utime + spent.ru_stime
    return f"{result} from {source.stat().st_size >> 20} MB of checkpoints in {wall:.0f} s, {cpu:.0f} s of CPU time"


if __name__ == "__main__":
    main()
