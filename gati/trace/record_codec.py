"""The packed form of records: one `bytes` object each, which the garbage collector does not track.

Whatever waits in gati waits packed. A callback packs its snapshot with one call of `marshal`, which copies and flattens
it in C; the background thread unpacks it when it assembles the turn. The format never leaves the process.

`marshal` takes plain values and tuples, so classes of `records` are packed as tuples. Where the position does not tell
the class, the length does: see `_CLASS_OF_LENGTH`. Snapshots themselves contain no tuples.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from sys import getsizeof
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID, SafeUUID

from gati.trace.deferred_media import DeferredMedia
from gati.trace.records import (
    Custom,
    ErrorInfo,
    FirstToken,
    GraphState,
    HistoryRead,
    Message,
    ModelCall,
    ModelResult,
    ObjectName,
    Record,
    RepeatedHistory,
    RepeatedMessages,
    RunEnded,
    RunFailed,
    RunStarted,
    Scope,
    Template,
    TemplateText,
)

VERSION = 2
"""Version of marshal's format. Later ones look up every object in a table of shared ones: they pack and unpack more
slowly, and let objects that contain themselves pass."""

STARTED, ENDED, FAILED, CUSTOM, GRAPH_STATE, HISTORY, OTHER = range(7)
"""The first entry of a packed tuple: which record it is. The rest are the record's fields, with ids as integers."""

FLATTENED = 16
"""Set in the first entry if the values were flattened: anywhere in them, a tuple may stand for an object. Otherwise only
messages are tuples, in the lists and dicts of a state."""

FIRST_TOKEN_BYTES = 300
"""What a `FirstToken` counts for."""

_NESTED = frozenset({dict, list, tuple})
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
_UNKNOWN = SafeUUID.unknown
_new: Any = tuple.__new__
_create, _set = object.__new__, object.__setattr__
_dumps, _loads = marshal.dumps, marshal.loads


class RecordWithObjects(NamedTuple):
    """A packed record with the objects that have no packed form: large media, a prompt that a scope sets."""

    data: bytes
    objects: tuple[Any, ...]

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.data) + sum(
            [item.size if type(item) is DeferredMedia else getsizeof(item) for item in self.objects]
        )


PackedRecord: TypeAlias = "bytes | RecordWithObjects"


def pack_fields(fields: tuple[Any, ...]) -> PackedRecord:
    """Pack a record, given as one of the constants above and its fields."""
    try:
        return _dumps(fields, VERSION)
    except ValueError:  # a subclass of a plain type, or an object
        objects: list[Any] = []
        data = _dumps((fields[0] | FLATTENED, *flattened(fields[1:], objects)), VERSION)
        return RecordWithObjects(data, tuple(objects)) if objects else data


def pack_record(record: Record) -> PackedRecord | Record:
    """Pack a record of any class that has a packed form; return others unchanged."""
    fields = [tuple(item) if isinstance(item, tuple) else item for item in record]
    if type(record) is RunStarted:
        parent = record.parent_id
        return pack_fields((STARTED, record.run_id.int, parent.int if parent is not None else None, *fields[2:]))
    tag = _TAGS.get(type(record))
    run_id: Any = fields[0]
    return record if tag is None else pack_fields((tag, run_id.int if run_id is not None else None, *fields[1:]))


def unpack_record(packed: PackedRecord | Record) -> Record:
    """Return the record. A record that is not packed is returned unchanged."""
    if type(packed) is bytes:
        objects: tuple[Any, ...] = ()
        fields = _loads(packed)
    elif type(packed) is RecordWithObjects:
        objects, fields = packed.objects, _loads(packed.data)
    else:
        return packed  # type: ignore[return-value]  # what is neither is a record
    kind = fields[0]
    if kind & FLATTENED:
        record: Record = _UNPACKERS[kind ^ FLATTENED](fields, objects)
        return record
    if kind == STARTED:
        return _plain_start(fields)
    if kind == ENDED:
        _, run, at, output, inputs = fields
        if type(output) in _NESTED:
            output = _plain_state(output)
        if inputs is not None:
            inputs = _plain_state(inputs)
        ended: RunEnded = _new(RunEnded, (_uuid(run), at, output, inputs))
        return ended
    other: Record = _UNPACKERS[kind](fields, objects)
    return other


def record_of(fields: Any, objects: tuple[Any, ...]) -> Record:
    """Return the record of unpacked fields, whatever packed them. Raises an exception if they are not those of a record."""
    kind = fields[0]
    record: Record = _UNPACKERS[kind & ~FLATTENED](fields, objects)
    return record


# -- without unpacking --------------------------------------------------------------------------
# A tuple begins with "(" and four bytes for its length, then its first entry follows as "i" and four bytes. At RUN, the
# id of the run follows: "l", four bytes for the number of digits, and two bytes for each digit (a small one is "i" and
# four bytes). It identifies the run as well as the integer does, and nothing has to be unpacked. The id of a parent
# follows in the same form, or "N".

