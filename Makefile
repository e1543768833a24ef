# `make demo` and `make test` need Python 3.11 or later and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# `make bench ARGUMENTS=--quick` takes under two minutes; without it, about 45.
.PHONY: demo test check versions openapi bench clean
# Both ends of the range of transformers that pyproject.toml claims.
TRANSFORMERS := 5.23.0 5.24.0

demo: $(VENV)/.installed
	$(BIN)/python -m mambascope.demo --output demo-output

# Two at a time, since half of the tests wait for processes; one file is sooner over with plain pytest.
test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The adapters under every end of the range, each beside the packages of .venv.
versions: $(VENV)/.installed
	@for version in $(TRANSFORMERS); do \
	  set -e; other=$$(mktemp -d); $(PYTHON) -m venv $$other; \
	  site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	  echo $$site > $$($$other/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth; \
	  $$other/bin/python -m pip install --quiet --disable-pip-version-check --no-deps transformers==$$version; \
	  echo "transformers $$($$other/bin/python -c 'import transformers; print(transformers.__version__)')"; \
	  $$other/bin/python -m pytest --quiet tests/workers/test_architectures.py tests/workers/mixers \
	    tests/workers/kernels/test_mamba.py tests/workers/kernels/test_ssd_scan.py tests/workers/models \
	    tests/workers/passes tests/test_architecture_table.py; \
	  rm -rf $$other; \
	done

# What a change of the contract changes in docs/openapi.json, which a test compares.
openapi: $(VENV)/.installed
	$(BIN)/python -m service.document > docs/openapi.json

bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks $(ARGUMENTS)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Mambascope needs Python 3.11 or later; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo-output mambascope-output quickstart-output .mambascope .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
