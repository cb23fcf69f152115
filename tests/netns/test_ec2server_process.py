"""The lab's EC2 as its own process: listening inside other namespaces, known by its one line, gone on SIGTERM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from enitide_lab.ec2server.control import Control

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2"),
]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"enitide-ec2-{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        for address in ("169.254.169.254/32", "127.0.9.1/32"):
            ip("-n", name, "addr", "add", address, "dev", "lo")
        yield name
    finally:
        ip("netns", "del", name)


def test_api_outside_and_metadata_inside_a_namespace(namespace: str) -> None:
    arguments = ["--listen", "127.0.0.1:0", "--metadata-listen", "169.254.169.254:80"]
    process = subprocess.Popen(
        [sys.executable, "-m", "enitide_lab.ec2server", *arguments, "--metadata-netns", f"/run/netns/{namespace}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready: dict[str, Any] = json.loads(process.stdout.readline())
        assert ready["metadata"] == "169.254.169.254:80"
        assert Control(f"http://{ready['listen']}").state()["instances"] == []
        asked = subprocess.run(
            ["ip", "netns", "exec", namespace, sys.executable, "-c", ASK], capture_output=True, text=True, timeout=30
        )
        assert asked.stdout.split() == ["404"], asked.stderr  # heard and answered: no instance has that address
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_an_address_that_cannot_be_bound_is_an_error_at_once(namespace: str) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "enitide_lab.ec2server",
            "--listen",
            "192.0.2.1:80",
            "--netns",
            f"/run/netns/{namespace}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "192.0.2.1:80" in ended.stderr


ASK = """
import http.client
c = http.client.HTTPConnection("169.254.169.254", timeout=10, source_address=("127.0.9.1", 0))
c.request("PUT", "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
print(c.getresponse().status)
"""
