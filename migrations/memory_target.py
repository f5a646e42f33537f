"""A complete database in memory, as a target: transactions, a ledger, locks, and statements that are not atomic.

It is shipped, for the tests of host applications, and it is what the real targets are compared with. Functions are given
the `MemoryDatabase`'s open contents to change as they like; of SQL it understands `CREATE kind name ...` and `DROP kind
name`, each of a named object, as far as statements outside a transaction need it. Whatever fails inside a transaction leaves
nothing behind, as in a real database; a `single` statement goes through the half-done state that a real one can be left in.

A crash is an exception that the probe raises: what was not committed is gone with the target, and `MemoryDatabase.crashed`
says that the process which held its locks is dead.
"""

from __future__ import annotations

import copy
import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import cast

from attrs import define, evolve, field

from ..events.errors import Blocked, Locked, LostLock, Refused, Unreachable
from ..events.types import Json
from ..stores.seam import Probe, no_probe
from .accounting.loss import Loss, examples, folded, refusal
from .after_undo import mark_after
from .catalogue import Catalogue, CatalogueObject, Changes, Fingerprint, Schema
from .definition import Query, SideName, name_of
from .functions import said_by
from .kept import ROWS, TABLE, Kept
from .ledger import DECLARED, DONE, HEAD, KEY, OBJECTS, OPEN, LedgerRow, SideLedger
from .measuring import Round
from .memory_quarantine import Quarantine, Returning, put_rows_back, put_the_rest_back, sign
from .quarantined import PutBack, Quarantined
from .restored import explained, ledger_after
from .row_values import to_json
from .schema_comparison import differences_of
from .script import CallableStep, Unit
from .sql import Statement
from .steps import ToUndo, confirm_row, down_row, due_units, head_row, refuse_if_relied_on, stamp, units_to_undo, up_row
from .target import Comparison, Head, Timing, Undone, Whole
from .work import Limits, Order, RestoreOrder, SideWork

# In `before` of a statement that drops: how what it drops was made.
DEFINITION = "definition"


@define(kw_only=True)
class Contents:
    """What a transaction sees and changes: rows by table and key, named objects, marks, and the ledger."""

    tables: dict[str, dict[str, Json]] = field(factory=dict)
    objects: dict[str, CatalogueObject] = field(factory=dict)
    user_version: int = 0
    ledger: list[LedgerRow] = field(factory=list)
    kept: list[tuple[str, Kept, dict[str, Json]]] = field(factory=list)
    quarantine: Quarantine = field(factory=Quarantine)

    def copied(self) -> Contents:
        """An independent copy. What can be changed in place is copied; rows of the ledger and objects cannot be."""
        return evolve(
            self,
            tables=copy.deepcopy(self.tables),
            objects=dict(self.objects),
            ledger=list(self.ledger),
            kept=list(self.kept),
            quarantine=evolve(self.quarantine, rows=list(self.quarantine.rows)),
        )

    def digest_of(self, table: str) -> str:
        """A digest of a table's rows, in no order."""
        return hashlib.sha256(repr(sorted(self.tables[table].items())).encode()).hexdigest()

    def look(self, *, content: bool = True) -> Fingerprint:
        """Objects, marks and rows, as a local database is looked at."""
        return Fingerprint(
            objects={found.key: found.digest for found in self.objects.values()},
            marks={"user_version": self.user_version},
            rows={table: len(rows) for table, rows in self.tables.items()},
            content={table: self.digest_of(table) for table in self.tables} if content else {},
        )

    def digest(self) -> str:
        """A digest of all rows, objects and marks."""
        return self.look().token


