"""How one side of a pair is rehearsed: on a copy of its database, or in a transaction that is rolled back.

Read first: `rehearsing.py` (what a rehearsal tells, and the protocol), then `on_a_copy.py` and `postgres.py`.
"""
