"""Finds out whether this process may end without running exit hooks, as children that run jobs do."""

from __future__ import annotations

import os
import sys

from gati.pipeline import process_hooks

_SERVERS = ("gunicorn.workers.base", "uwsgi")
"""Modules of servers whose forked workers run exit hooks when they end."""


def may_skip_exit_hooks() -> bool:
    """Return True in children of multiprocessing, Celery and RQ, and in other forked processes.

    A pool terminates its children, RQ and Celery end theirs with `os._exit`. Workers of servers that are known to run
    exit hooks are excluded. Imports nothing: a library that is not loaded did not start this process.
    """
    return _is_multiprocessing_child() or _is_celery_child() or is_rq_job() or _is_fork_without_server()


def _is_multiprocessing_child() -> bool:
    module = sys.modules.get("multiprocessing.process")
    return module is not None and module.parent_process() is not None


def _is_celery_child() -> bool:
    module = sys.modules.get("billiard.process")
    return module is not None and bool(module.current_process().daemon)


def is_rq_job() -> bool:
    """Return True in the process that RQ starts for one job."""
    return "rq" in sys.modules and "RQ_JOB_ID" in os.environ


def _is_fork_without_server() -> bool:
    return process_hooks.is_forked() and not any(name in sys.modules for name in _SERVERS)