@define(kw_only=True)
class MemoryDatabase:
    """One database that outlives the targets which work on it. `changed_by` is the token of whoever committed last."""

    name: str = field(factory=lambda: f"memory-{uuid.uuid4().hex}")
    contents: Contents = field(factory=Contents)
    locked_by: str | None = None
    changed_by: str = ""
    reachable: bool = True
    backups: dict[str, Contents] = field(factory=dict)

    def kept(self, backup: Mapping[str, Json]) -> Contents:
        """What was kept as that backup. Raises Blocked: T232 where it is gone, T233 where it is not what it was."""
        found = self.backups.get(str(backup["id"]))
        if found is None:
            raise Blocked("T232", backup=backup["id"], path=self.name)
        if found.digest() != backup["sha256"]:
            raise Blocked("T233", backup=backup["id"], path=self.name, problem="its content has changed")
        return found

    def crashed(self) -> None:
        """The process that held the lock is dead: its lock is gone, and what it had not committed never was."""
        self.locked_by = None


class MemoryTarget:
    """One side of a pair, in memory. See `target.py` for what the methods promise."""

    def __init__(
        self,
        side: SideName,
        database: MemoryDatabase,
        *,
        is_pair: bool = False,
        fence: Callable[[], None] = lambda: None,
        probe: Probe = no_probe,
    ) -> None:
        """`is_pair` says that this remote is a pair by itself: nobody else's changes make it theirs."""
        self._side: SideName = side
        self._database = database
        self._is_pair = is_pair or side == "local"
        self._fence = fence
        self._probe = probe
        self._held: str | None = None
        # Who may have committed last while nobody else has changed anything since the lock was first taken.
        self._ours: set[str] = set()
        self._backed_up: str | None = None

    @property
    def side(self) -> SideName:
        """Which side of a migration is run here."""
        return self._side

    @property
    def measures(self) -> bool:
        """A database in memory runs no queries."""
        return False

    @property
    def held(self) -> str | None:
        """The token of the lock that is held."""
        return self._held

    def hold(self) -> str:
        """Take the lock; raises Locked (T401) where another target holds it."""
        self._reach()
        if self._held is None:
            if self._database.locked_by is not None:
                raise Locked("T401", side=self._side, holder=f"token {self._database.locked_by}")
            if self._ours and self._database.changed_by not in self._ours:
                raise LostLock("T402", side=self._side)
            self._ours.add(self._database.changed_by)
            self._held = self._database.locked_by = uuid.uuid4().hex
        return self._held

    def hold_again(self) -> None:
        """Take the lock again where it was lost, if nobody has changed anything meanwhile."""
        if self._ours:
            self.hold()

    def check_held(self, *, asking: bool = False) -> None:
        """See that nobody has taken the lock away."""
        if self._held is not None and self._database.locked_by != self._held:
            self._held = None
            raise LostLock("T404", side=self._side)

    def release(self) -> None:
        """Let go of the lock."""
        self._let_go()
        self._ours = set()

    def _let_go(self) -> None:
        if self._held is not None and self._database.locked_by == self._held:
            self._database.locked_by = None
        self._held = None

    def close(self) -> None:
        """Let go of the lock, as a session does that ends; whether others have been there since is still noticed."""
        self._let_go()

    def ledger(self, migration: str) -> SideLedger:
        """The ledger's rows of this migration."""
        return _ledger_in(self._reach(), migration)

    def whole(self) -> Whole:
        """The head and all rows."""
        whole = whole_of(self._reach())
        return whole if self._side == "local" else evolve(whole, user_version=None)

    def look(self, work: SideWork, *, content: bool) -> Fingerprint:
        """Objects and marks; on the local side rows and their digests too."""
        look = self._reach().look(content=content)
        return Fingerprint(objects=look.objects) if self._side == "remote" else look

    def schema(self, schemas: Sequence[str]) -> Schema:
        """Objects, and locally the version."""
        contents = self._reach()
        marks = {"user_version": contents.user_version} if self._side == "local" else {}
        return Schema(objects={found.key: found for found in contents.objects.values()}, marks=marks)

    def validate(self, work: SideWork, *, back: bool) -> None:
        """The version must be one of those that the work begins from."""
        contents = self._reach()
        if back:
            return
        wanted = work.limits.user_version_from
        if wanted and contents.user_version not in wanted:
            raise Blocked(
                "T201", migration=work.migration, side=self._side, wanted=_either(wanted), actual=contents.user_version
            )

    def back_up(self, order: Order) -> Mapping[str, Json] | None:
        """Keep a copy of the contents; None on the remote side."""
        if self._side == "remote":
            return None
        contents = self._reach()
        name = uuid.uuid4().hex
        self._backed_up = self._held
        self._database.backups[name] = contents.copied()
        self._probe("backup:renamed")
        return {"id": name, "bytes": len(repr(contents)), "sha256": contents.digest(), "verified": True}

    def apply(self, order: Order) -> Changes:
        """Run the units that are due, each with its ledger row."""
        self.hold()
        before = self._catalogue()
        set_aside: Mapping[str, int] = {}
        for due in due_units(order, self.ledger(order.migration)):
            if due.unit.kind == "single":
                self._run_single(order, due.step, due.unit)
            else:
                set_aside = self._run_group(order, due.step, due.unit)
        changes = before.changes_to(self._catalogue())
        self.release_after_local()
        return evolve(changes, rows_quarantined=set_aside)

    def confirm(self, order: Order, by: str) -> None:
        """Add the confirmation row."""
        self.hold()

        def work(contents: Contents) -> None:
            _put(contents, confirm_row(order, by))

        self._transaction("confirm", work)

    def undo(self, order: Order) -> Undone:
        """Take the standing steps back, last first; restores the backup where the local side has no down."""
        self.hold()
        ledger = self.ledger(order.migration)
        refuse_if_relied_on(order, ledger)
        steps = units_to_undo(order, ledger)
        if self._side == "local" and steps:
            undone = self._undo_local(order, steps)
        else:
            for step in steps:
                self._undo_step(order, step, None)
            self._take_confirmations_back(order)
            undone = Undone()
        self.release_after_local()
        return undone

    def _undo_local(self, order: Order, steps: Sequence[ToUndo]) -> Undone:
        """By its down, after what others wrote is backed up; without one, by restoring."""
        found = self.look(order.work, content=True)
        others_wrote = steps[0].row.content != found.to_text()
        if any(step.unit.down is None for step in steps):
            self._restore(order, steps, others_wrote)
            return Undone(how="restore", others_wrote=others_wrote, after=self.look(order.work, content=True))
        replaced = self.back_up(order) if others_wrote and self._backed_up != self._held else None
        undone = Undone(others_wrote=others_wrote, found=found if others_wrote else None, replaced=replaced)
        for step in steps:
            undone = self._undo_step(order, step, undone) or undone
        return evolve(undone, after=self.look(order.work, content=True))

    def kept(self, run: str) -> tuple[Kept, ...]:
        """What this run's downs took away."""
        return tuple(kept for whose, kept, _ in self._reach().kept if whose == run)

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What its steps have set aside."""
        return tuple(self._reach().quarantine.rows)

    def put_back(self, ids: Collection[int], by: str) -> PutBack:
        """In one transaction of its own."""
        self.hold()
        put: list[PutBack] = []

        def work(contents: Contents) -> None:
            wanted = [each for each in reversed(contents.quarantine.rows) if each.id in ids and each.put_back_at is None]
            put.append(put_rows_back(contents, wanted, by=by, at=stamp()))

        self._transaction("quarantine", work)
        self.release_after_local()
        return put[0]

    def verify(self, work: SideWork, *, integrity: bool = True) -> tuple[str, ...]:
        """Call the migration's own check on the contents."""
        contents = self._reach()
        if work.check is not None:
            return said_by(_call(work.check, contents.copied(), work, "T332", self._side))
        return ()

    def compare(self, works: Sequence[SideWork]) -> Comparison:
        """Run the works on empty contents, and hold the objects (and user_version) against ours."""
        here, made, before = self._reach().look(content=False), Contents(), {}
        for work in works:
            version = work.limits.user_version_from
            said: dict[str, Json] = {"existed": False}
            if work.limits.user_version_to is not None:
                said["user_version"] = made.user_version if not version or made.user_version in version else version[0]
            before[work.migration] = tuple(said for _ in work.script.units)
            self._make(made, work)
        differences, findings = differences_of(made.look().objects, here.objects)
        sets_version = self._side == "local" and any(work.limits.user_version_to is not None for work in works)
        if sets_version and made.user_version != here.marks["user_version"]:
            differences = (*differences, f"user_version is {here.marks['user_version']}, not {made.user_version}")
        return Comparison(differences=differences, findings=findings, before=before)

    def declare(self, order: Order, before: Sequence[Mapping[str, Json]]) -> None:
        """Add the rows of a change that is there already."""
        self.hold()

        def work(contents: Contents) -> None:
            content = contents.look().to_text() if self._side == "local" else ""
            self._ensure_head(contents, order)
            for step, said in enumerate(before, start=1):
                _put(contents, up_row(order, step, before={**said, DECLARED: True}, content=content))

        if self.ledger(order.migration).applied_by() is None:
            self._transaction("declare", work)
        self.release_after_local()

    def restore(self, order: RestoreOrder) -> None:
        """Put a backup's contents in place of ours, with our ledger carried over; ours are kept as a backup."""
        self.hold()
        image = self._database.kept(order.backup).copied()
        now = self._reach()
        today = list(now.ledger)
        if not order.discard_writes and not explained(image.look().to_text(), now.look().to_text(), order.ours):
            raise Blocked("T282", backup=order.id)
        self._database.backups[order.replaced] = now.copied()
        self._probe("backup:renamed")

        def work(contents: Contents) -> None:
            if contents.ledger != today:
                raise LostLock("T402", side=self._side)
            image.ledger = ledger_after(contents.ledger, image.ledger, order, image.look().to_text())
            contents.tables, contents.objects, contents.user_version = image.tables, image.objects, image.user_version
            contents.quarantine = image.quarantine
            contents.ledger = image.ledger

        self._transaction("restore", work)
        self.release_after_local()

    def measure(self, queries: Sequence[Query], *, only_reading: bool = False) -> tuple[Timing, ...]:
        """A database in memory runs no queries."""
        return ()

    def measure_again(self, queries: Sequence[Query], backup: Mapping[str, Json] | None) -> Mapping[str, tuple[Round, ...]]:
        """Nothing was measured once."""
        return {}

    def release_after_local(self) -> None:
        """The local writer lock ends with the commit; the remote lock is kept until `release`."""
        if self._side == "local":
            self.release()

    def _reach(self) -> Contents:
        if not self._database.reachable:
            raise Unreachable("T221", url=f"the {self._side} database in memory", problem="it is switched off")
        return self._database.contents

    def _catalogue(self) -> Catalogue:
        contents = self._database.contents
        return Catalogue(
            objects={found.key: found for found in contents.objects.values()},
            rows={table: len(rows) for table, rows in contents.tables.items()},
        )

    def _transaction(self, name: str, work: Callable[[Contents], None]) -> None:
        """Run on a copy and put the copy in place: what fails before that leaves nothing behind."""
        contents = self._reach().copied()
        work(contents)
        self._probe(f"{self._side}:{name}:before-commit")
        self.check_held()
        if self._held is None:
            raise LostLock("T402", side=self._side)
        self._fence()
        self._database.contents, self._database.changed_by = contents, self._held
        self._ours = {self._held}
        self._probe(f"{self._side}:{name}:after-commit")

    def _run_group(self, order: Order, step: int, unit: Unit) -> Mapping[str, int]:
        """Run the group; how many rows of which table it set aside."""
        aside: dict[str, int] = {}

        def work(contents: Contents) -> None:
            version, objects = contents.user_version, dict(contents.objects)
            _run(unit.up, contents, order, "T331", self._side)
            aside.update(sign(contents.quarantine, migration=order.migration, run=order.run))
            if self._side == "local":
                _refuse_losses(self._reach(), contents, order, unit)
            if order.work.limits.user_version_to is not None and self._side == "local":
                contents.user_version = order.work.limits.user_version_to
            content = contents.look().to_text() if self._side == "local" else ""
            touched = [key for key in objects.keys() | contents.objects.keys() if objects.get(key) != contents.objects.get(key)]
            before: dict[str, Json] = {"user_version": version, OBJECTS: sorted(touched)}
            self._ensure_head(contents, order)
            _put(contents, up_row(order, step, before=before, content=content))

        self._transaction("group", work)
        return aside

    def _run_single(self, order: Order, step: int, unit: Unit) -> None:
        """Open row, statement, done row: three commits, and the statement itself can be cut off half-way."""
        (statement,) = unit.up
        assert isinstance(statement, Statement)

        def open_row(contents: Contents) -> None:
            self._ensure_head(contents, order)
            name = _named(statement.text)
            found = contents.objects.get(name)
            before: dict[str, Json] = {"existed": found is not None, OBJECTS: [name]}
            if found is not None and _drops(statement):
                before[DEFINITION] = found.definition
            if not any(row.run == order.run and row.step == step for row in contents.ledger):
                contents.ledger.append(up_row(order, step, state=OPEN, before=before))

        def half(contents: Contents) -> None:
            _execute(statement.text, contents, valid=False)

        def whole(contents: Contents) -> None:
            _execute(statement.text, contents, valid=True)

        def done(contents: Contents) -> None:
            contents.ledger[:] = [
                evolve(row, state=DONE) if row.run == order.run and row.step == step else row for row in contents.ledger
            ]

        self._transaction("open", open_row)
        self._transaction("half", half)
        self._transaction("single", whole)
        self._transaction("done", done)

    def _undo_step(self, order: Order, step: ToUndo, undone: Undone | None) -> Undone | None:
        """Take one step back in a transaction with its row; locally `undone`, with what there is to tell of the quarantine."""
        unit, told = step.unit, [undone]

        def work(contents: Contents) -> None:
            if unit.kind == "single" and unit.down is None:
                (statement,) = unit.up
                assert isinstance(statement, Statement)
                _undo_single(statement, contents, json.loads(step.row.before))
            elif unit.down is None:
                raise Refused("T337", migration=order.migration, step=step.row.step, side=self._side)
            else:
                tables = copy.deepcopy(contents.tables)
                left = self._run_down(order, unit, contents)
                if self._side == "remote":
                    _keep(contents, tables, order.run)
                elif undone is not None:
                    told[0] = evolve(undone, findings=left)
            if undone is None:
                _put(contents, down_row(order, step.row))
                return
            self._version_back(contents, step.row, undone.found)
            assert told[0] is not None
            _put(contents, down_row(order, step.row, undo=told[0].to_json(), after=contents.look()))

        self._transaction("undo", work)
        return told[0]

    def _run_down(self, order: Order, unit: Unit, contents: Contents) -> tuple[str, ...]:
        """Run the down, and put back what the undone runs had set aside; what stays aside, in sentences."""
        at, quarantine = stamp(), contents.quarantine
        quarantine.returning = Returning(runs=frozenset(order.undoes), by=order.run, at=at)
        _run(unit.down or (), contents, order, "T338", self._side)
        quarantine.returning = None
        own = sign(quarantine, migration=order.migration, run=order.run)
        aside = tuple(f"going back set {count} rows of {table} aside: they refer to nothing" for table, count in own.items())
        return aside + put_the_rest_back(contents, order.undoes, by=order.run, at=at)

    def _version_back(self, contents: Contents, row: LedgerRow, found: Fingerprint | None) -> None:
        changed = Fingerprint.from_text(row.content)
        now = changed if found is None else found
        assert changed is not None
        assert now is not None
        before = json.loads(row.before).get("user_version", changed.marks["user_version"])  # a declared one need not say
        wanted = mark_after("user_version", before, changed.marks["user_version"], now.marks["user_version"])
        contents.user_version = wanted or 0

    def _take_confirmations_back(self, order: Order) -> None:
        rows = self.ledger(order.migration).confirming(order.undoes)
        if rows:
            self._transaction("undo", lambda contents: _put(contents, *(down_row(order, row) for row in rows)))

    def _restore(self, order: Order, steps: Sequence[ToUndo], others_wrote: bool | None) -> None:
        if others_wrote and not order.discard_writes:
            raise Refused("T336", migration=order.migration)
        if order.backup is None:
            raise Refused("T337", migration=order.migration, step=steps[0].row.step, side=self._side)
        image = self._database.backups[str(order.backup["id"])].copied()

        def work(contents: Contents) -> None:
            undo = Undone(how="restore").to_json()
            after = image.look()
            ledger = [*contents.ledger, *(down_row(order, step.row, undo=undo, after=after) for step in steps)]
            contents.tables, contents.objects, contents.user_version = image.tables, image.objects, image.user_version
            contents.quarantine = image.quarantine
            contents.ledger = ledger

        self._transaction("restore", work)

    def _make(self, made: Contents, work: SideWork) -> None:
        order = Order(work=work, run="scratch", pair="scratch", log="")
        try:
            for unit in work.script.units:
                _run(unit.up, made, order, "T331", self._side)
        except Refused as error:
            raise Blocked("T286", migration=work.migration, side=self._side, problem=error.condition) from error
        if work.limits.user_version_to is not None and self._side == "local":
            made.user_version = work.limits.user_version_to

    def _ensure_head(self, contents: Contents, order: Order) -> None:
        if not any(row.direction == HEAD for row in contents.ledger):
            pair = order.pair if self._is_pair else str(uuid.uuid4())
            contents.ledger.insert(0, head_row(pair=pair, log=order.log, token=self._held or ""))


