"""Ctrl-C at any line of gati in the main thread leaves a pipeline that works, or that is cleanly stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gati import observe
from gati.pipeline import internal_errors
from tests.pipeline.kit import FakeExporter, record_turn, running

PACKAGE = Path(observe.__file__).parent
FILES = {
    str(PACKAGE / "pipeline" / name)
    for name in ("pipeline.py", "buffer.py", "flushes.py", "atomic_counter.py", "internal_errors.py", "stats.py")
} | {str(PACKAGE / "_api" / "runtime.py")}

Line = tuple[str, int]


class Interrupter:
    """Notes the lines of gati that run in this thread, or raises KeyboardInterrupt at one of them, once."""

    def __init__(self, target: Line | None = None) -> None:
        self.lines: dict[Line, None] = {}
        self._target = target

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in FILES else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            self.lines[line] = None
            if line == self._target:
                self._target = None
                raise KeyboardInterrupt
        return self._line


def interrupted(interrupter: Interrupter, action: Any) -> None:
    before = sys.gettrace()
    sys.settrace(interrupter)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


def use(folder: Path, interrupter: Interrupter) -> None:
    """Interrupt a pipeline while it is used, then check that it works; then interrupt its shutdown."""
    exporter = FakeExporter()
    with running(folder, exporter) as pipeline:

        def everything() -> None:
            record_turn(pipeline, "c", "interrupted")
            pipeline.flush(20.0)
            pipeline.stats()

        interrupted(interrupter, everything)
        record_turn(pipeline, "c", "afterwards")
        assert not pipeline.flush(20.0).timed_out
        assert exporter.texts["c"][-1] == "afterwards"
        assert pipeline.stats().balanced
        interrupted(interrupter, lambda: pipeline.shutdown(20.0))
        pipeline.shutdown(20.0)
    assert exporter.closed == 1


def test_an_interrupt_at_any_line_leaves_a_working_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal_errors, "RAISE", False)
    all_lines = Interrupter()
    use(tmp_path / "all", all_lines)
    assert len(all_lines.lines) > 60
    for number, line in enumerate(all_lines.lines):
        use(tmp_path / str(number), Interrupter(line))
