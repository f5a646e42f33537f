"""Another definition for a table of SQLite, without losing anything: `rebuild_table`.

`rebuilding.py` is the order of work, `editing.py` the text, `copying.py` and `reshaping.py` the rows, `placing.py` puts the
new table in the old one's place. Beside this folder, `create_table.py` edits the text, and `sqlite_table.py` reads what
SQLite says about a table.
"""

from ..create_table import ForeignKey
from .rebuilding import rebuild_table, rebuilding

__all__ = ["ForeignKey", "rebuild_table", "rebuilding"]
