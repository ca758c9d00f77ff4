# Every target sets up what it needs, in .venv, from pyproject.toml and constraints.txt.
.DEFAULT_GOAL := help
.PHONY: help demo quick test test-slow test-lowest lint format types docs wheel check clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The newest of these that is 3.12 or newer makes the environment; PYTHON=... overrides.
PYTHON ?= $(shell for p in python3.13 python3.12 python3 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then \
	echo $$p; break; fi; done)

help:
	@echo "make demo       calibrate Lotka-Volterra to the Hudson Bay data; see runs/"
	@echo "make quick      the tests that neither solve, start a process, nor compile much"
	@echo "make test       the tests"
	@echo "make test-slow  the slow statistical suites"
	@echo "make test-lowest  the tests, with the oldest versions that are claimed"
	@echo "make lint       ruff: lint and formatting"
	@echo "make types      mypy, on the installed wheel"
	@echo "make docs       the documentation site, in site/"
	@echo "make check      all of the above but the slow suites"

$(VENV)/python.stamp:
	@if [ -z "$(PYTHON)" ]; then \
	echo "odecal needs Python 3.12 or newer, and none was found."; \
	echo "Install one (for example: apt install python3.12 python3.12-venv, or"; \
	echo "brew install python@3.12, or pyenv install 3.12), or say where it is:"; \
	echo "make PYTHON=/path/to/python3.12 ..."; exit 1; fi
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
	echo "$(PYTHON) cannot make virtual environments. Install its venv module"; \
	echo "(for example: apt install python3.12-venv)."; exit 1; fi
	"$(PYTHON)" -m venv $(VENV)
	touch $@

# One stamp a dependency group: a target installs what it needs and no more.
# pip 25.1 is the first that installs dependency groups.
$(VENV)/run.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	$(PIP) install --quiet 'pip>=25.1'
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/%.stamp: $(VENV)/run.stamp
	$(PIP) install --quiet -c constraints.txt --group $*
	touch $@

demo: $(VENV)/run.stamp
	@mkdir -p runs
	$(BIN)/odecal calibrate lotka_volterra --out runs/hudson_bay.nc
	$(BIN)/odecal plot runs/hudson_bay.nc --out runs/hudson_bay.png

quick: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal --quick $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m slow $(ARGS)

# By hand: an environment of its own, in which each dependency is the oldest that is admitted; what
# those warn of beside newer packages is not ours.
test-lowest: $(VENV)/python.stamp
	mkdir -p build
	$(BIN)/python -c "import re, tomllib; \
	print(*(re.sub(r'>=([^,;]+).*', r'==\1', d) for d in \
	tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']), sep='\n')" \
	> build/lowest.txt
	"$(PYTHON)" -m venv build/lowest
	build/lowest/bin/python -m pip install --quiet 'pip>=25.1'
	build/lowest/bin/python -m pip install --quiet -r build/lowest.txt --group test -e .
	build/lowest/bin/python -m pytest -n 2 --dist worksteal -o filterwarnings=default $(ARGS)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/lint.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Type checkers do not follow the mapping of the three folders in an editable install.
types: $(VENV)/lint.stamp $(VENV)/test.stamp
	rm -rf build/types && mkdir -p build/types
	$(BIN)/python -m build --quiet --wheel --no-isolation --outdir build/types .
	$(PIP) install --quiet --no-deps --target build/types/site build/types/*.whl
	cd build/types/site && MYPYPATH=. ../../../$(BIN)/mypy --config-file ../../../pyproject.toml -p odecal

wheel: $(VENV)/test.stamp
	$(BIN)/python -m build --quiet --wheel --no-isolation .

docs: $(VENV)/docs.stamp
	$(BIN)/python docs/build.py

check: lint types test docs

clean:
	rm -rf $(VENV) .pytest_cache build dist site runs *.egg-info
