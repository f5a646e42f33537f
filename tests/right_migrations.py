"""The catalogue of migrations that are right on every database that the schema before them admits.

What judges migrations must find nothing wrong with any of them. Read next: `migration_entries.py`.
"""

from __future__ import annotations

from folder_entries import RIGHT_FOLDERS
from migration_entries import Right as Right
from right_both import RIGHT_BOTH
from right_local import RIGHT_LOCAL
from right_remote import RIGHT_REMOTE

RIGHT: tuple[Right, ...] = (*RIGHT_LOCAL, *RIGHT_REMOTE, *RIGHT_BOTH, *RIGHT_FOLDERS)
