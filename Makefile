# Every target sets up what it needs; .venv is made once and again when the pins change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
HERMES := build/hermes-agent/.ready

.PHONY: demo test check bench bench-more bench-profile bench-check lock clean

demo: $(READY)
	$(BIN)/python -m tests.demo

# The tests beside hermes-agent are skipped, and say so, where it cannot be had.
test: $(READY)
	-PIP_RETRIES=1 PIP_TIMEOUT=10 $(MAKE) --no-print-directory --quiet $(HERMES)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

# The daemon beside its peers; make bench BENCH=--quick for a first look.
bench: $(READY) $(HERMES)
	$(BIN)/python -m tests.load.compare --path $(dir $(HERMES)) $(BENCH)

# What else has a goal: reads beside writes, search, growth, memory, import, start.
bench-more: $(READY)
	$(BIN)/python -m tests.load.measures $(BENCH)

# Where the daemon's processor time goes, part by part.
bench-profile: $(READY)
	$(BIN)/python -m tests.load.profile $(BENCH)

# Fails if a ratio is worse than the committed baseline by more than a third.
bench-check: $(READY)
	$(BIN)/python -m tests.load.compare --check $(BENCH)

# hermes-agent stays out of $(VENV): its modules have names such as utils and cli.
$(HERMES): bench.lock | $(READY)
	rm -rf $(dir $(HERMES))
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: \
	  --target $(dir $(HERMES)) --requirement bench.lock
	touch $(HERMES)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock
	$(BIN)/uv pip compile --group bench --no-deps --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet \
	  --output-file bench.lock

clean:
	rm -rf $(VENV)
