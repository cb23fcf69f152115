from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.datapath.namespaces import Namespace

from enitide_enidp.datapath import tracing

pytestmark = pytest.mark.bpf

ENITIDE = Path(sys.executable).parent / "enitide"


@pytest.fixture(autouse=True)
def inside(namespace: Namespace) -> None:
    """Loopback of a namespace of our own; what is traced is the whole machine's."""


def follow(kind: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [str(ENITIDE), "trace", kind, "-o", "json", "--seconds", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    heard = []
    for line in process.stderr:
        heard.append(line)
        if line == f"tracing {kind}\n":
            break
    process.heard = heard
    return process


def until(process: subprocess.Popen[str], wanted: dict[str, object]) -> dict[str, object]:
    """The first event that has all of `wanted`; the machine's others pass by."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            event = json.loads(line)
            if wanted.items() <= event.items():
                return event
    finally:
        process.terminate()
        process.communicate(timeout=10)
    raise AssertionError(f"no event with {wanted}")


def test_a_connect_is_told_with_its_process_and_how_long_it_took() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    process = follow("connect")
    with socket.create_connection(server.getsockname(), 5) as client:
        port = client.getsockname()[1]
    event = until(process, {"sourcePort": port, "outcome": "connected"})
    assert (event["destination"], event["destinationPort"]) == server.getsockname()
    server.close()
    assert event["pid"] == os.getpid()
    assert 0 < event["milliseconds"] < 5000


def test_a_refused_connect_is_told_as_failed_and_its_reset_has_a_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        process = follow("connect")
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0
        assert until(process, {"destinationPort": port})["outcome"] == "failed"
        process = follow("drops")
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0
        event = until(process, {"destinationPort": port, "protocol": "TCP"})
    assert event["reason"] == "NO_SOCKET"
    assert event["function"].startswith("tcp_v4_rcv+0x")


def test_what_could_not_be_attached_is_said() -> None:
    process = follow("connect")
    process.terminate()
    process.communicate(timeout=10)
    has_probes = Path("/sys/bus/event_source/devices/kprobe").exists()
    told = [line for line in process.heard if line.startswith("not attached: kernel probe")]
    assert bool(told) == (not has_probes)
    assert all("is not seen" in line for line in told)


def test_the_kernels_reasons_have_names() -> None:
    assert {"NO_SOCKET", "NETFILTER_DROP", "PKT_TOO_SMALL"} <= set(tracing.drop_reasons().values())
