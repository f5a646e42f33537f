"""The catalogue of migrations that are wrong on purpose: each loses, changes, reorders, doubles or leaves something.

Most of them are those that the engine by itself calls verified. Read next: `migration_entries.py`.
"""

from __future__ import annotations

from folder_entries import WRONG_FOLDERS
from migration_entries import Wrong as Wrong
from wrong_both import WRONG_BOTH
from wrong_local import WRONG_LOCAL
from wrong_remote import WRONG_REMOTE

WRONG: tuple[Wrong, ...] = (*WRONG_LOCAL, *WRONG_REMOTE, *WRONG_BOTH, *WRONG_FOLDERS)
