# make demo | test | check | bench: each builds its environment first when it is missing or out of date.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
PINS   := $(wildcard requirements/*)

export PYTHON
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test check format docs bench clean

help:
	@echo "make setup    build $(VENV) from the pinned tree"
	@echo "make demo     compress a sentence classifier and prove what it cost, into out/demo"
	@echo "make test     run all tests; make test ARGS='-m \"not slow\"' the quick ones"
	@echo "make check    format, lint, types, rules of the house"
	@echo "make format   format and fix"
	@echo "make docs     write again what is generated: docs/commands.md, tables, the demo in README.md"
	@echo "make bench    measure the rows of benchmarks/ that are not measured yet"
	@echo "make clean    remove the environment and what was built"

setup: $(STAMP)

$(STAMP): pyproject.toml $(PINS)
	sh requirements/install.sh $(VENV)
	touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python docs/write_commands.py
	$(BIN)/python docs/write_demo.py
	$(BIN)/python -m benchmarks.table
	$(BIN)/python -m benchmarks.scoreboard

bench:
	sh benchmarks/setup.sh
	.venv-bench/bin/python -m benchmarks.run $(ARGS)

clean:
	rm -rf $(VENV) out dist build
