#!/usr/bin/env bash
# Load every eBPF object and pass packets on the oldest kernel we support: Debian's 6.1, in a guest.
# Installs what it needs and says so; what cannot be had is a visible skip, never a silent pass.
set -uo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/enitide/kernels"
skip() { exec .venv/bin/python tests/kernels/guest.py --skip "$1"; }

[ "$(uname -m)" = x86_64 ] || skip "the guest kernel is built for x86-64, this machine is $(uname -m)"
[ "$(id -u)" = 0 ] || skip "a guest that shares this machine's files needs root"
missing=""
for package in qemu-system-x86 busybox-static kmod; do
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
if [ -n "$missing" ]; then
	echo "test-kernels: installing Debian packages:$missing"
	mkdir -p build
	apt-get update -qq >build/apt.log 2>&1
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >>build/apt.log 2>&1 ||
		skip "these Debian packages cannot be installed:$missing"
fi

# The kernel is unpacked into the cache, never installed: nothing lands in /boot.
kernel_of() { ls -d "$cache"/linux-image-6.1.*-cloud-amd64 2>/dev/null | sort -V | tail -1; }
kernel="$(kernel_of)"
if [ -z "$kernel" ]; then
	package="$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-6\.1\./{print $2; exit}')"
	[ -n "$package" ] || skip "apt knows no 6.1 cloud kernel (is this Debian 12?)"
	echo "test-kernels: downloading $package into $cache"
	unpacked="$cache/.$package.$$"
	mkdir -p "$unpacked"
	trap 'rm -rf "$unpacked"' EXIT
	(cd "$unpacked" && apt-get download -qq -o APT::Sandbox::User=root "$package") || skip "$package cannot be downloaded"
	dpkg -x "$unpacked"/*.deb "$unpacked" && rm "$unpacked"/*.deb || skip "$package cannot be unpacked"
	depmod -b "$unpacked" "$(ls "$unpacked/lib/modules")" || skip "the modules of $package cannot be indexed"
	mv "$unpacked" "$cache/$package"
	kernel="$(kernel_of)"
fi
exec .venv/bin/python tests/kernels/guest.py --kernel "$kernel"