def _refuse_losses(before: Contents, now: Contents, order: Order, unit: Unit) -> None:
    limits = order.work.limits
    losses = [*_lost_rows(before.tables, now, limits), *_lost_objects(before.objects, now, unit, limits)]
    if losses:
        raise refusal(order.migration, losses)


def _lost_rows(before: Mapping[str, Mapping[str, Json]], now: Contents, limits: Limits) -> Iterator[Loss]:
    """Rows that are gone, and values of another kind than before: one of the same kind is what an UPDATE would have made."""
    removable, changeable = set(map(folded, limits.rows_removed)), set(map(folded, limits.columns_changed))
    for table, rows in before.items():
        after = now.tables.get(table, {})
        aside = {each.row_key for each in now.quarantine.rows if each.table == table and each.put_back_at is None}
        gone = [key for key in rows if key not in after and to_json(("key",), (key,)) not in aside]
        if gone and folded(table) not in removable:
            sentence = f"{table} had {len(rows)} rows, would have {len(after)}; {len(gone)} of them are not there any more"
            yield Loss(sentence=f"{sentence}: {examples(gone[:5], len(gone))}", key="rows_removed", value=table, rows=True)
        changed: dict[str, list[str]] = {}
        for key in rows.keys() & after.keys():
            was, is_now = _columns_of(rows[key]), _columns_of(after[key])
            for column, value in was.items():
                if value is not None and type(is_now.get(column)) is not type(value):
                    changed.setdefault(column, []).append(key)
        for column, keys in changed.items():
            if folded(f"{table}.{column}") not in changeable:
                told = f"{len(keys)} rows of {table} have another {column}: {examples(sorted(keys)[:5], len(keys))}"
                yield Loss(sentence=told, key="columns_changed", value=f"{table}.{column}")


