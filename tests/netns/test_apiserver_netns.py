"""The embedded API server listens inside a network namespace while it runs outside."""

import os
import subprocess
import sys

import pytest
from support.started import started_until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]


@pytest.fixture
def namespace():
    name = f"kubeapi{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_who_is_in_the_namespace_reaches_it_and_who_is_outside_does_not(namespace, tmp_path):
    kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "log"
    listen = f"127.0.0.1:0@/run/netns/{namespace}"
    command = [sys.executable, "-m", "enitide_lab.apiserver", "--listen", listen, "--kubeconfig-out", str(kubeconfig)]
    ask = [
        sys.executable,
        "-S",
        "-c",
        "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read())",
    ]
    with log.open("wb") as out, started_until(command, kubeconfig.exists, out):
        url = log.read_text().split()[-1] + "/readyz"
        inside = subprocess.run(["ip", "netns", "exec", namespace, *ask, url], capture_output=True, check=True)
        assert b"ok" in inside.stdout
        outside = subprocess.run([*ask, url], capture_output=True, check=False)
        assert outside.returncode != 0


def test_a_namespace_that_is_not_there_is_told(tmp_path):
    command = [sys.executable, "-m", "enitide_lab.apiserver", "--listen", f"127.0.0.1:0@{tmp_path}/none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "none" in done.stderr
