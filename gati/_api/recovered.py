"""Creates assemblers for the records of processes that were killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gati.settings import Settings
    from gati.trace.assembler import Assembler


def recovering_assembler(settings: Settings, recorded: Mapping[str, Any], offset_ns: int) -> Assembler:
    """Return an assembler with the options of the process that recorded, as `record_journal.start` wrote them.

    Args:
        settings: the options of this process. The limits are its own.
        recorded: options of the other process.
        offset_ns: add it to a record's time to get nanoseconds since the epoch.

    Raises:
        ValueError: an option is unknown or invalid.
    """
    from gati.pipeline.record_journal.start import RECORDED_OPTIONS  # late: mostly there is no journal
    from gati.settings import Settings as Options
    from gati.trace.assembler import Assembler

    if not recorded.keys() <= RECORDED_OPTIONS:
        raise ValueError("unknown options")
    given = Options.model_validate(dict(recorded))  # pydantic's error is a ValueError
    changes = {name: getattr(given, name) for name in RECORDED_OPTIONS}
    return Assembler(settings.model_copy(update=changes), offset_ns=offset_ns)
