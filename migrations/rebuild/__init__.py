"""Another definition for a table of SQLite, without losing anything: `rebuild_table`.

`rebuilding.py` is the order of work, `copying.py` moves the rows and compares them, `placing.py` puts the new table in the old
one's place. Beside this folder, `create_table.py` edits the text, and `sqlite_table.py` reads what SQLite says about a table.
"""

from ..create_table import ForeignKey
from .rebuilding import rebuild_table

__all__ = ["ForeignKey", "rebuild_table"]
