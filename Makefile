# The whole of live-asr from a fresh clone: `make serve` and `make test`. Needs git, make and Python ≥ 3.11.
# LOCKED=1 installs what requirements.lock lists, by its hashes, and nothing else.

BIN := .venv/bin
HOST ?=
PORT ?=
MODEL ?=
SUITE ?= table
EXTRAS ?= server
LOCKED ?=
LOCKS := requirements.lock $(if $(findstring cuda,$(EXTRAS)),requirements-cuda.lock)
COMPILE := $(BIN)/uv pip compile --quiet --constraint constraints.txt --generate-hashes --universal \
	--python-version 3.11 --no-annotate --custom-compile-command 'make lock'

.PHONY: serve install weights test coverage check fix bench health lock sbom chromium proxies clean help

help:  ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve: install  ## install, bring the weights, and serve at http://localhost:8765 (PORT=, HOST=, MODEL=)
	@$(BIN)/live-asr serve $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) $(if $(MODEL),--model $(MODEL))

install: .venv/.installed  ## the server in .venv (EXTRAS=server,cuda for a GPU)

.venv/.installed: pyproject.toml constraints.txt requirements.lock | .venv/.python
ifdef LOCKED
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes $(LOCKS:%=-r %)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
else
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
endif
	@touch $@

.venv/.tools: .venv/.installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --group check --group test
	@touch $@

.venv/.bench: .venv/.tools
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --group bench
	@touch $@

.venv/.release: .venv/.installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --group release
	@touch $@

.venv/.python:
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		$$python -m venv .venv || { echo "Python's venv module is missing: install python3-venv." >&2; exit 1; }; \
		$(if $(LOCKED),:,$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1') \
			&& touch $@ && exit 0; \
		exit 1; \
	done; echo "Python 3.11 or newer is needed; none was found." >&2; exit 1

weights: install  ## bring the default models, so that the first start needs no network
	@$(BIN)/live-asr models pull

test: .venv/.tools chromium proxies  ## all tests, with real models, real sockets and a real browser (ARGS= for pytest, -n0 for one at a time)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

coverage: .venv/.tools chromium proxies  ## all tests, which take half as long again, for the share of lines and branches that ran
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --numprocesses 2 --dist loadfile $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

check: .venv/.tools  ## lint, types, direction of imports: seconds
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: .venv/.tools  ## format, and mend what the linter can
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

bench: .venv/.bench  ## measure the server from outside; results in benchmarks/results (SUITE=, ARGS=)
	@$(BIN)/python -m benchmarks.run $(SUITE) $(ARGS)

health:  ## is the server on this machine alive?
	@$(BIN)/python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$(or $(PORT),8765)/healthz', timeout=3)"

lock: .venv/.release  ## write requirements.lock anew: all that the server needs, for every platform, with hashes
	@printf 'hatchling\neditables\n' | $(COMPILE) --extra server --extra jobs --extra postgres --extra objects \
		--output-file requirements.lock pyproject.toml -
	@printf 'nvidia-cublas-cu12\n' | $(COMPILE) --output-file requirements-cuda.lock -

sbom: .venv/.release  ## write sbom.json: what is in a server, from the locks, in CycloneDX's form
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file sbom.json requirements.lock

chromium:
	@sh tests/page/install-chromium.sh

proxies:
	@sh tests/server/fetch-proxies.sh

clean:  ## remove what make made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage test-results
