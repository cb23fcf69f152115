# Every target does its own set-up. `make help` prints the lines marked with two hashes.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
PYTEST := .venv/bin/pytest
SOURCES := api ipam policy operator enidp lab

.PHONY: help setup build demo test test-real test-kernels lint generate bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18

setup: ## Install what is needed (apt, PyPI, C builds); leaves .venv/bin/enitide
	@tools/setup.sh
	@$(MAKE) --no-print-directory build

build:
	@$(MAKE) --no-print-directory -s -C bpf
	@$(MAKE) --no-print-directory -s -C enidp/cni

demo: setup ## A VPC with 3 nodes on this machine: pools fill, pods start, packets pass (KEEP=1 leaves it up)
	@.venv/bin/enitide demo $(if $(KEEP),--keep)

test: setup ## All tests that need no real control plane and no guest kernel
	@tools/test.sh

test-real: setup ## The contract suite and a whole pod life on a real Kubernetes control plane
	@tools/test_real.sh

test-kernels: setup ## Load every object and pass packets on Debian's 6.1 kernel, in a guest
	@tools/test_kernels.sh

lint: setup ## ruff, mypy, import contracts, clang-format, generated files
	@tools/lint.sh

generate: setup ## Write everything that is made from the contracts (CRDs, reasons.h, schemas, pages)
	@$(PY) tools/generate.py

bench: setup ## Measure and print; writes build/bench.json (ONLY=name for one, PAGE=file for a page)
	@$(PY) tests/bench/run.py $(if $(ONLY),--only $(ONLY)) $(if $(PAGE),--page $(PAGE))

clean: ## Remove what was built here (the cache outside the tree stays)
	@rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
