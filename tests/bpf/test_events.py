from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.datapath import model
from support.datapath.model import Case
from support.datapath.namespaces import Namespace, mac
from support.datapath.world import World, world

from enitide_api.cli import root
from enitide_api.errors import DatapathFailed, UsageError
from enitide_api.reasons import Drop
from enitide_enidp.datapath import Datapath, NodeConfig, Routing, events, loader, policymapviews, testrun, views
from enitide_enidp.datapath.types import Hook

pytestmark = pytest.mark.bpf


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with namespace.entered(), world(pins, namespace, Routing.DIRECT) as made:
        yield made


@pytest.fixture
def reader(node: World, pins: Path) -> Iterator[events.EventReader]:
    made = events.EventReader(loader.schema_dir(pins))
    yield made
    made.close()


def spoof(node: World, family: int = 4, transport: str = "tcp", times: int = 1) -> bytes:
    packet = model.frame(Case(family, source="remote", transport=transport), node, node.pod1, mac("pod1"))
    for _ in range(times):
        testrun.run(node.loaded.entries[Hook.FROM_POD], packet, ifindex=node.pod1.ifindex)
    return packet


@pytest.mark.parametrize("family", [4, 6])
def test_a_drop_is_told_with_everything_a_person_needs(node: World, reader: events.EventReader, family: int) -> None:
    packet = spoof(node, family)
    [event] = reader.poll(5)
    assert (event.reason, event.hook, event.ifindex) == (Drop.SPOOFED_SOURCE, Hook.FROM_POD, node.pod1.ifindex)
    assert (event.endpoint_id, event.length, event.suppressed) == (1, len(packet), 0)
    assert str(event.source) == ("10.9.0.7" if family == 4 else "2001:db8:9::7")
    assert (event.protocol, event.source_port, event.destination_port) == (6, 4431, 80)
    line = events.human(event, 0)
    ends = "10.9.0.7:4431 > 10.9.0.7:80" if family == 4 else "[2001:db8:9::7]:4431 > [2001:db8:9::7]:80"
    tail = f"drop SpoofedSource from-pod ifindex {node.pod1.ifindex} {ends} TCP len {len(packet)}"
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} " + re.escape(tail), line)


def test_the_stamp_is_this_kernels_monotonic_time(node: World, reader: events.EventReader) -> None:
    before = time.monotonic_ns()
    spoof(node)
    [event] = reader.poll(5)
    assert before <= event.time_ns <= time.monotonic_ns()


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case(4, source="remote", transport="echo"), "10.9.0.7 > 10.9.0.7 ICMP len"),
        (Case(4, source="remote", transport="udp", fragment="later"), "10.9.0.7 > 10.9.0.7 UDP len"),
        (Case(4, source="remote", transport="udp", fragment="first"), "10.9.0.7:4431 > 10.9.0.7:80 UDP len"),
        (Case(4, source="remote", transport="esp"), "10.9.0.7 > 10.9.0.7 protocol 50 len"),
        (Case(6, source="own", transport="ra"), "> 2001:db8:9::7 ICMPv6 len"),
        (Case(6, source="remote", transport="sctp", extensions=("destination",)), "]:80 SCTP len"),
    ],
    ids=["ICMP", "later fragment", "first fragment", "ESP", "router advertisement", "behind an extension header"],
)
def test_ports_are_told_where_the_packet_has_them(
    node: World, reader: events.EventReader, case: Case, words: str
) -> None:
    packet = model.frame(case, node, node.pod1, mac("pod1"))
    testrun.run(node.loaded.entries[Hook.FROM_POD], packet, ifindex=node.pod1.ifindex)
    [event] = reader.poll(5)
    assert words in events.human(event, 0)
    ports = {"sourcePort", "destinationPort"} & events.as_json(event, 0).keys()
    assert bool(ports) == (case.transport in ("sctp", "udp", "tcp"))


