"""What migrations make of empty schemas of a PostgreSQL, and how existing ones differ from it.

They are really run: in one transaction that is rolled back, in which each named schema is put aside under another name and an
empty one takes its place. References to other schemas (`auth.users`, say) and extensions are found as always. Seen by trial:
sessions beside it read, write and make tables undisturbed, since nothing of this is committed; only who writes to a table of
*another* schema that gets a reference from here waits until the end. So it waits for locks briefly, and each statement is
limited.

Where the role may not put a schema aside, or a step needs more than one transaction, they are run in a scratch database
instead, which is dropped afterwards. Grants are not compared: those that a schema gives by default stay with the one put aside.

Must never import engine. Read next: `schema_comparison.py` (what counts as a difference), `postgres_target.py`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ..events.errors import Blocked, Refused, TwinstepError
from ..events.types import Json
from ..stores.remote_connection import libpq_url, shown
from .catalogue import Catalogue
from .concurrent import parse_single
from .concurrent_index import CreateIndex, DropIndex
from .concurrent_partition import DetachPartition
from .ledger import noted
from .postgres_catalogue import read_catalogue
from .postgres_ledger import ENDED_BY_FUNCTION
from .schema_comparison import differences_of
from .script import CallableStep, Unit
from .sql import Statement
from .target import Comparison, Target
from .work import Order, SideWork

if TYPE_CHECKING:
    from ..stores.remote_connection import Remote

# What an empty schema of ours has not, or has otherwise, whatever the migrations are.
ASIDE: Final = ("schema", "comment schema", "grant", "default grant")
# A scratch database has the extensions of its own server's templates, in their newest versions.
ASIDE_ELSEWHERE: Final = (*ASIDE, "extension", "comment extension")

LIMITS: Final = """
SET default_transaction_read_only = on;
BEGIN READ WRITE;
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '15s';
SET LOCAL idle_in_transaction_session_timeout = '15s';
"""
# A function could commit this transaction, and the schemas that are put aside in it would be gone from where they belong: a
# trigger refuses COMMIT while one is at work, and should one roll back, the session behind it is read-only.
GUARD: Final = f"""
CREATE TEMPORARY TABLE twinstep_at_work (at_work bool);
CREATE FUNCTION pg_temp.refuse_commit() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_temp.twinstep_at_work) THEN
        RAISE EXCEPTION 'a function of a migration tried to end the transaction' USING ERRCODE = '{ENDED_BY_FUNCTION}';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse_commit AFTER INSERT ON pg_temp.twinstep_at_work
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse_commit();
"""
# A step refused with one of these may well run elsewhere: no rights here, or more than one transaction needed.
NEEDS_ANOTHER_PLACE: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UnsafeNewEnumValueUsage,
    psycopg.errors.ObjectInUse,
)

Run: TypeAlias = "Callable[[Remote, Unit, Order], None]"
Before: TypeAlias = "dict[str, tuple[Mapping[str, Json], ...]]"


def compare_remote(
    url: str, connection: Remote, works: Sequence[SideWork], run: Run, on: Callable[[str], Target]
) -> Comparison:
    """Hold the schemas that the works name against what these make. `run` runs a group, `on` gives a target on a database.

    Raises Blocked: T286 where a step is refused, T287 where the role may neither put a schema aside nor make a database.
    """
    schemas = tuple(dict.fromkeys(schema for work in works for schema in work.limits.schemas))
    here = read_catalogue(connection, schemas)
    if not _has_fixed_extensions(connection, schemas):
        try:
            return _compared(here, *_made_here(connection, schemas, works, run), aside=ASIDE)
        except _Elsewhere:
            pass
    with _scratch_database(url, connection) as elsewhere:
        return _compared(here, *_made_elsewhere(elsewhere, on(elsewhere), schemas, works), aside=ASIDE_ELSEWHERE)


class _Elsewhere(Exception):
    """It cannot be done beside the schemas themselves."""


def _compared(here: Catalogue, made: Catalogue, before: Before, left_out: Sequence[str], *, aside: Sequence[str]) -> Comparison:
    differences, findings = differences_of(made.digests(), here.digests(), aside=aside)
    return Comparison(differences=differences, findings=(*findings, *left_out), before=before)


def _made_here(
    connection: Remote, schemas: Sequence[str], works: Sequence[SideWork], run: Run
) -> tuple[Catalogue, Before, list[str]]:
    before: Before = {}
    left_out: list[str] = []
    try:
        for line in LIMITS.strip().splitlines():
            connection.execute(line.encode())
        if any(isinstance(step, CallableStep) for work in works for unit in work.script.units for step in unit.up):
            connection.execute(GUARD.encode())
        _put_aside(connection, schemas, _made_by(works))
        for work in works:
            order = Order(work=work, run="scratch", pair="scratch", log="")
            before[work.migration] = tuple(_step(connection, unit, order, run, left_out) for unit in work.script.units)
        return read_catalogue(connection, schemas), before, left_out
    except psycopg.errors.InsufficientPrivilege as error:
        raise _Elsewhere from error
    except TwinstepError as error:
        if isinstance(error.__cause__, NEEDS_ANOTHER_PLACE):
            raise _Elsewhere from error
        if not isinstance(error, Refused):
            raise
        raise _refused(error, works, before) from error
    finally:
        with suppress(psycopg.Error):
            connection.execute(b"ROLLBACK")
            connection.execute(b"RESET default_transaction_read_only")


def _put_aside(connection: Remote, schemas: Sequence[str], made: frozenset[str]) -> None:
    for schema in schemas:
        found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
        if found is not None:
            away = sql.Identifier(f"twinstep_aside_{uuid.uuid4().hex[:12]}")
            connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), away))
        if schema.lower() not in made:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        if found is None or schema.lower() in made:
            continue
        # Extensions went with the schema that was put aside: back to where the migrations look for them.
        moved = connection.execute(_EXTENSIONS_PUT_ASIDE).fetchall()
        for (extension,) in moved:
            connection.execute(
                sql.SQL("ALTER EXTENSION {} SET SCHEMA {}").format(sql.Identifier(extension), sql.Identifier(schema))
            )


def _made_by(works: Sequence[SideWork]) -> frozenset[str]:
    """The schemas that the migrations make themselves."""
    texts = [step.text for work in works for unit in work.script.units for step in unit.up if isinstance(step, Statement)]
    names = [found.group("name") for text in texts for found in _CREATE_SCHEMA.finditer(text)]
    return frozenset(name.strip('"').lower() for name in names)


def _step(connection: Remote, unit: Unit, order: Order, run: Run, left_out: list[str]) -> Mapping[str, Json]:
    """Run one unit as far as a transaction allows; what was there before it."""
    if unit.kind != "single":
        functions = any(isinstance(step, CallableStep) for step in unit.up)
        if functions:
            # A step before may have made every constraint immediate.
            connection.execute(b"SET CONSTRAINTS pg_temp.refuse_commit DEFERRED")
            connection.execute(b"INSERT INTO pg_temp.twinstep_at_work VALUES (true)")
        run(connection, unit, order)
        if functions:
            connection.execute(b"DELETE FROM pg_temp.twinstep_at_work")
        return {}
    (step,) = unit.up
    assert isinstance(step, Statement)
    line = " ".join(step.text.split())
    if unit.probe is not None:
        left_out.append(f"{order.migration}: not compared, since it runs outside a transaction: {line[:120]}")
        return {}
    single = parse_single(step.text)
    before = single.look(connection)
    if isinstance(single, CreateIndex | DropIndex):
        # The tables are empty, and nobody else sees them.
        connection.execute(_CONCURRENTLY.sub("", step.text, count=1).encode())
    elif isinstance(single, DetachPartition):
        connection.execute(step.text.rpartition(_CONCURRENTLY.findall(step.text)[-1])[0].encode())
    return before


def _refused(error: Refused, works: Sequence[SideWork], before: Before) -> Blocked:
    """Naming the work at which it stopped: the first of which nothing is known yet."""
    stopped = next((work.migration for work in works if work.migration not in before), "")
    return Blocked("T286", migration=stopped, side="remote", problem=error.condition)


def _made_elsewhere(
    url: str, target: Target, schemas: Sequence[str], works: Sequence[SideWork]
) -> tuple[Catalogue, Before, list[str]]:
    before: Before = {}
    made = _made_by(works)
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        for schema in schemas:
            if schema.lower() not in made:
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        try:
            for work in works:
                target.apply(Order(work=work, run="scratch", pair="scratch", log=""))
                rows = target.ledger(work.migration).standing(("scratch",))
                before[work.migration] = tuple(noted(row) for row in rows)
        except Refused as error:
            raise _refused(error, works, before) from error
        finally:
            target.close()
        return read_catalogue(connection, schemas), before, []


@contextmanager
def _scratch_database(url: str, connection: Remote) -> Iterator[str]:
    """A database of its own on the same server, dropped afterwards. Raises Blocked (T287) where it may not be made."""
    name = f"twinstep_scratch_{uuid.uuid4().hex[:12]}"
    try:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise Blocked("T287", url=shown(url), role=connection.info.user) from error
    try:
        yield make_conninfo(libpq_url(url), dbname=name)
    finally:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _has_fixed_extensions(connection: Remote, schemas: Sequence[str]) -> bool:
    """Whether an extension lives in these schemas that cannot be moved to another one."""
    row = connection.execute(_FIXED_EXTENSIONS, (list(schemas),)).fetchone()
    return row is not None and bool(row[0])


_CONCURRENTLY: Final = re.compile(r"\bconcurrently\b", re.IGNORECASE)
_CREATE_SCHEMA: Final = re.compile(
    r"\bcreate\s+schema\s+(?:if\s+not\s+exists\s+)?(?P<name>\"[^\"]+\"|[a-z_][a-z0-9_$]*)", re.IGNORECASE
)
_EXTENSIONS_PUT_ASIDE: Final = """
SELECT extname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE nspname LIKE 'twinstep\\_aside\\_%'
"""
_FIXED_EXTENSIONS: Final = """
SELECT count(*) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE nspname = ANY (%s) AND NOT extrelocatable
"""