def _columns_of(row: Json) -> Mapping[str, Json]:
    return row if isinstance(row, dict) else {"value": row}


def _lost_objects(before: Mapping[str, CatalogueObject], now: Contents, unit: Unit, limits: Limits) -> Iterator[Loss]:
    """Indexes, triggers and views that are gone and that no statement dropped by name."""
    said = {_named(each.text) for each in unit.up if isinstance(each, Statement) and each.text.lower().startswith("drop")}
    for key, found in before.items():
        declared = folded(f"{found.kind} {found.name}") in set(map(folded, limits.objects_removed))
        if key not in now.objects and found.kind != "table" and key not in said and not declared:
            yield Loss(sentence=f"{key} is gone", key="objects_removed", value=f"{found.kind} {found.name}")


def whole_of(contents: Contents) -> Whole:
    """The head and all rows, by migration."""
    heads = [row for row in contents.ledger if row.direction == HEAD]
    names = sorted({row.migration for row in contents.ledger if row.direction != HEAD})
    return Whole(
        head=Head.of(heads[0]) if heads else Head(),
        ledgers={name: _ledger_in(contents, name) for name in names},
        user_version=contents.user_version,
    )


def _ledger_in(contents: Contents, migration: str) -> SideLedger:
    return SideLedger(rows=tuple(row for row in contents.ledger if row.migration == migration and row.direction != HEAD))


def _put(contents: Contents, *rows: LedgerRow) -> None:
    """Add the rows; one with the same key takes the place of the old one."""
    for row in rows:
        others = [other for other in contents.ledger if _key(other) != _key(row)]
        contents.ledger[:] = [*others, row]


def _keep(contents: Contents, before: Mapping[str, Mapping[str, Json]], run: str) -> None:
    """Copy what is not there any more: tables with what was in them, and rows."""
    for table, rows in before.items():
        now = contents.tables.get(table)
        gone = {key: value for key, value in rows.items() if now is None or key not in now}
        if gone:
            name = f"kept_{len(contents.kept) + 1}_{table}"
            kept = Kept(what=TABLE if now is None else ROWS, relation=table, kept_as=name, rows=len(gone))
            contents.kept.append((run, kept, gone))


def _key(row: LedgerRow) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in KEY)


def _run(steps: Sequence[Statement | CallableStep], contents: Contents, order: Order, code: str, side: str) -> None:
    for step in steps:
        if isinstance(step, CallableStep):
            _call(order.work.compiled.callables[step.name], contents, order.work, code, side)
        else:
            _execute(step.text, contents, valid=True)


def _call(function: object, contents: Contents, work: SideWork, code: str, side: str) -> object:
    """Run a function on contents; whatever it raises is the database's refusal."""
    try:
        return cast("Callable[[Contents], object]", function)(contents)
    except Exception as error:  # a host's function may raise anything: it is one refusal, with its cause
        name = name_of(function)
        problem = f"{type(error).__name__}: {error}"
        raise Refused(code, migration=work.migration, side=side, problem=problem, statement=f"{name}()") from error


