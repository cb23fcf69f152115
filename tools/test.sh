#!/usr/bin/env bash
# The whole suite of `make test`: pure folders in parallel, then those that share the kernel, one process.
# Ends with one summary that counts everything and lists what was skipped and why.
set -uo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/python tools/run_tests.py "$@"
