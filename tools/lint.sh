#!/usr/bin/env bash
# Every check that reads the tree without running it. All run; the first failure decides the exit code.
set -uo pipefail
cd "$(dirname "$0")/.."
rc=0
check() { echo "lint: $1"; shift; "$@" || rc=1; }
check "ruff" .venv/bin/ruff check --quiet .
check "format" .venv/bin/ruff format --quiet --check .
check "types" .venv/bin/mypy --no-error-summary api ipam policy operator enidp lab
check "import contracts" .venv/bin/lint-imports --no-cache
check "C format" bash -c 'git ls-files "*.c" "*.h" | grep -v "^bpf/include/reasons.h$" | xargs -r clang-format --dry-run -Werror'
check "generated files" .venv/bin/python tools/generate.py --check
exit $rc
