"""What a PostgreSQL database looks like: the objects of the named schemas, read in one round trip.

Two looks at the same objects give equal digests in any session: what the server's deparsing depends on (search_path,
DateStyle and so on) is pinned for the query and as before afterwards, inside a transaction too. No object identifier and no
column number is part of a definition, so that what was dropped and made again alike is equal.

What is read: tables, indexes, constraints, triggers, rules, policies, views, sequences (not their values), functions, types,
statistics, grants where they are not the default, comments, and by name and outline operators, collations and text search.
Not read: owners, what belongs to extensions, and Twinstep's own schema. Two choices: the index of a key or unique constraint is
part of the constraint, and NOT NULL is part of the column, also where (18) it is a constraint with a name.

Longer than most modules because of one query; that it is one is the point. Works on PostgreSQL 14 and later.
This module must never import sqlalchemy. Read next: `catalogue.py` (the values).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from .catalogue import Catalogue, CatalogueObject, Fingerprint, Schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection
    from psycopg.rows import TupleRow


# Everything that decides how the server writes a definition down. Local: it ends with the transaction or savepoint.
PIN_OUTPUT = """SELECT set_config(name, value, true) FROM (VALUES
    ('search_path', 'pg_catalog, pg_temp'), ('quote_all_identifiers', 'off'), ('DateStyle', 'ISO, MDY'),
    ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'), ('extra_float_digits', '1'), ('bytea_output', 'hex')
) AS pinned (name, value)"""


def read_catalogue(connection: Connection[TupleRow], schemas: Sequence[str]) -> Catalogue:
    """Every object of the schemas at this instant; a schema that does not exist gives nothing.

    Inside a transaction, of that transaction, whose settings stay as they are. Rows are not counted. Raises psycopg.Error.
    """
    # Simple protocol: several statements in one message. Alone, they are one implicit transaction, which ends the pins;
    # in a transaction a savepoint does. (A driver that opens one by itself has not done so yet.)
    query = sql.SQL("{}; {}").format(sql.SQL(PIN_OUTPUT), sql.SQL(_OBJECTS).format(schemas=sql.Literal(list(schemas))))
    if connection.info.transaction_status is not TransactionStatus.IDLE or not connection.autocommit:
        query = sql.SQL("SAVEPOINT twinstep_look; {}; ROLLBACK TO twinstep_look; RELEASE twinstep_look").format(query)
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(query, prepare=False)
        # One answer for each statement; that of the catalogue is the one with these columns.
        while (cursor.description is None or cursor.description[0].name != "kind") and cursor.nextset():
            pass
        objects = [_object(*row) for row in cursor]
    return Catalogue(objects={found.key: found for found in objects})


def read_fingerprint(connection: Connection[TupleRow], schemas: Sequence[str]) -> Fingerprint:
    """The same as digests. A remote has no marks, and its rows are not counted: others write them all the time."""
    return Fingerprint(objects=read_catalogue(connection, schemas).digests())


def read_schema(connection: Connection[TupleRow], schemas: Sequence[str]) -> Schema:
    """The same with what is said of invalid indexes: one round trip, and a second one only where there are any."""
    seen = Schema(objects=read_catalogue(connection, schemas).objects)
    unfinished = seen.unfinished()
    if not unfinished:
        return seen
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(_NOBODY_BUILDS, (list(schemas),), prepare=False)
        left = {f"index {name}" for (name,) in cursor}
    return evolve(seen, building=unfinished - left)


# Who may not see what another role's backend does sees its row without the table: it may be any.
_NOBODY_BUILDS = b"""
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s::name[]) AND NOT (i.indisvalid AND i.indisready AND i.indislive)
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
        WHERE p.datname = current_database() AND (p.relid = i.indrelid OR p.relid IS NULL OR p.relid = 0))
