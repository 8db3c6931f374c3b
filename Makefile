# The one task runner. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find cpp python -type f -not -name '*.so' -not -path '*/__pycache__/*') \
           CMakeLists.txt pyproject.toml
CXX_FILES := $(shell find cpp tests/cpp bench -name '*.cpp' -o -name '*.hpp')
PRESETS := dev asan tsan

.PHONY: help demo test lint types python-tests native-tests $(PRESETS) bench format clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/demo.stamp  ## train a small network with carbontracker around it
	$(BIN)/carbontracker $(BIN)/python examples/train_digits.py

test: lint types python-tests native-tests  ## everything that CI runs

lint: $(VENV)/test.stamp  ## formatters and linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

types: $(VENV)/test.stamp  ## mypy, and the stubs against the built extension
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest carbontracker._core --allowlist tests/stubtest-allowlist.txt

python-tests: $(VENV)/test.stamp  ## pytest on the installed package
	$(BIN)/python -m pytest

native-tests: $(PRESETS)  ## C++ tests: debug, ASan+UBSan, TSan

$(PRESETS): $(VENV)/test.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH"; \
	cmake --preset $@ && cmake --build --preset $@ && ctest --preset $@

bench: $(VENV)/test.stamp  ## costs and errors, each as a ratio against something beside it (BENCH=--full: an hour)
	$(BIN)/python -m bench.all $(BENCH)

format: $(VENV)/test.stamp  ## rewrite the files as lint wants them
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:           ## remove the environment and all builds
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/package.stamp: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet .
	@touch $@

$(VENV)/demo.stamp: $(VENV)/package.stamp
	$(BIN)/python -m pip install --quiet --group examples
	@touch $@

$(VENV)/test.stamp: $(VENV)/package.stamp
	$(BIN)/python -m pip install --quiet --group test --group lint
	@touch $@
