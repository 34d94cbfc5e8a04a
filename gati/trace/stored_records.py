"""Records as bytes on a disk: what the journal keeps, so that the next process can assemble turns of one that was killed.

A packed record is stored as it is. The others begin with a letter: they hold objects, which become their type's name and
fields. Everything that is read is input that anybody may have written. It can raise ValueError, and nothing worse.
"""

from __future__ import annotations

import dataclasses
import marshal
import struct
from typing import Any, NamedTuple
from uuid import UUID

from gati import events
from gati.trace.deferred_media import DeferredMedia
from gati.trace.marshal_reader import read_packed
from gati.trace.record_codec import (
    LONG,
    RUN,
    VERSION,
    PackedRecord,
    RecordWithObjects,
    key_at,
    record_of,
)
from gati.trace.records import (
    FirstToken,
    HistoryRead,
    ManualEvent,
    ModelCall,
    ObjectName,
    Record,
    RunStarted,
    Scope,
)

PLAIN = ord("(")
"""First byte of a record without objects: that of a packed tuple."""

WITH_OBJECTS, MANUAL, TOKEN, LEFT_OUT = b"OMTX"
"""First byte of the other records: with objects, from a function of `observe`, a first token, one that was too large."""

STREAMED = ord("S")
"""First byte of text that was streamed since: no record of its own."""

_HEAD_BYTES = 100
"""Length of a left-out record's beginning that is kept: it names the run and its parent."""

_TUPLE, _OBJECT = "tuple", "object"
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None), bytes})
_length = struct.Struct("<I")

_CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and kind.__module__ == events.__name__ and hasattr(kind, "__dataclass_fields__")
} | {"ManagedVersion": events.ManagedVersion, "Scope": Scope}
_NAMES = {kind: name for name, kind in _CLASSES.items()}


class StreamedText(NamedTuple):
    """Pieces of an answer that was being streamed, from the piece number `begin` on."""

    run: int
    begin: int
    pieces: list[str]


def stored(record: PackedRecord | Record) -> bytes:
    """Return the bytes from which `restored` makes the record. Large media are described by their size only."""
    if type(record) is bytes:
        return record
    if type(record) is RecordWithObjects:
        objects = [_named(item) for item in record.objects]
        return b"O%b%b%b" % (_length.pack(len(record.data)), record.data, marshal.dumps(objects, VERSION))
    if type(record) is FirstToken:
        return b"T" + marshal.dumps((0, record.run_id.int, record.at, record.pieces[:]), VERSION)
    if type(record) is ManualEvent:
        run = record.run_id.int if record.run_id is not None else None
        fields = (0, run, _named(record.item), _named(record.scope), _named(record.configurable))
        return b"M" + marshal.dumps(fields, VERSION)
    return left_out(b"")


def stored_text(text: StreamedText) -> bytes:
    """Return the bytes of streamed text."""
    return b"S" + marshal.dumps((0, text.run, text.begin, text.pieces), VERSION)


def left_out(data: bytes) -> bytes:
    """Return what stands for a stored record that is too large."""
    return b"X" + head_of_stored(data)[:_HEAD_BYTES]


def head_of_stored(data: bytes) -> bytes:
    """Return bytes that begin like the packed form of a stored record; see `record_codec.head_of`."""
    if not data or data[0] == PLAIN:
        return data
    return data[1 + _length.size :] if data[0] == WITH_OBJECTS else data[1:]


def run_key(data: bytes) -> bytes:
    """Return the key of the run to which a stored record belongs; empty if it names none."""
    head = head_of_stored(data[:_HEAD_BYTES])
    return key_at(head, RUN) if len(head) > RUN + 5 and head[RUN] in (LONG, ord("i")) else b""


def run_number(key: bytes) -> int:
    """Return the id that a key stands for."""
    value = read_packed(key)
    if not isinstance(value, int):
        raise ValueError("not a run")
    return value


def restored(data: bytes, shift: int) -> Record | StreamedText | None:
    """Return a record of another process; None if nothing of it is of use here.

    Args:
        data: what `stored` or `stored_text` returned.
        shift: add it to a time of that process's clock to get one of this process's.

    Raises:
        ValueError: the data is damaged.
    """
    try:
        return _restored(data, shift)
    except (TypeError, IndexError, KeyError, AttributeError, struct.error, RecursionError) as error:
        raise ValueError(f"not a record: {type(error).__name__}") from None


