#!/usr/bin/env bash
# Everything `make demo` and `make test` need on a bare Debian 12 with git, make, gcc and Python 3.11, as root.
# Idempotent: a second call finds a stamp of its own inputs and does nothing. Says what it installs.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=build/setup.stamp
inputs() { cat tools/setup.sh pyproject.toml requirements.lock | sha256sum | cut -d' ' -f1; }
if [ -x .venv/bin/enitide ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(inputs)" ]; then exit 0; fi
mkdir -p build

# clang, libbpf, bpftool: the eBPF objects; python3-bpfcc: the real bcc, for `enitide trace`; the rest: namespaces and the lab.
packages="clang llvm libbpf-dev libbpf1 bpftool clang-format python3-bpfcc python3-venv gcc libc6-dev linux-libc-dev \
iproute2 iputils-ping nftables procps util-linux curl ca-certificates"
missing=""
for package in $packages; do
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] || { echo "setup: these Debian packages are missing and only root can install them:$missing" >&2; exit 1; }
	echo "setup: installing Debian packages:$missing"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >build/apt.log 2>&1 ||
		{ tail -20 build/apt.log >&2; exit 1; }
fi

# The environment is made from Debian's own python3 with its packages visible: that is where bcc comes from.
if [ ! -x build/uv/bin/uv ]; then
	echo "setup: installing uv from PyPI into build/uv"
	/usr/bin/python3 -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
fi
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
[ -x .venv/bin/python ] || build/uv/bin/uv venv --quiet --system-site-packages --python /usr/bin/python3 .venv
echo "setup: installing $(grep -c == requirements.lock) Python packages from PyPI (requirements.lock) into .venv"
build/uv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python -r requirements.lock
build/uv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
.venv/bin/python -c "import bcc" || { echo "setup: bcc (python3-bpfcc) cannot be imported from .venv; remove .venv and run again" >&2; exit 1; }
inputs >"$stamp"
echo "setup: done: .venv/bin/enitide"
