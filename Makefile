# `make demo` and `make test` need no other set-up; every target installs into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-output

# An environment that holds the built wheel and its required dependencies, no extras.
WHEEL_VENV := build/wheel-venv
WHEEL_BIN := $(WHEEL_VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# One worker per core, one thread per worker: threads of several processes on the same cores slow each other down.
PARALLEL := -n auto --dist loadfile
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: demo test slow lint install coverage package minimal clean

demo: install
	$(BIN)/deepsdf demo --out $(OUT)

test: install
	$(ONE_THREAD) $(BIN)/python -m pytest $(PARALLEL)

slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Line and branch coverage of all tests, processes started by tests included. HTML: build/coverage/index.html.
coverage: install
	$(BIN)/coverage erase
	$(ONE_THREAD) $(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

# Build sdist and wheel into build/dist, install the wheel alone, and use it outside the source tree.
package: install
	rm -rf build/dist $(WHEEL_VENV)
	$(BIN)/pyproject-build --outdir build/dist .
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_BIN)/python $(PIP_INSTALL) build/dist/*.whl
	.ci/use-wheel $(WHEEL_BIN)

# All tests against that wheel, without extras: tests of extras skip.
minimal: package
	$(WHEEL_BIN)/python $(PIP_INSTALL) pytest pytest-xdist pytest-timeout hypothesis
	$(ONE_THREAD) $(WHEEL_BIN)/python -m pytest $(PARALLEL) -rs

install: $(VENV)/.installed

# constraints.txt pins what the tests ran with; of torch it names a release whose CPU build is small.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist .coverage .coverage.*
