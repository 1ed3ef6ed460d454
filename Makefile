# What one needs to work here. `make demo` and `make test` install what they need by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-slow setup fix check docs clean

demo: $(VENV)/.installed ## train on handwritten digits, and show the model and its report
	$(BIN)/modelwright run examples/digits.yaml

test: $(VENV)/.installed ## all tests but the slow ones, on all cores
	$(BIN)/pytest -n auto --dist loadfile

test-slow: $(VENV)/.installed ## the slow tests
	$(BIN)/pytest -n auto --dist loadfile -m slow

setup: $(VENV)/.installed ## install, with the checks that run before each commit
	$(BIN)/pre-commit install

fix: $(VENV)/.installed ## format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(VENV)/.installed ## lint, types, the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed ## write the pages that are made from the code
	$(BIN)/python docs/generate.py

clean: ## remove what was built; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
