# Two commands: `make test` proves a fresh clone, `make demo` shows it at work.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test demo
test: $(BIN)/unimoe
	./check

demo: $(BIN)/unimoe
	$(BIN)/unimoe demo

$(BIN)/unimoe: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
