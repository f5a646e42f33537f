"""Every error that Twinstep raises on purpose, split by what the caller must do next.

::

    TwinstepError
    ├── InputError            fix the input: a definition, an option, a file     exit 2
    │   ├── DefinitionError       a migration, its folder or its SQL
    │   └── ConfigurationError    options, paths, URLs
    ├── Blocked               mend the circumstances, then run again             exit 5
    │   ├── Conflict              the log and the databases disagree
    │   └── Unreachable           a database is away
    ├── Locked                wait, or look at who works                         exit 4
    │   └── LostLock              the lock was ours and is not any more
    ├── Refused               a database said no; compensated automatically      exit 1
    ├── Stranded              put back what the run needs, then run again        exit 6
    ├── InDoubt               nobody knows; run again, the ledger will tell      exit 6
    ├── ConcurrencyConflict   another writer was first; read again
    └── Defect                damage, or a bug of ours: call a person
        ├── LogDamaged
        └── IllegalHistory

What an error *says* is data, and lies in `messages.py`: a code, what happened, what it means for the data, and what to do
next. Raise with the code and the details that fill the text in::

    raise DefinitionError("T101", path="migrations/")

This module must never import anything but `messages.py`. Read next: `messages.py`.
"""

from __future__ import annotations

from .messages import MESSAGES


class TwinstepError(Exception):
    """The root of the tree. `code` is stable; the text is for people who did not choose this tool.

    `details` are the values that filled in the text (never a password), `state` the lifecycle state in which it
    happened where there is one, `next_step` what to do, `exit_code` what the command exits with.

    >>> error = DefinitionError("T101", path="migrations/")
    >>> error.code, error.exit_code, error.condition
    ('T101', 2, 'There is no folder of migrations at migrations/.')
    """

    exit_code = 1

    def __init__(self, code: str, /, *, state: str | None = None, **details: object) -> None:
        message = MESSAGES[code]
        self.code = code
        self.state = state
        self.details = details
        words = {"state": state, **details}
        self.condition = message.condition.format(**words)
        self.effect = message.effect.format(**words)
        self.next_step = message.next_step.format(**words)
        super().__init__(f"{code} {self.condition} {self.effect} {self.next_step}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.code, self.state, self.details)


def _rebuilt(kind: type[TwinstepError], code: str, state: str | None, details: dict[str, object]) -> TwinstepError:
    return kind(code, state=state, **details)


class InputError(TwinstepError):
    """Something that a person wrote is wrong. Nothing was changed."""

    exit_code = 2


class DefinitionError(InputError):
    """A migration, its folder or its SQL cannot be used as it is."""


class ConfigurationError(InputError):
    """An option, a path or a URL cannot be used as it is."""


class Blocked(TwinstepError):
    """The circumstances do not allow it now: something is away, full, pending or not permitted."""

    exit_code = 5


class Conflict(Blocked):
    """What the log says and what the databases say do not fit together; `kind` is the contract's word for how."""

    def __init__(self, code: str, /, *, kind: str, state: str | None = None, **details: object) -> None:
        super().__init__(code, state=state, kind=kind, **details)
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.code, self.state, self.details)


class Unreachable(Blocked):
    """A database cannot be reached. What was applied stays as it is, and goes on when it can be reached again."""


class Locked(TwinstepError):
    """Another coordinator works on this pair."""

    exit_code = 4


class LostLock(Locked):
    """The lock was ours, and somebody else may hold it now: nothing more may be committed."""


class Refused(TwinstepError):
    """A database, or a check of ours, said no. The step's own transaction is gone; what stands is undone."""

    exit_code = 1


class Stranded(TwinstepError):
    """A run in flight cannot go on, or back, without something that is not there any more. It stays where it is."""

    exit_code = 6


class InDoubt(TwinstepError):
    """Nobody knows whether the last statement took effect. Never guessed: the ledger is read by the next run."""

    exit_code = 6


class ConcurrencyConflict(TwinstepError):
    """The stream has moved on since it was read; nothing was appended."""

    exit_code = 4


class Defect(TwinstepError):
    """Something that must not happen: damage from outside, or a bug of Twinstep."""

    exit_code = 6


class LogDamaged(Defect):
    """The log is not what was written: torn, edited, reordered or shortened."""

    exit_code = 5


class IllegalHistory(Defect):
    """Events that the lifecycle table does not allow in this order."""
