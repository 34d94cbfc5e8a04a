"""A Celery application whose broker is a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from gati import observe
from gati.testing import ScriptedChatModel

MODEL = ScriptedChatModel(replies=["certainly"])
FOLDER = Path(os.environ["BROKER_FOLDER"])
app = Celery("tasks", broker="filesystem://", backend=f"file://{FOLDER / 'results'}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(FOLDER / "queue"), "data_folder_out": str(FOLDER / "queue"),
        "control_folder": str(FOLDER / "control"), "polling_interval": 0.02,
    },
    worker_hijack_root_logger=False,
)  # fmt: skip
observe.init()


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def run_turn(conversation: str) -> str:
    """Run one turn."""
    task: Any = MODEL
    with observe.conversation(conversation, user_id="u"):
        return str(task.invoke("1").content)


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def run_turn_and_hang(conversation: str) -> None:
    """Run one turn, and be killed by the time limit afterwards."""
    run_turn(conversation)
    time.sleep(60)