def _named(text: str) -> str:
    words = [word for word in text.replace("(", " ").split() if word.upper() not in ("CONCURRENTLY", "UNIQUE")]
    return f"{words[1].lower()} {words[2]}"


def _drops(statement: Statement) -> bool:
    return statement.text.split()[0].upper() == "DROP"


def _undo_single(statement: Statement, contents: Contents, before: Mapping[str, Json]) -> None:
    """What was built is dropped, and what was dropped is built again; what was there before, or was not, is let be."""
    name = _named(statement.text)
    if _drops(statement) and DEFINITION in before:
        _execute(str(before[DEFINITION]), contents, valid=True)
    elif not _drops(statement) and not before["existed"]:
        contents.objects.pop(name, None)


def _execute(text: str, contents: Contents, *, valid: bool) -> None:
    words = text.split()
    key = _named(text) if len(words) > 2 else ""
    kind, _, name = key.partition(" ")
    match words[0].upper() if key else "":
        case "CREATE":
            contents.objects[key] = CatalogueObject(kind=kind, name=name, definition=text, valid=valid)
        case "DROP" if not valid and key in contents.objects:
            contents.objects[key] = evolve(contents.objects[key], valid=False)
        case "DROP":
            contents.objects.pop(key, None)
        case _:
            raise Refused("T361", statement=text)


def _either(versions: Sequence[int]) -> str:
    return " or ".join(str(version) for version in versions)
