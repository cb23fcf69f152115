"""Takes a lab down completely, whatever state it is in, with no more knowledge than its name.

Order matters: first every process ends (the cgroup), then mounts go (namespaces, bpffs, tmpfs), then empty folders and
cgroups. Each step is safe to repeat, so a teardown that was itself killed is finished by the next one. Never touches
anything outside the lab's folder and cgroup.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from enitide_api.errors import LabFailed, UsageError
from enitide_lab.house import cgroups, mounts, programs, record
from enitide_lab.house.layout import LABS, LabPaths, known_labs


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was there to clear away."""

    name: str
    processes: int
    mounts: int

    def sentence(self) -> str:
        """For people."""
        return f"{self.name}: ended {self.processes} processes, removed {self.mounts} mounts, its folder and cgroups"


@dataclass(frozen=True, slots=True)
class Traces:
    """What a lab has left on this machine."""

    processes: tuple[int, ...]
    mounts: tuple[Path, ...]
    cgroup: bool
    folder: bool

    def __bool__(self) -> bool:
        return bool(self.processes or self.mounts or self.cgroup or self.folder)


def traces(paths: LabPaths) -> Traces:
    """What there is of the lab."""
    branch = cgroups.cgroup2_root() / paths.cgroup_name
    return Traces(
        tuple(cgroups.members(branch)),
        tuple(mounts.mounts_below(paths.root)),
        branch.is_dir(),
        paths.root.exists(),
    )


def take_down(paths: LabPaths) -> Cleared:
    """Remove every trace of the lab; `LabFailed` says what could not be removed and why."""
    branch = cgroups.cgroup2_root() / paths.cgroup_name
    with _uninterrupted():
        polite = _leave_cluster(paths)
        processes = polite + cgroups.kill(branch)
        points = mounts.mounts_below(paths.root)
        for point in points:
            mounts.unmount(point)
        cgroups.remove(branch)
        _remove_if_empty(branch.parent)
        if mounts.mounts_below(paths.root):
            raise LabFailed(f"mounts below {paths.root} are still there: {mounts.mounts_below(paths.root)}")
        _remove_tree(paths.root)
        _remove_if_empty(LABS)
    return Cleared(paths.name, processes, len(points))


def _leave_cluster(paths: LabPaths) -> int:
    """A real control plane may be somebody's own cluster: it gets the time to remove what the lab put there.

    The kubelets go first, because they would put their Nodes back. How many programs were ended.
    """
    try:
        lab = record.read(paths)
    except (LabFailed, UsageError):  # it died before it could say anything, or was taken down already
        return 0
    if lab.kubernetes != "real":
        return 0
    found = [(lab.program("kubelet"), signal.SIGKILL), (lab.program("kubernetes"), signal.SIGTERM)]
    return sum(programs.end(program, number=number) for program, number in found if program is not None)


def all_labs() -> list[LabPaths]:
    """Every lab that has left a folder or a cgroup."""
    branch = cgroups.cgroup2_root() / LABS.name
    names = {lab.name for lab in known_labs()}
    if branch.is_dir():
        names |= {path.name for path in branch.iterdir() if path.is_dir()}
    return [LabPaths(name) for name in sorted(names)]


def _remove_tree(folder: Path) -> None:
    """Remove the folder; another teardown of the same lab may be at it too, so what has gone already is fine."""
    failed: list[str] = []

    def note(_function: object, path: str, information: tuple[object, BaseException, object]) -> None:
        if not isinstance(information[1], FileNotFoundError):
            failed.append(f"{path}: {information[1]}")

    shutil.rmtree(folder, onerror=note)
    if failed:
        raise LabFailed(f"not all of {folder} could be removed: {'; '.join(failed[:3])}")


def _remove_if_empty(folder: Path) -> None:
    """Another lab may live in it."""
    if folder.is_dir() and not any(path.is_dir() for path in folder.iterdir()):
        try:
            folder.rmdir()
        except OSError as error:  # another lab began this very moment
            if not folder.is_dir():
                raise LabFailed(f"{folder} cannot be removed: {error.strerror}") from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave half a lab: it is let pass while clearing (seconds at most)."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: the signal does not come here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