def _restored(data: bytes, shift: int) -> Record | StreamedText | None:
    kind = data[0]
    if kind == PLAIN:
        return _adapted(record_of(read_packed(data), ()), shift)
    if kind == WITH_OBJECTS:
        (size,) = _length.unpack_from(data, 1)
        begin = 1 + _length.size
        objects = tuple([_object_of(item) for item in read_packed(data[begin + size :])])
        return _adapted(record_of(read_packed(data[begin : begin + size]), objects), shift)
    fields: Any = read_packed(data[1:]) if kind != LEFT_OUT else None
    if kind == TOKEN:
        _, run, at, pieces = fields
        return FirstToken(UUID(int=run), at + shift, [piece for piece in pieces if isinstance(piece, str)])
    if kind == STREAMED:
        _, run, begin, pieces = fields
        return StreamedText(int(run), int(begin), [piece for piece in pieces if isinstance(piece, str)])
    if kind == MANUAL:
        _, run, item, scope, configurable = fields
        run_id = UUID(int=run) if run is not None else None
        event, values = _object_of(item), _object_of(scope)
        if not isinstance(event, events.Event | events.Action) or not isinstance(values, Scope | None):
            raise ValueError("not an event")
        return ManualEvent(event, values, run_id, _object_of(configurable))
    return None


def _adapted(record: Any, shift: int) -> Record | None:
    """Return a record with the clock of this process, and without hashes: those of another process mean nothing here."""
    run, at = record.run_id, getattr(record, "at", 0)
    names = (record.kind, record.name) if type(record) is RunStarted else ()
    is_valid = (
        type(at) is int and (run is None or type(run.int) is int) and all(isinstance(name, str) for name in names)
    )
    if not is_valid:
        raise ValueError("not a record")
    if type(record) is HistoryRead:
        return None
    if type(record) is RunStarted and type(call := record.inputs) is ModelCall and call.repeats is not None:
        record = record._replace(inputs=call._replace(repeats=call.repeats._replace(answer_text=None)))
    adapted: Record = record._replace(at=at + shift)
    return adapted


# -- objects ------------------------------------------------------------------------------------


def _named(value: Any) -> Any:
    """Return a value that `marshal` takes: instead of an object, its type's name and its fields."""
    kind = type(value)
    if kind in _PLAIN_TYPES:
        return value
    if kind is dict:
        return {_named(key): _named(item) for key, item in value.items()}
    if kind is list:
        return [_named(item) for item in value]
    if kind is DeferredMedia:
        return _OBJECT, "DeferredMedia", dict(value) or {"mime": "application/octet-stream", "bytes": value.size}
    if issubclass(kind, ObjectName):
        return _OBJECT, "ObjectName", {"name": str.__str__(value)}
    for base in kind.__mro__:
        if (name := _NAMES.get(base)) is not None:
            return _OBJECT, name, {field: _named(getattr(value, field)) for field in _fields_of(base)}
    if issubclass(kind, tuple):
        return _TUPLE, [_named(item) for item in tuple.__iter__(value)]
    return str.__str__(value) if issubclass(kind, str) else (_OBJECT, "ObjectName", {"name": f"<{kind.__name__}>"})


def _fields_of(kind: Any) -> list[str]:
    return list(kind._fields) if issubclass(kind, tuple) else [field.name for field in dataclasses.fields(kind)]


def _object_of(value: Any) -> Any:
    """Return what `_named` described."""
    kind = type(value)
    if kind is dict:
        return {key: _object_of(item) for key, item in value.items()}
    if kind is list:
        return [_object_of(item) for item in value]
    if kind is not tuple:
        return value
    if value[0] == _TUPLE:
        return tuple([_object_of(item) for item in value[1]])
    _, name, fields = value
    if name == "DeferredMedia":
        return {"mime": str(fields["mime"]), **{key: fields[key] for key in ("bytes", "sha256") if key in fields}}
    if name == "ObjectName":
        return ObjectName(fields["name"])
    return _CLASSES[name](**{field: _object_of(item) for field, item in fields.items()})
