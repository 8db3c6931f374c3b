# The one task runner. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find cpp python -type f -not -name '*.so' -not -path '*/__pycache__/*') \
           CMakeLists.txt pyproject.toml
CXX_FILES := $(shell find cpp tests/cpp bench -name '*.cpp' -o -name '*.hpp')
PRESETS := dev asan tsan
TEST_PARTS := lint types docs python-tests $(PRESETS)
TEST_GROUPS := test lint
JOB_TESTS := tests/test_jobs.py tests/test_ray.py tests/test_recipes.py tests/test_slurm.py tests/test_torchrun.py tests/test_two_nodes.py
# pip builds in a folder of its own each time, so that two builds do not meet. This one is kept.
INCREMENTAL := -C build-dir='build/{wheel_tag}'
SOAK_SECONDS ?= 60
SOAKS := soak-address soak-thread
library = $(shell $(CXX) -print-file-name=$1)
# TSan of older compilers loads only where addresses are not too random.
fixed = $(shell setarch -R true 2>/dev/null && echo setarch -R)

# The interpreter is not built for a sanitizer, and what it leaks is its own. A race, or misuse of
# memory, in the extension ends the program with an error.
soak-address: sanitizers := address,undefined
soak-address: preload := $(call library,libasan.so) $(call library,libubsan.so)
soak-address: options := ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
soak-thread: sanitizers := thread
soak-thread: preload := $(call library,libtsan.so)
soak-thread: options := TSAN_OPTIONS=exitcode=66:atexit_sleep_ms=0

.PHONY: help demo wheel pure-wheel wheels docs test lint types python-tests test-jobs native-tests native-builds $(PRESETS) $(PRESETS:%=build-%) soak $(SOAKS) bench format clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/demo.stamp  ## train a small network with carbontracker around it
	$(BIN)/carbontracker $(BIN)/python examples/train_digits.py

wheel: $(VENV)/bin/python  ## leave one wheel, for this Python and this machine, in dist/
	rm -f dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps $(INCREMENTAL) --wheel-dir dist .

pure-wheel: $(VENV)/bin/python  ## leave one wheel for any system in dist/: estimates only, no sensor
	rm -f dist/*.whl
	CARBONTRACKER_PURE=1 $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

wheels:          ## wheels for glibc 2.28 and each Python here, into wheelhouse/ (WHEELS=platforms: .ci/wheels)
	.ci/wheels $(WHEELS)

docs: $(VENV)/docs.stamp  ## the documentation site, in build/site (to search it: python3 -m http.server -d build/site)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Goes on after a failure, so that one run tells of all that is wrong. The native tests are built while
# the Python tests wait for what they measure; a build that fails is repeated, and shown, in its part.
test: $(VENV)/test.stamp  ## everything that CI runs; goes on after a failure and says at the end what failed
	@mkdir -p build; nice -n 19 $(MAKE) --no-print-directory native-builds >build/native-builds.log 2>&1 & \
	builds=$$!; trap 'kill $$builds 2>/dev/null' INT TERM; failed=; \
	for part in $(TEST_PARTS); do \
	  case " $(PRESETS) " in *" $$part "*) wait $$builds || true;; esac; \
	  echo "== $$part"; $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; \
	if [ -n "$$failed" ]; then echo "make test: FAILED:$$failed"; exit 1; fi; \
	echo "make test: all passed: $(TEST_PARTS)"

lint: $(VENV)/test.stamp  ## formatters and linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

types: $(VENV)/test.stamp  ## mypy, and the stubs against the built extension
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest carbontracker._core --allowlist tests/stubtest-allowlist.txt

python-tests: $(VENV)/test.stamp  ## pytest on the installed package
	$(BIN)/python -m pytest

test-jobs: $(VENV)/test.stamp  ## each launcher, all cases (before: apt-get install slurm-wlm munge openmpi-bin)
	$(BIN)/python -m pip install --quiet --group frameworks --group launchers
	$(BIN)/python -m pytest -m "slow or not slow" $(JOB_TESTS)

native-tests: $(PRESETS)  ## C++ tests: debug, ASan+UBSan, TSan

$(PRESETS): %: build-%
	PATH="$(CURDIR)/$(BIN):$$PATH"; ctest --preset $@

native-builds: $(PRESETS:%=build-%)

$(PRESETS:%=build-%): build-%: $(VENV)/test.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH"; cmake --preset $* && cmake --build --preset $*

soak: $(SOAKS)  ## the soak, SOAK_SECONDS under each of ASan+UBSan and TSan

$(SOAKS): $(VENV)/test.stamp
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/$@/site \
	  -C build-dir=build/$@/ext -C cmake.build-type=RelWithDebInfo -C install.strip=false \
	  -C cmake.define.CARBONTRACKER_SANITIZE=$(sanitizers) .
	$(fixed) env $(options) PYTHONPATH=build/$@/site LD_PRELOAD="$(preload)" \
	  $(BIN)/python tests/soak.py --seconds $(SOAK_SECONDS)

bench: $(VENV)/test.stamp  ## costs and errors as ratios, with results (BENCH=--full: an hour)
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
	$(BIN)/python -m pip install --quiet $(INCREMENTAL) .
	@touch $@

$(VENV)/demo.stamp: $(VENV)/package.stamp
	$(BIN)/python -m pip install --quiet --group examples
	@touch $@

$(VENV)/docs.stamp: $(VENV)/package.stamp
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@

$(VENV)/test.stamp: $(VENV)/package.stamp
	$(BIN)/python -m pip install --quiet $(TEST_GROUPS:%=--group %)
	@touch $@
