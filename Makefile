# Two commands set everything up on a fresh machine with git, make and Python >= 3.11:
#   make demo   installs, pretrains on the embedded digits, and uses the encoder
#   make test   installs, then lint, types and tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test install format slow benchmarks clean

demo: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" sh configs/demo.sh

test: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: .venv/installed

.venv/created:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

.venv/installed: .venv/created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ .venv/installed

clean:
	rm -rf .venv runs build dist