KIND, RUN = 6, 10
"""Positions in the head of a packed record: of the constant for its class, and of the run's id."""
LONG, NONE = b"lN"
"""First byte of an id, and of its absence."""


def head_of(packed: PackedRecord | Record) -> bytes:
    """Return bytes that begin like the packed form of a record."""
    if type(packed) is RecordWithObjects:
        return packed.data
    if type(packed) is bytes:
        return packed
    record: Record = packed  # type: ignore[assignment]  # what is neither is a record
    if type(record) in _TAGS:
        return head_of(pack_record(record))
    run_id: UUID | None = getattr(record, "run_id", None)
    return _dumps((OTHER, run_id.int if run_id is not None else None), VERSION)


def key_at(head: bytes, position: int) -> bytes:
    """Return the packed id at a position; the result identifies no run if there is none."""
    return head[position : position + (5 + 2 * head[position + 1] if head[position] == LONG else 5)]


def run_of(key: bytes) -> int:
    """Return the id that a key stands for."""
    run: int = _loads(key)
    return run


def time_of(packed: PackedRecord | Record) -> int | None:
    """Return the time at which a run began or ended; None for records of another kind."""
    record = unpack_record(packed)
    return record.at if isinstance(record, RunStarted | RunEnded | RunFailed) else None


def size_of(packed: PackedRecord | Record) -> int:
    """Return the size of a record in bytes; of one without a packed form, that of its texts when it was created."""
    if type(packed) is bytes:
        return len(packed)
    if type(packed) is FirstToken:  # its pieces belong to the recorder, and grow
        return FIRST_TOKEN_BYTES
    return packed.size if type(packed) is RecordWithObjects else _size_of_value(packed, 6)


def size_without_media(packed: PackedRecord | Record) -> int:
    """Return the size of a record whose large media are described by now, so their content does not count."""
    if type(packed) is RecordWithObjects:
        return len(packed.data) + sum(map(getsizeof, packed.objects))
    return size_of(packed)


def _size_of_value(value: Any, depth: int) -> int:
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) + 50
    if kind is dict:
        value = value.values()
    elif kind is list or issubclass(kind, tuple):
        value = tuple(value)
    elif (fields := getattr(value, "__dataclass_fields__", None)) is not None:
        value = [getattr(value, name, None) for name in fields]
    else:
        return 30
    return 60 + sum(_size_of_value(item, depth - 1) for item in value) if depth else 60


