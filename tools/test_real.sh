#!/usr/bin/env bash
# `make test-real`: the contract suite, the chart, the rights it grants and a whole pod life on a real control plane.
# Uses the cluster of KUBECONFIG or the programs of KUBEBUILDER_ASSETS if set; else builds the control plane (minutes the
# first time, then nothing). Where none can be had it says why and succeeds: that is a skip, not a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/results
rm -f build/results/real.xml

if [ -z "${KUBECONFIG:-}${KUBEBUILDER_ASSETS:-}" ] && ! command -v etcd >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	echo "test-real: installing Debian package: etcd-server"
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends etcd-server >build/apt-etcd.log 2>&1 ||
		tail -5 build/apt-etcd.log >&2
fi
reason=$(.venv/bin/python -m enitide_lab.realkube prepare) || {
	echo "test-real skipped: $reason"
	exit 0
}
echo "test-real: $reason"
exec .venv/bin/python -m pytest -q -p no:cacheprovider --junitxml=build/results/real.xml --durations=5 \
	--control-plane=real tests/kube tests/golden tests/e2e/test_real_*.py "$@"
