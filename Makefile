# `make` alone prints what there is.  Every target sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := broker web_demo mp_stub deploy tests bench
CLIENT_VERSION := 4.8.4
VENDOR := broker/edge/static/vendor
MINI_VENDOR := mp_stub/miniprogram/scan-login/vendor
NODE_MODULES := tests/clients/js/node_modules tests/clients/miniprogram/node_modules bench/peers/node_modules
# Tests mostly wait; files stay whole, for many share a server that they start.
THREE_AT_ONCE := -n 3 --dist loadfile
RUNS := 3
export PORT SITE_PORT PHONE_PORT WECHAT_PORT PROVIDER POOL BROKERS

.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster install test test-busy test-stock check lint types fix chaos bench vendor clean system

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  HOST=0.0.0.0 make demo lets a real phone on the same network take part;"
	@echo "  PORT=, SITE_PORT=, PHONE_PORT= choose other ports."

demo: $(VENV)/.installed ## broker, example site and phone page in one go (PROVIDER=wechat, POOL=1)
	@HOST=$${HOST:-127.0.0.1} exec $(BIN)/scan-login demo

demo-cluster: $(VENV)/.installed ## brokers behind nginx, with Redis between them (BROKERS=2)
	@# CI: for want of these nothing runs, so it is a failure here too
	@CI=true tools/need nginx:nginx-light redis-server:redis-server
	@exec $(BIN)/python -m deploy.cluster

install: $(VENV)/.installed ## a .venv with the scan-login command

test: $(VENV)/.tested system $(NODE_MODULES) ## set up and run all tests
	$(BIN)/pytest $(THREE_AT_ONCE)

test-busy: $(VENV)/.tested system $(NODE_MODULES) ## all tests, RUNS=3 times, beside two busy processes
	@for run in $$(seq $(RUNS)); do tools/busy 2 $(BIN)/pytest $(THREE_AT_ONCE) || exit 1; done

test-stock: $(VENV)/.tested system $(NODE_MODULES) ## all tests, over the stock engine
	$(BIN)/pytest $(THREE_AT_ONCE) --engine stock

check: $(VENV)/.tested lint types test ## what CI runs: lint, types, tests
	$(BIN)/pytest $(THREE_AT_ONCE) --engine stock -m both_engines

lint: $(VENV)/.tested
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.tested
	$(BIN)/mypy

chaos: $(VENV)/.tested system ## every fault under load; writes the table in docs/reliability.md
	$(BIN)/pytest tests/chaos -m "" --table docs/reliability.md

fix: $(VENV)/.tested ## format, and mend what can be mended by itself
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/.tested system bench/peers/node_modules ## measure, into bench/RESULTS.md (ROW=growth for one row)
	$(BIN)/python -m bench $(ROW)

vendor: ## fetch the Socket.IO client of browser and mini program anew (CLIENT_VERSION=)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	npm pack --silent --pack-destination "$$folder" socket.io-client@$(CLIENT_VERSION) >/dev/null && \
	tar -xzf "$$folder"/socket.io-client-*.tgz -C "$$folder" && \
	cp "$$folder"/package/dist/socket.io.min.js $(VENDOR)/ && \
	for vendor in $(VENDOR) $(MINI_VENDOR); do \
		cp "$$folder"/package/dist/socket.io.esm.min.js $$vendor/; \
		cp "$$folder"/package/LICENSE $$vendor/socket.io-client.LICENSE; \
	done && \
	sha256sum $(VENDOR)/socket.io.min.js $(VENDOR)/socket.io.esm.min.js

clean: ## remove what was set up and built
	rm -rf $(VENV) build dist *.egg-info $(NODE_MODULES)
	rm -rf tests/screenshots
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis

system: # programs that the tests drive: installed as root on Debian, else named
	@tools/need chromium:chromium node:nodejs npm:npm libatomic.so.1:libatomic1 \
		redis-server:redis-server nginx:nginx-light faketime:faketime ip:iproute2 sqlite3:sqlite3 \
		/usr/lib/postgresql/*/bin/postgres:postgresql systemd-analyze:systemd \
		/usr/sbin/pgbouncer:pgbouncer

$(BIN)/python:
	@tools/need-venv $(PYTHON)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Python packages into $(VENV), the first time only"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.tested: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Python packages for the tests into $(VENV), the first time only"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.installed

%/node_modules: %/package-lock.json | system
	@if command -v npm >/dev/null; then cd $* && npm ci --silent --no-audit --no-fund && touch node_modules; fi
