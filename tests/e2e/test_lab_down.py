"""Whatever happens to a lab, it goes away completely: interrupted, failed, killed; counted, not believed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from support.lab import ENITIDE, why_not

from enitide_api.errors import LabFailed, NotRoot, UsageError
from enitide_lab.house import cgroups, record, teardown
from enitide_lab.house.layout import LabPaths, lab_paths
from enitide_lab.up.bring_up import bring_up
from enitide_lab.up.options import LabOptions
from enitide_lab.up.running import Lab

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]


@pytest.fixture
def paths() -> Iterator[LabPaths]:
    """A name for a lab; what a failing test leaves of it is taken down."""
    name = lab_paths(f"t-down-{os.getpid()}")
    yield name
    teardown.take_down(name)


def up(paths: LabPaths, *more: str) -> subprocess.Popen[str]:
    command = [str(ENITIDE), "lab", "up", "--name", paths.name, "--nodes", "1", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def enitide(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ENITIDE), *arguments], capture_output=True, text=True, check=False)


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    """Read what it reports until `words` come."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words!r}")


def test_a_lab_whose_every_process_was_killed_is_told_apart_and_cleared_away(paths: LabPaths) -> None:
    process = up(paths)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    again = enitide("lab", "up", "--name", paths.name)
    assert again.returncode == 1
    assert "is up" in again.stderr
    branch = cgroups.cgroup2_root() / paths.cgroup_name
    before = teardown.traces(paths)
    assert len(before.processes) >= 7
    for pid in cgroups.members(branch):
        os.kill(pid, signal.SIGKILL)
    cgroups.kill(branch)
    status = enitide("lab", "status", "--name", paths.name)
    assert status.returncode == 1
    assert "has ended" in status.stdout
    again = enitide("lab", "up", "--name", paths.name)
    assert "has died" in again.stderr
    assert f"enitide lab down --name {paths.name}" in again.stderr
    assert teardown.traces(paths).mounts == before.mounts
    assert enitide("lab", "down", "--name", paths.name).returncode == 0
    assert not teardown.traces(paths)
    assert enitide("lab", "down", "--name", paths.name).returncode == 2


@pytest.mark.parametrize("words", ["a VPC as a network namespace", "instances:"])
def test_an_interrupted_up_leaves_nothing(paths: LabPaths, words: str) -> None:
    process = up(paths)
    wait_for_line(process, words)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not teardown.traces(paths)


def test_an_up_that_was_killed_in_the_middle_is_cleared_by_down(paths: LabPaths) -> None:
    process = up(paths)
    wait_for_line(process, "instances:")
    process.kill()
    process.communicate(timeout=30)
    assert teardown.traces(paths).processes
    assert enitide("lab", "down", "--name", paths.name).returncode == 0
    assert not teardown.traces(paths)


def test_a_program_that_fails_ends_up_early_with_the_end_of_its_log(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lab: Lab) -> None:
        lab.start("ec2", ["sh", "-c", "echo no such luck; exit 3"], cgroup="control/ec2")

    monkeypatch.setattr(Lab, "start_ec2", broken)
    with pytest.raises(LabFailed, match=r"ec2 has ended(.|\n)*no such luck"):
        asyncio.run(bring_up(LabOptions(paths.name, ("t3.medium",)), lambda _: None))
    assert not teardown.traces(paths)


def test_without_root_nothing_is_begun(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotRoot, match="namespaces"):
        asyncio.run(bring_up(LabOptions(paths.name, ("t3.medium",)), lambda _: None))
    assert not teardown.traces(paths)


def test_a_lab_that_is_not_there_is_named_with_those_that_are(paths: LabPaths) -> None:
    with pytest.raises(UsageError, match=paths.name):
        record.read(paths)
