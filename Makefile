# Everything a newcomer needs: Python 3.11 or newer, git and make. The environment lives in .venv;
# stamp files in it remember what is installed, so that a second run starts at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/tools
LITELLM := $(VENV)/litellm
LITELLM_VERSION := 1.106.2
PORTKEY := $(VENV)/portkey
PORTKEY_VERSION := 1.15.2
ATHERIS_VERSION := 3.0.0
FUZZ_SECONDS ?= 600

RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development

PIP_COMPILE := $(TOOLS)/bin/pip-compile -q --allow-unsafe --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
	--extra build --extra proof --extra demo --extra mcp --extra recipes

# One more than cores: tests often wait for processes that they start.
WORKERS = $(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')

# Tests start hundreds of processes: without bytecode on the disk each compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test serve lint docs bench bench-pool campaign canary fuzz wheel sbom audit format clean requirements

help: ## show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(RUNTIME) ## start a gateway, order one poster with the openai SDK, show the bill
	@$(BIN)/safelight demo

# Lint runs beside the tests, which leave a core idle now and then; both must pass.
test: $(DEVELOPMENT) $(VENV)/.chromium ## all checks: lint, types, import rules, tests
	@mkdir -p build
	@$(MAKE) --no-print-directory lint > build/lint.txt 2>&1 & linting=$$!; \
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not campaign" \
		-o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true; tested=$$?; \
	wait $$linting; linted=$$?; cat build/lint.txt; \
	test $$tested -eq 0 && test $$linted -eq 0

serve: $(RUNTIME) ## run the gateway with ./safelight.toml, if there is one, on ./data
	@$(BIN)/safelight serve

lint: $(DEVELOPMENT) ## ruff, formatting, strict mypy, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEVELOPMENT) ## build the documentation as a site, in build/docs/html; a broken link fails
	@$(BIN)/python docs/site/build.py build/docs
	@echo "build/docs/html/index.html"

bench: $(RUNTIME) ## measure the gateway beside its peers: half an hour
	-@$(MAKE) --no-print-directory $(LITELLM)/.installed-$(LITELLM_VERSION)
	-@$(MAKE) --no-print-directory $(PORTKEY)/.installed-$(PORTKEY_VERSION)
	@mkdir -p build
	@$(BIN)/safelight bench --out build/bench.json --plots docs/performance \
		$$(test -x $(LITELLM)/bin/litellm && echo --litellm $(LITELLM)/bin/litellm) \
		$$(test -d $(PORTKEY)/node_modules && echo --portkey $(PORTKEY))

bench-pool: $(RUNTIME) $(LITELLM)/.installed-$(LITELLM_VERSION) ## play bad days against the pool and the LiteLLM proxy
	@mkdir -p build
	@$(BIN)/safelight bench pool --litellm $(LITELLM)/bin/litellm --out build/bench-pool.json

campaign: $(DEVELOPMENT) ## the long runs: every SDK version, kills, faults
	$(BIN)/python -m pytest -q -s -m campaign

# Paths of tests may be given: make canary CANARY="tests/e2e/test_links.py".
CANARY ?= tests/e2e tests/gateway tests/api tests/client_api tests/administration tests/secrecy \
	tests/runs tests/integrations tests/hostile tests/browser tests/test_deploy.py
canary: $(DEVELOPMENT) $(VENV)/.chromium ## every test that starts gateways, at debug level, with canaries for secrets
	PYTHONPATH=tests $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not campaign" \
		-p secrecy.canaries --show-capture=no $(CANARY)

wheel: $(DEVELOPMENT) ## build the wheel in dist/, the same bytes each time
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m pip wheel --quiet \
		--disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@sha256sum dist/*.whl

sbom: $(TOOLS)/.audit ## write build/sbom.json: what is pinned, as a CycloneDX document
	@mkdir -p build
	@$(TOOLS)/bin/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON -o build/sbom.json
	@echo build/sbom.json

audit: $(TOOLS)/.audit ## ask a vulnerability service about the pins, and bandit about our code
	@$(TOOLS)/bin/bandit -q -r src -c pyproject.toml
	@$(TOOLS)/bin/pip-audit --require-hashes --disable-pip -r requirements.txt || { \
		echo "pip-audit found something, or reached no service: nothing is said about the pins"; exit 1; }

# Without atheris, which has no wheel for every Python, the parsers get mutated seeds.
fuzz: $(DEVELOPMENT) ## fuzz every parser of strangers' bytes, FUZZ_SECONDS (600) each
	-@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris==$(ATHERIS_VERSION)'
	@for target in json multipart image reply stream; do \
		PYTHONPATH=tests $(BIN)/python -m hostile.fuzzing $$target --seconds $(FUZZ_SECONDS) || exit 1; \
	done

format: $(DEVELOPMENT) ## rewrite the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and caches; data and pictures stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf build dist src/safelight.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: $(TOOLS)/.installed ## pin all dependencies again, with hashes
	$(PIP_COMPILE) --extra test --extra docs -o requirements-dev.txt pyproject.toml
	$(PIP_COMPILE) --constraint requirements-dev.txt -o requirements.txt pyproject.toml

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "safelight needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 | head -n 1)"; \
		echo "Install one and name it, for example: make demo PYTHON=python3.12"; exit 1; }
	@echo "Preparing $(VENV), on the first run only ..."
	@$(PYTHON) -m venv $(VENV) || { \
		echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv"; exit 1; }
	@touch $@

$(RUNTIME): requirements.txt pyproject.toml | $(VENV)/.created
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEVELOPMENT): requirements-dev.txt pyproject.toml | $(VENV)/.created
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The console's tests drive the system's Chromium. Who may install it gets it; for others they skip.
$(VENV)/.chromium: | $(VENV)/.created
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 \
		|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get install -y -q chromium >/dev/null 2>&1; } \
		|| echo "No Chromium here, so the console's tests are skipped; install it with: apt-get install chromium"
	@touch $@

# pip-tools gets an environment of its own: it is no dependency of safelight.
$(TOOLS)/.installed: | $(VENV)/.created
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.5'
	@touch $@

# Auditors, like pip-tools, are no dependencies of safelight.
$(TOOLS)/.audit: | $(TOOLS)/.installed
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check \
		'bandit>=1.9' 'cyclonedx-bom>=7' 'pip-audit>=2.9'
	@touch $@

# A contender of both benches; it has dozens of dependencies, and none of them is safelight's.
$(LITELLM)/.installed-$(LITELLM_VERSION): | $(VENV)/.created
	@echo "Installing LiteLLM $(LITELLM_VERSION) into $(LITELLM) ..."
	@$(PYTHON) -m venv $(LITELLM)
	@$(LITELLM)/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]==$(LITELLM_VERSION)'
	@touch $@

# Another contender; without npm the bench leaves it out.
$(PORTKEY)/.installed-$(PORTKEY_VERSION): | $(VENV)/.created
	@echo "Installing the Portkey gateway $(PORTKEY_VERSION) into $(PORTKEY) ..."
	@npm install --prefix $(PORTKEY) --no-audit --no-fund --loglevel=error @portkey-ai/gateway@$(PORTKEY_VERSION)
	@touch $@
