"""The command: what people and scripts type, and what they read. It decides nothing; the coordinator does.

`app.py` has the commands in order and `run`; `configuration.py` says where each setting comes from; `asking.py`, `changing.py`,
`looking_back.py` and `demonstration.py` hold the commands; `screen.py` is where text goes. Importing any of them loads no
database driver, no SQLAlchemy and no rich: a command loads what it needs when it runs.
"""