def test_what_is_not_ip_is_told_by_its_ethertype(node: World, reader: events.EventReader) -> None:
    packet = mac("pod1") + bytes(6) + b"\x88\xcc" + bytes(60)
    testrun.run(node.loaded.entries[Hook.FROM_POD], packet, ifindex=node.pod1.ifindex)
    [event] = reader.poll(5)
    assert event.source is None
    assert "ethertype 0x88cc len 74" in events.human(event, 0)
    assert "source" not in events.as_json(event, 0)


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Budgets are per CPU; on one CPU they can be counted."""
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(affinity)})
    yield
    os.sched_setaffinity(0, affinity)


def left_out(pins: Path, reason: str) -> int:
    with views.opened(pins) as fds:
        return sum(r["suppressed"] for r in views.VIEWS["event_budgets"].rows(fds) if r["reason"] == reason)


def test_events_of_a_reason_are_limited_and_another_reason_has_a_budget_of_its_own(
    node: World, pins: Path, one_cpu: None
) -> None:
    Datapath.open(pins, NodeConfig(event_rate=3)).close()
    reader = events.EventReader(loader.schema_dir(pins))
    try:
        spoof(node, times=20)
        other = model.frame(Case(6, transport="ra"), node, node.pod1, mac("pod1"))
        testrun.run(node.loaded.entries[Hook.FROM_POD], other, ifindex=node.pod1.ifindex)
        reasons = [event.reason for event in reader.poll(5)]
        assert 3 <= reasons.count(Drop.SPOOFED_SOURCE) < 20
        assert reasons.count(Drop.FORBIDDEN_NEIGHBOR) == 1
    finally:
        reader.close()


def test_every_drop_is_told_or_counted_in_the_next_event_as_left_out(node: World, pins: Path, one_cpu: None) -> None:
    Datapath.open(pins, NodeConfig(event_rate=1)).close()
    reader, told = events.EventReader(loader.schema_dir(pins)), list[events.DropEvent]()
    try:
        deadline = time.monotonic() + 30
        while len(told) < 3 and time.monotonic() < deadline:
            spoof(node, times=5)
            told += reader.poll(0.05)
    finally:
        reader.close()
    assert len(told) >= 3, "one a second"
    assert told[0].suppressed == 0
    assert any(event.suppressed for event in told)
    accounted = len(told) + sum(event.suppressed for event in told) + left_out(pins, "SpoofedSource")
    assert accounted == node.datapath.drops()[Drop.SPOOFED_SOURCE]


def test_a_full_buffer_loses_no_count(node: World, pins: Path, one_cpu: None) -> None:
    Datapath.open(pins, NodeConfig(event_rate=1 << 20)).close()
    reader = events.EventReader(loader.schema_dir(pins))
    try:
        capacity = (1 << 18) // (72 + 8)
        spoof(node, times=capacity + 200)
        told = reader.poll(5)
        assert len(told) < capacity + 200
        assert len(told) + left_out(pins, "SpoofedSource") == node.datapath.drops()[Drop.SPOOFED_SOURCE]
    finally:
        reader.close()


def test_a_reader_starts_with_what_happens_from_now_on(node: World, pins: Path) -> None:
    spoof(node, times=3)
    reader = events.EventReader(loader.schema_dir(pins))
    try:
        assert reader.poll(0) == []
        spoof(node, 6)
        assert [event.source for event in reader.poll(5)] == [IPv6Address("2001:db8:9::7")]
    finally:
        reader.close()


def test_a_second_reader_is_refused_and_may_follow_once_the_first_has_gone(node: World, pins: Path) -> None:
    first = events.EventReader(loader.schema_dir(pins))
    with pytest.raises(DatapathFailed, match="another monitor"):
        events.EventReader(loader.schema_dir(pins))
    first.close()
    first.close()
    events.EventReader(loader.schema_dir(pins)).close()


def monitor(pins: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from enitide_api.cli import main; main()", "monitor", "--pin-dir", str(pins)]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)


def until_read(node: World, process: subprocess.Popen[str], lines: int) -> list[str]:
    """Drop packets until the command has printed so many lines; it starts at its own time."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    text = ""
    deadline = time.monotonic() + 30
    while text.count("\n") < lines and time.monotonic() < deadline:
        spoof(node)
        with suppress(BlockingIOError):
            text += os.read(process.stdout.fileno(), 65536).decode()
        if process.poll() is not None:
            break
    return text.splitlines()


def test_monitor_prints_json_and_ends_after_the_count_asked_for(node: World, pins: Path) -> None:
    process = monitor(pins, "-o", "json", "--count", "2", "--reason", "SpoofedSource")
    try:
        lines = until_read(node, process, 2)
        assert process.wait(30) == 0
        assert process.stdout is not None
        lines += (process.stdout.read() or "").splitlines()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(lines) == 2
    event = json.loads(lines[0])
    assert event["reason"] == "SpoofedSource"
    assert event["hook"] == "from-pod"
    assert event["source"] == "10.9.0.7"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_monitor_ends_in_order_when_told_to(node: World, pins: Path, number: signal.Signals) -> None:
    process = monitor(pins)
    try:
        assert until_read(node, process, 1)
        process.send_signal(number)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def bpf(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(root, ["bpf", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("name", sorted(views.VIEWS.keys() - policymapviews.VIEWS.keys()))
def test_every_map_can_be_dumped_for_people_and_for_programs(node: World, pins: Path, name: str) -> None:
    spoof(node)
    passing = model.frame(Case(4), node, node.pod1, mac("pod1"))
    testrun.run(node.loaded.entries[Hook.FROM_POD], passing, ifindex=node.pod1.ifindex)
    code, text = bpf("map", "dump", name, "--pin-dir", str(pins), "-o", "json")
    assert code == 0
    rows = json.loads(text)
    assert rows
    assert set(views.VIEWS[name].columns) == set(rows[0])
    code, text = bpf("map", "dump", name, "--pin-dir", str(pins))
    assert len(text.splitlines()) == len(rows) + 1


def test_maps_and_programs_are_listed(node: World, pins: Path) -> None:
    _, text = bpf("map", "list", "--pin-dir", str(pins), "-o", "json")
    assert [row["name"] for row in json.loads(text)] == list(loader.MAPS)
    assert all(row["capacity"] > 0 for row in json.loads(text))
    _, text = bpf("prog", "list", "--pin-dir", str(pins), "-o", "json")
    assert {row["name"] for row in json.loads(text)} == {"from_pod", "to_pod", "from_wire", "to_wire"}


def test_a_wrong_map_a_ring_buffer_and_an_unloaded_datapath_are_told_apart(pins: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="write one of active, progs"):
        bpf("map", "dump", "nope")
    with pytest.raises(UsageError, match="enitide monitor"):
        bpf("map", "dump", "events")
    with pytest.raises(DatapathFailed, match="no datapath is loaded"):
        bpf("map", "list", "--pin-dir", str(tmp_path))
    with pytest.raises(DatapathFailed, match="no datapath is loaded"):
        CliRunner().invoke(root, ["monitor", "--pin-dir", str(tmp_path)], catch_exceptions=False)
    with pytest.raises(UsageError, match="SpoofedSource"):
        CliRunner().invoke(root, ["monitor", "--reason", "Bad"], catch_exceptions=False)
    assert CliRunner().invoke(root, ["monitor", "--count", "0"]).exit_code == 2
