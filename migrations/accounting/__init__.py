"""Accounting for a change of a SQLite database, before it is committed: nothing is lost that nobody declared.

`accounting.py` is the order of work; `said.py` what the statements named themselves, `structure.py` what a table promises,
`renaming.py` texts that bear new names, `unchanged.py` which tables are as they were, `rows.py` the rows of the others held
against the backup, `loss.py` what is found missing and how it is declared.
"""
