# Each target makes its own .venv and installs what it needs; a fresh clone needs one command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.PHONY: demo test test-host check bench deb install-units clean

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.run: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.run
	$(BIN)/pip install --quiet --group test
	touch $@

$(VENV)/.check: pyproject.toml $(VENV)/.test
	$(BIN)/pip install --quiet --group check
	touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.run
	$(BIN)/pip install --quiet --group bench
	touch $@

demo: $(VENV)/.run ## push, lose the disk, pull, compare every byte
	$(BIN)/python -m tests.demo

test: $(VENV)/.test ## everything that needs only Python packages
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not host'

test-host: $(VENV)/.test ## what needs Debian packages; says which are missing
	$(BIN)/python -m pytest -m host

check: $(VENV)/.check ## format, lint, types, layers; modifies nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench ## against rclone, s5cmd and aws on one server
	$(BIN)/python -m bench

deb: $(VENV)/.run ## dist/ckptsync_VERSION_ARCHITECTURE.deb, for hosts with the minor version of PYTHON
	packaging/build-deb $(BIN)/python dist

install-units: ## units, user and polkit rule of ckptsync, below DESTDIR
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system systemd/*.service systemd/*.timer systemd/*.path
	install -D -t $(DESTDIR)/usr/lib/ckptsync systemd/request-engine systemd/answer-request
	install -D -m 644 systemd/ckptsync.sysusers $(DESTDIR)/usr/lib/sysusers.d/ckptsync.conf
	install -D -m 644 -t $(DESTDIR)/usr/share/polkit-1/rules.d systemd/50-ckptsync.rules
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/ckptsync/ckptsync@.service.d systemd/ckptsync@.service.d/*
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/ckptsync/pipeline@.service.d systemd/pipeline@.service.d/*

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
