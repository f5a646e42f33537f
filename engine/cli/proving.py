"""`test`: migrations are tried on databases that are drawn, none of which is the application's.

Read next: `proving_view.py` (what it prints), `../verification/verifying.py` (what it does).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .progress import following
from .teaching import Lesson, TaughtCommand
from .trouble import BLOCKED, DONE, FAILED, INTERRUPTED, USAGE, shown_address

if TYPE_CHECKING:
    from ...migrations.definition import SideName
    from ..verification.outcome import Unverified, Verification
    from ..verification.settings import Settings
    from ..verification.verifying import Verifier
    from .invocation import Invocation

EXAMPLES: Final = 100
# As in verification/properties.py, which is not loaded for a command that only shows its help.
PROPERTIES: Final = (
    "applies",
    "keeps-rows",
    "constraints",
    "queries",
    "invariants",
    "new-install",
    "down-restores",
    "again",
    "dry-run",
    "crash",
    "refusal",
)
FILES: Final = ("before_local", "before_remote", "new_local", "new_remote")
_TIME: Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>s|min)?")


def _seconds(ctx: click.Context, option: click.Parameter, given: str | None) -> float | None:
    """A time such as "60s" or "2min", in seconds; a number by itself is of seconds."""
    if given is None:
        return None
    found = _TIME.fullmatch(given)
    if found is None:
        raise click.BadParameter(f"{given!r} is no time, such as 60s or 2min.", ctx, option)
    return float(found["number"]) * (60 if found["unit"] == "min" else 1)


def run_test(invocation: Invocation, migration: str | None, **options: Any) -> int:
    """Verify one migration, or all of them: each is shown as soon as it is verified."""
    from ...events.errors import DefinitionError, TwinstepError
    from ..report import error_report

    if find_spec("hypothesis") is None:
        raise DefinitionError("T388", package="hypothesis")
    from ..verification.verifying import Verifier
    from .proving_view import exit_code, show_one, show_total, verifications_json

    listener = following(invocation.err)
    found: list[Verification | Unverified] = []
    given = _given(invocation, options)
    try:
        with ExitStack() as servers, Verifier(invocation.configuration.migrations) as verifier:
            server = cache(partial(_started, servers)) if options["server"] is None else options["server"]
            chosen = _settings(options, server, listener.under_way)
            for name in verifier.ids if options["all"] and verifier.ids else [migration]:
                with listener.shown("verifying"):
                    found.append(_verified(verifier, name, chosen, others=options["all"]))
                if not invocation.as_json:
                    show_one(found, invocation.out, given=given)
    except KeyboardInterrupt:
        effect = "Nothing but scratch databases was touched, and they are gone."
        error = error_report(TwinstepError("T158", effect=effect, next_step="Run it again."))
        invocation.refuse("interrupted", error, verifications_json(found))
        return INTERRUPTED
    invocation.answer(lambda: verifications_json(found), lambda screen: show_total(found, screen))
    return exit_code(found)


def _verified(verifier: Verifier, name: str | None, chosen: Settings, *, others: bool) -> Verification | Unverified:
    """What is found of it; where there are others, one that cannot be verified does not keep them from it."""
    from ...events.errors import DefinitionError
    from ..verification.outcome import Unverified

    try:
        return verifier.verify(name, settings=chosen)
    except DefinitionError as error:
        if name is None or not others:
            raise
        return Unverified(migration=name, error=error)


def _given(invocation: Invocation, options: Mapping[str, Any]) -> list[str]:
    """The words that decide what is drawn and tried, as they were given."""
    words: list[str] = []
    if "migrations" in invocation.flags:
        words += ["--migrations", invocation.flags["migrations"]]
    for name in FILES:
        if options[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if options["enforced"]:
        words.append("--enforced")
    if options["server"] is not None:
        words += ["--server", shown_address(options["server"])]
    return words


def _started(opened: ExitStack) -> str:
    from ..embedded import EmbeddedPostgres

    return opened.enter_context(EmbeddedPostgres.started(durable=False)).url()


def _settings(options: Mapping[str, Any], server: str | Callable[[], str], under_way: Callable[[str], None]) -> Settings:
    from ..verification.properties import Property
    from ..verification.settings import Settings

    def told(migration: str, done: int, of: int) -> None:
        under_way(f"{migration}: {done} of {of} databases")

    return Settings(
        examples=options["examples"],
        seed=secrets.randbelow(2**32) if options["seed"] is None else options["seed"],
        time_seconds=options["time"],
        properties=tuple(map(Property, options["property"])) or tuple(Property),
        dangling=not options["enforced"],
        server=server,
        schemas_before=_texts(options, "before"),
        new_install=_texts(options, "new"),
        on_progress=told,
    )


def _texts(options: Mapping[str, Any], prefix: str) -> dict[SideName, str]:
    sides: tuple[SideName, ...] = ("local", "remote")
    from ..verification.scratch import schema_text

    paths = {side: options[f"{prefix}_{side}"] for side in sides}
    return {side: schema_text(path) for side, path in paths.items() if path is not None}


def _file(name: str, help: str) -> click.Option:
    return click.Option([name], metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=help)


TEST: Final = TaughtCommand(
    "test",
    Lesson(
        does="Tries a migration on databases that are drawn. The schema before it is made by the earlier migrations in scratch "
        "databases and filled with rows that it admits, also odd ones; the migration is applied for real, and what is lost, "
        "changed or left behind is shown on the smallest database where it happens. Then whole runs: again, dry, killed at "
        "crossings of the engine, refused. Without ID it is the last migration.",
        never="It opens no database of yours. What it makes is in a temporary folder and on a PostgreSQL that it starts.",
        examples=("twinstep test", "twinstep test 0012_phase3 --examples 500", "twinstep test --all --time 60s"),
        exits=(DONE, FAILED, USAGE, BLOCKED, INTERRUPTED),
    ),
    run_test,
    params=[
        click.Argument(["migration"], metavar="[ID]", required=False),
        click.Option(["--all"], is_flag=True, help="Every migration of the folder, one after the other."),
        click.Option(
            ["--examples"],
            metavar="N",
            type=click.IntRange(min=1),
            default=EXAMPLES,
            show_default=True,
            help="On how many databases the change is tried; whole runs are tried on a tenth of them.",
        ),
        click.Option(["--seed"], metavar="S", type=click.IntRange(min=0), help="Draw the same databases as another run did."),
        click.Option(["--time"], metavar="T", callback=_seconds, help="Begin no further database after so long, such as 60s."),
        click.Option(
            ["--property"],
            metavar="NAME",
            multiple=True,
            type=click.Choice(PROPERTIES),
            help="Only this one; may be given more than once. " + ", ".join(PROPERTIES) + ".",
        ),
        click.Option(["--enforced"], is_flag=True, help="Draw no reference that leads nowhere: foreign keys are always on."),
        _file(
            "--before-local",
            "SQL that makes the local schema before it, or a SQLite file that has it, in place of the earlier migrations.",
        ),
        _file("--before-remote", "The same for the remote."),
        _file(
            "--new-local",
            "SQL with which a new installation makes its local schema, or a file that has it: it must be the same afterwards.",
        ),
        _file("--new-remote", "The same for the remote."),
        click.Option(
            ["--server"],
            metavar="URL",
            help="A PostgreSQL for the trials, instead of one that is started for them; databases are made and dropped there.",
        ),
    ],
)
