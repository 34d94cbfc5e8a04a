"""`gati dead list`, `show`, `replay` and `drop`: requests that no relay could deliver."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from gati.cli.output import Exit, fail, print_json, print_note, print_rows
from gati.cli.relay import NO_QUEUE, queue_admin
from gati.queues.log import LogError

if TYPE_CHECKING:
    from gati.queues.admin import DeadLetter, QueueAdmin


def list_dead(queue: str | None, limit: int, *, json_wanted: bool = False) -> Exit:
    """Print the oldest dead letters."""
    with closing(queue_admin(queue)) as admin:
        letters = list(itertools.islice(_letters(admin), limit))
        if not letters and not json_wanted:
            _try(lambda: print_note("no dead letters" if admin.exists() else NO_QUEUE))
    print_rows([_row(letter) for letter in letters], json_wanted=json_wanted)
    return Exit.OK


def show_dead(queue: str | None, wanted: str) -> Exit:
    """Print a dead letter as JSON, with its content."""
    with closing(queue_admin(queue)) as admin:
        (letter,) = _chosen(admin, [wanted], everything=False)
    try:
        content: Any = orjson.loads(letter.message.value)
    except ValueError:
        content = letter.message.value.decode(errors="replace")
    print_json({**_row(letter), "request": content})
    return Exit.OK


def replay_dead(queue: str | None, wanted: Sequence[str], *, everything: bool) -> Exit:
    """Publish dead letters again."""
    with closing(queue_admin(queue)) as admin:
        letters = _chosen(admin, wanted, everything=everything)
        _try(lambda: admin.replay(letters))
    print_note(f"published {len(letters)} requests again")
    return Exit.OK


def drop_dead(queue: str | None, wanted: Sequence[str], *, everything: bool) -> Exit:
    """Remove dead letters."""
    with closing(queue_admin(queue)) as admin:
        letters = _chosen(admin, wanted, everything=everything)
        _try(lambda: admin.drop(letters))
    print_note(f"dropped {len(letters)} requests")
    return Exit.OK


def _chosen(admin: QueueAdmin, wanted: Sequence[str], *, everything: bool) -> list[DeadLetter]:
    """Return the dead letters with these ids, or all. Exit if one does not exist, or neither is given."""
    if bool(wanted) == everything:
        fail("give ids of dead letters, or --all", Exit.USAGE)
    letters = [letter for letter in _letters(admin) if everything or letter.id in wanted]
    if unknown := Counter(wanted) - Counter(letter.id for letter in letters):
        fail(f"no dead letter {next(iter(unknown))}", Exit.NOT_FOUND)
    return letters


def _letters(admin: QueueAdmin) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    _try(lambda: found.extend(admin.dead_letters()))
    return found


def _try(operation: Any) -> None:
    try:
        operation()
    except LogError as error:
        fail(f"the queue cannot be used: {error}")


def _row(letter: DeadLetter) -> dict[str, Any]:
    message = letter.message
    dead_at = datetime.fromtimestamp(message.dead_ms / 1000, UTC).isoformat()[:19] + "Z"
    return {
        "id": letter.id,
        "dead_at": dead_at,
        "reason": message.reason,
        "conversation": message.key,
        "endpoint": message.endpoint,
        "turn": message.turn,
        "items": message.items,
        "product": message.account,
        "origin": message.origin,
    }
