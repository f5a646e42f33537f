"""click's commands, made to teach: what it does, what it never does, an example, the exit codes; and the settings everywhere.

The settings and `--json` are accepted before and after a command; the one nearer to the end wins. They are listed apart from
a command's own options.

Read next: `app.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import click
from attrs import frozen

from .configuration import SETTINGS
from .invocation import Invocation
from .trouble import EXIT_CODES

Body: TypeAlias = "Callable[..., int]"

JSON_HELP: Final = (
    "Print one JSON object on the standard output, and nothing else there ('log --follow' and 'log export': one a line)."
)
SETTINGS_HEADING: Final = "Settings (also before the command, as TWINSTEP_..., or in twinstep.toml)"


@frozen(kw_only=True)
class Lesson:
    """What a command's help teaches. `does` begins with the sentence that is also its line in the overview."""

    does: str
    never: str
    examples: tuple[str, ...]
    exits: tuple[int, ...]

    @property
    def short(self) -> str:
        """The first sentence, without its full stop."""
        return self.does.partition(". ")[0].removesuffix(".")


class SettingOption(click.Option):
    """A setting, or --json: kept in the invocation, not handed to the command."""


class TaughtCommand(click.Command):
    """A command with a lesson. The body is given the invocation and the command's own options; it returns the exit code."""

    def __init__(
        self, name: str, lesson: Lesson, body: Body, *, params: Sequence[click.Parameter] = (), settings: bool = True
    ) -> None:
        super().__init__(
            name,
            callback=click.pass_obj(body),
            params=[*params, *setting_options(settings=settings)],
            help=lesson.does,
            short_help=lesson.short,
        )
        self.lesson = lesson

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it in the order in which one asks."""
        write_lesson(self, self.lesson, ctx, formatter)


class TaughtGroup(click.Group):
    """A command with commands below it. Called alone it runs its body, or shows its help where it has none."""

    def __init__(
        self,
        name: str,
        lesson: Lesson,
        commands: Sequence[click.Command],
        *,
        body: Body | None = None,
        params: Sequence[click.Parameter] = (),
    ) -> None:
        super().__init__(
            name,
            callback=None if body is None else _alone(body),
            invoke_without_command=body is not None,
            no_args_is_help=False,
            params=[*params, *setting_options()],
            help=lesson.does,
            short_help=lesson.short,
        )
        self.lesson = lesson
        for command in commands:
            self.add_command(command)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it in the order in which one asks, with the commands below."""
        write_lesson(self, self.lesson, ctx, formatter)


def _alone(body: Body) -> Body:
    @click.pass_context
    def unless_below(ctx: click.Context, /, **values: object) -> int:
        return body(ctx.obj, **values) if ctx.invoked_subcommand is None else 0

    return unless_below


def setting_options(*, settings: bool = True) -> list[click.Option]:
    """The options that every command takes; without the settings, --json alone."""
    options: list[click.Option] = [
        SettingOption(["--json"], is_flag=True, help=JSON_HELP, expose_value=False, callback=_keep_json)
    ]
    if settings:
        options += [
            SettingOption([f"--{one.name}"], metavar=one.metavar, help=one.help, expose_value=False, callback=_keep)
            for one in SETTINGS.values()
        ]
    # click's own would write past our stream, and fail on a full disk with words of its own.
    options.append(
        click.Option(
            ["--help"], is_flag=True, is_eager=True, expose_value=False, callback=_show_help, help="Show this message and exit."
        )
    )
    return options


def _show_help(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        ctx.ensure_object(Invocation).out.line(ctx.get_help())
        ctx.exit()


def _keep(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).flags[option.opts[0].removeprefix("--")] = value


def _keep_json(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).as_json = True


def write_lesson(command: click.Command, lesson: Lesson, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Usage, what it does, what it never does, examples, commands below, options, settings, exit codes."""
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    with formatter.section("Never"):
        formatter.write_text(lesson.never)
    with formatter.section("Example" if len(lesson.examples) == 1 else "Examples"):
        for example in lesson.examples:
            formatter.write(f"{' ' * formatter.current_indent}{example}\n")
    if isinstance(command, click.Group):
        command.format_commands(ctx, formatter)
    write_options(command, ctx, formatter)
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(code), EXIT_CODES[code]) for code in lesson.exits])


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """The command's own options, then the settings."""
    own, shared = list[tuple[str, str]](), list[tuple[str, str]]()
    for option in command.get_params(ctx):
        record = option.get_help_record(ctx)
        if record is not None:
            (shared if isinstance(option, SettingOption) else own).append(record)
    # --json stands with the settings only where there are some.
    if len(shared) == 1:
        own, shared = [*own, *shared], []
    with formatter.section("Options"):
        formatter.write_dl(own)
    if shared:
        with formatter.section(SETTINGS_HEADING):
            formatter.write_dl(shared)
