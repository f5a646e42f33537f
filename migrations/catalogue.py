"""What a database looks like, as values: its objects, marks and rows, and what differs between two such looks.

The readers (`sqlite_catalogue.py`, `postgres_catalogue.py`) fill these in from the databases' own catalogues; Twinstep's
own objects are never part of them. Everything that a report counts is computed here, from two catalogues, and nothing from
a migration's text.

No I/O here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping

from attrs import evolve, field, frozen

from ..events.types import Json


@frozen(kw_only=True)
class CatalogueObject:
    """One object: `kind` is table, index, trigger, view, column, constraint and so on; `table` the table that it is of.

    `definition` is normal: two texts that mean the same tokens are equal. `storage` tells whether a table was made anew
    (its root page or file node; empty where that means nothing). `foreign_keys` counts the table's foreign keys.
    """

    kind: str
    name: str
    table: str = ""
    definition: str = ""
    storage: str = ""
    foreign_keys: int = 0
    valid: bool = True

    @property
    def key(self) -> str:
        """Kind and name, such as "index idx_notes": unique in one database."""
        return f"{self.kind} {self.name}"

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over the definition and validity."""
        return hashlib.sha256(f"{self.definition}\n{self.valid}".encode()).hexdigest()[:16]


@frozen(kw_only=True)
class Changes:
    """What one side's change did, counted from the catalogue before and after. `rows` is the change per table,
    `rows_quarantined` how many rows and references of it were set aside; `findings` are worth knowing and no failure."""

    indexes_added: int = 0
    indexes_dropped: int = 0
    foreign_keys_added: int = 0
    tables_rebuilt: int = 0
    tables_added: int = 0
    tables_dropped: int = 0
    objects_added: tuple[str, ...] = ()
    objects_dropped: tuple[str, ...] = ()
    objects_changed: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(factory=dict)
    rows_quarantined: Mapping[str, int] = field(factory=dict)
    findings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The numbers and names, as they go into the log; the findings stand beside them."""
        return {
            "indexes_added": self.indexes_added,
            "indexes_dropped": self.indexes_dropped,
            "foreign_keys_added": self.foreign_keys_added,
            "tables_rebuilt": self.tables_rebuilt,
            "tables_added": self.tables_added,
            "tables_dropped": self.tables_dropped,
            "objects_added": list(self.objects_added),
            "objects_dropped": list(self.objects_dropped),
            "objects_changed": list(self.objects_changed),
            "rows": dict(self.rows),
            "rows_quarantined": dict(self.rows_quarantined),
        }


@frozen(kw_only=True)
class Fingerprint:
    """A look at one side that fits into an event: digests instead of texts.

    `objects` maps an object's key to its digest, `marks` names to numbers (user_version, "sequence pending_ops"), `rows`
    tables to counts, `content` tables to digests of all their rows in no order (empty where rows were not read).
    """

    objects: Mapping[str, str] = field(factory=dict)
    marks: Mapping[str, int] = field(factory=dict)
    rows: Mapping[str, int] = field(factory=dict)
    content: Mapping[str, str] = field(factory=dict)

    @property
    def token(self) -> str:
        """One digest of it all: equal as long as nobody wrote, where rows and their content were read."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def schema_only(self) -> Fingerprint:
        """The same without what hosts write all the time: rows, their content, and the marks of sequences."""
        marks = {name: value for name, value in self.marks.items() if not name.startswith("sequence ")}
        return evolve(self, marks=marks, rows={}, content={})

    def only(self, keys: Collection[str]) -> Fingerprint:
        """The same with these objects only; marks and rows stay."""
        return evolve(self, objects={key: digest for key, digest in self.objects.items() if key in keys})

    def differences(self, now: Fingerprint) -> tuple[str, ...]:
        """What `now` has that this one had not, and the other way round, one sentence each; empty when they are equal."""
        found = _missing_or_changed("", self.objects, now.objects)
        for name in sorted(self.marks.keys() | now.marks.keys()):
            if self.marks.get(name) != now.marks.get(name):
                found.append(f"{name} was {self.marks.get(name)}, is {now.marks.get(name)}")
        counted = set()
        for table in sorted(self.rows.keys() & now.rows.keys()):
            if self.rows[table] != now.rows[table]:
                counted.add(table)
                found.append(f"{table} had {self.rows[table]} rows, has {now.rows[table]}")
        for table in sorted((self.content.keys() & now.content.keys()) - counted):
            if self.content[table] != now.content[table]:
                found.append(f"rows of {table} have other values")
        return tuple(found)

    def to_json(self) -> dict[str, Json]:
        """As it lies in an event."""
        return {
            "objects": dict(self.objects),
            "marks": dict(self.marks),
            "rows": dict(self.rows),
            "content": dict(self.content),
        }

    def to_text(self) -> str:
        """As it lies in a ledger row: equal looks are equal texts."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Fingerprint | None:
        """Read back what `to_text` wrote; None for an empty text, of a row that has no look."""
        return cls.from_json(json.loads(text)) if text else None

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, str | int]]) -> Fingerprint:
        """Read back what `to_json` wrote."""
        return cls(
            objects={name: str(value) for name, value in data["objects"].items()},
            marks={name: int(value) for name, value in data["marks"].items()},
            rows={name: int(value) for name, value in data["rows"].items()},
            content={name: str(value) for name, value in data["content"].items()},
        )


@frozen(kw_only=True)
class Schema:
    """A side's schema at one instant, with no row read or counted; what a look of earlier can be held against.

    `building` are the keys of invalid indexes that somebody builds right now, or may: they are nobody's fault.
    """

    objects: Mapping[str, CatalogueObject] = field(factory=dict)
    marks: Mapping[str, int] = field(factory=dict)
    building: frozenset[str] = frozenset()

    def unfinished(self) -> frozenset[str]:
        """The keys of all invalid indexes, whether somebody builds them or not."""
        return frozenset(key for key, found in self.objects.items() if found.kind == "index" and not found.valid)

    def invalid_indexes(self) -> tuple[str, ...]:
        """The names of the invalid indexes that nobody is building."""
        return tuple(sorted(self.objects[key].name for key in self.unfinished() - self.building))

    def fingerprint(self) -> Fingerprint:
        """The same as it goes into an event."""
        digests = {key: found.digest for key, found in sorted(self.objects.items())}
        return Fingerprint(objects=digests, marks=self.marks).schema_only()

    def drift_since(self, then: Fingerprint) -> tuple[str, ...]:
        """What differs from that look, one sentence each. An index that is not valid, or was not then, is no difference."""
        apart = self.unfinished() | {key for key, found in self.objects.items() if _was_unfinished(found, then)}
        then = then.schema_only().only(then.objects.keys() - apart)
        return then.differences(self.fingerprint().only(self.objects.keys() - apart))


def _was_unfinished(found: CatalogueObject, then: Fingerprint) -> bool:
    return found.kind == "index" and then.objects.get(found.key) == evolve(found, valid=False).digest


def _missing_or_changed(prefix: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    found = [f"{prefix}{name} is missing" for name in sorted(before.keys() - now.keys())]
    found += [f"{prefix}{name} is new" for name in sorted(now.keys() - before.keys())]
    found += [f"{prefix}{name} differs" for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]
    return found


@frozen(kw_only=True)
class Catalogue:
    """All objects of one side (or of its named schemas) at one instant, with the number of rows per table where counted."""

    objects: Mapping[str, CatalogueObject]
    rows: Mapping[str, int] = field(factory=dict)

    def digests(self) -> dict[str, str]:
        """As they go into a fingerprint."""
        return {key: found.digest for key, found in sorted(self.objects.items())}

    def with_rows(self, rows: Mapping[str, int]) -> Catalogue:
        """The same, with these numbers of rows."""
        return evolve(self, rows=rows)

    def touched_until(self, after: Catalogue) -> list[str]:
        """The keys of all objects that were made, dropped or changed between this look and `after`."""
        before, now = self.digests(), after.digests()
        return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))

    def changes_to(self, after: Catalogue) -> Changes:
        """What was done between this look and `after`."""
        added = after.objects.keys() - self.objects.keys()
        dropped = self.objects.keys() - after.objects.keys()
        common = self.objects.keys() & after.objects.keys()
        changed = {key for key in common if self.objects[key].digest != after.objects[key].digest}
        rebuilt = {
            key
            for key in common
            if after.objects[key].kind == "table" and self.objects[key].storage != after.objects[key].storage
        }

        def count(keys: set[str], catalogue: Catalogue, kind: str) -> int:
            return sum(catalogue.objects[key].kind == kind for key in keys)

        def foreign_keys(catalogue: Catalogue) -> int:
            return sum(found.foreign_keys for found in catalogue.objects.values())

        return Changes(
            indexes_added=count(added, after, "index"),
            indexes_dropped=count(dropped, self, "index"),
            foreign_keys_added=foreign_keys(after) - foreign_keys(self),
            tables_rebuilt=len(rebuilt),
            tables_added=count(added, after, "table"),
            tables_dropped=count(dropped, self, "table"),
            objects_added=tuple(sorted(added)),
            objects_dropped=tuple(sorted(dropped)),
            objects_changed=tuple(sorted(changed)),
            rows={
                table: after.rows.get(table, 0) - self.rows.get(table, 0)
                for table in sorted(self.rows.keys() | after.rows.keys())
                if after.rows.get(table, 0) != self.rows.get(table, 0)
            },
        )
