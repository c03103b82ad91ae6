# `make demo` and `make test` are all the set-up there is; both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-output

.PHONY: demo test slow lint install clean

demo: install
	$(BIN)/deepsdf demo --out $(OUT)

# A worker for each core, of one thread each: threads of several processes on the same cores get in each other's way.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

install: $(VENV)/.installed

# constraints.txt pins what the tests ran with; of torch it names a release whose CPU build is small.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist
