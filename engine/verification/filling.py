"""Drawn rows into a real database, and what it really admitted of them.

Rows go in parents first, in the caller's transaction, and nothing is committed here. A row that the database refuses (a CHECK
that is not understood, a trigger that raises, a clash) is left out, and so is whatever cannot stand without it. Any other
error comes out, and the transaction is the caller's to roll back. Triggers fire as in life.

Must never import SQLAlchemy. Read next: `sqlite_filling.py`, `postgres_filling.py` (one side each), `replicating.py` (large
databases out of small ones), `writing_sql.py` (the same as a text).
"""

from __future__ import annotations

from .postgres_filling import fill_postgres
from .replicating import replicate
from .sqlite_filling import fill_sqlite
from .writing_sql import as_sql

__all__ = ["as_sql", "fill_postgres", "fill_sqlite", "replicate"]
