"""A filter for `logging` that adds the ids of the conversation to log records."""

from __future__ import annotations

import logging

from gati._context import current_scope, features_used
from gati.langchain.current import current


class LogFilter(logging.Filter):
    """Add `conversation_id` and `message_id` to log records, for formatters and log collectors.

    `conversation_id` is the conversation of the run or of the `observe.conversation` in which the record is logged.
    `message_id` is the id in Greenflash of the answer that the run will give (see `observe.message_id`). A record that has
    one of them already, for example from `extra`, keeps it. All records pass the filter.

    Add it to a handler: a filter of a logger does not see the records of its child loggers.

    ```python
    handler = logging.StreamHandler()
    handler.addFilter(observe.LogFilter())
    handler.setFormatter(logging.Formatter("%(conversation_id)s %(message_id)s %(message)s"))
    ```

    Args:
        default: the value of an id that is not known, for example outside of a conversation.
    """

    def __init__(self, default: str | None = "-") -> None:
        super().__init__()
        self.default = default
        features_used.any = features_used.log_filter = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids to a record and return True."""
        conversation_id, message_id = self._ids()
        for name, value in (("conversation_id", conversation_id), ("message_id", message_id)):
            if not hasattr(record, name):
                setattr(record, name, value or self.default)
        return True

    def _ids(self) -> tuple[str | None, str | None]:
        try:
            recorder = current.recorder
            if recorder is None:
                return None, None
            root = recorder.enclosing_root()
            if root is not None:
                return root.conversation_id, f"{root.run_id}:answer"
            scope = current_scope.get()
            return (scope.conversation_id if scope else None) or recorder.default_conversation, None
        except Exception as error:  # noqa: BLE001 - logging must not fail because of gati
            current.report_error("log_filter", error)
            return None, None
