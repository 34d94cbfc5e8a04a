from __future__ import annotations

import pytest

from gati.pipeline import internal_errors


def failing(secret: str) -> None:
    raise LookupError(secret)


@pytest.mark.parametrize("debug", [False, True])
def test_debug_adds_the_locations_of_the_traceback_and_no_content(
    debug: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internal_errors, "debug", debug)
    try:
        try:
            failing("Ada's secret")
        except LookupError as cause:
            raise ValueError("another secret") from cause
    except ValueError as error:
        internal_errors.report("somewhere", error)
    assert internal_errors.log.writer.drain(10.0)
    (line,) = caplog.messages
    assert line.startswith("internal error in somewhere: ValueError. The program is not affected.")
    assert "secret" not in line
    assert (f'File "{__file__}", line' in line) is debug
    assert ("in failing\nLookupError" in line) is debug


def test_debug_shortens_deep_tracebacks() -> None:
    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError) as caught:
        recurse()
    caught.value.__context__ = None  # the thread may be handling another exception
    assert internal_errors.format_frames(caught.value).count("File") == internal_errors.MAX_FRAMES