"""


def _object(kind: str, name: str, table: str, definition: str, storage: str, foreign_keys: int, valid: bool) -> CatalogueObject:
    return CatalogueObject(
        kind=kind, name=name, table=table, definition=definition, storage=storage, foreign_keys=foreign_keys, valid=valid
    )


_OBJECTS = """
WITH place AS (
    SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname = ANY ({schemas}::name[]) AND nspname <> 'twinstep'
), member AS (
    -- of an extension, or made along with a type (the constructors of a range)
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e' OR deptype = 'i' AND classid = 'pg_proc'::regclass
), relation AS (
    SELECT c.*, format('%I.%I', p.nspname, c.relname) AS name, p.nspname
    FROM pg_class c JOIN place p ON p.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c')
        AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM member)
), found (class, oid, owner, acl, default_acl, kind, name, of_table, definition, storage, foreign_keys, valid) AS (
    -- schemas and extensions
    SELECT 'pg_namespace'::regclass, oid, nspowner, nspacl, 'n'::"char", 'schema', quote_ident(nspname), '', '', '', 0, true
    FROM place
    UNION ALL
    SELECT 'pg_extension'::regclass, e.oid, NULL, NULL, NULL, 'extension', quote_ident(extname), '',
        format('SCHEMA %I VERSION %L', nspname, extversion), '', 0, true
    FROM pg_extension e JOIN place p ON p.oid = e.extnamespace
    -- tables, views, composite types
    UNION ALL
    SELECT CASE WHEN y.oid IS NULL THEN 'pg_class'::regclass ELSE 'pg_type'::regclass END, coalesce(y.oid, r.oid),
        r.relowner, coalesce(y.typacl, r.relacl), CASE WHEN y.oid IS NULL THEN 'r'::"char" ELSE 'T' END,
        CASE r.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'type'
            WHEN 'f' THEN 'foreign table' ELSE 'table' END,
        r.name, '',
        concat_ws(E'\\n',
            (SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                    CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
                    CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                    (SELECT CASE WHEN NOT n.convalidated THEN 'NOT VALID ' END || CASE WHEN n.connoinherit THEN 'NO INHERIT' END
                        FROM pg_constraint n WHERE n.conrelid = r.oid AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum]),
                    CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
                    CASE a.attgenerated WHEN 's' THEN 'GENERATED STORED' WHEN 'v' THEN 'GENERATED VIRTUAL' END,
                    'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
                    CASE WHEN a.attstorage <> t.typstorage THEN 'STORAGE ' || a.attstorage::text END,
                    CASE WHEN a.attcompression <> '' THEN 'COMPRESSION ' || a.attcompression::text END,
                    'STATISTICS ' || nullif(a.attstattarget, -1),
                    'OPTIONS ' || (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(a.attoptions || a.attfdwoptions) o),
                    CASE WHEN NOT a.attislocal THEN 'INHERITED' END
                ), E'\\n' ORDER BY a.attnum)
                FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped),
            CASE WHEN r.relpersistence <> 'p' THEN 'PERSISTENCE ' || r.relpersistence::text END,
            'USING ' || (SELECT amname FROM pg_am WHERE pg_am.oid = r.relam),
            'WITH ' || (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(r.reloptions) o),
            'TOAST WITH ' || (SELECT string_agg(o, ', ' ORDER BY o) FROM pg_class b, unnest(b.reloptions) o
                WHERE b.oid = r.reltoastrelid),
            'PARTITION BY ' || pg_get_partkeydef(r.oid),
            (SELECT string_agg('INHERITS ' || inhparent::regclass || CASE WHEN inhdetachpending THEN ' DETACHING' ELSE '' END,
                E'\\n' ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = r.oid),
            pg_get_expr(r.relpartbound, r.oid),
            CASE WHEN r.relrowsecurity THEN 'ROW LEVEL SECURITY' END,
            CASE WHEN r.relforcerowsecurity THEN 'FORCED' END,
            CASE WHEN r.relkind IN ('r', 'p') AND r.relreplident <> 'd' THEN 'REPLICA IDENTITY ' || r.relreplident::text END,
            'TABLESPACE ' || (SELECT spcname FROM pg_tablespace s WHERE s.oid = r.reltablespace),
            CASE WHEN r.reloftype <> 0 THEN 'OF ' || r.reloftype::regtype END,
            (SELECT format('SERVER %I OPTIONS %s', srvname, ftoptions) FROM pg_foreign_table f
                JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = r.oid),
            CASE WHEN r.relkind IN ('v', 'm') THEN pg_get_viewdef(r.oid) END),
        CASE WHEN r.relkind = 'r' THEN coalesce(pg_relation_filenode(r.oid)::text, '') ELSE '' END,
        (SELECT count(*)::int FROM pg_constraint k WHERE k.conrelid = r.oid AND k.contype = 'f' AND k.conparentid = 0),
        true
    FROM relation r LEFT JOIN pg_type y ON y.oid = r.reltype AND r.relkind = 'c' WHERE r.relkind <> 'S'
    UNION ALL
    SELECT 'pg_class'::regclass, r.oid, r.relowner, r.relacl, 's', 'sequence', r.name,
        coalesce((SELECT d.refobjid::regclass::text FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')), ''),
        format('AS %s START %s INCREMENT %s MIN %s MAX %s CACHE %s CYCLE %s PERSISTENCE %s OWNED BY %s',
            format_type(s.seqtypid, NULL), seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle, r.relpersistence,
            (SELECT quote_ident(a.attname) FROM pg_depend d
                JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                AND d.deptype IN ('a', 'i'))),
        '', 0, true
    FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
    -- what hangs on a table
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, NULL, NULL, NULL, 'index', format('%I.%I', r.nspname, c.relname), r.name,
        concat_ws(' ', pg_get_indexdef(c.oid),
            'TABLESPACE ' || (SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace),
            CASE WHEN i.indisclustered THEN 'CLUSTERED' END, CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END,
            (SELECT 'STATISTICS ' || string_agg(a.attnum || ' ' || a.attstattarget, ', ' ORDER BY a.attnum)
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0)),
        '', 0, i.indisvalid AND i.indisready AND i.indislive
    FROM relation r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
    WHERE NOT EXISTS (SELECT FROM pg_constraint k
        WHERE k.conindid = c.oid AND k.conrelid = r.oid AND k.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, NULL, NULL, NULL, 'constraint', format('%s.%I', r.name, k.conname), r.name,
        concat_ws(E'\\n', pg_get_constraintdef(k.oid),
            CASE WHEN k.contype IN ('p', 'u', 'x') THEN pg_get_indexdef(k.conindid) END,
            -- ALTER TABLE ... DISABLE TRIGGER ALL switches foreign keys off, and nothing else tells.
            (SELECT 'TRIGGERS ' || string_agg(g.tgenabled::text, '' ORDER BY g.tgenabled) FROM pg_trigger g
                WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O'),
            CASE WHEN i.indisclustered THEN 'CLUSTERED' END, CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END),
        '', 0, k.convalidated AND coalesce(i.indisvalid AND i.indisready, true)
    FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid
    LEFT JOIN pg_index i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conparentid = 0
    UNION ALL
    SELECT 'pg_trigger'::regclass, g.oid, NULL, NULL, NULL, 'trigger', format('%s.%I', r.name, g.tgname), r.name,
        concat_ws(' ', pg_get_triggerdef(g.oid), 'ENABLED', g.tgenabled), '', 0, true
    FROM relation r JOIN pg_trigger g ON g.tgrelid = r.oid WHERE NOT g.tgisinternal AND g.tgparentid = 0
    UNION ALL
    SELECT 'pg_rewrite'::regclass, w.oid, NULL, NULL, NULL, 'rule', format('%s.%I', r.name, w.rulename), r.name,
        concat_ws(' ', pg_get_ruledef(w.oid), 'ENABLED', w.ev_enabled), '', 0, true
    FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT 'pg_policy'::regclass, y.oid, NULL, NULL, NULL, 'policy', format('%s.%I', r.name, y.polname), r.name,
        concat_ws(' ', CASE WHEN y.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, 'FOR', y.polcmd, 'TO',
            (SELECT string_agg(CASE o WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', '
                ORDER BY pg_get_userbyid(o)) FROM unnest(y.polroles) o),
            'USING ' || pg_get_expr(y.polqual, y.polrelid), 'CHECK ' || pg_get_expr(y.polwithcheck, y.polrelid)), '', 0, true
    FROM relation r JOIN pg_policy y ON y.polrelid = r.oid
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, x.oid, NULL, NULL, NULL, 'statistics', format('%I.%I', p.nspname, x.stxname),
        x.stxrelid::regclass::text, concat_ws(' ', pg_get_statisticsobjdef(x.oid), nullif(x.stxstattarget, -1)), '', 0, true
    FROM pg_statistic_ext x JOIN place p ON p.oid = x.stxnamespace
    UNION ALL
    SELECT 'pg_class'::regclass, NULL, r.relowner, a.attacl, 'c', 'column', format('%s.%I', r.name, a.attname), r.name,
        NULL, '', 0, true
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
    -- functions and types
    UNION ALL
    SELECT 'pg_proc'::regclass, f.oid, f.proowner, f.proacl, 'f',
        CASE f.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END,
        format('%I.%I(%s)', p.nspname, f.proname, oidvectortypes(f.proargtypes)), '',
        CASE WHEN f.prokind <> 'a' THEN pg_get_functiondef(f.oid) ELSE
            (SELECT concat_ws(' ', pg_get_function_arguments(f.oid), f.proparallel,
                to_jsonb(g) - '{{aggfnoid,aggtranstype,aggmtranstype,aggsortop}}'::text[], format_type(g.aggtranstype, NULL),
                nullif(format_type(g.aggmtranstype, NULL), '-'), g.aggsortop::regoperator)
                FROM pg_aggregate g WHERE g.aggfnoid = f.oid) END,
        '', 0, true
    FROM pg_proc f JOIN place p ON p.oid = f.pronamespace
    WHERE ('pg_proc'::regclass, f.oid) NOT IN (SELECT classid, objid FROM member)
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, t.typowner, t.typacl, 'T',
        CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, format('%I.%I', p.nspname, t.typname), '',
        CASE t.typtype
            WHEN 'e' THEN 'ENUM ' ||
                coalesce((SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum
                    WHERE enumtypid = t.oid), '')
            WHEN 'd' THEN concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
                CASE WHEN t.typcollation <> b.typcollation THEN 'COLLATE ' || t.typcollation::regcollation END,
                CASE WHEN t.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || t.typdefault,
                (SELECT string_agg(format('CONSTRAINT %I %s', conname, pg_get_constraintdef(k.oid)), E'\\n' ORDER BY conname)
                    FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'))
            WHEN 'r' THEN (SELECT concat_ws(' ', 'RANGE', format_type(rngsubtype, NULL), nullif(rngcollation, 0)::regcollation,
                    format('%I.%I', cn.nspname, opcname), rngcanonical, rngsubdiff, format_type(rngmultitypid, NULL))
                FROM pg_range g JOIN pg_opclass o ON o.oid = g.rngsubopc JOIN pg_namespace cn ON cn.oid = o.opcnamespace
                WHERE g.rngtypid = t.oid)
            ELSE concat_ws(' ', t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze,
                t.typlen, t.typbyval, t.typalign, t.typstorage, t.typcategory, t.typispreferred, t.typdelim, t.typdefault)
        END, '', 0, true
    FROM pg_type t JOIN place p ON p.oid = t.typnamespace LEFT JOIN pg_type b ON b.oid = t.typbasetype
    WHERE t.typtype IN ('e', 'd', 'r', 'b') AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
        AND ('pg_type'::regclass, t.oid) NOT IN (SELECT classid, objid FROM member)
    -- the rarer kinds
    UNION ALL
    SELECT o.class, o.oid, NULL, NULL, NULL, i.type, i.identity, '', coalesce(o.definition, ''), '', 0, true
    FROM (
        SELECT 'pg_operator'::regclass, oid, oprnamespace,
            concat_ws(' ', oprcode, oprcom::regoperator, oprnegate::regoperator, oprrest, oprjoin, oprcanmerge, oprcanhash)
        FROM pg_operator WHERE oprnamespace IN (SELECT oid FROM place)
        UNION ALL
        SELECT 'pg_collation'::regclass, oid, collnamespace,
            (to_jsonb(c) - '{{oid,collname,collnamespace,collowner,collversion}}'::text[])::text FROM pg_collation c
        WHERE collnamespace IN (SELECT oid FROM place)
        UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace,
            concat_ws(' ', format_type(opcintype, NULL), opcdefault, nullif(opckeytype, 0)::regtype)
        FROM pg_opclass WHERE opcnamespace IN (SELECT oid FROM place)
        UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace, '' FROM pg_opfamily
        WHERE opfnamespace IN (SELECT oid FROM place)
        UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace, conproc::text FROM pg_conversion
        WHERE connamespace IN (SELECT oid FROM place)
        UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace, dictinitoption FROM pg_ts_dict
        WHERE dictnamespace IN (SELECT oid FROM place)
        UNION ALL SELECT 'pg_ts_parser'::regclass, oid, prsnamespace, '' FROM pg_ts_parser
        WHERE prsnamespace IN (SELECT oid FROM place)
        UNION ALL SELECT 'pg_ts_template'::regclass, oid, tmplnamespace, '' FROM pg_ts_template
        WHERE tmplnamespace IN (SELECT oid FROM place)
        UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace,
            (SELECT string_agg(concat_ws(' ', maptokentype, mapseqno, mapdict::regdictionary), ', '
                ORDER BY maptokentype, mapseqno) FROM pg_ts_config_map WHERE mapcfg = g.oid)
        FROM pg_ts_config g WHERE cfgnamespace IN (SELECT oid FROM place)
    ) AS o (class, oid, namespace, definition)
    JOIN place p ON p.oid = o.namespace CROSS JOIN LATERAL pg_identify_object(o.class, o.oid, 0) i
    WHERE (o.class, o.oid) NOT IN (SELECT classid, objid FROM member)
)
SELECT kind, name, of_table, definition, storage, foreign_keys, valid FROM found
WHERE definition IS NOT NULL AND name IS NOT NULL
UNION ALL
SELECT 'comment', concat_ws(' ', f.kind, f.name, quote_ident(a.attname)), f.of_table, d.description, '', 0, true
FROM found f JOIN pg_description d ON d.classoid = f.class AND d.objoid = f.oid
LEFT JOIN pg_attribute a ON f.class = 'pg_class'::regclass AND a.attrelid = f.oid AND a.attnum = d.objsubid AND d.objsubid > 0
UNION ALL
SELECT 'grant', f.kind || ' ' || f.name, f.of_table, g.now, '', 0, true
FROM found f CROSS JOIN LATERAL (
    SELECT coalesce(string_agg(line, E'\\n' ORDER BY line) FILTER (WHERE current), '') AS now,
        coalesce(string_agg(line, E'\\n' ORDER BY line) FILTER (WHERE NOT current), '') AS otherwise
    FROM (SELECT current, concat_ws(' ', CASE e.grantee WHEN 0 THEN 'PUBLIC' WHEN f.owner THEN 'OWNER'
            ELSE quote_ident(pg_get_userbyid(e.grantee)) END, e.privilege_type,
            CASE WHEN e.is_grantable THEN 'GRANTABLE' END) AS line
        FROM (VALUES (true, f.acl), (false, acldefault(f.default_acl, f.owner))) AS l (current, acl), aclexplode(l.acl) e) lines
) g
WHERE f.acl IS NOT NULL AND g.now <> g.otherwise
UNION ALL
SELECT 'default grant', format('%I %s %I', p.nspname, d.defaclobjtype, pg_get_userbyid(d.defaclrole)), '',
    (SELECT string_agg(concat_ws(' ', CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
        e.privilege_type, e.is_grantable), E'\\n' ORDER BY e.grantee, e.privilege_type) FROM aclexplode(d.defaclacl) e),
    '', 0, true
FROM pg_default_acl d JOIN place p ON p.oid = d.defaclnamespace
"""
