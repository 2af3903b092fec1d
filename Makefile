# The whole set-up is done by each target that needs it. PYTHON=/path/to/python chooses the
# interpreter for a new .venv.

VENV := .venv/bin
INSTALLED := .venv/.installed

# .venv is up to date when it was installed here after the last change of these files, and still
# runs; see .ci/make-venv for what the stamp holds.
SOUND := $(shell [ "$$(cat $(INSTALLED) 2>/dev/null)" = "$$PWD" ] && $(VENV)/python -c '' 2>/dev/null && echo yes)

.PHONY: help demo test test-all bench lint format again
help:
	@echo "make demo      train a quantum vision transformer on real handwritten digits (runs/demo)"
	@echo "make test      the tests, without those marked slow"
	@echo "make test-all  all the tests"
	@echo "make bench     this project beside its peers, on a quiet machine (docs/benchmarks.md)"
	@echo "make lint      check format and style"
	@echo "make format    mend format and style"

demo: $(INSTALLED)
	@$(VENV)/qrkt train --output runs/demo --overwrite

# In the order of their paths, not the longest first: so the short examples of the docstrings even out
# the end.
PYTEST := $(VENV)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs --doctest-modules \
	tests qrkt_keras

test: $(INSTALLED)
	@$(PYTEST) -m "not slow"

test-all: $(INSTALLED)
	@$(PYTEST)

# BENCH holds options, such as BENCH=--quick or BENCH=--help.
bench: $(INSTALLED)
	@PYTHONPATH=tests $(VENV)/python -m benchmarks.bench $(BENCH)

lint: $(INSTALLED)
	@$(VENV)/ruff format --check
	@$(VENV)/ruff check

format: $(INSTALLED)
	@$(VENV)/ruff check --fix
	@$(VENV)/ruff format

# `$(error)` says what is wrong in one line; a failing command would add make's own lines to it.
$(INSTALLED): setup.py constraints.txt pyproject.toml $(if $(SOUND),,again)
	$(eval FOUND := $(shell PYTHON="$(PYTHON)" .ci/find-python))
	$(if $(filter /%,$(firstword $(FOUND))),,$(error $(FOUND)))
	@.ci/make-venv "$(FOUND)"
