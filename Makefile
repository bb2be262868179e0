# make demo         runs all five scripts on a simulated archive, in a virtual environment
# make test         checks the style and runs the tests, in the same environment
# make soak         runs the tests that take more than a minute each
# make interop      tries the demo's finished files in CRDS, the JWST pipeline and grizli
# make backgrounds  runs the five scripts with config.yaml on the real archive
# make clean        removes the demo's files (the virtual environment stays)

VENV ?= .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
RUN = $(VENV)/bin/python
INSTALLED = $(VENV)/.installed
GRIZLI_VENV ?= .venv-grizli
GRIZLI_INSTALLED = $(GRIZLI_VENV)/.installed
GRIZLI_PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)

.PHONY: demo test soak lint interop backgrounds clean

demo: $(INSTALLED)
	$(RUN) -m demo.run

test: lint
	$(RUN) -m pytest -n 2 --dist loadfile

soak: $(INSTALLED)
	$(RUN) -m pytest -n 2 -m soak

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

interop: demo $(GRIZLI_INSTALLED)
	$(RUN) -m interop.run $(GRIZLI_VENV)/bin/python

backgrounds: $(INSTALLED)
	$(RUN) queryData.py
	$(RUN) makeMask.py
	$(RUN) makeBackgrounds.py
	$(RUN) finalizeBackgrounds.py
	$(RUN) compareBackgrounds.py

clean:
	rm -rf demo/work

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, none was found." \
	"Name one with: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made in $(VENV)." \
	"On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(INSTALLED)

$(GRIZLI_INSTALLED): interop/requirements.txt
	@test -n "$(GRIZLI_PYTHON)" || { echo "Python 3.11 or 3.12 is needed for grizli, none was" \
	"found. Name one with: make GRIZLI_PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(GRIZLI_PYTHON) -m venv $(GRIZLI_VENV) || { echo "No virtual environment could be made in" \
	"$(GRIZLI_VENV). On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	$(GRIZLI_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	-r interop/requirements.txt
	@touch $(GRIZLI_INSTALLED)
