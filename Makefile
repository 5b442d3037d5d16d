# Needs Python >= 3.11 (PYTHON=...) and make; everything else goes to .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Of benchmarks/, what is given a folder or a file.
ASKED := peer_answers posterior_slice shapes_folder vial_phantom
TABLES := $(filter-out $(ASKED:%=benchmarks/%.py),$(wildcard benchmarks/*.py))
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-slow lint docs notebooks bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.run  ## train the small policy on real MR slices and write the report
	$(RUN) run.py --config=configs/medloc.py

test: $(VENV)/.test  ## the whole suite but what is marked slow or bench
	$(RUN) -m pytest $(PYTEST_ARGS)

test-slow: $(VENV)/.test  ## what is marked slow, one file after the other
	$(RUN) -m pytest -m "slow and not bench"

lint: $(VENV)/.dev  ## format, lint and types; changes nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright --pythonpath $(RUN)

docs: $(VENV)/.docs  ## the pages in build/docs; a warning is an error
	$(RUN) -m sphinx -E -W --keep-going -q -d build/doctrees docs build/docs

notebooks: $(VENV)/.docs  ## run docs/notebooks and store their outputs (minutes)
	$(RUN) docs/run_notebooks.py

bench: $(VENV)/.test  ## the tables of benchmarks/, one command each
	@set -e; for file in $(TABLES); do echo "== $$file"; $(RUN) $$file; done

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

$(RUN):
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or \
	sys.exit(f"medjax needs Python >= 3.11, found {v.major}.{v.minor}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# .run is the bare package, .test, .dev and .docs are its extras; a changed pyproject.toml
# installs them anew.
$(VENV)/.run: pyproject.toml | $(RUN)
	@echo "installing medjax into $(VENV) (minutes)"
	$(RUN) -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test $(VENV)/.dev $(VENV)/.docs: $(VENV)/.%: pyproject.toml | $(RUN)
	@echo "installing medjax[$*] into $(VENV) (minutes)"
	$(RUN) -m pip install --quiet --editable ".[$*]"
	@touch $@
