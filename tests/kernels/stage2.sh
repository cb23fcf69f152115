#!/bin/sh
# First process of the guest on the shared root: file systems, then the tests, then their exit code to the port `rc`.
# Only a line in `rc` counts; without one the guest has crashed.
exec </dev/null >/dev/console 2>&1
version="$(uname -r)"
mkdir -p "/usr/lib/modules/$version"
mount --bind "$ENITIDE_KERNEL/lib/modules/$version" "/usr/lib/modules/$version"
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm 2>/dev/null || { mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm; }
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
port() {
	for entry in /sys/class/virtio-ports/*; do
		[ "$(cat "$entry/name")" = "$1" ] && echo "/dev/${entry##*/}"
	done
}
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run PYTHONDONTWRITEBYTECODE=1
cd "$ENITIDE_TREE" || exit 1
sh build/kernels/command.sh >"$(port out)" 2>&1
code=$?
cat /run/junit.xml >"$(port junit)" 2>/dev/null
echo "rc=$code" >"$(port rc)"
echo b >/proc/sysrq-trigger