def flattened(value: Any, objects: list[Any]) -> Any:
    """Return a value that `marshal` takes. Values that are not plain are appended to `objects`, and references replace them."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {flattened(key, objects): flattened(item, objects) for key, item in value.items()}
    if kind is list:
        return [flattened(item, objects) for item in value]
    if kind is ObjectName:
        return (str.__str__(value),)
    if issubclass(kind, tuple):
        return tuple([flattened(item, objects) for item in tuple.__iter__(value)])
    if issubclass(kind, str):
        return str.__str__(value)
    objects.append(value)
    return (None, None, len(objects) - 1)


def _uuid(number: int) -> UUID:
    """Return a UUID, at a third of the cost of `UUID(int=number)`."""
    created = _create(UUID)
    _set(created, "int", number)
    _set(created, "is_safe", _UNKNOWN)
    return created


# -- nested values ------------------------------------------------------------------------------


def revived(value: Any, objects: tuple[Any, ...] = ()) -> Any:
    """Turn the tuples inside a value into the objects that they stand for, in place where possible."""
    kind = type(value)
    if kind is dict:
        if not _NESTED.isdisjoint(map(type, value.values())):  # mostly there is nothing to do
            for key, item in value.items():
                if type(item) in _NESTED:
                    value[key] = revived(item, objects)
    elif kind is list:
        if not _NESTED.isdisjoint(map(type, value)):
            for index, item in enumerate(value):
                if type(item) in _NESTED:
                    value[index] = revived(item, objects)
    elif kind is tuple:
        return _CLASS_OF_LENGTH[len(value)](value, objects)
    return value


def _revived_message(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> Message:
    calls, invalid_calls = fields[4], fields[5]
    if calls or invalid_calls or not _NESTED.isdisjoint(map(type, (*fields[:4], *fields[6:]))):
        fields = (
            *[revived(item, objects) for item in fields[:4]],
            tuple([revived(call, objects) for call in calls]),
            tuple([revived(call, objects) for call in invalid_calls]),
            *[revived(item, objects) for item in fields[6:]],
        )
    message: Message = _new(Message, fields)
    return message


def _messages(items: tuple[Any, ...], objects: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([revived(item, objects) for item in items])


def _model_call(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> ModelCall:
    system, messages, total, params, repeats = fields
    repeated = RepeatedMessages(*repeats) if repeats is not None else None
    return ModelCall(
        _messages(system, objects), _messages(messages, objects), total, revived(params, objects), repeated
    )


def _model_result(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> ModelResult:
    return ModelResult(_messages(fields[0], objects), revived(fields[1], objects))


def _template(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> Template:
    system, variables, partials, name, hub, user = fields
    return Template(_template_texts(system), variables, revived(partials, objects), name, hub, _template_texts(user))


def _template_texts(messages: tuple[Any, ...]) -> tuple[tuple[TemplateText, ...], ...]:
    return tuple([tuple([TemplateText(*block) for block in blocks]) for blocks in messages])


_CLASS_OF_LENGTH: dict[int, Callable[[tuple[Any, ...], tuple[Any, ...]], Any]] = {
    1: lambda fields, _: ObjectName(fields[0]),
    2: _model_result,
    3: lambda fields, objects: objects[fields[2]],
    5: _model_call,
    6: _template,
    11: _revived_message,
}


# -- records ------------------------------------------------------------------------------------


def _started(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> RunStarted:
    _, run, parent, kind, name, at, inputs, tags, metadata, extra, scope, configurable = fields
    if type(inputs) in _NESTED:
        inputs = revived(inputs, objects)
    if type(extra) in _NESTED:
        extra = revived(extra, objects)
    if scope is not None:
        scope = Scope(*[revived(item, objects) for item in scope])
    if metadata is not None:
        metadata = revived(metadata, objects)
    if configurable is not None:
        configurable = revived(configurable, objects)
    parent_id = _uuid(parent) if parent is not None else None
    record: RunStarted = _new(
        RunStarted,
        (_uuid(run), parent_id, kind, name, at, inputs, tuple(tags), metadata, extra, scope, configurable),
    )
    return record


def _plain_start(fields: tuple[Any, ...]) -> RunStarted:
    """Do the same as `_started` for fields that were not flattened."""
    _, run, parent, kind, name, at, inputs, tags, metadata, extra, scope, configurable = fields
    if type(inputs) in _NESTED:
        inputs = _plain_state(inputs)
    if type(extra) in _NESTED:
        extra = _plain_state(extra)
    if scope is not None:
        scope = Scope._make(scope)
    parent_id = _uuid(parent) if parent is not None else None
    record: RunStarted = _new(
        RunStarted, (_uuid(run), parent_id, kind, name, at, inputs, tuple(tags), metadata, extra, scope, configurable)
    )
    return record


def _plain_state(value: Any) -> Any:
    """Turn the messages in a state that was not flattened into `Message`s."""
    kind = type(value)
    if kind is tuple:
        if len(value) == 5:
            system, messages, total, params, repeats = value
            if repeats is not None:
                repeats = _new(RepeatedMessages, repeats)
            call: ModelCall = _new(
                ModelCall, (_plain_messages(system), _plain_messages(messages), total, params, repeats)
            )
            return call
        if len(value) == 2:
            return _new(ModelResult, (_plain_messages(value[0]), value[1]))
        return _new(Message, value) if len(value) == 11 else revived(value)
    if kind is list:
        if tuple in map(type, value):
            return _plain_messages(value)
        if dict in map(type, value):
            return list(map(_plain_state, value))
    elif kind is dict:
        for key, item in value.items():
            if type(item) in _NESTED:
                value[key] = _plain_state(item)
    return value


def _plain_messages(items: Any) -> Any:
    """Convert the messages in a tuple or list."""
    return type(items)([_new(Message, item) if type(item) is tuple else item for item in items])


def _ended(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> RunEnded:
    _, run, at, output, inputs = fields
    if type(output) in _NESTED:
        output = revived(output, objects)
    if inputs is not None:
        inputs = revived(inputs, objects)
    record: RunEnded = _new(RunEnded, (_uuid(run), at, output, inputs))
    return record


def _failed(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> RunFailed:
    _, run, at, error, output, inputs, streamed = fields
    info = ErrorInfo(*[revived(item, objects) for item in error])
    return RunFailed(_uuid(run), at, info, revived(output, objects), revived(inputs, objects), streamed)


def _custom(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> Custom:
    return Custom(_uuid(fields[1]), revived(fields[2], objects), fields[3], revived(fields[4], objects))


def _graph_state(fields: tuple[Any, ...], objects: tuple[Any, ...]) -> GraphState:
    _, run, state, at, checkpoint_ns, interrupts, status = fields
    run_id = _uuid(run) if run is not None else None
    return GraphState(run_id, state, at, checkpoint_ns, _messages(interrupts, objects), status)


def _history_read(fields: tuple[Any, ...], _: tuple[Any, ...]) -> HistoryRead:
    return HistoryRead(_uuid(fields[1]), RepeatedHistory(*fields[2]))


_TAGS: dict[type, int] = {
    RunStarted: STARTED, RunEnded: ENDED, RunFailed: FAILED, Custom: CUSTOM, GraphState: GRAPH_STATE, HistoryRead: HISTORY,
}  # fmt: skip
_UNPACKERS: tuple[Callable[[tuple[Any, ...], tuple[Any, ...]], Record], ...] = (
    _started, _ended, _failed, _custom, _graph_state, _history_read,
)  # fmt: skip
