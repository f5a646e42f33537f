"""Events to JSON text and back, across versions of the program.

What an older program wrote is lifted to today's shape by *upcasters*, one function per type and version, each from one
version to the next. What a newer program wrote is refused: it may mean something that this one would get wrong.

No I/O here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from attrs import fields

from . import types
from .errors import LogDamaged
from .types import Event, Json, Recorded

Payload: TypeAlias = "dict[str, Json]"
Upcaster: TypeAlias = "Callable[[Payload], Payload]"


# Every class of `types` that no other one is built on. By the module's names, not down from `Event.__subclasses__()`: attrs
# makes each slotted class twice, and the first one stays a subclass until the garbage collector comes.
EVENT_TYPES: Final[Mapping[str, type[Event]]] = {
    name: kind
    for name, kind in vars(types).items()
    if isinstance(kind, type) and issubclass(kind, Event) and not kind.__subclasses__()
}

# (type, schema version that was written) -> the payload one version later. Entries are never removed.
UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = {}


# Half characters, which a path or a driver's message in a foreign encoding may hold: no UTF-8 text can.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def encode(event: Event) -> str:
    """The event's fields as JSON text, keys sorted, so that equal events are equal texts.

    >>> encode(types.RemoteConfirmed(run="two", by="one"))
    '{"by":"one","recovered":false,"run":"two"}'
    """
    kind = type(event)
    return json_text({attribute.name: getattr(event, attribute.name) for attribute in fields(kind)})


def json_text(data: Mapping[str, Json]) -> str:
    """JSON text that any database can keep: readable, but half characters escaped. Raises ValueError for NaN and infinity."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text if text.isascii() else _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def decode(
    record: Recorded,
    *,
    event_types: Mapping[str, type[Event]] = EVENT_TYPES,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> Event:
    """The event that a record holds, in today's shape.

    Raises LogDamaged: T502 where a newer program wrote it (an unknown type, or a version above ours), T503 where the
    payload is not what that type's version has.
    """
    kind = event_types.get(record.type)
    if kind is None or record.schema_version > kind.SCHEMA_VERSION:
        raise LogDamaged("T502", stream=record.stream, version=record.version, type=record.type, schema=record.schema_version)
    try:
        payload = json.loads(record.payload)
        for version in range(record.schema_version, kind.SCHEMA_VERSION):
            payload = upcasters[record.type, version](payload)
        return kind(**payload)
    except (ValueError, TypeError, KeyError) as error:
        raise LogDamaged("T503", stream=record.stream, version=record.version, type=record.type, problem=error) from error
