# make demo: watch the reference migration. make test: the tests. make ways-back: every way back as a table.
# make schedules: killed at every crossing, and again at every crossing, in memory and for real, as a table.
# Each makes .venv itself on first use.
# Another Python: make PYTHON=python3.13 ...

PYTHON ?= python3
PYTEST_ARGS ?= -n 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PYTEST := $(BIN)/python -m pytest -o cache_dir=$(VENV)/cache/pytest

# Nothing is written beside the sources.
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/cache/python
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/$(VENV)/cache/hypothesis

.PHONY: demo test test-full check schedules ways-back kills rivals catalogue measure measure-dirty measure-rebuild measure-append measure-verification docs refusals \
	format clean

demo: $(INSTALLED)
	@$(BIN)/twinstep demo

test: $(INSTALLED)
	$(PYTEST) -m "not full" $(PYTEST_ARGS)

test-full: $(INSTALLED)
	$(PYTEST) $(PYTEST_ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_wheel.py

# Every schedule of kills, in memory and with processes that are really killed; how many there were of each kind.
schedules: $(INSTALLED)
	$(PYTEST) -m full $(PYTEST_ARGS) tests/test_schedules_memory.py tests/test_schedules_real.py

# Every way back, walked on real databases and printed as a table.
ways-back: $(INSTALLED)
	@$(BIN)/python tools/ways_back.py

# The command killed with SIGKILL at random moments over the reference migration, and resumed: how each ended, and what differs.
kills: $(INSTALLED)
	@$(BIN)/python tools/kills.py $(if $(KILLS),--kills $(KILLS)) $(if $(NOTES),--notes $(NOTES)) $(if $(SEED),--seed $(SEED))

# Eight coordinators started at the same instant on one pair: who migrates, and what the others are told.
rivals: $(INSTALLED)
	@$(BIN)/python tools/rivals.py $(if $(ROUNDS),--rounds $(ROUNDS))

# The catalogue of wrong and right migrations, judged by the properties: what is found, and on the how-manieth database.
catalogue: $(INSTALLED)
	@$(BIN)/python tools/catalogue.py $(if $(WRONG),--wrong $(WRONG)) $(if $(RIGHT),--right $(RIGHT))

# The application's queries before and after the reference migration; what each index is for, and what it takes.
measure: $(INSTALLED)
	@$(BIN)/python -m benchmarks.reference $(NOTES) $(USERS)

# The reference migration on 50 000 notes full of rows that refer to nothing: what is set aside, and how long it takes.
measure-dirty: $(INSTALLED)
	@$(BIN)/python -m benchmarks.dirty $(NOTES)

# A table of a million rows gets a foreign key: by hand, by Alembic, by rebuild_table, by a migration.
measure-rebuild: $(INSTALLED)
	@$(BIN)/python -c 'import alembic' 2>/dev/null || $(BIN)/python -m pip install --quiet 'alembic>=1.13'
	@$(BIN)/python -m benchmarks.rebuild $(ROWS)

# One event appended to a log in PostgreSQL, beside a prepared INSERT of the same row.
measure-append: $(INSTALLED)
	@$(BIN)/python -m benchmarks.append_postgres $(APPENDS)

# Twenty migrations tested by pytest-alembic, and verified by `pytest --twinstep`.
measure-verification: $(INSTALLED)
	@test -d $(VENV)/peers || $(BIN)/python -m pip install --quiet --target $(VENV)/peers 'pytest-alembic>=0.13' 'pytest<9'
	@$(BIN)/python -m benchmarks.pytest_alembic $(MIGRATIONS) $(ROUNDS)

# The parts of the documentation that are read from the code.
docs: $(INSTALLED)
	$(BIN)/python tools/write_docs.py

# Every refusal run for real: what is given, exit code, message, and whether anything was changed.
refusals: $(INSTALLED)
	@$(BIN)/python tools/show_refusals.py $(CASES)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Twinstep needs Python 3.11 or newer; name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Making $(VENV) (once, and again when pyproject.toml changes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@rm -rf build *.egg-info
	@mkdir -p $(VENV)/typed && ln -sfn ../.. $(VENV)/typed/twinstep
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
