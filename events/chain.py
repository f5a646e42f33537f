"""One hash chain per stream, so that no event can be edited, dropped or moved unnoticed.

Each hash covers the one before it and every field of its own event; a length stands before each field, so that no two
different events ever feed the same bytes. The last hash of a stream also lies in the ledgers of both databases, which is how
a cut-off tail is found.

The construction is the usual one of a hash-linked log (Haber and Stornetta, "How to time-stamp a digital document", 1991).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from .errors import LogDamaged
from .types import Recorded

GENESIS: Final = "0" * 64


def link(
    previous_hash: str, *, stream: str, version: int, type: str, schema_version: int, recorded_at: str, payload: str
) -> str:
    """The hash of an event that follows `previous_hash`: 64 hexadecimal digits of SHA-256.

    >>> event = dict(stream="pair/0001_one", type="Verified", schema_version=1, recorded_at="2026-01-01", payload="{}")
    >>> first = link(GENESIS, version=1, **event)
    >>> len(first), first == link(GENESIS, version=1, **event), first == link(first, version=2, **event)
    (64, True, False)
    """
    digest = hashlib.sha256()
    for part in (previous_hash, stream, str(version), type, str(schema_version), recorded_at, payload):
        data = part.encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def check_stream(records: Iterable[Recorded]) -> tuple[int, str]:
    """Walk one stream from its first event; the last version and hash, (0, GENESIS) when it is empty.

    Raises LogDamaged (T501) at the first event whose version, previous hash or own hash is not what it must be.

    >>> check_stream([]) == (0, GENESIS)
    True
    """
    version, previous = 0, GENESIS
    for record in records:
        version += 1
        if record.version != version:
            raise LogDamaged("T501", stream=record.stream, version=record.version, problem=f"version {version} is missing")
        if record.previous_hash != previous:
            raise LogDamaged("T501", stream=record.stream, version=version, problem="it does not follow the event before it")
        expected = link(
            previous,
            stream=record.stream,
            version=record.version,
            type=record.type,
            schema_version=record.schema_version,
            recorded_at=record.recorded_at,
            payload=record.payload,
        )
        if record.hash != expected:
            raise LogDamaged("T501", stream=record.stream, version=version, problem="its content was changed")
        previous = record.hash
    return version, previous
