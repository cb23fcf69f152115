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


HAS_PROBES = Path("/sys/bus/event_source/devices/kprobe").exists()


@pytest.mark.skipif(not HAS_PROBES, reason="this kernel has no kernel probes; make test-kernels runs one that has")
def test_a_connect_that_finds_no_route_is_told_by_the_kernels_probes_and_they_go_quietly() -> None:
    process = follow("connect")
    with socket.socket() as client:
        assert client.connect_ex(("203.0.113.9", 9)) != 0
    assert process.stdout is not None
    told = next(event for event in map(json.loads, process.stdout) if event["outcome"] == "not sent")
    assert (told["pid"], told["command"]) == (os.getpid(), Path("/proc/self/comm").read_text().strip())
    process.terminate()
    assert "kprobe_events" not in process.communicate(timeout=10)[1]


def test_what_could_not_be_attached_is_said() -> None:
    process = follow("connect")
    process.terminate()
    process.communicate(timeout=10)
    told = [line for line in process.heard if line.startswith("not attached: kernel probe")]
    assert bool(told) == (not HAS_PROBES)
    assert all("is not seen" in line for line in told)


def test_the_kernels_reasons_have_names() -> None:
    assert {"NO_SOCKET", "NETFILTER_DROP", "PKT_TOO_SMALL"} <= set(tracing.drop_reasons().values())
